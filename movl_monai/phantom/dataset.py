"""Write the phantom data set: two classes, many patients, two scanners, from one seed."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.errors import DataError
from movl_monai.phantom.dicom import write_dicom
from movl_monai.phantom.scanner import SCANNERS, Scanner, render

__all__ = ["CLASS_NAMES", "PhantomSettings", "PhantomSummary", "draw_labels", "write_phantom"]

CLASS_NAMES = ("no_lesion", "lesion")
_VERSION = 1
_COLUMNS = ("path", "label", "patient_id", "split", "domain")


@dataclass(frozen=True)
class PhantomSettings:
    """Settings of the data set; equal settings give equal bytes.

    Args:
        seed: >= 0.
        patients: numbers of patients for train, val and test of scanner A, and for the test of scanner B; each >= 0.
        images_per_patient: >= 1.
        size: rows and columns of scanner A, >= 64; scanner B has 5/4 of it.
        version: of the phantom.
    """

    seed: int = 0
    patients: tuple[int, int, int, int] = (60, 20, 30, 30)
    images_per_patient: int = 4
    size: int = 256
    version: int = _VERSION

    def __post_init__(self) -> None:
        if self.seed < 0 or self.images_per_patient < 1 or self.size < 64:
            raise ValueError(
                "The phantom needs seed >= 0, images_per_patient >= 1 and size >= 64, "
                f"got {self.seed}, {self.images_per_patient} and {self.size}."
            )
        if len(self.patients) != 4 or min(self.patients) < 0 or sum(self.patients) == 0:
            raise ValueError(f"patients must be four numbers >= 0 (train, val, test, scanner B), got {self.patients}.")


@dataclass(frozen=True)
class PhantomSummary:
    """Result of :func:`write_phantom`.

    Args:
        folder: of the data set.
        images: number of images.
        kept: True if a complete data set with the same settings already existed.
        counts: images by "domain/split/label".
    """

    folder: Path
    images: int
    kept: bool
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    scanner: Scanner
    split: str
    domain: str
    patient: int
    image: int
    label: int

    @property
    def path(self) -> str:
        return f"images/{self.scanner.name}/{self.patient:04d}_{self.image}.dcm"

    @property
    def row(self) -> tuple[str, ...]:
        return self.path, CLASS_NAMES[self.label], f"PHANTOM-{self.patient:04d}", self.split, self.domain


def write_phantom(
    folder: str | PathLike[str],
    *,
    seed: int = 0,
    patients: tuple[int, int, int, int] = (60, 20, 30, 30),
    images_per_patient: int = 4,
    size: int = 256,
    overwrite: bool = False,
    progress: bool = True,
) -> PhantomSummary:
    """Write the embedded data set: synthetic chest radiographs with and without nodules, as valid DICOM files.

    The files are ``<folder>/images/<scanner>/*.dcm``, ``manifest.csv`` (path, label, patient_id, split, domain) and
    ``phantom.json``. Scanner A has the splits train, val and test of the domain ``id``. Scanner B, another device
    (matrix, spacing, noise, contrast, collimation, MONOCHROME1), has only a test split of the domain ``scanner_b``. No
    patient is in two splits. Labels belong to images: half of the images of every split show nodules, some patients
    more often than others.

    A folder with the same complete data set is kept; an interrupted one is written again.

    Args:
        folder: new, empty, or of an earlier call.
        seed: of everything.
        patients: numbers of patients for train, val and test of scanner A, and for scanner B.
        images_per_patient: number of images, each a separate study.
        size: rows and columns of scanner A in pixels; scanner B has 5/4 of it.
        overwrite: replace a complete data set of other settings.
        progress: show a bar, if standard error is a terminal.

    Returns:
        Summary of the data set.

    Raises:
        DataError: if the folder has other contents, or a complete data set of other settings.
        ValueError: if a number is out of range.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_phantom(folder, patients=(1, 0, 0, 1), images_per_patient=2, size=64).counts
        {'id/train/no_lesion': 1, 'id/train/lesion': 1, 'scanner_b/test/no_lesion': 1, 'scanner_b/test/lesion': 1}
    """
    settings = PhantomSettings(seed, tuple(patients), images_per_patient, size)  # type: ignore[arg-type]
    root = Path(folder)
    plans = list(_plans(settings))
    names = Counter("/".join((plan.domain, plan.split, CLASS_NAMES[plan.label])) for plan in plans)
    counts = {name: names[name] for name in sorted(names, key=_reading_order)}
    if _is_complete(root, settings, plans, overwrite=overwrite):
        return PhantomSummary(root, len(plans), kept=True, counts=counts)
    _start(root, settings)
    for plan in _with_bar(plans, progress):
        drawn = render(
            plan.scanner, seed=seed, patient=plan.patient, image=plan.image, lesion=bool(plan.label), size=size
        )
        write_dicom(root / plan.path, drawn, plan.scanner, seed=seed, patient=plan.patient, image=plan.image)
    _write_manifest(root, plans)
    _write_record(root, settings, complete=True, counts=counts)
    return PhantomSummary(root, len(plans), kept=False, counts=counts)


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


def _plans(settings: PhantomSettings) -> Iterator[_Plan]:
    scanner_a, scanner_b = SCANNERS
    parts = [(scanner_a, split, "id") for split in ("train", "val", "test")] + [(scanner_b, "test", "scanner_b")]
    patient = 0
    for number, ((scanner, split, domain), count) in enumerate(zip(parts, settings.patients, strict=True)):
        labels = draw_labels(count, settings.images_per_patient, np.random.default_rng([settings.seed, number]))
        for of_patient in labels:
            patient += 1
            for image, label in enumerate(of_patient, start=1):
                yield _Plan(scanner, split, domain, patient, image, int(label))


def _reading_order(name: str) -> tuple[int, ...]:
    domain, split, label = name.split("/")
    return ("id", "scanner_b").index(domain), ("train", "val", "test").index(split), CLASS_NAMES.index(label)


def _is_complete(root: Path, settings: PhantomSettings, plans: list[_Plan], *, overwrite: bool) -> bool:
    """Return True if the complete data set exists; refuse any other non-empty folder but an unfinished data set."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        record: dict[str, Any] = json.loads((root / "phantom.json").read_text(encoding="utf-8"))
        there, complete = record["settings"], bool(record["complete"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            "The folder is not empty and holds no phantom data set; nothing was written. Name a new or an empty folder."
        ) from error
    wanted = json.loads(json.dumps(asdict(settings)))
    if complete and there == wanted:
        return all((root / name).is_file() for name in ("manifest.csv", *(plan.path for plan in plans)))
    if complete and not overwrite:
        raise DataError(
            f"The folder holds a phantom data set with the settings {there}, asked for was {wanted}. "
            "Name another folder, or pass overwrite (--overwrite)."
        )
    return False


def _start(root: Path, settings: PhantomSettings) -> None:
    for scanner in SCANNERS:
        shutil.rmtree(root / "images" / scanner.name, ignore_errors=True)
        (root / "images" / scanner.name).mkdir(parents=True)
    (root / "manifest.csv").unlink(missing_ok=True)
    _write_record(root, settings, complete=False, counts={})


def _write_manifest(root: Path, plans: list[_Plan]) -> None:
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(plan.row for plan in plans)


def _write_record(root: Path, settings: PhantomSettings, *, complete: bool, counts: dict[str, int]) -> None:
    record = {
        "description": "Synthetic chest radiographs (phantom), written by `movl-monai phantom`. No person was imaged.",
        "complete": complete,
        "settings": asdict(settings),
        "class_names": CLASS_NAMES,
        "counts": counts,
    }
    (root / "phantom.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _with_bar(plans: list[_Plan], progress: bool) -> Iterator[_Plan]:
    from tqdm import tqdm

    # None shows the bar only on a terminal
    yield from tqdm(plans, desc="phantom", unit="image", disable=None if progress else True)
