"""All figures of a report with intervals, confusion matrices, and figures of each class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from movl_monai.evaluation.pages.parts import gap, listed, number_cell, picture, section_title
from movl_monai.page import cell, section, table

__all__ = ["FIGURES", "MASK_FIGURES", "class_sections", "figure_sections", "render_classes", "render_figures"]

# name, arrow (up: larger is better), meaning
FIGURES: dict[str, tuple[str, str, str]] = {
    "accuracy": ("Accuracy", "↑", "share of images whose most probable class is their label"),
    "balanced_accuracy": ("Balanced accuracy", "↑", "mean sensitivity of all classes"),
    "auroc": ("AUROC", "↑", "area under the ROC curve, each class against the rest, mean over the classes"),
    "auroc_weighted": ("AUROC, weighted", "↑", "as AUROC, but classes count by their number of images"),
    "average_precision": ("Average precision", "↑", "each class against the rest, mean over the classes"),
    "average_precision_weighted": ("Average precision, weighted", "↑", "classes count by their number of images"),
    "quadratic_kappa": ("Quadratic kappa", "↑", "agreement beyond chance; only means something for ordered classes"),
    "cross_entropy": ("Cross entropy", "↓", "mean negative log likelihood of the label, in nats"),
    "brier": ("Brier score", "↓", "squared distance of probabilities and label, summed over classes, 0 to 2"),
    "ece": ("Calibration error", "↓", "expected calibration error (ECE) over 15 bins of equal width"),
}
MASK_FIGURES: dict[str, tuple[str, str, str]] = {
    "dice": ("Dice", "↑", "twice the common area over the sum of both areas, 0 to 1"),
    "iou": ("IoU", "↑", "common area over the united area, 0 to 1"),
    "sensitivity": ("Sensitivity", "↑", "share of the true area that was found"),
    "precision": ("Precision", "↑", "share of the predicted area that is true"),
    "hd95": ("HD95", "↓", "95th percentile of the distances between the two outlines, the larger of both directions"),
    "asd": ("Average surface distance", "↓", "mean distance from either outline to the other"),
}
_CLASS_FIGURES = {
    "n": "Images",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "average_precision": "Average precision",
}
_COLUMNS = 4  # largest number of sections side by side in a table that fits on paper


def figure_sections(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with figures of a report by key ("id", "ood:<domain>", "val", "calibration")."""
    parts = {"id": report.get("id"), **{f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}}
    parts |= {"val": report.get("val"), "calibration": report.get("calibration_section")}
    return {name: part for name, part in parts.items() if part}


def render_figures(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the table of all figures, split if there are many sections, with the charts."""
    parts = figure_sections(report)
    keys = list(parts)
    chunks = [keys[start : start + _COLUMNS] for start in range(0, len(keys), _COLUMNS)]
    tables = [_table({key: parts[key] for key in chunk}) for chunk in chunks]
    here = picture(
        pictures.get("overview.png"),
        alternative="Balanced accuracy and AUROC of every set of test images as dots, intervals as lines.",
        caption="Dots are the figures, lines their intervals. The dotted line is what guessing gives.",
    )
    body = [here, *tables] if tables else [gap("There are no figures.", report.get("notes", ()))]
    notes = [f"{section_title(key)}: {note}" for key, part in parts.items() for note in part.get("notes") or ()]
    remarks = f"<h3>What a dash or a missing interval means here</h3>{listed(notes)}" if notes else ""
    return section("figures", "All figures", [*body, remarks, _confusion(parts, pictures)])


def _table(parts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [[cell("Labeled images"), *(number_cell(part["n"]) for part in parts.values())]]
    if any(part.get("n_patients") for part in parts.values()):
        rows.append([cell("Patients"), *(cell(_patients(part), number=True) for part in parts.values())])
    for key, (name, arrow, _) in FIGURES.items():
        if any(key in part for part in parts.values()):
            values = [number_cell(part.get(key), part["intervals"].get(key)) for part in parts.values()]
            rows.append([cell(f"{name} {arrow}"), *values])
    caption = "Intervals in brackets. ↑ larger is better, ↓ smaller is better. A dash: no value, for the reason below."
    return table(["Figure", *map(section_title, parts)], rows, caption=caption)


def _patients(part: Mapping[str, Any]) -> str:
    return str(part["n_patients"]) if part.get("n_patients") else "not known"


def _confusion(parts: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, bytes]) -> str:
    shown = {key: part for key, part in parts.items() if part.get("confusion_matrix") and part["n"]}
    image = picture(
        pictures.get("figure.png"),
        alternative="Confusion matrices above ROC curves, one column for each set of test images. "
        "The tables hold the numbers.",
        caption="Confusion matrices (the darker, the larger the share of the row) and ROC curves.",
        wide=True,
    )
    if not shown:
        return image
    tables = []
    for key, part in shown.items():
        names = list(part["per_class"])
        rows = [
            [cell(name), *(number_cell(count) for count in counts)]
            for name, counts in zip(names, part["confusion_matrix"], strict=True)
        ]
        caption = f"{section_title(key)}: images by label (row) and predicted class (column)."
        tables.append(table(["Label", *names], rows, caption=caption))
    return "<h3>Right and wrong, class by class</h3>" + image + f'<div class="tables">{"".join(tables)}</div>'


def render_classes(report: Mapping[str, Any]) -> str:
    """Return the figures of each class against the rest, one table per section."""
    return section("classes", "Each class", class_sections(report) or [gap("There are no figures of classes.")])


def class_sections(report: Mapping[str, Any]) -> list[str]:
    """Return the tables of :func:`render_classes`."""
    tables = []
    for key, part in figure_sections(report).items():
        rows = [
            [cell(label), *(number_cell(values.get(name), _interval(part, label, name)) for name in _CLASS_FIGURES)]
            for label, values in part["per_class"].items()
        ]
        caption = f"{section_title(key)}: each class against the rest. A dash: the class has no images here, or all."
        tables.append(table(["Class", *_CLASS_FIGURES.values()], rows, caption=caption))
    return tables


def _interval(part: Mapping[str, Any], label: str, name: str) -> Any:
    return ((part.get("per_class_intervals") or {}).get(label) or {}).get(name)
