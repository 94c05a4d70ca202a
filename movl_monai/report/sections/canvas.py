"""Common parts of the charts of a report: colours, PNG output, and legible names."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from movl_monai.fonts import legible_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "DASHES", "MARKERS", "canvas", "chart_names", "dots", "finished", "limits"]

# palette of Okabe and Ito for colour-blind readers; dashes and markers help in greyscale print
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#7A6A00")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
_LONGEST_NAME = 32
_DPI = 130


def canvas(*, width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of the given size in inches and its axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)
    return figure, axis


def finished(figure: Figure, *, legend: bool = True) -> bytes:
    """Return the figure as a PNG, with a legend below; redrawing gives the same bytes."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if legend and handles:
        longest = max(map(len, labels))
        figure.legend(handles, labels, loc="outside lower center", ncols=3 if longest < 16 else 2, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def chart_names(names: Sequence[str], *, longest: int = _LONGEST_NAME, word: str = "no.", first: int = 1) -> list[str]:
    """Return names as a chart can show them, without mathematics; see :func:`movl_monai.fonts.legible_names`.

    The table beside a chart always holds the full name. Use ``word="class"`` and ``first=0`` for names of classes.

    Example:
        >>> chart_names(["normal", "p" * 40, "肺炎"])
        ['normal', 'ppppppppppppppppppppppppppppppp…', 'no. 3']
    """
    # matplotlib reads $...$ as mathematics
    return [text.replace("$", r"\$") for text in legible_names(names, word=word, first=first, longest=longest)]


def dots(
    axis: Axes,
    names: Sequence[str],
    values: Sequence[float | None],
    intervals: Sequence[Sequence[float | None] | None],
    *,
    series: int = 0,
    shift: float = 0.0,
    hollow: Sequence[bool] | None = None,
    label: str | None = None,
) -> None:
    """Draw values as dots with intervals as lines, one row per name from the top; undefined values are marked."""
    color, marker = COLORS[series % len(COLORS)], MARKERS[series % len(MARKERS)]
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        if value is None:
            place = axis.get_yaxis_transform()
            axis.text(0.01, row + shift, "no value", va="center", fontsize=7, color=color, transform=place)
            continue
        bounds = [bound for bound in interval or () if bound is not None]
        if len(bounds) == 2:
            axis.plot(bounds, [row + shift] * 2, color=color, linewidth=2, solid_capstyle="butt")
        face = "white" if hollow is not None and hollow[row] else color
        axis.plot([value], [row + shift], marker=marker, color=color, markerfacecolor=face, linestyle="", label=label)
        label = None  # only once in the legend
    axis.set_yticks(range(len(names)), chart_names(names))
    axis.set_ylim(len(names) - 0.4, -0.6)


def limits(parts: Iterable[Mapping[str, Any]], figure: str) -> tuple[float, float]:
    """Return the ends of an axis for a figure: 0 to 1.02, or wider where values are, such as a kappa or an error.

    Example:
        >>> limits([{"kappa": 0.1, "intervals": {"kappa": [-0.2, 0.3]}}, {"kappa": None}], "kappa")
        (-0.2, 1.02)
    """
    found = [[part.get(figure), *((part.get("intervals") or {}).get(figure) or ())] for part in parts]
    values = [value for column in found for value in column if value is not None]
    return min([0.0, *values]), 1.02 * max([1.0, *values])
