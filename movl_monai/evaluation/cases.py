"""The results of a segmentation, one case per image or volume, and the file of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from movl_monai.evaluation.mask_metrics import FIGURES, NO_DISTANCES

__all__ = ["Case", "case_sections", "cases_csv"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """How well one image or volume was segmented.

    Args:
        id: salted id of the image or volume.
        figures: for each name of ``mask_metrics.FIGURES`` the values of the classes, (C - 1,), NaN for none.
        images: number of its images (slices).
        shown: position in the data set of the image that shows it best.
        predicted: uint8 (h, w), the predicted classes of that image at the size of the network.
        present: whether the truth has a pixel of each class, bool (C - 1,).
        in_mm: whether its distances are in mm, or in pixels because the file tells no spacing.
        has_distances: False for a volume on no regular grid, whose distances are not available.
        complete: whether all slices of the volume were there.
        split: "train", "val", "test" or "".
        domain: its domain.
        patient: anything that tells patients apart; it is never written.
        patient_id: salted id of the patient, for the file.
        groups: value of each column that makes groups, "" where it is missing.
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
        """Mean of a figure over the classes that have a value; NaN if none has."""
        values = self.figures[figure]
        return float(np.nan if np.isnan(values).all() else np.nanmean(values))


def case_sections(
    cases: Sequence[Case], *, id_domain: str = "id"
) -> tuple[list[Case], dict[str, list[Case]], list[Case], list[Case]]:
    """Sort cases into the parts of a report: ID test, each other domain, ID val, ID train."""
    inside = [case for case in cases if case.domain == id_domain]
    others = dict.fromkeys(case.domain for case in cases if case.domain != id_domain)
    return (
        [case for case in inside if case.split not in ("train", "val", "calibration")],
        {name: [case for case in cases if case.domain == name] for name in sorted(others)},
        [case for case in inside if case.split == "val"],
        [case for case in inside if case.split == "train"],
    )


def cases_csv(cases: Sequence[Case], class_names: Sequence[str]) -> str:
    """CSV text with one row per case.

    Columns: case, domain, split, patient (salted), images, unit of the distances; for each figure its mean over the
    classes, then for each class ``<figure>_<class>``. A figure without a value is empty.
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


def _text(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
