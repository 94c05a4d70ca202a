"""Quality report as data: counts, distributions, intensities, findings."""

from __future__ import annotations

from typing import Any

import numpy as np

from movl_monai import __version__
from movl_monai.ingest.findings import find_problems
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.records import LOST

__all__ = ["describe_quality", "has_leaks", "lost_files", "status_counts"]

_MOST_VALUES = 15
_DISTRIBUTIONS = {
    "format": "format",
    "modality": "modality",
    "view": "view",
    "laterality": "laterality",
    "kind": "kind",
    "intent": "intent",
    "object": "sop_class",
    "transfer_syntax": "transfer_syntax",
    "photometric": "photometric",
    "bits_stored": "bits",
    "size": "rows || ' x ' || columns",
    "pixel_spacing_mm": "printf('%.2f x %.2f', row_spacing, column_spacing)",
}
_NULL = {"pixel_spacing_mm": "row_spacing", "size": "rows"}
_STATUSES = """
SELECT COALESCE(statuses.status, files.status) AS reason, COUNT(*) FROM files LEFT JOIN statuses USING (key)
GROUP BY reason ORDER BY 2 DESC, 1
"""
_OBJECTS = """
SELECT sop_class, COUNT(*) FROM files WHERE status IN ('not_image', 'segmentation', 'label_image')
GROUP BY 1 ORDER BY 2 DESC, 1
"""


def describe_quality(journal: Journal, *, id_domain: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the report; the only names in it are salted ids.

    Args:
        journal: with the tables ``images``, ``statuses``, ``placed`` and ``volumes``.
        id_domain: name of the in-distribution domain.
        settings: of the reading.
    """
    statuses = status_counts(journal)
    one = journal.db.execute
    return {
        "made_by": f"movl-monai {__version__}",
        "files": sum(statuses.values()),
        "statuses": statuses,
        "objects_without_pixels": dict(one(_OBJECTS).fetchall()),
        "images": one("SELECT COUNT(*) FROM images").fetchone()[0],
        "patients": one("SELECT COUNT(DISTINCT patient) FROM images").fetchone()[0],
        "images_without_patient": one("SELECT COUNT(*) FROM images WHERE patient IS NULL").fetchone()[0],
        "volumes": one("SELECT COUNT(*) FROM volumes WHERE slices > 1").fetchone()[0],
        "id_domain": id_domain,
        "sets": _sets(journal),
        "distributions": {name: _distribution(journal, name, column) for name, column in _DISTRIBUTIONS.items()},
        "intensities": _intensities(journal),
        "findings": [finding.describe() for finding in find_problems(journal, id_domain=id_domain)],
        "settings": settings,
    }


def has_leaks(quality: dict[str, Any]) -> bool:
    """Return True if a patient or the same pixels are in two splits."""
    return any(finding["level"] == "leak" for finding in quality["findings"])


def status_counts(journal: Journal) -> dict[str, int]:
    """Return the number of files per status, the most frequent first."""
    return dict(journal.db.execute(_STATUSES).fetchall())


def lost_files(statuses: dict[str, int]) -> int:
    """Return the number of files that should be images but could not be read."""
    return sum(count for status, count in statuses.items() if status in LOST)


def _sets(journal: Journal) -> list[dict[str, Any]]:
    """Return images and patients by domain, split and label."""
    cursor = journal.db.execute(
        "SELECT domain, COALESCE(split, '') AS split, label, COUNT(*) AS images, COUNT(DISTINCT patient) AS patients, "
        "SUM(patient IS NULL) AS without_patient FROM images GROUP BY 1, 2, 3 "
        "ORDER BY 1, CASE split WHEN 'train' THEN 0 WHEN 'val' THEN 1 WHEN 'calibration' THEN 2 WHEN 'test' THEN 3 "
        "ELSE 4 END, 3"
    )
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _distribution(journal: Journal, name: str, column: str) -> list[dict[str, Any]]:
    """Return the most frequent values, and the sum of all others."""
    absent = _NULL.get(name, column)
    value = f"CASE WHEN {absent} IS NULL OR {absent} = '' THEN '' ELSE {column} END"
    rows = journal.db.execute(f"SELECT {value}, COUNT(*) FROM listed GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
    listed = [{"value": value, "images": count} for value, count in rows[:_MOST_VALUES]]
    rest = rows[_MOST_VALUES:]
    others = {"value": f"{len(rest)} others", "images": sum(count for _, count in rest)}
    return [*listed, others] if rest else listed


def _intensities(journal: Journal) -> list[dict[str, Any]]:
    """Return histogram, mean and spread of the model's input, by modality, or by format without one."""
    group = "CASE modality WHEN '' THEN format ELSE modality END"
    sums: dict[str, np.ndarray] = {}
    for name, histogram in journal.db.execute(
        f"SELECT {group}, histogram FROM files WHERE histogram != '' AND key IN (SELECT key FROM images)"
    ):
        sums[name] = sums.get(name, 0) + np.array(histogram.split(), dtype=float)
    figures = journal.db.execute(
        f"SELECT {group} AS name, COUNT(*), AVG(mean), MIN(mean), MAX(mean), AVG(deviation) FROM listed "
        "WHERE mean IS NOT NULL GROUP BY name ORDER BY 2 DESC, 1"
    ).fetchall()
    return [
        {
            "group": name,
            "images": count,
            "mean": round(mean, 1),
            "lowest_mean": low,
            "highest_mean": high,
            "deviation": round(deviation, 1),
            "histogram": [round(float(share), 4) for share in sums[name] / sums[name].sum()],
        }
        for name, count, mean, low, high, deviation in figures
        if name in sums
    ]
