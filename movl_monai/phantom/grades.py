"""Radiographs with five grades of a disease, from no nodules to many large ones, most of them low as in screening."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from movl_monai.phantom.anatomy import draw_nodules
from movl_monai.phantom.kinds import Kind, Plan, Table, label_table, radiograph_path, write_radiograph

__all__ = ["GRADES", "NODULES", "draw_grades"]

_SHARES = (0.36, 0.24, 0.18, 0.13, 0.09)
NODULES: dict[int, tuple[tuple[int, int], tuple[float, float]]] = {
    1: ((1, 2), (8, 14)),
    2: ((3, 4), (9, 16)),
    3: ((5, 7), (10, 18)),
    4: ((9, 12), (12, 22)),
}
"""Least and largest number and radius (mm) of the nodules of each grade but 0."""


def draw_grades(patients: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the grades of a split; images of one patient have similar grades.

    Each grade has one image, if there are five; the others are divided by the shares 0.36, 0.24, 0.18, 0.13 and 0.09.

    Args:
        patients: number of patients.
        images: of every patient.
        rng: random generator.

    Returns:
        int (patients, images), 0 to 4.
    """
    total = patients * images
    severity = 0.9 * rng.normal(size=(patients, 1)) + 0.44 * rng.normal(size=(patients, images))
    ends = np.minimum(np.arange(1, 6), total) + np.rint(np.cumsum(_SHARES) * max(total - 5, 0)).astype(int)
    ranks = np.argsort(np.argsort(severity, axis=None, kind="stable"), kind="stable")
    return np.searchsorted(ends, ranks, side="right").reshape(patients, images)


def _write(root: Path, plan: Plan, seed: int, size: int) -> None:
    lesions = None
    if plan.content:
        count, radius = NODULES[plan.content]
        lesions = partial(draw_nodules, count=count, radius=radius)
    write_radiograph(root, plan, seed, size, lesions=lesions)


def _tables(plans: Sequence[Plan]) -> dict[str, Table]:
    return label_table(plans, [plan.content for plan in plans])


GRADES = Kind(
    description="Synthetic chest radiographs (phantom) with five grades",
    class_names=("0", "1", "2", "3", "4"),
    images_per_patient=2,
    draw=draw_grades,
    names=lambda grade: (str(grade),),
    files=lambda plan: (radiograph_path(plan),),
    write=_write,
    tables=_tables,
)
