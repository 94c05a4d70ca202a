"""Results of a suite as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.experiments.robustness.figures import CLEAN
from movl_monai.report.table import figure_with_interval, render_table

__all__ = ["robustness_csv", "robustness_markdown"]

Result = Mapping[str, Any]
_TITLES = {"balanced_accuracy": "balanced accuracy", "auroc": "macro AUROC"}


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
            for text in (f"## Each corruption, mean over its severities: {name}", _per_corruption(result, metric))
        ),
        "## Corruption error: errors as multiples of the baseline's",
        f"Errors are 1 - balanced accuracy, added over severities; {result['baseline']} is 1 everywhere, less is "
        "better.",
        _errors(result, "corruption_error"),
        "## Relative corruption error: what is lost to each corruption",
        "Errors above that on the images as they are, as multiples of what the baseline loses.",
        _errors(result, "relative_corruption_error"),
    ]
    for metric, name in _TITLES.items():
        parts += [f"## Each severity: {name}", _per_severity(result, metric)]
    return "\n\n".join([*parts, "## How it was made", _made(result, command)]) + "\n"


def _reading(result: Result) -> str:
    images, resampling = result["images"], result["resampling"]
    classes = ", ".join(f"{name} {count}" for name, count in images["classes"].items())
    level = f"{100 * resampling['level']:g} %"
    return (
        f"{images['n']} in-distribution test images ({classes}) of {images['patients'] or 'unknown'} patients, each "
        f"corrupted once for all networks. [{level} intervals], over {resampling['resampled']}; those of differences "
        "and ratios are paired. Only what an interval excludes is a finding. Every corruption counts alike, however "
        "many severities it has."
    )


def _summary(result: Result) -> str:
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
    count = len(result["corruptions"])
    lines = [render_table(rows, style="markdown").rstrip("\n")]
    for key, name in (("corruption_error", "mCE"), ("relative_corruption_error", "relative mCE")):
        gone = result["undefined"][key]
        if gone:
            lines.append(
                f"{name} is over {count - len(gone)} of {count} corruptions, without {', '.join(gone)} (see below)."
            )
    return "\n\n".join(lines)


def _per_corruption(result: Result, metric: str) -> str:
    rows = []
    for name in ("clean", *result["corruptions"]):
        row: dict[str, Any] = {"corruption": name}
        for run, part in result["runs"].items():
            cells = [part["clean"]] if name == "clean" else list(part["corruptions"][name].values())
            values = [cell[metric]["value"] for cell in cells]
            row[run] = None if None in values else sum(values) / len(values)
        rows.append(row)
    return render_table(rows, style="markdown").rstrip("\n")


def _errors(result: Result, key: str) -> str:
    rows = []
    for name in result["corruptions"]:
        found = {run: part[key]["per_corruption"][name] for run, part in result["runs"].items()}
        rows.append({"corruption": name} | {run: _shown(figure) for run, figure in found.items()})
    mean = {run: _shown(part[key]["mean"]) for run, part in result["runs"].items()}
    return render_table([*rows, {"corruption": "mean"} | mean], style="markdown").rstrip("\n")


def _per_severity(result: Result, metric: str) -> str:
    first = next(iter(result["runs"].values()))
    rows = [
        {"corruption": "clean", "severity": "-"} | {r: _shown(p["clean"][metric]) for r, p in result["runs"].items()}
    ]
    for name, severities in first["corruptions"].items():
        for severity in severities:
            found = {run: part["corruptions"][name][severity][metric] for run, part in result["runs"].items()}
            rows.append({"corruption": name, "severity": severity} | {run: _shown(cell) for run, cell in found.items()})
    return render_table(rows, style="markdown").rstrip("\n")


def _made(result: Result, command: str) -> str:
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
    return "\n".join(f"- {line}" for line in [*lines, f"Versions: {versions}"])


def _parameter(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _shown(figure: Mapping[str, Any]) -> str:
    return figure_with_interval(figure["value"], figure["interval"])
