"""Radiographs with and without nodules: two classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movl_monai.phantom.anatomy import draw_nodules
from movl_monai.phantom.kinds import Kind, Plan, Table, label_table, radiograph_path, write_radiograph

__all__ = ["CLASS_NAMES", "LESION", "draw_labels"]

CLASS_NAMES = ("no_lesion", "lesion")


def draw_labels(patients: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the images that show nodules.

    Patients form pairs: one has k images with nodules, the other ``images - k``, with k from 0 to ``images``. The
    classes are therefore balanced, and the patient partly predicts the label.

    Args:
        patients: number of patients.
        images: of every patient.
        rng: random generator.

    Returns:
        int (patients, images), 1 for nodules. As many ones as zeros if ``patients`` or ``images`` is even.
    """
    lesions = np.empty(patients, dtype=int)
    lesions[0::2] = rng.integers(images + 1, size=len(lesions[0::2]))
    lesions[1::2] = images - lesions[0 : patients // 2 * 2 : 2]
    if patients % 2:
        lesions[-1] = images // 2
    labels = (np.arange(images)[None] < lesions[:, None]).astype(int)
    return rng.permuted(labels, axis=1)


def _write(root: Path, plan: Plan, seed: int, size: int) -> None:
    write_radiograph(root, plan, seed, size, lesions=draw_nodules if plan.content else None)


def _tables(plans: Sequence[Plan]) -> dict[str, Table]:
    return label_table(plans, [CLASS_NAMES[plan.content] for plan in plans])


LESION = Kind(
    description="Synthetic chest radiographs (phantom)",
    class_names=CLASS_NAMES,
    draw=draw_labels,
    names=lambda label: (CLASS_NAMES[label],),
    files=lambda plan: (radiograph_path(plan),),
    write=_write,
    tables=_tables,
)
