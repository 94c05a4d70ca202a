"""Result of a suite as a JSON-able dictionary, its table and figure, and its four files."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.evaluation import run_info
from movl_monai.experiments.robustness.figures import CLEAN, METRICS, Cell, robustness_figures
from movl_monai.files import jsonable, to_json, today, write_atomically
from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures
from movl_monai.report.sections.canvas import chart_names
from movl_monai.report.sections.experiment import Block, Table, render_experiment
from movl_monai.report.table import figure_with_interval, render_table
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = [
    "SCHEMA_VERSION",
    "build_result",
    "draw_robustness",
    "robustness_csv",
    "robustness_html",
    "robustness_markdown",
    "robustness_summary",
    "write_result",
]

# distinguishable without colours
_STYLES = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#000000", "v", "-"),
)
_COLUMNS = 4
Result = Mapping[str, Any]
_TITLES: dict[str, str] = {metric: CLASS_FIGURES.heading(metric) for metric in METRICS}
SCHEMA_VERSION = 1


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
    title = _TITLES[metric]
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


def robustness_csv(result: Result) -> str:
    """Return one row per run, corruption and severity with all digits; clean images have the corruption "clean"."""
    rows = []
    for run, part in result["runs"].items():
        cells = {CLEAN: part["clean"]} | {
            (name, int(severity)): cell
            for name, severities in part["corruptions"].items()
            for severity, cell in severities.items()
        }
        for (name, severity), cell in cells.items():
            row: dict[str, Any] = {
                "run": run,
                "corruption": name,
                "severity": severity,
                "images": result["images"]["n"],
            }
            for metric, figure in cell.items():
                low, high = figure["interval"] or (None, None)
                row |= {metric: figure["value"], f"{metric}_low": low, f"{metric}_high": high}
            rows.append(row)
    return render_table(rows, style="csv")


def robustness_markdown(result: Result, *, command: str, picture: str | None = None) -> str:
    """Return the Markdown page of a suite: summary, each corruption, each severity, and method.

    Args:
        result: result of :func:`~movl_monai.experiments.robustness.report.build_result`.
        command: command that made it, without paths.
        picture: file name of the figure; None leaves it out.
    """
    title = "# Robustness: how the networks do on worse images"
    parts = [title, _reading(result), _summary(result)]
    parts += [f"![Balanced accuracy by corruption and severity]({picture})"] if picture else []
    parts += [
        *(
            text
            for metric, name in _TITLES.items()
            for text in (
                f"## Each corruption, mean over its severities: {name}",
                _as_markdown(_per_corruption(result, metric)),
            )
        ),
        "## Corruption error: errors as multiples of the baseline's",
        f"Errors are 1 - balanced accuracy, added over severities; {result['baseline']} is 1 everywhere, less is "
        "better.",
        _as_markdown(_errors(result, "corruption_error")),
        "## Relative corruption error: what is lost to each corruption",
        "Errors above that on the images as they are, as multiples of what the baseline loses.",
        _as_markdown(_errors(result, "relative_corruption_error")),
    ]
    for metric, name in _TITLES.items():
        parts += [f"## Each severity: {name}", _as_markdown(_per_severity(result, metric))]
    made = "\n".join(f"- {line}" for line in _made(result, command))
    return "\n\n".join([*parts, "## How it was made", made]) + "\n"


def robustness_html(result: Result, *, command: str, picture: bytes) -> str:
    """Return the page of a suite: verdict, summary, figure, and folded details.

    Args:
        result: result of :func:`~movl_monai.experiments.robustness.report.build_result`.
        command: command that made it, without paths.
        picture: result of :func:`draw_robustness`.
    """
    baseline, images = result["baseline"], result["images"]
    others = [name for name in result["runs"] if name != baseline]
    errors = (
        ("corruption_error", "Errors are 1 - balanced accuracy, as multiples of the baseline's; less is better."),
        ("relative_corruption_error", "Errors above that on the images as they are, as multiples of the baseline's."),
    )
    # the mean over one severity stands in the table of severities, with its interval
    several = {name for name, part in result["corruptions"].items() if len(part["parameters"]) > 1}
    blocks = [
        Block(title="Summary", folded=False, tables=[Table(rows=_summary_rows(result))], lines=_undefined(result)),
        Block(
            title="Each severity as a picture",
            picture=picture,
            about="Balanced accuracy by corruption and severity; the tables below hold the numbers.",
        ),
        *(
            Block(
                title=f"Each corruption: {name}",
                tables=[
                    Table(
                        rows=[row for row in _per_corruption(result, metric) if row["corruption"] in several],
                        caption="Means over the severities.",
                    )
                ],
            )
            for metric, name in _TITLES.items()
            if several
        ),
        *(
            Block(title=title, tables=[Table(rows=_errors(result, key)[:-1], caption=caption)])
            for title, (key, caption) in zip(("Corruption error", "Relative corruption error"), errors, strict=True)
        ),
        *(
            Block(
                title=f"Each severity: {name}",
                tables=[Table(rows=_per_severity(result, metric)[1:], caption="Intervals in brackets.")],
            )
            for metric, name in _TITLES.items()
        ),
        Block(title="How it was made", lines=[_reading(result, counted=False), *_made(result, command)]),
    ]
    return render_experiment(
        title=f"Robustness on worse images: {', '.join(others) or baseline} against {baseline}",
        facts=[" or ".join(images["classes"]), f"{images['n']} test images", f"made {today()}"],
        verdict=_verdict(result, others),
        blocks=blocks,
    )


def _verdict(result: Result, others: Sequence[str]) -> str:
    """Return which runs are clearly better or worse than the baseline on corrupted images."""
    sentences, unclear = [], []
    for name in others:
        low, high = result["runs"][name]["difference"]["balanced_accuracy"]["interval"] or (-1, 1)
        word = "better" if low > 0 else "worse" if high < 0 else ""
        if word:
            sentences.append(f"On corrupted images {name} is clearly {word} than {result['baseline']}.")
        else:
            unclear.append(name)
    if unclear:
        sentences.append(
            f"On corrupted images {' and '.join(unclear)} {'is' if len(unclear) == 1 else 'are'} not clearly better or "
            f"worse than {result['baseline']}."
        )
    return " ".join(sentences) or "There is no other run than the baseline."


def _as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    return render_table(rows, style="markdown").rstrip("\n")


def _reading(result: Result, *, counted: bool = True) -> str:
    images, resampling = result["images"], result["resampling"]
    classes = ", ".join(f"{name} {count}" for name, count in images["classes"].items())
    level = f"{100 * resampling['level']:g} %"
    count = f"{images['n']} in-distribution" if counted else "In-distribution"
    return (
        f"{count} test images ({classes}) of {images['patients'] or 'unknown'} patients, each "
        f"corrupted once for all networks. [{level} intervals], over {resampling['resampled']}; those of differences "
        "and ratios are paired. Only what an interval excludes is a finding. Every corruption counts alike, however "
        "many severities it has."
    )


def robustness_summary(result: Result) -> str:
    """Return what the images were and the figures of every run as Markdown, for a terminal."""
    return f"{_reading(result)}\n\n{_summary(result)}"


def _summary(result: Result) -> str:
    return "\n\n".join([_as_markdown(_summary_rows(result)), *_undefined(result)])


def _summary_rows(result: Result) -> list[dict[str, Any]]:
    rows = []
    for run, part in result["runs"].items():
        row = {"run": run + (" (baseline)" if run == result["baseline"] else "")}
        for metric, title in _TITLES.items():
            row |= {
                f"{title}, clean": _shown(part["clean"][metric]),
                f"{title}, corrupted": _shown(part["corrupted"][metric]),
            }
        for metric, title in _TITLES.items():
            shown = "" if run == result["baseline"] else _shown(part["difference"][metric])
            row[f"{title}, corrupted, minus baseline"] = shown
        row["mCE"] = _shown(part["corruption_error"]["mean"])
        row["relative mCE"] = _shown(part["relative_corruption_error"]["mean"])
        rows.append(row)
    return rows


def _undefined(result: Result) -> list[str]:
    """Return sentences about corruptions that a mean leaves out."""
    count, lines = len(result["corruptions"]), []
    for key, name in (("corruption_error", "mCE"), ("relative_corruption_error", "relative mCE")):
        gone = result["undefined"][key]
        if gone:
            lines.append(
                f"{name} is over {count - len(gone)} of {count} corruptions, without {', '.join(gone)} (see below)."
            )
    return lines


def _per_corruption(result: Result, metric: str) -> list[dict[str, Any]]:
    rows = []
    for name in ("clean", *result["corruptions"]):
        row: dict[str, Any] = {"corruption": name}
        for run, part in result["runs"].items():
            cells = [part["clean"]] if name == "clean" else list(part["corruptions"][name].values())
            values = [cell[metric]["value"] for cell in cells]
            row[run] = None if None in values else sum(values) / len(values)
        rows.append(row)
    return rows


def _errors(result: Result, key: str) -> list[dict[str, Any]]:
    rows = []
    for name in result["corruptions"]:
        found = {run: part[key]["per_corruption"][name] for run, part in result["runs"].items()}
        rows.append({"corruption": name} | {run: _shown(figure) for run, figure in found.items()})
    mean = {run: _shown(part[key]["mean"]) for run, part in result["runs"].items()}
    return [*rows, {"corruption": "mean"} | mean]


def _per_severity(result: Result, metric: str) -> list[dict[str, Any]]:
    first = next(iter(result["runs"].values()))
    rows: list[dict[str, Any]] = [
        {"corruption": "clean", "severity": "-"} | {r: _shown(p["clean"][metric]) for r, p in result["runs"].items()}
    ]
    for name, severities in first["corruptions"].items():
        for severity in severities:
            found = {run: part["corruptions"][name][severity][metric] for run, part in result["runs"].items()}
            rows.append({"corruption": name, "severity": severity} | {run: _shown(cell) for run, cell in found.items()})
    return rows


def _made(result: Result, command: str) -> list[str]:
    lines = [f"Command: `{command}`"]
    lines += [
        f"{name}: {part['meaning']}: "
        + ", ".join(f"{key}: {_parameter(value)}" for key, value in part["parameters"].items())
        for name, part in result["corruptions"].items()
    ]
    resampling = result["resampling"]
    lines.append(
        f"Draws of the corruptions: seed {result['seed']}. Intervals: percentiles of {resampling['rounds']} resamples "
        f"of {resampling['num_resampled']} {resampling['resampled']}, seed {resampling['seed']}; they hold the chance "
        "of the test images, not that of training."
    )
    lines += [
        f"{run}: {facts['backbone']}, {facts['trainable_parameters']} trained parameters, checkpoint sha256 "
        f"{str(facts['checkpoint_sha256'])[:12]}"
        for run, facts in result["facts"].items()
    ]
    lines += result["notes"]
    versions = ", ".join(f"{name} {value}" for name, value in result["versions"].items())
    return [*lines, f"Versions: {versions}"]


def _parameter(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _shown(figure: Mapping[str, Any]) -> str:
    return figure_with_interval(figure["value"], figure["interval"])


def build_result(
    logits: Mapping[str, Mapping[Cell, np.ndarray]],
    labels: np.ndarray,
    *,
    class_names: Sequence[str],
    baseline: str,
    patients: Sequence[str | None] | None = None,
    seed: int = 0,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
    shown: TaskFigures = CLASS_FIGURES,
    **resampling: Any,
) -> dict[str, Any]:
    """Collect the results of a suite.

    Args:
        logits: (N, C) by network and cell, see :func:`~movl_monai.experiments.robustness.figures.robustness_figures`.
        labels: integers (N,), with every class present.
        class_names: names in the order of the logits.
        baseline: name of the baseline network.
        patients: patient of each image; only their number is written.
        seed: seed of the corruptions.
        facts: facts about each network, without paths.
        notes: further notes for readers.
        shown: figures of the task, and its predicted class.
        resampling: ``rounds`` and ``level`` of the bootstrap.

    Returns:
        JSON-able: ``schema_version``, ``baseline``, ``seed``, ``images`` (``n``, ``patients``, ``classes``),
        ``corruptions`` (``meaning``, ``parameters`` by severity), ``facts``, ``versions``, and the entries of
        ``robustness_figures``.
    """
    found = robustness_figures(logits, labels, baseline=baseline, patients=patients, shown=shown, **resampling)
    names = [name for name in dict.fromkeys(name for name, _ in logits[baseline]) if name != CLEAN[0]]
    counts = Counter(int(label) for label in labels)
    known = patients is not None and None not in patients
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "baseline": baseline,
        "seed": seed,
        "images": {
            "n": len(labels),
            "patients": len(set(patients or ())) if known else None,
            "classes": {name: counts[index] for index, name in enumerate(class_names)},
        },
        "corruptions": {
            name: _described(name, [s for other, s in logits[baseline] if other == name]) for name in names
        },
        "facts": {run: dict((facts or {}).get(run, {})) for run in logits},
        "versions": run_info()["versions"],
        **found,
    }
    result["notes"] = [*notes, *result["notes"]]
    return dict(jsonable(result))


def write_result(folder: Path, result: Mapping[str, Any], *, command: str) -> str:
    """Write robustness.json, .csv, .png, .md and .html atomically into a folder, and return the Markdown page.

    Raises:
        MovlError: if the folder cannot be written.
    """
    page = robustness_markdown(result, command=command, picture="robustness.png")
    write_atomically(folder / "robustness.json", to_json(result).encode())
    write_atomically(folder / "robustness.csv", robustness_csv(result).encode())
    picture = draw_robustness(result)
    write_atomically(folder / "robustness.png", picture)
    write_atomically(folder / "robustness.html", robustness_html(result, command=command, picture=picture).encode())
    write_atomically(folder / "robustness.md", page.encode())
    return page


def _described(name: str, severities: Sequence[int]) -> dict[str, Any]:
    part = CORRUPTIONS[name]
    return {"meaning": part.meaning, "parameters": {str(s): part.parameters[s - 1] for s in severities}}
