"""Parts of a kind of phantom data set: its images, their contents, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.phantom.anatomy import Anatomy
from movl_monai.phantom.dicom import write_dicom
from movl_monai.phantom.scanner import Lesions, Scanner, render

__all__ = ["Kind", "Plan", "Table", "choose", "label_table", "radiograph_path", "write_radiograph"]

Table = list[tuple[object, ...]]
"""Rows of a CSV file, the names of the columns first."""


@dataclass(frozen=True)
class Plan:
    """One image to write, or one series of slices.

    Args:
        scanner: the device.
        split: train, val or test.
        domain: of the scanner.
        patient: number of the patient, from 1.
        image: number of the patient's image or series, from 1.
        content: label of the image, and further facts that the kind draws it from.
    """

    scanner: Scanner
    split: str
    domain: str
    patient: int
    image: int
    content: Any

    @property
    def patient_id(self) -> str:
        """PatientID of the files."""
        return f"PHANTOM-{self.patient:04d}"

    @property
    def place(self) -> tuple[str, str, str]:
        """Patient, split and domain, as in the manifest."""
        return self.patient_id, self.split, self.domain


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Kind of data set.

    Args:
        description: first sentence of ``phantom.json``.
        class_names: classes or findings, in order; () for numbers.
        further_names: of what is counted and is no class: "No Finding", or "" for numbers.
        patients: default numbers of patients for train, val and test of scanner A, and for scanner B.
        images_per_patient: default number.
        size: default rows and columns of scanner A.
        draw: draws the contents of all images of a split, by patient, given the numbers of patients and of images of
            each, and a random generator.
        names: names of an image's content to count.
        files: paths of a plan's DICOM files, relative to the folder of the data set.
        write: writes a plan's files below a folder, given the seed and size of the data set.
        tables: CSV files by name, in order of the plans; "manifest.csv" is the list of the data set.
    """

    description: str
    class_names: tuple[str, ...]
    further_names: tuple[str, ...] = ()
    patients: tuple[int, int, int, int] = (60, 20, 30, 30)
    images_per_patient: int = 4
    size: int = 256
    draw: Callable[[int, int, np.random.Generator], Iterable[Iterable[Any]]]
    names: Callable[[Any], tuple[str, ...]]
    files: Callable[[Plan], Sequence[str]]
    write: Callable[[Path, Plan, int, int], None]
    tables: Callable[[Sequence[Plan]], dict[str, Table]]


def radiograph_path(plan: Plan) -> str:
    """Return the path of a radiograph, relative to the folder of the data set."""
    return f"images/{plan.scanner.name}/{plan.patient:04d}_{plan.image}.dcm"


def label_table(plans: Sequence[Plan], labels: Sequence[object]) -> dict[str, Table]:
    """Return the manifest of radiographs with one label each."""
    rows: Table = [(radiograph_path(plan), label, *plan.place) for plan, label in zip(plans, labels, strict=True)]
    return {"manifest.csv": [("path", "label", "patient_id", "split", "domain"), *rows]}


def write_radiograph(
    root: Path,
    plan: Plan,
    seed: int,
    size: int,
    *,
    anatomy: Anatomy | None = None,
    lesions: Lesions | None = None,
) -> None:
    """Render and write one radiograph; see :func:`movl_monai.phantom.scanner.render`."""
    numbers = {"seed": seed, "patient": plan.patient, "image": plan.image}
    drawn = render(plan.scanner, size=size, anatomy=anatomy, lesions=lesions, **numbers)
    write_dicom(root / radiograph_path(plan), drawn, plan.scanner, **numbers)


def choose(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw 0 or 1 for each probability, with as many ones as expected.

    The number of ones is the rounded sum of the probabilities, but at least 1 and at most all but one, so that small
    splits have both.

    Args:
        probability: in (0, 1), (N,).
        rng: random generator.

    Returns:
        int (N,).

    Example:
        >>> choose(np.full(20, 0.3), np.random.default_rng(0)).sum()
        np.int64(6)
    """
    count = len(probability)
    ones = int(np.clip(round(float(probability.sum())), min(1, count), max(count - 1, 0)))
    score = np.log(probability / (1 - probability)) + rng.logistic(size=count)
    drawn = np.zeros(count, dtype=int)
    drawn[np.argsort(-score, kind="stable")[:ones]] = 1
    return drawn
