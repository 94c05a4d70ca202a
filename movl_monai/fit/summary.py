"""Ten lines about a finished fit, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from movl_monai.data.units import Units
from movl_monai.metrics.selecting import reported_figure

from .budget import in_words
from .run import Fit

__all__ = ["summarize"]

_TITLES = {
    "balanced_accuracy": "balanced accuracy",
    "quadratic_kappa": "quadratic kappa",
    "median_quadratic_kappa": "quadratic kappa",
    "within_one": "within one grade",
    "auroc": "AUROC",
    "macro_auroc": "macro AUROC",
    "mae": "mean absolute error",
    "negative_mae": "negative mean absolute error",
    "dice": "Dice",
    "iou": "IoU",
}


def summarize(fit: Fit) -> list[str]:
    """Return the lines: choice and reason, figures on val, test and OOD images, files, and the next command."""
    record, report, folder = fit.record, fit.report, fit.folder
    chosen = record["candidates"][record["chosen"]]
    figure, count = chosen["figure"], chosen["n"]
    unit = record["settings"].get("unit")
    counted = "images" if unit is None else Units(unit=unit).plural
    shown, units = (("dice", "iou"), "cases") if figure == "dice" else (_reported(figure), counted)
    return [
        f"Chosen:  {record['chosen']}{_short(chosen)}: {chosen['about']}",
        f"Because: {record['reason']}",
        f"Others:  {_others(record)}",
        f"On val:  {_figure(figure, chosen['value'], chosen['interval'])}, {count} {units}, by which it was chosen",
        f"Test:    {_section(report.get('id'), shown, units)}{_looks(record)}",
        f"OOD:     {_ood(report.get('ood') or {}, shown, units)}",
        f"Model:   {folder}/model.onnx ({record['model']['megabytes']:.1f} MB, differs from the network by "
        f"{record['model']['parity']['logits']:.0e})",
        f"Report:  {folder}/report.html (model card: MODEL_CARD.md, the data: data/quality.html, decisions: fit.json)",
        f"Next:    movl-monai predict {folder}/model.onnx IMAGES --output_dir PREDICTIONS",
        f"Took {in_words(record['seconds']['all'])}. Research use only; not for diagnosis.",
    ]


def _reported(figure: str) -> tuple[str, ...]:
    """Return the figures of a report that are shown beside a selecting figure."""
    first = reported_figure(figure)
    return (first,) if first in ("auroc", "mae") else (first, "within_one", "auroc")


def _others(record: Mapping[str, Any]) -> str:
    lines = []
    for name, entry in record["candidates"].items():
        if name == record["chosen"]:
            continue
        if "difference" in entry and entry["state"] == "trained":
            difference = entry["difference"]
            lines.append(f"{name}{_short(entry)} {difference['difference']:+.3f}{_interval(difference['interval'])}")
        else:
            lines.append(f"{name} {entry['state']}" + (f" ({entry['skipped']})" if "skipped" in entry else ""))
    return "; ".join(lines) or "none"


def _short(entry: Mapping[str, Any]) -> str:
    """Return the epochs of a training that was shortened or stopped by the budget."""
    return f" ({entry['epochs']} of {entry['planned_epochs']} epochs)" if "planned_epochs" in entry else ""


def _looks(record: Mapping[str, Any]) -> str:
    number = len(record.get("looks_at_test", ()))
    return f"; look {number} at test in this folder" if number > 1 else ""


def _section(section: Mapping[str, Any] | None, names: Sequence[str], units: str) -> str:
    if not section:
        return "no labelled images"
    parts = [
        _figure(name, section[name], (section.get("intervals") or {}).get(name)) for name in names if name in section
    ]
    return f"{', '.join(parts)}, {section['n']} {units}"


def _ood(sections: Mapping[str, Any], names: Sequence[str], units: str) -> str:
    own = [name for name in names if name in ("auroc", "mae", "dice", "within_one")]
    lines = [f"{name}: {_section(section, own, units)}" for name, section in sections.items()]
    return (
        "; ".join(lines) or "none given; --ood_dataset_dirs \"['DIR']\" in another fit evaluates images from elsewhere"
    )


def _figure(name: str, value: float | None, interval: Any) -> str:
    title = _TITLES.get(name, name.replace("_", " "))
    return f"{title} -" if value is None else f"{title} {value:.3f}{_interval(interval)}"


def _interval(interval: Any) -> str:
    return "" if not interval else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
