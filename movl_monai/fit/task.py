"""Decide the task of a data set, and the settings that its files ask for, before any pixel is read."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from movl_monai.bundles import find_overlays
from movl_monai.data.columns import check_labels, joined_labels
from movl_monai.data.entries import SPLITS, Entry, Listing, natural_sorted
from movl_monai.data.label_forms import CLASSES, LabelForm, label_form
from movl_monai.data.read_csv import read_csv
from movl_monai.data.sources import LISTS, is_paired, read_source, reader_of
from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError, DataError
from movl_monai.ingest.labels import middle_slice
from movl_monai.report.tasks import task_named

__all__ = ["BUNDLES", "Decision", "Task", "check_minutes", "decide", "decide_task", "unit_overlays"]

Task = Literal["classification", "ordinal", "multilabel", "regression", "segmentation"]
BUNDLES: dict[Task, str] = {
    **dict.fromkeys(("classification", "ordinal", "multilabel", "regression"), "movl_classification"),
    "segmentation": "dvpt_segmentation",
}
"""Default bundle of each task."""

_JPEG = (".jpg", ".jpeg")
_NIFTI = (".nii", ".nii.gz")
_MAX_GRADES = 11
_MAX_CLASSES = 30
_LOOKED_AT = 32  # masks


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Task of a data set, with the settings that follow from its files.

    Args:
        task: the task.
        images: number of files with images.
        notes: sentences for the user: each decision, its reason and the option that changes it.
        overlays: names of config files of the bundle; those that a bundle lacks are left out.
        settings: ids and values; those that a bundle lacks are left out.
    """

    task: Task
    images: int
    notes: Sequence[str]
    overlays: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def decide(source: Path, *, task: str | None = None, given: Mapping[str, Any] | None = None) -> Decision:
    """Decide the task of a data set by its layout, its list and the names of its files.

    Folders of images and masks, or a list whose images mostly have masks, are a segmentation; class folders and labels
    are a classification. Three or more labels that are consecutive whole numbers are grades. Columns of 1, 0, -1 and
    blanks without a column ``label``, or labels joined by a sign, are several findings per image. Numbers are predicted
    only if the user says so.

    Args:
        source: the data set.
        task: the user's own choice; None decides.
        given: settings of the user, which are not decided again.

    Raises:
        ConfigError: for an unknown task.
        DataError: if the source does not exist or cannot be understood, its images have neither classes nor findings
            nor masks, or its labels are measurements and ``task`` is None.
    """
    own = dict(given or {})
    found, listing = decide_task(source, task=task, given=own)
    if found == "segmentation":
        return _segmentation(listing, own, asked=task)
    if found == "multilabel":
        return _multilabel(source, listing, own, asked=task)
    if found == "regression":
        return _regression(listing, own)
    return _classification(listing, own, asked=task)


def decide_task(
    source: Path, *, task: str | None = None, given: Mapping[str, Any] | None = None
) -> tuple[Task, Listing]:
    """Return the task of a data set and its list, without opening an image; see :func:`decide`.

    Raises:
        ConfigError: as :func:`decide`.
        DataError: if the source does not exist or cannot be understood.
    """
    if task is not None and task not in get_args(Task):
        raise ConfigError(f"--task must be one of {', '.join(get_args(Task))}, got '{task}'.")
    own = dict(given or {})
    masks = _is_of_masks(source) if task is None else task_named(task).per_pixel
    listing = _read(source, own, masks=masks, task=task)
    if not masks and task is None:
        masked = sum(entry.mask is not None for entry in listing.entries)
        labelled = sum(entry.label is not None for entry in listing.entries)
        masks = masked > labelled or 2 * masked >= len(listing.entries) > 0
        listing = _read(source, own, masks=True) if masks else listing
    if masks:
        return "segmentation", listing
    if task is not None:
        return task, listing  # type: ignore[return-value]
    labels = [entry.label for entry in listing.entries if entry.label is not None]
    if "label_order" not in own and (joined_labels(labels) if labels else _finding_columns(source, own)):
        return "multilabel", listing
    return "classification", listing


def check_minutes(minutes: float) -> None:
    """Check the time budget.

    Raises:
        ConfigError: if it is not above 0.
    """
    if not minutes > 0:
        raise ConfigError(f"--minutes must be above 0, got {minutes:g}; 30 is usual.")


def unit_overlays(bundle: Path, unit: str | None) -> list[str]:
    """Return the overlay for one answer per series, study or patient; none for single images.

    Raises:
        ConfigError: if the bundle has no such overlay.
    """
    if unit is None:
        return []
    find_overlays(bundle, {"unit": [unit]})
    return [f"unit_{unit}.json"]


