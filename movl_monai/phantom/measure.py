"""Radiographs with a number to estimate: the cardiothoracic ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movl_monai.phantom.anatomy import cardiothoracic_ratio, draw_anatomy, enlarge_heart
from movl_monai.phantom.kinds import Kind, Plan, Table, label_table, radiograph_path, write_radiograph

__all__ = ["MEASURE", "draw_ratios"]


def draw_ratios(patients: int, images: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the cardiothoracic ratios of a split.

    Those of the patients are spread evenly, images of one patient differ by 0.015, as with the heart beat.

    Args:
        patients: number of patients.
        images: of every patient.
        rng: random generator.

    Returns:
        float64 (patients, images), 0.3 to 0.75, in steps of 0.001.
    """
    ratios = rng.uniform(0.3, 0.75, size=(patients, 1)) + rng.normal(0, 0.015, size=(patients, images))
    return np.round(np.clip(ratios, 0.3, 0.75), 3)


def _write(root: Path, plan: Plan, seed: int, size: int) -> None:
    anatomy = draw_anatomy(np.random.default_rng([seed, plan.patient]))
    factor = plan.content / cardiothoracic_ratio(anatomy)
    write_radiograph(root, plan, seed, size, anatomy=enlarge_heart(anatomy, factor))


def _tables(plans: Sequence[Plan]) -> dict[str, Table]:
    return label_table(plans, [f"{plan.content:.3f}" for plan in plans])


MEASURE = Kind(
    description="Synthetic chest radiographs (phantom) with the cardiothoracic ratio",
    class_names=(),
    further_names=("",),
    patients=(120, 40, 60, 60),
    images_per_patient=2,
    draw=draw_ratios,
    names=lambda ratio: ("",),
    files=lambda plan: (radiograph_path(plan),),
    write=_write,
    tables=_tables,
)
