"""Quality report as one self-contained page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from movl_monai.data.decode import ItemTransform, decode_all
from movl_monai.files import today
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.quality import has_leaks, lost_files
from movl_monai.ingest.records import STATUSES
from movl_monai.report import render_template

__all__ = ["Thumbnail", "choose_images", "make_thumbnails", "render_page", "withheld"]

_SIDE = 112
_QUALITY = 80
_MAY_SHOW_NAMES = "shows_names = 1"


@dataclass(frozen=True)
class Thumbnail:
    """Small picture of an image.

    Args:
        id: salted id of the image.
        label: class, or "".
        modality: modality, or format without one.
        series: salted id of the volume or series, "" for a single picture.
        data: data URI of a JPEG.
    """

    id: str
    label: str
    modality: str
    series: str
    data: str


def withheld(journal: Journal) -> int:
    """Return the number of listed images that are never shown, because they may show a name."""
    return int(journal.db.execute(f"SELECT COUNT(*) FROM listed WHERE {_MAY_SHOW_NAMES}").fetchone()[0])


def choose_images(journal: Journal, count: int) -> list[dict[str, Any]]:
    """Choose images in turn from every label, modality and series: as good as at random, and repeatable.

    Args:
        journal: with the tables ``images`` and ``placed``.
        count: largest number of images.

    Returns:
        Path relative to the root, frame (None for a file with one), id, label, modality, series; sorted by label,
        modality and series, and within a series by position.
    """
    cursor = journal.db.execute(
        f"""
        SELECT path, shown AS frame, id, label, group_name AS modality, volume AS series, place FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY label, group_name ORDER BY round, id) AS turn FROM (
                SELECT *, ROW_NUMBER() OVER (PARTITION BY label, group_name, volume ORDER BY id) AS round FROM (
                    SELECT listed.*, COALESCE(volume, '') AS volume, COALESCE("order", 0) AS place,
                        CASE modality WHEN '' THEN format ELSE modality END AS group_name
                    FROM listed LEFT JOIN placed USING (key, frame) WHERE pixels != '' AND NOT {_MAY_SHOW_NAMES}
                )
            )
        ) JOIN paths USING (key) JOIN (SELECT key, frame, shown FROM images) USING (key, frame)
        ORDER BY turn, label, group_name, id LIMIT ?
        """,
        (count,),
    )
    names = [column[0] for column in cursor.description]
    chosen = [dict(zip(names, row, strict=True)) for row in cursor]
    return sorted(chosen, key=lambda row: (row["label"] or "", row["modality"], row["series"], row["place"], row["id"]))


def make_thumbnails(
    chosen: list[dict[str, Any]], transform: ItemTransform, *, root: Path, num_workers: int
) -> Iterator[Thumbnail]:
    """Yield the pictures in the chosen order; images that can no longer be read are skipped.

    Args:
        chosen: from :func:`choose_images`.
        transform: the preprocessing.
        root: the folder of the images.
        num_workers: processes.
    """
    items = []
    for row in chosen:
        item: dict[str, Any] = {"image": os.fspath(root / os.fsdecode(row["path"]))}
        items.append(item if row["frame"] is None else item | {"frame": row["frame"]})
    decoded = dict(decode_all(items, transform, num_workers=num_workers))
    for index, row in enumerate(chosen):
        image = decoded[index].image
        if image is not None:
            yield Thumbnail(row["id"], row["label"] or "", row["modality"], row["series"], _data_uri(image))


def _data_uri(image: Any) -> str:
    """Shrink uint8 (3, H, W) to a small JPEG."""
    from PIL import Image

    picture = Image.fromarray(image.transpose(1, 2, 0))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def render_page(quality: Mapping[str, Any], thumbnails: Sequence[Thumbnail], *, withheld: int) -> str:
    """Render the report.

    Args:
        quality: from :func:`movl_monai.ingest.quality.describe_quality`.
        thumbnails: pictures.
        withheld: number of images that are not shown, because they may show a name.

    Returns:
        HTML without external resources.
    """
    findings = quality["findings"]
    return render_template(
        "folder.html",
        quality=quality,
        groups=[list(group) for _, group in groupby(thumbnails, key=lambda one: (one.label, one.modality, one.series))],
        date=today(),
        undeclared=sum(
            row["images"] for row in quality["distributions"]["format"] if row["value"] not in ("dicom", "nifti")
        ),
        withheld=withheld,
        lost=lost_files(quality["statuses"]),
        has_leaks=has_leaks(dict(quality)),
        leakage=[
            f"{finding['groups']} groups: {finding['code']}" for finding in findings if finding["level"] == "leak"
        ],
        looks=sum(finding["level"] == "warning" for finding in findings),
        meanings=STATUSES,
        transfer_syntax=_transfer_syntax,
    )


def _transfer_syntax(value: Any) -> str:
    from pydicom.uid import UID

    return UID(str(value)).name
