"""Quality report as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from movl_monai.ingest.quality import has_leaks, lost_files
from movl_monai.ingest.statuses import STATUSES
from movl_monai.ingest.thumbnails import Thumbnail
from movl_monai.page import bullets, cell, html_page, table

__all__ = ["render_page"]

_TITLES = {
    "format": "Format",
    "modality": "Modality",
    "view": "View (ViewPosition)",
    "laterality": "Laterality",
    "kind": "Kind of image (ImageType)",
    "intent": "Made for (PresentationIntentType)",
    "object": "Kind of object (SOP class)",
    "transfer_syntax": "Transfer syntax",
    "photometric": "Photometric interpretation",
    "bits_stored": "Bits stored",
    "size": "Rows x columns",
    "pixel_spacing_mm": "Pixel spacing in mm",
}
_LEVELS = {"leak": "Leakage", "warning": "Look at", "note": "Note"}
_STYLE = """
.cards { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.bar { display: inline-block; height: .7em; background: #0072b2; min-width: 1px; vertical-align: baseline; }
.grid { columns: 2 22rem; column-gap: 2rem; } .grid .scroll { break-inside: avoid; }
.grid table { width: 100%; } .share { width: 40%; }
th code { white-space: nowrap; }
.level { font-weight: 600; white-space: nowrap; } .leak { color: #a00000; } .warning { color: #8a5000; }
.thumbs { display: flex; flex-wrap: wrap; gap: .75rem; margin: .5rem 0 1rem; }
.thumbs figure { margin: 0; width: 112px; }
.thumbs img { display: block; background: #000; } .thumbs figcaption { font-size: .7rem; overflow-wrap: anywhere; }
.card.bad { border-top-color: #a00000; } svg { display: block; } .histogram { fill: #0072b2; }
"""


def render_page(quality: Mapping[str, Any], thumbnails: Sequence[Thumbnail], *, withheld: int) -> str:
    """Render the report.

    Args:
        quality: from :func:`movl_monai.ingest.quality.describe_quality`.
        thumbnails: pictures.
        withheld: number of images that are not shown, because they may show a name.

    Returns:
        HTML without external resources.
    """
    body = [
        "<header><h1>What is in this folder</h1>",
        '<p class="notice">Files, patients and series are named by salted ids; the way back is in the local id map. '
        "For research only; not a medical device and not for diagnosis.</p></header>",
        "<main>",
        _cards(quality),
        _findings(quality["findings"]),
        _sets(quality["sets"]),
        _files(quality),
        _thumbnails(thumbnails, withheld),
        _distributions(quality),
        _intensities(quality["intensities"]),
        _settings(quality),
        "</main>",
    ]
    return html_page("What is in this folder", body, style=_STYLE)


def _cards(quality: Mapping[str, Any]) -> str:
    lost = lost_files(quality["statuses"])
    unknown = quality["images_without_patient"]
    patients = f"{quality['patients']} patients" + (f", {unknown} images of unknown patients" if unknown else "")
    volumes = f"{quality['volumes']} volumes of two or more slices"
    findings = quality["findings"]
    leaks = [finding for finding in findings if finding["level"] == "leak"]
    looks = sum(finding["level"] == "warning" for finding in findings)
    splits = {row["split"] for row in quality["sets"]} - {""}
    safe = "No patient and no image is in two splits." if splits else "There are no splits yet, so nothing can leak."
    leakage = [f"{finding['groups']} groups: {finding['code']}" for finding in leaks] or [safe]
    cards = (
        ("", "Images", str(quality["images"]), [patients, volumes]),
        (
            "bad" if lost else "",
            "Files",
            str(quality["files"]),
            [f"{quality['statuses'].get('ok', 0)} are images, {lost} should be and cannot be read"],
        ),
        ("bad" if has_leaks(dict(quality)) else "", "Leakage", "yes" if leaks else "none", leakage),
        ("elsewhere" if looks else "", "To look at", str(looks), ["See the findings below."] if looks else []),
    )
    return '<div class="cards">' + "".join(_card(*card) for card in cards) + "</div>"


def _card(kind: str, title: str, big: str, lines: Sequence[str]) -> str:
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<section class="card {kind}"><h2>{escape(title)}</h2><p class="big">{escape(big)}</p>{text}</section>'


def _findings(findings: Sequence[Mapping[str, Any]]) -> str:
    if not findings:
        return '<h2 id="findings">Findings</h2><p>Nothing was found.</p>'
    rows = [
        [
            f'<th scope="row" class="level {finding["level"]}">{_LEVELS[finding["level"]]}</th>',
            f"<td>{escape(finding['text'])}<br><code>{escape(finding['code'])}</code></td>",
            cell(str(finding["images"]), number=True),
            cell(str(finding["groups"]), number=True),
            f"<td>{_examples(finding['examples'])}</td>",
        ]
        for finding in findings
    ]
    caption = "The worst first. Images of one group belong together; a few groups are shown, by salted id."
    return '<h2 id="findings">Findings</h2>' + table(
        ["", "What", "Images", "Groups", "Examples"], rows, caption=caption
    )


def _examples(groups: Sequence[Sequence[str]]) -> str:
    return "<br>".join(f"<code>{escape(' '.join(group))}</code>" for group in groups[:3])


def _sets(sets: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            cell(row["domain"]),
            cell(row["split"] or "-"),
            cell(row["label"] or "(no label)"),
            cell(str(row["images"]), number=True),
            cell("unknown" if row["without_patient"] else str(row["patients"]), number=True),
        ]
        for row in sets
    ]
    return '<h2 id="sets">Labels and splits</h2>' + table(
        ["Domain", "Split", "Label", "Images", "Patients"], rows, caption="What the manifest holds."
    )


def _files(quality: Mapping[str, Any]) -> str:
    statuses = quality["statuses"]
    most = max(statuses.values(), default=1)
    rows = [
        [
            f'<th scope="row"><code>{escape(status)}</code></th>',
            cell(str(count), number=True),
            _bar(count / most),
            f"<td>{escape(STATUSES.get(status, ''))}</td>",
        ]
        for status, count in statuses.items()
    ]
    objects = quality["objects_without_pixels"]
    parts = [table(["Status", "Files", "", "Meaning"], rows, caption="Every file has one status.")]
    if objects:
        rows = [[cell(name or "unknown"), cell(str(count), number=True)] for name, count in objects.items()]
        parts.append(table(["Object", "Files"], rows, caption="DICOM objects that are no images."))
    return '<h2 id="files">Files</h2>' + "".join(parts)


def _thumbnails(thumbnails: Sequence[Thumbnail], withheld: int) -> str:
    notes = []
    if withheld:
        notes.append(
            f"{withheld} images are not shown because they may show a name: BurnedInAnnotation says so, they are "
            "secondary captures, or they are ultrasound images that do not deny it."
        )
    notes.append("Files without a DICOM header cannot say whether text is burned in: look at these pictures first.")
    figures = "".join(
        f'<figure><img src="{one.data}" width="112" alt="Image {escape(one.id)}"><figcaption>'
        f"{escape(one.label or one.modality)}<br><code>{escape(one.id)}</code></figcaption></figure>"
        for one in thumbnails
    )
    shown = f'<div class="thumbs">{figures}</div>' if figures else "<p>No pictures.</p>"
    return f'<h2 id="pictures">What the model will see</h2>{shown}{bullets(notes)}'


def _distributions(quality: Mapping[str, Any]) -> str:
    tables = []
    for name, values in quality["distributions"].items():
        if not any(row["value"] for row in values):
            continue
        most = max(row["images"] for row in values)
        rows = [
            [
                cell(_value(name, row["value"])),
                cell(str(row["images"]), number=True),
                _bar(row["images"] / most),
            ]
            for row in values
        ]
        tables.append(table([_TITLES[name], "Images", ""], rows, caption=""))
    return '<h2 id="distributions">Distributions</h2><div class="grid">' + "".join(tables) + "</div>"


def _value(name: str, value: Any) -> str:
    if value in (None, ""):
        return "not stated"
    if name == "transfer_syntax":
        from pydicom.uid import UID

        return UID(str(value)).name
    return str(value)


def _bar(share: float) -> str:
    return f'<td class="share"><span class="bar" style="width:{100 * share:.1f}%"></span></td>'


def _intensities(intensities: Sequence[Mapping[str, Any]]) -> str:
    if not intensities:
        return '<h2 id="intensities">Intensities</h2><p>No pixels were read.</p>'
    rows = [
        [
            cell(row["group"]),
            cell(str(row["images"]), number=True),
            cell(f"{row['mean']} ({row['lowest_mean']} to {row['highest_mean']})", number=True),
            cell(str(row["deviation"]), number=True),
            f"<td>{_histogram(row['histogram'])}</td>",
        ]
        for row in intensities
    ]
    caption = (
        "Of the images that the model sees, from 0 (black) to 255. The histogram goes from black to white; its bars "
        "are square roots of shares, so that small ones can be seen."
    )
    headings = ["Modality or format", "Images", "Mean (of single images)", "Deviation", "Histogram"]
    return '<h2 id="intensities">Intensities</h2>' + table(headings, rows, caption=caption)


def _histogram(shares: Sequence[float]) -> str:
    most = max(shares) or 1.0
    heights = [40 * (share / most) ** 0.5 for share in shares]
    bars = "".join(
        f'<rect x="{6 * index}" y="{40 - height:.1f}" width="5" height="{height:.1f}"/>'
        for index, height in enumerate(heights)
    )
    description = f"Histogram of {len(shares)} bins from black to white"
    return (
        f'<svg class="histogram" width="{6 * len(shares)}" height="40" role="img" '
        f'aria-label="{description}">{bars}</svg>'
    )


def _settings(quality: Mapping[str, Any]) -> str:
    facts = [
        [cell(name.replace("_", " ")), f"<td><code>{escape(_text(value))}</code></td>"]
        for name, value in quality["settings"].items()
    ]
    made = f"<p>Made by {escape(quality['made_by'])}.</p>"
    return '<h2 id="settings">How this was made</h2>' + made + table(["Setting", "Value"], facts, caption="")


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
