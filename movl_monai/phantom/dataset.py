"""Write a phantom data set: many patients, two scanners, one of several kinds of labels, from one seed."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from movl_monai.errors import DataError
from movl_monai.phantom.findings import FINDINGS_COLUMNS, FINDINGS_LABEL
from movl_monai.phantom.grades import GRADES
from movl_monai.phantom.kinds import Kind, Plan
from movl_monai.phantom.lesions import LESION
from movl_monai.phantom.measure import MEASURE
from movl_monai.phantom.scanner import SCANNERS
from movl_monai.phantom.volumes import VOLUMES

__all__ = ["KINDS", "KindName", "PhantomSettings", "PhantomSummary", "write_phantom"]

KindName = Literal["lesion", "findings", "findings_label", "grades", "measure", "volumes"]
KINDS: dict[KindName, Kind] = {
    "lesion": LESION,
    "findings": FINDINGS_COLUMNS,
    "findings_label": FINDINGS_LABEL,
    "grades": GRADES,
    "measure": MEASURE,
    "volumes": VOLUMES,
}
_VERSION = 1
_TABLES = ("manifest.csv", "truth.csv", "lesion_slices.csv")


@dataclass(frozen=True)
class PhantomSettings:
    """Settings of the data set; equal settings give equal bytes.

    Args:
        seed: >= 0.
        patients: numbers of patients for train, val and test of scanner A, and for the test of scanner B; each >= 0.
        images_per_patient: >= 1.
        size: rows and columns of scanner A, >= 64; scanner B has 5/4 of it.
        version: of the phantom.
        kind: see :func:`write_phantom`.
    """

    seed: int = 0
    patients: tuple[int, int, int, int] = (60, 20, 30, 30)
    images_per_patient: int = 4
    size: int = 256
    version: int = _VERSION
    kind: KindName = "lesion"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if self.seed < 0 or self.images_per_patient < 1 or self.size < 64:
            raise ValueError(
                "The phantom needs seed >= 0, images_per_patient >= 1 and size >= 64, "
                f"got {self.seed}, {self.images_per_patient} and {self.size}."
            )
        if len(self.patients) != 4 or min(self.patients) < 0 or sum(self.patients) == 0:
            raise ValueError(f"patients must be four numbers >= 0 (train, val, test, scanner B), got {self.patients}.")

    @property
    def record(self) -> dict[str, Any]:
        """Settings as in ``phantom.json``, whose oldest kind has no name."""
        facts = asdict(self) | {"patients": list(self.patients)}
        if self.kind == "lesion":
            del facts["kind"]
        return facts


@dataclass(frozen=True)
class PhantomSummary:
    """Result of :func:`write_phantom`.

    Args:
        folder: of the data set.
        images: number of DICOM files.
        kept: True if a complete data set with the same settings already existed.
        counts: images, or series of volumes, by "domain/split/label"; an image counts for each of its findings.
    """

    folder: Path
    images: int
    kept: bool
    counts: dict[str, int] = field(default_factory=dict)


def write_phantom(
    folder: str | PathLike[str],
    *,
    kind: KindName = "lesion",
    seed: int = 0,
    patients: tuple[int, int, int, int] | None = None,
    images_per_patient: int | None = None,
    size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> PhantomSummary:
    """Write an embedded data set of synthetic images, as valid DICOM files.

    The files are ``<folder>/images/<scanner>/*.dcm``, ``manifest.csv`` and ``phantom.json``. Scanner A has the splits
    train, val and test of the domain ``id``. Scanner B, another device (for radiographs other matrix, spacing, noise,
    contrast, collimation, MONOCHROME1), has only a test split of the domain ``scanner_b``. No patient is in two splits.
    The manifest has the columns path, patient_id, split and domain, and those of the kind:

    * ``lesion``: chest radiographs with and without nodules; ``label`` is lesion or no_lesion. Labels belong to images:
      half of the images of every split show nodules, some patients more often than others.
    * ``findings``: chest radiographs with several findings, in the columns ``Cardiomegaly``, ``Consolidation``,
      ``Effusion`` and ``Nodule`` as in CheXpert: 1, 0, -1 (uncertain) or blank (not mentioned). ``truth.csv`` (path and
      the same columns, 0 or 1) has the findings that were drawn.
    * ``findings_label``: the same images; ``label`` has the names of all findings drawn, such as ``Effusion|Nodule``,
      or ``No Finding``.
    * ``grades``: chest radiographs, ``label`` is a grade 0 to 4: no nodules to many large ones. Low grades are more
      frequent; images of one patient have similar grades.
    * ``measure``: chest radiographs, ``label`` is the cardiothoracic ratio: the largest width of the heart as a share
      of the largest inner width of the chest, 0.3 to 0.75.
    * ``volumes``: one or two CT series of 16 to 24 slices for each patient, in folders
      ``images/<scanner>/<series>/*.dcm``. Each row is a slice; ``label`` is lesion or no_lesion of the patient, and
      ``study`` and ``series`` name its study and its folder. Two to five neighbouring slices of a series with lesions
      show them: ``lesion_slices.csv`` (path, series, slice, lesion) counts the slices of a series from 0 at the feet
      and has 1 where there is a lesion. The order of the file names is another.

    A folder with the same complete data set is kept; an interrupted one is written again.

    Args:
        folder: new, empty, or of an earlier call.
        kind: of the labels and images.
        seed: of everything.
        patients: numbers of patients for train, val and test of scanner A, and for scanner B; None is the default of
            the kind.
        images_per_patient: number of images, each a separate study, or largest number of series of a volume's study;
            None is the default of the kind.
        size: rows and columns of scanner A in pixels; scanner B has 5/4 of it. None is the default of the kind.
        overwrite: replace a complete data set of other settings.
        progress: show a bar, if standard error is a terminal.

    Returns:
        Summary of the data set.

    Raises:
        DataError: if the folder has other contents, or a complete data set of other settings.
        ValueError: if a number is out of range, or the kind unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_phantom(folder, patients=(1, 0, 0, 1), images_per_patient=2, size=64).counts
        {'id/train/no_lesion': 1, 'id/train/lesion': 1, 'scanner_b/test/no_lesion': 1, 'scanner_b/test/lesion': 1}
    """
    defaults = KINDS.get(kind, LESION)
    settings = PhantomSettings(
        seed=seed,
        patients=tuple(defaults.patients if patients is None else patients),  # type: ignore[arg-type]
        images_per_patient=defaults.images_per_patient if images_per_patient is None else images_per_patient,
        size=defaults.size if size is None else size,
        kind=kind,
    )
    chosen, root = KINDS[kind], Path(folder)
    plans = list(_plans(settings))
    counts, tables = _counts(plans, chosen), chosen.tables(plans)
    files = [name for plan in plans for name in chosen.files(plan)]
    summary = PhantomSummary(root, len(files), kept=True, counts=counts)
    if _is_complete(root, settings, [*files, *tables], overwrite=overwrite):
        return summary
    _start(root, settings)
    for plan in _with_bar(plans, progress):
        chosen.write(root, plan, seed, settings.size)
    for name, rows in tables.items():
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    _write_record(root, settings, complete=True, counts=counts)
    return replace(summary, kept=False)


def _plans(settings: PhantomSettings) -> Iterator[Plan]:
    scanner_a, scanner_b = SCANNERS
    parts = [(scanner_a, split, "id") for split in ("train", "val", "test")] + [(scanner_b, "test", "scanner_b")]
    patient = 0
    for number, ((scanner, split, domain), count) in enumerate(zip(parts, settings.patients, strict=True)):
        rng = np.random.default_rng([settings.seed, number])
        for of_patient in KINDS[settings.kind].draw(count, settings.images_per_patient, rng):
            patient += 1
            for image, content in enumerate(of_patient, start=1):
                yield Plan(scanner, split, domain, patient, image, content)


def _counts(plans: Sequence[Plan], kind: Kind) -> dict[str, int]:
    """Count the images by domain, split and label, in the order of the splits and of the kind's names."""
    parts = list(dict.fromkeys((plan.domain, plan.split) for plan in plans))
    found = Counter((plan.domain, plan.split, name) for plan in plans for name in kind.names(plan.content))
    names = [(*part, name) for part in parts for name in (*kind.class_names, *kind.further_names)]
    return {"/".join(filter(None, name)): found[name] for name in names if found[name]}


def _is_complete(root: Path, settings: PhantomSettings, files: Sequence[str], *, overwrite: bool) -> bool:
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
    if complete and there == settings.record:
        return all((root / name).is_file() for name in files)
    if complete and not overwrite:
        raise DataError(
            f"The folder holds a phantom data set with the settings {there}, asked for was {settings.record}. "
            "Name another folder, or pass overwrite (--overwrite)."
        )
    return False


def _start(root: Path, settings: PhantomSettings) -> None:
    for scanner in SCANNERS:
        shutil.rmtree(root / "images" / scanner.name, ignore_errors=True)
        (root / "images" / scanner.name).mkdir(parents=True)
    for name in _TABLES:
        (root / name).unlink(missing_ok=True)
    _write_record(root, settings, complete=False, counts={})


def _write_record(root: Path, settings: PhantomSettings, *, complete: bool, counts: dict[str, int]) -> None:
    kind = KINDS[settings.kind]
    record = {
        "description": f"{kind.description}, written by `movl-monai phantom`. No person was imaged.",
        "complete": complete,
        "settings": settings.record,
        "class_names": kind.class_names,
        "counts": counts,
    }
    (root / "phantom.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _with_bar(plans: list[Plan], progress: bool) -> Iterator[Plan]:
    from tqdm import tqdm

    # None shows the bar only on a terminal
    yield from tqdm(plans, desc="phantom", unit="image", disable=None if progress else True)