def _is_of_masks(source: Path) -> bool:
    """Return True for folders of images and masks, and for a JSON list whose labels are paths of masks."""
    if source.is_dir() and is_paired(source):
        return reader_of(source, "masks") is not None
    lists = [source / name for name in LISTS] if source.is_dir() else [source]
    path = next((path for path in lists if path.is_file()), None)
    if path is None or path.suffix.lower() != ".json":
        return False
    try:
        read_source(path, masks=True)
    except DataError:
        return False
    return True


def _read(source: Path, given: Mapping[str, Any], *, masks: bool, task: str | None = None) -> Listing:
    """Return the list of a data set; labels of findings and numbers are left as their text."""
    suffix = {"mask_suffix": given.get("mask_suffix", "")} if masks else {}
    form: LabelForm | None = CLASSES
    if task in ("multilabel", "regression"):
        by_folders = source.is_dir() and reader_of(source, "labels") is not None
        form = label_form(task) if by_folders else None
    return read_source(source, labelled=False, masks=masks, encoding=given.get("encoding"), form=form, **suffix)


def _segmentation(listing: Listing, given: Mapping[str, Any], *, asked: str | None) -> Decision:
    why = "as --task says" if asked else "the images have masks (--task classification takes classes instead)"
    notes = [f"Task: segmentation; {why}."]
    overlays: list[str] = []
    settings: dict[str, Any] = {}
    if not {"mask_threshold", "mask_values", "mask_class_names"} & {*given}:
        if any(_named(entry.mask, _JPEG) for entry in listing.entries):
            settings["mask_threshold"] = 128
            notes.append("Masks are JPEG: grey levels from 128 are foreground (--mask_threshold N says otherwise).")
        else:
            settings, said = _mask_classes(_mask_values(listing.entries), named=listing.class_names is not None)
            notes += said
    volumes = sum(entry.path.is_dir() or _named(entry.path, _NIFTI) for entry in listing.entries)
    if 2 * volumes > len(listing.entries):
        overlays.append("data_volumes.json")
        notes.append(
            "Images are volumes: trained by slices, judged by volumes. A volume without a patient in a list is a "
            "patient of its own (--one_image_per_patient false says otherwise)."
        )
    notes.append(_split(listing))
    count = len(listing.entries)
    return Decision(task="segmentation", images=count, notes=notes, overlays=overlays, settings=settings)


