"""Picture of a segmentation: image, truth and prediction of the best, median and worst case."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from movl_monai.metrics.stored.cases import Case
from movl_monai.report.sections.canvas import chart_names

__all__ = ["chosen_cases", "draw_cases"]

# palette of Okabe and Ito: distinguishable for colour-blind readers and on grey
_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_OPACITY = 0.45


def chosen_cases(cases: Sequence[Case]) -> dict[str, Case]:
    """Return the cases with the highest, middle and lowest Dice, named best, median and worst.

    Two cases have no median; a single case is named only.

    In ties, cases without foreground in the truth come last, because there is nothing to see in them.
    """
    ranked = sorted(cases, key=lambda case: (case.mean("dice"), bool(case.present.any()), case.id), reverse=True)
    if len(ranked) < 3:
        return dict(zip(("best", "worst") if len(ranked) == 2 else ("only",), ranked, strict=True))
    return {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}


def draw_cases(cases: Sequence[Case], dataset: Any, class_names: Sequence[str], *, dpi: int = 110) -> bytes:
    """Draw the chosen cases, one row each: the image, then the truth and the prediction over it.

    Args:
        cases: at least one case.
        dataset: the :class:`~movl_monai.data.SegmentationDataset` of the cases.
        class_names: names, the background first.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = chosen_cases(cases)
    figure = Figure(figsize=(9.6, 3.4 * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for line, (word, case) in zip(axes, rows.items(), strict=True):
        image = dataset.images[case.shown].permute(1, 2, 0).numpy()
        truth = dataset.masks[case.shown].numpy()
        titles = (f"{word}: {case.id}", "truth", f"prediction, Dice {case.mean('dice'):.3f}")
        for axis, title, classes in zip(line, titles, (None, truth, case.predicted), strict=True):
            axis.imshow(image if classes is None else _overlaid(image, classes), interpolation="nearest")
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
    _add_legend(figure, class_names)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _overlaid(image: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return an image uint8 (H, W, 3) with the classes as coloured overlays with opaque borders."""
    result = image.astype(np.float64)
    for number in range(1, int(classes.max()) + 1):
        inside = classes == number
        color = np.array(_rgb(_COLORS[(number - 1) % len(_COLORS)]))
        result[inside] = (1 - _OPACITY) * result[inside] + _OPACITY * color
        result[inside & ~_eroded(inside)] = color
    return result.round().astype(np.uint8)


def _eroded(inside: np.ndarray) -> np.ndarray:
    padded = np.pad(inside, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _add_legend(figure: Any, class_names: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=_COLORS[number % len(_COLORS)], label=name)
        for number, name in enumerate(chart_names(class_names, word="class", first=0)[1:])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=9, frameon=False)
