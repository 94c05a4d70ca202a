"""Picture of a sample of cases, and its description in words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from movl_monai.fonts import legible

__all__ = ["Panel", "describe", "draw_explanations"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A case of the picture.

    Args:
        place: domain, and "right" or "wrong".
        predicted: predicted class.
        label: true class.
        probability: probability of the predicted class, in [0, 1].
        logit: logit of the predicted class.
        logit_without: the same logit without the prompt; None if the network has no prompt.
        image: (H, W, 3) in [0, 1].
        look: saliency map (h, w) >= 0, a grid over the image.
        method: name of the saliency method.
        change: (H, W) >= 0, change of the image by the prompt; None if the network has no prompt.
        shown: legible names of predicted and true class for the picture; None for the original names.
    """

    place: str
    predicted: str
    label: str
    probability: float
    logit: float
    logit_without: float | None
    image: np.ndarray
    look: np.ndarray
    method: str
    change: np.ndarray | None
    shown: tuple[str, str] | None = None

    def said(self, *, shown: bool = False) -> str:
        """Return the network's answer and the truth, with the original names or, if ``shown``, those of the picture."""
        predicted, label = (self.shown if shown else None) or (self.predicted, self.label)
        return f"said {predicted} ({self.probability:.2f}), truth {label}"

    def effect(self, *, shown: bool = False) -> str:
        """Return the prompt's effect on the logit of the predicted class; empty without a prompt."""
        if self.logit_without is None:
            return ""
        predicted, _ = (self.shown if shown else None) or (self.predicted, self.label)
        return f"logit of {predicted} {self.logit:.2f} with the prompt, {self.logit_without:.2f} without"


def describe(panels: Sequence[Panel]) -> str:
    """Describe the picture of :func:`draw_explanations` in words, for readers who cannot see it."""
    columns = "the image, and where the network looks over it"
    if any(panel.change is not None for panel in panels):
        columns += ", and where the prompt changes it"
    rows = []
    for number, panel in enumerate(panels, start=1):
        effect = f"; {panel.effect()}" if panel.effect() else ""
        rows.append(f"{number}. {panel.place}: {panel.said()}, looks mostly at {_where(panel.look)}{effect}")
    methods = ", ".join(dict.fromkeys(panel.method for panel in panels))
    return f"Cases in rows, {methods}: {columns}. {'. '.join(rows)}."


def draw_explanations(panels: Sequence[Panel], *, dpi: int = 110) -> bytes:
    """Draw a row for each case: image, saliency map, and the prompt's effect if there is a prompt.

    Args:
        panels: one or more cases.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    prompted = [panel.change for panel in panels if panel.change is not None]
    strongest = max((float(change.max()) for change in prompted), default=0.0)
    columns = 3 if prompted else 2
    figure = Figure(figsize=(2.3 * columns + 0.4, 2.6 * len(panels) + 0.3), layout="constrained")
    axes = figure.subplots(len(panels), columns, squeeze=False)
    for number, (row, panel) in enumerate(zip(axes, panels, strict=True), start=1):
        place = {"extent": (0, panel.image.shape[1], panel.image.shape[0], 0)}
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.imshow(panel.image, **place)
        row[0].set_ylabel(legible(panel.place, number, word="case"), fontsize=8, parse_math=False)
        row[0].set_title(_wrapped(panel.said(shown=True)), fontsize=7, parse_math=False)
        row[1].set_title(panel.method, fontsize=7)
        row[1].imshow(_scaled(panel.look), cmap="magma", alpha=0.55, vmin=0, vmax=1, interpolation="bilinear", **place)
        if panel.change is not None:
            row[2].set_title(_wrapped(panel.effect(shown=True)), fontsize=7, parse_math=False)
            row[2].imshow(panel.change, cmap="magma", vmin=0, vmax=strongest or 1, interpolation="nearest", **place)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _scaled(values: np.ndarray) -> Any:
    return values / max(float(values.max()), np.finfo(np.float32).tiny)


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 34)[:3])


def _where(values: np.ndarray) -> str:
    """Name the cell of a three by three grid in which the mean of a map is largest; of equal cells the middle one."""
    if float(values.sum()) <= 0:
        return "nothing"
    parts = [np.array_split(rows, 3, axis=1) for rows in np.array_split(values, 3, axis=0)]
    means = {
        (row, column): float(part.mean()) if part.size else 0.0
        for row, line in enumerate(parts)
        for column, part in enumerate(line)
    }
    row, column = max(means, key=lambda place: (means[place], place == (1, 1)))
    words = (("top", "", "bottom")[row], ("left", "", "right")[column])
    return f"the {' '.join(word for word in words if word) or 'middle'}"