def _mask_values(entries: Sequence[Entry]) -> list[int]:
    """Return the values in some of the masks; masks that cannot be read are left to training."""
    from movl_monai.transforms import LoadImageMask  # imports torch

    load = LoadImageMask(num_classes=256)
    found: set[int] = set()
    for entry in entries[:: max(1, len(entries) // _LOOKED_AT)][:_LOOKED_AT]:
        with contextlib.suppress(Exception):  # folders contain every kind of broken file
            mask = load.read(entry.path, entry.mask, middle_slice(load, entry))[1]
            found |= set() if mask is None else {*mask.unique().tolist()}
    return sorted(found)


def _mask_classes(values: Sequence[int], *, named: bool) -> tuple[dict[str, Any], list[str]]:
    """Return the settings for the values of masks, with their notes; none for zeros and ones.

    Example:
        >>> _mask_classes([0, 255], named=False)[0], _mask_classes([0, 1, 2], named=False)[0]
        ({'mask_values': [0, 255]}, {'mask_class_names': ['background', 'class 1', 'class 2']})
    """
    if len(values) == 2 and values[0] == 0 and values[1] != 1:
        note = f"Masks hold 0 and {values[1]}: background and foreground (--mask_values says otherwise)."
        return {"mask_values": list(values)}, [note]
    if not named and values and 2 <= values[-1] <= _MAX_CLASSES:
        names = ["background", *(f"class {number}" for number in range(1, values[-1] + 1))]
        note = f"Masks hold the classes 0 to {values[-1]} (--mask_class_names names them)."
        return {"mask_class_names": names}, [note]
    return {}, []


def _classification(listing: Listing, given: Mapping[str, Any], *, asked: str | None) -> Decision:
    labels = natural_sorted({entry.label for entry in listing.entries if entry.label is not None})
    if not labels:
        raise DataError(
            f"None of the {len(listing.entries)} images has a class or a mask. Expected class folders, folders "
            "`images` and `masks`, a list with a column `label` or `mask`, or one with two or more columns of findings "
            "that hold 1, 0, -1 or nothing."
        )
    check_labels(listing.entries)
    count = len(listing.entries)
    if asked == "ordinal" or (asked is None and "label_order" not in given and _are_grades(labels)):
        labels_of("ordinal").check_names(labels)
        why = "as --task says" if asked else f"classes are the whole numbers {labels[0]} to {labels[-1]}"
        note = (
            f"Task: ordinal in {len(labels)} grades; {why}. The answer is the median grade, judged by quadratic kappa "
            "(--task classification takes classes without an order)."
        )
        return Decision(
            task="ordinal",
            images=count,
            notes=[note, _split(listing)],
            overlays=["task_ordinal.json"],
            settings={"label_order": "ordinal"},  # of a bundle without the overlay
        )
    why = "as --task says" if asked else "each image has one class (--task segmentation takes masks instead)"
    notes = [f"Task: classification in {len(labels)} classes; {why}."]
    if asked is None and (gap := _gap(labels)):
        notes.append(f"Classes are whole numbers without {gap}: taken as classes without an order (--task ordinal).")
    notes.append(_split(listing))
    return Decision(task="classification", images=count, notes=notes)


def _multilabel(source: Path, listing: Listing, given: Mapping[str, Any], *, asked: str | None) -> Decision:
    settings: dict[str, Any] = {}
    labels = [entry.label for entry in listing.entries if entry.label is not None]
    columns = given.get("label_columns") or ([] if labels else _finding_columns(source, given))
    if columns:
        settings["label_columns"] = columns
        said = f"the columns {', '.join(columns)} hold a finding each (--label_columns says otherwise)"
    else:
        joined = joined_labels(labels)
        settings["label_separator"] = next((sign for sign in "|;," if any(sign in label for label in joined)), "|")
        said = f"labels are findings joined by '{settings['label_separator']}' (--label_separator says otherwise)"
    why = "as --task says" if asked else "an image may have several findings (--task classification takes one class)"
    notes = [f"Task: multilabel; {why}.", f"Findings: {said}.", _split(listing)]
    return Decision(
        task="multilabel",
        images=len(listing.entries),
        notes=notes,
        overlays=["task_multilabel.json"],
        settings={name: value for name, value in settings.items() if name not in given},
    )


def _regression(listing: Listing, given: Mapping[str, Any]) -> Decision:
    column = next(iter(given.get("label_columns") or ["label"]))
    notes = [
        "Task: regression; as --task says.",
        f"The number of each image is in the column {column} (--label_columns names another).",
        _split(listing),
    ]
    return Decision(task="regression", images=len(listing.entries), notes=notes, overlays=["task_regression.json"])


def _finding_columns(source: Path, given: Mapping[str, Any]) -> list[str]:
    """Return the columns of findings of a CSV list; [] if there are fewer than two."""
    path = source / LISTS[0] if source.is_dir() else source
    if path.suffix.lower() not in (".csv", ".tsv", ".txt") or not path.is_file():
        return []
    form = label_form("multilabel", no_finding=str(given.get("no_finding", "No Finding")))
    try:
        groups, encoding = given.get("group_columns", ()), given.get("encoding")
        listing = read_csv(path, labelled=False, encoding=encoding, group_columns=groups, form=form)
    except DataError:
        return []
    return names if len(names := listing.class_names or []) > 1 else []


def _split(listing: Listing) -> str:
    named = {entry.split for entry in listing.entries if entry.split is not None}
    if named:
        return f"Split: as the data set names it ({', '.join(split for split in SPLITS if split in named)})."
    return "Split: made by patient (--split_fractions says otherwise), and kept for every later call."


def _gap(labels: Sequence[str]) -> str:
    """Return the whole numbers that three or more grades from 0 or 1 lack; "" for labels that are no such grades.

    Example:
        >>> _gap(["0", "1", "3"]), _gap(["0", "1", "2"]), _gap(["3", "7", "9"])
        ('2', '', '')
    """
    numbers = [int(label) for label in labels if label.isdecimal()]
    if not 3 <= len(numbers) == len(labels) or min(numbers) > 1 or max(numbers) > _MAX_GRADES:
        return ""
    return ", ".join(str(number) for number in range(min(numbers), max(numbers)) if number not in numbers)


def _are_grades(labels: Sequence[str]) -> bool:
    """Return True for three or more consecutive whole numbers from 0 or 1.

    Example:
        >>> _are_grades(["0", "1", "2"]), _are_grades(["0", "1"]), _are_grades(["2", "7", "9"])
        (True, False, False)
    """
    if not all(label.isdecimal() for label in labels):
        return False
    numbers = sorted(map(int, labels))
    return 3 <= len(numbers) <= _MAX_GRADES and numbers in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    )


def _named(path: Path | None, suffixes: Sequence[str]) -> bool:
    return path is not None and path.name.lower().endswith(tuple(suffixes))
