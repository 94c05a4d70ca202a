"""Pictures of a report: ROC curves by domain; best, median and worst segmentation."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.stored.cases import Case
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.report.sections.canvas import chart_names

__all__ = ["chosen_cases", "draw_cases", "draw_curves", "draw_figure"]

# palette of Okabe and Ito for colour-blind readers; dashes distinguish the second five curves
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
_DASHES = ("-", "--", ":")
_LONGEST_NAME, _LONGEST_TITLE = 18, 48
_LEGEND = "class against the rest"
# palette of Okabe and Ito: distinguishable for colour-blind readers and on grey
_CLASS_COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_OPACITY = 0.45


Curve = tuple[np.ndarray, np.ndarray]  # positive, bool (N,), and the score, (N,)


def draw_figure(
    columns: Mapping[str, Predictions], class_names: Sequence[str], *, ordered: bool = False, dpi: int = 150
) -> bytes:
    """Draw the ROC curves of classes, one column per set of images.

    Args:
        columns: labeled images by title, such as the ID test set and the OOD sets; an empty set gets a remark.
        class_names: names of the classes; made for 2 to 10.
        ordered: True for grades: the curves are of "k or more" for every grade but the first.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    # with two classes both curves are mirror images
    shown = range(1 if ordered or len(class_names) == 2 else 0, len(class_names))
    titles = {index: f"{class_names[index]} or more" if ordered else class_names[index] for index in shown}

    def curve(images: Predictions, index: int) -> Curve:
        probabilities = softmax(images.logits)
        if ordered:
            return images.labels >= index, probabilities[:, index:].sum(axis=1)
        return images.labels == index, probabilities[:, index]

    curves = {
        title: {name: curve(images, index) for index, name in titles.items()} for title, images in columns.items()
    }
    return draw_curves(
        curves, legend=None if ordered else _LEGEND, first=1 if len(titles) < len(class_names) else 0, dpi=dpi
    )


def draw_curves(
    columns: Mapping[str, Mapping[str, Curve]],
    *,
    legend: str | None = "finding",
    first: int = 0,
    dpi: int = 150,
) -> bytes:
    """Draw ROC curves, one column per set of images and a curve for each name.

    Args:
        columns: curves by title and name; made for up to 15 names.
        legend: title of the legend, or None.
        first: number of the first name, where a name is not legible.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = list(dict.fromkeys(name for curves in columns.values() for name in curves))
    labels = dict(zip(known, chart_names(known, longest=_LONGEST_NAME, word="class", first=first), strict=True))
    width, height = (5.0, 5.6) if len(known) > 5 else (4.0, 4.0)
    figure = Figure(figsize=(width * max(1, len(columns)), height), layout="constrained")
    axes = figure.subplots(1, max(1, len(columns)), squeeze=False)[0]
    titles = chart_names(list(columns), longest=_LONGEST_TITLE)
    for axis, title, curves in zip(axes, titles, columns.values(), strict=False):
        axis.set_title(title, fontsize=11)
        if not any(len(scores) for _, scores in curves.values()):
            axis.text(0.5, 0.5, "no labeled images", ha="center", va="center", transform=axis.transAxes)
            axis.set_axis_off()
        else:
            _draw_roc(axis, {labels[name]: curve for name, curve in curves.items()}, legend, len(known))
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _draw_roc(axis: Any, curves: Mapping[str, Curve], legend: str | None, count: int) -> None:
    from sklearn.metrics import roc_curve

    axis.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=(0, (1, 2)))
    drawn = 0
    for number, (name, (positive, scores)) in enumerate(curves.items()):
        if positive.all() or not positive.any():
            continue
        false_positives, true_positives, _ = roc_curve(positive, scores)
        dash = _DASHES[number // len(_COLORS) % len(_DASHES)]
        color = _COLORS[number % len(_COLORS)]
        axis.plot(false_positives, true_positives, color=color, linestyle=dash, linewidth=1.8, label=name)
        drawn += 1
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.tick_params(labelsize=9)
    if not drawn:
        axis.text(0.5, 0.6, "no ROC: one class only", ha="center", va="center", fontsize=10)
    elif count <= 4:
        axis.legend(title=legend, loc="lower right", fontsize=8, title_fontsize=8, framealpha=0.9)
    else:  # a longer legend would cover curves
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 2}
        axis.legend(title=legend, fontsize=8, title_fontsize=8, frameon=False, **place)


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
        color = np.array(_rgb(_CLASS_COLORS[(number - 1) % len(_CLASS_COLORS)]))
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
        Patch(color=_CLASS_COLORS[number % len(_CLASS_COLORS)], label=name)
        for number, name in enumerate(chart_names(class_names, word="class", first=0)[1:])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=9, frameon=False)
