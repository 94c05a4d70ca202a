"""Results of a segmentation, one case per image or volume, and their table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from movl_monai.errors import MovlError
from movl_monai.metrics.masks import FIGURES, NO_DISTANCES

__all__ = ["CASES_FILE", "Case", "case_sections", "cases_csv", "read_cases"]

CASES_FILE = "cases.csv"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Result of one image or volume.

    Args:
        id: salted id of the image or volume.
        figures: values per class, (C - 1,), for each name of ``mask_metrics.FIGURES``; NaN if undefined.
        images: number of its images (slices).
        shown: position in the data set of the image that represents the case in pictures.
        predicted: uint8 (h, w), predicted classes of that image at the network's size.
        present: whether the truth has a pixel of each class, bool (C - 1,).
        in_mm: whether distances are in mm; without a spacing in the file they are in pixels.
        has_distances: False for a volume on an irregular grid, which has no distances.
        complete: whether no slice of the volume is missing.
        split: "train", "val", "test" or "".
        domain: its domain.
        patient: identifier of the patient, which is never written.
        patient_id: salted id of the patient, for the file.
        groups: value of each group column, "" if missing.
    """

    id: str
    figures: dict[str, np.ndarray]
    images: int
    shown: int
    predicted: np.ndarray
    present: np.ndarray
    in_mm: bool
    has_distances: bool = True
    complete: bool = True
    split: str = ""
    domain: str = "id"
    patient: str | None = None
    patient_id: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    def mean(self, figure: str) -> float:
        """Return the mean of a figure over the classes with a value; NaN if none has one."""
        values = self.figures[figure]
        return float(np.nan if np.isnan(values).all() else np.nanmean(values))


def case_sections(cases: Sequence[Case], *, id_domain: str = "id") -> dict[str, list[Case]]:
    """Return the non-empty sections of a report by name: "id", each "ood:<domain>", "val", "train"."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        held_back = case.split if case.split in ("train", "val", "calibration") else "id"
        found.setdefault(held_back if case.domain == id_domain else f"ood:{case.domain}", []).append(case)
    # no figure of masks needs cases that were set aside for calibration
    names = ["id", *sorted(name for name in found if name.startswith("ood:")), "val", "train"]
    return {name: found[name] for name in names if name in found}


def cases_csv(cases: Sequence[Case], class_names: Sequence[str]) -> str:
    """Return CSV text with one row per case.

    Columns: case, domain, split, patient (salted), images, complete, unit of the distances; for each figure its mean
    over the classes, then for each class ``<figure>_<class>``. An undefined figure is empty.
    """
    foreground = [str(name) for name in class_names[1:]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    per_class = [f"{figure}_{name}" for name in foreground for figure in FIGURES]
    writer.writerow(["case", "domain", "split", "patient", "images", "complete", "distance_unit", *FIGURES, *per_class])
    for case in cases:
        facts = [case.id, case.domain, case.split, case.patient_id or "", case.images, case.complete]
        means = [_text(case.mean(figure)) for figure in FIGURES]
        values = [_text(case.figures[figure][number]) for number in range(len(foreground)) for figure in FIGURES]
        unit = ("mm" if case.in_mm else "pixels") if case.has_distances else NO_DISTANCES
        writer.writerow([*facts, unit, *means, *values])
    return stream.getvalue()


def read_cases(path: Path, *, figures: Sequence[str] = FIGURES) -> list[Mapping[str, str]]:
    """Read the rows of a file of :func:`cases_csv`.

    Args:
        path: the file.
        figures: figures that it must have.

    Raises:
        MovlError: if the file is missing or lacks a column.
    """
    needed = ("case", "domain", "split", "patient", *figures)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows: list[Mapping[str, str]] = list(reader)
        if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
            raise KeyError(*missing)
        for row in rows:
            _ = [float(row[name] or "nan") for name in figures]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise MovlError(
            f"{path.name} cannot be read as cases: {type(error).__name__}. Expected the file of an evaluation beside "
            f"report.json, with the columns {', '.join(needed)}; evaluate again."
        ) from error
    return rows


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
