"""Section on out-of-distribution detection: scores, and the share of flagged images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from movl_monai.evaluation.pages.parts import beside, gap, listed, notes_of, number_cell, percent, picture
from movl_monai.page import cell, section, table, text_cell

__all__ = ["render_detection"]

_KINDS = {"near": "near: same task, other site", "far": "far: another kind of image"}
_FIGURES = {"aupr": "AUPR ↑", "fpr95": "FPR95 ↓"}


def render_detection(report: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Return the table of all scores on all sets, and the share of images that the chosen score flags."""
    entry, notes = report.get("ood_detection"), notes_of(report, "ood_detection")
    title = "Does it notice images that it was not trained on?"
    if not entry or not entry.get("sets"):
        return section("detection", title, [gap("OOD detection is not in this report.", notes)])
    chart = picture(
        pictures.get("ood_detection.png"),
        alternative="AUROC of every score on every set as dots, intervals as lines. The table holds the numbers.",
        caption="How well each score tells images from elsewhere from the test images from here.",
    )
    told = listed(notes) if _threshold(entry) is not None else ""  # without a threshold, the gap already shows them
    body = [_lead(entry, notes), beside(chart, _flagged(entry)), _scores(entry), told]
    return section("detection", title, body)


def _lead(entry: Mapping[str, Any], notes: list[str]) -> str:
    chosen, source = entry.get("chosen") or {}, entry.get("threshold_from") or {}
    if _threshold(entry) is None:
        return gap("No score and threshold were chosen, so no image is marked as outside.", notes)
    kept = source.get("target_id_kept")
    keeps = f" It was set to keep {percent(kept, digits=0)} of them." if kept is not None else ""
    fitted = entry.get("fitted_on") or {}
    fit = f" The scores were fitted on {fitted['n']} images of {escape(fitted['split'])}." if fitted.get("n") else ""
    return (
        f"<p>The score <code>{escape(str(chosen['score']))}</code> marks an image as outside of what the network was "
        f"trained on beyond the threshold {chosen['threshold']:.4g}, which comes from {source.get('n', '-')} images of "
        f"{escape(str(source.get('split', 'val')))}.{keeps} No image from elsewhere was looked at for it.{fit}</p>"
    )


def _threshold(entry: Mapping[str, Any]) -> float | None:
    return (entry.get("chosen") or {}).get("threshold")


def _flagged(entry: Mapping[str, Any]) -> str:
    rows: list[list[Any]] = [["Here (ID)", "test images", entry.get("n_id"), entry.get("id_flagged")]]
    for name, part in entry["sets"].items():
        kind = _KINDS.get(str(part.get("kind")), str(part.get("kind")))
        rows.append([name, kind, part.get("n"), part.get("flagged")])
    cells = [
        [cell(name), text_cell(kind), number_cell(count), cell(percent(share), number=True)]
        for name, kind, count, share in rows
    ]
    caption = "What the chosen score marks as outside: wrongly for images from here, rightly for all others."
    return table(["Images", "Kind", "Number", "Marked as outside"], cells, caption=caption)


def _scores(entry: Mapping[str, Any]) -> str:
    # the notes give the reason for a score that is undefined everywhere
    found = [pair for part in entry["sets"].values() for pair in (part.get("scores") or {}).items()]
    names = list(dict.fromkeys(name for name, value in found if value))
    chosen = (entry.get("chosen") or {}).get("score")
    rows = []
    for name in names:
        for key, part in entry["sets"].items():
            score = (part.get("scores") or {}).get(name) or {}
            numbers = [number_cell(score.get("auroc"), score.get("auroc_interval"))]
            numbers += [number_cell(score.get(figure), score.get(f"{figure}_interval")) for figure in _FIGURES]
            title = name.replace("_", " ") + (" (chosen)" if name == chosen else "")
            rows.append([cell(title), text_cell(key), *numbers])
    caption = (
        "AUROC: 1 tells all apart, 0.5 none. AUPR: area under precision and recall, with images from elsewhere as the "
        "positives. FPR95: share of them that passes when 95 % of the images from here do."
    )
    return table(["Score", "Images", "AUROC ↑", *_FIGURES.values()], rows, caption=caption)
