"""Figure of a suite: one panel per corruption, one curve per network."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from movl_monai.report.sections.canvas import chart_names

__all__ = ["draw_robustness"]

# distinguishable without colours
_STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#000000", "v", "-"),
)
_COLUMNS = 4


def draw_robustness(result: Mapping[str, Any], *, metric: str = "balanced_accuracy", dpi: int = 130) -> bytes:
    """Draw a metric against severity, with bars for the intervals; severity 0 is the clean images.

    Args:
        result: result of :func:`~movl_monai.experiments.robustness.report.build_result`.
        metric: "balanced_accuracy" or "auroc".
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(result["corruptions"])
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1 + 2.6 * columns, 1.1 + 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        runs = zip(chart_names(list(result["runs"])), result["runs"].values(), strict=True)
        for number, (run, part) in enumerate(runs):
            _draw_curve(axis, part, name, metric, number=number, label=run)
        _finish(axis, name)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(labels)), fontsize=9, frameon=False)
    title = {"balanced_accuracy": "balanced accuracy", "auroc": "macro AUROC"}[metric]
    figure.supylabel(title, fontsize=9)
    level = f"{100 * result['resampling']['level']:g} %"
    about = f"{result['images']['n']} test images; bars: {level} intervals over {result['resampling']['resampled']}"
    figure.supxlabel(f"severity (0: as they are); {about}", fontsize=9)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _draw_curve(axis: Any, part: Mapping[str, Any], name: str, metric: str, *, number: int, label: str) -> None:
    color, marker, line = _STYLES[number % len(_STYLES)]
    cells = {0: part["clean"], **{int(severity): cell for severity, cell in part["corruptions"][name].items()}}
    points = [(x, cell[metric]) for x, cell in cells.items() if cell[metric]["value"] is not None]
    # shifted sideways, so that bars do not overlap
    shift = 0.09 * (number - 1)
    places, values = [x + shift for x, _ in points], [cell["value"] for _, cell in points]
    axis.plot(places, values, line, marker=marker, color=color, markersize=4, linewidth=1.2, label=label)
    for place, (_, cell) in zip(places, points, strict=True):
        if cell["interval"] is not None:
            axis.plot([place, place], cell["interval"], "-", color=color, linewidth=0.7, alpha=0.6)


def _finish(axis: Any, name: str) -> None:
    axis.set_title(name.replace("_", " "), fontsize=9)
    axis.set_xticks(range(6))
    axis.set_xlim(-0.4, 5.4)
    axis.tick_params(labelsize=8)
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
