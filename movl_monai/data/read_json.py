"""Read lists of data sets in JSON: decathlon, and nnU-Net v2 with its folders `imagesTr`, `labelsTr` and `imagesTs`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from movl_monai.data.columns import check_for_splits, is_absent, unused_columns
from movl_monai.data.entries import (
    Entry,
    Listing,
    SkippedFile,
    SplitName,
    check_class_names,
    file_problem,
    locate,
    natural_sorted,
    tidy,
)
from movl_monai.data.findings import read_cells, split_names
from movl_monai.data.label_forms import CLASSES, LabelForm, number_value
from movl_monai.data.read_folders import file_at_problem, find_files, name_problem
from movl_monai.errors import DataError

__all__ = ["is_nnunet", "read_json", "read_nnunet"]

_SECTIONS: dict[str, SplitName | None] = {
    "training": "train",
    "train": "train",
    "validation": "val",
    "val": "val",
    "calibration": "calibration",
    "test": "test",
    "testing": "test",
    "unsplit": None,
}
_FIELDS = ("image", "label", "mask", "patient_id", "domain", "frame", "id", "study", "series")
_MASK_SUFFIXES = (".nii", ".nii.gz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".mha", ".nrrd")
_LIST = "dataset.json"
_FOLDERS: tuple[tuple[str, str, SplitName | None], ...] = (
    ("imagesTr", "labelsTr", None),
    ("imagesTs", "labelsTs", "test"),
)
_CHANNEL = re.compile(r"_(\d{4})$")


def read_json(
    source: Path,
    *,
    data_root: Path | None = None,
    masks: bool = False,
    group_columns: Sequence[str] = (),
    splits: bool = True,
    form: LabelForm | None = CLASSES,
) -> Listing:
    """Return the entries of a decathlon JSON file.

    An entry is a path, or ``{"image": path}`` with optional ``label`` (class name, or number of the class),
    ``patient_id``, ``domain``, ``frame`` and ``id``. Class names come from ``class_names`` (a list) or ``labels``
    (``{"0": "normal", ...}``); without them the numbers are the names. Several findings are a list of names, text with
    a separator, a list of 1, 0 and null in the order of the class names, or fields with 1, 0, -1 or null that
    ``form.columns`` names; the label of a regression is a number. Missing splits are made later.

    Args:
        source: the JSON file.
        data_root: base folder of relative paths, default the file's folder.
        masks: whether ``label`` (or ``mask``) is the path of a mask; a path may then be a folder with a DICOM series.
        group_columns: names of fields whose values become the groups of an image.
        splits: whether to use the splits of the list; a field that holds them is then an error.
        form: of the labels; None ignores them.

    Raises:
        DataError: if it is not JSON of this form, or a label is the path of a mask or a number without a name; with
            ``masks``, if a label is not a path.
    """
    root = (data_root or source.parent).absolute()
    try:
        content = json.loads(source.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.name} is not valid JSON; check that the file is complete.") from error
    if not isinstance(content, dict) or not any(isinstance(content.get(name), list) for name in _SECTIONS):
        raise DataError(f"{source.name} must be an object with a list under one of: {', '.join(_SECTIONS)}.")
    names = None if form is not None and form.is_number else _class_names(content)
    listing = Listing(class_names=None if names is None else [names[number] for number in sorted(names)])
    entries = [raw for section in _SECTIONS for raw in content.get(section) or [] if isinstance(raw, dict)]
    columns = () if form is None else _label_fields(entries, form, listing, source.name)
    used = (*_FIELDS, *group_columns, *columns)
    if splits and sum(bool(content.get(section)) for section in _SECTIONS) == 1:
        check_for_splits(entries, used, source.name, advice="Put the images under training, validation and test")
    listing.notes = unused_columns((field for entry in entries for field in entry), used, source.name)
    for section, split in _SECTIONS.items():
        for position, raw in enumerate(content.get(section) or []):
            where = f"{section}[{position}] of {source.name}"
            fields = raw if isinstance(raw, dict) else {"image": raw}
            label = None if masks or form is None or not form.is_class else _label(fields.get("label"), names, where)
            mask = _mask(fields, root, where) if masks else None
            groups = {name: _text(fields.get(name)) or "" for name in group_columns}
            entry = replace(_entry(fields, split, root, where), label=label, mask=mask, groups=groups)
            if not (masks or form is None or form.is_class):
                _set_label(entry, fields, columns, form, names, where)
            _add(listing, entry, folders=masks, row=f"{section}[{position}]")
    return listing


def _label_fields(
    entries: Sequence[Mapping[str, Any]], form: LabelForm, listing: Listing, name: str
) -> tuple[str, ...]:
    """Return the fields that hold findings or the number, as names of the listing; () for ``label``."""
    if form.is_class:
        return ()
    present = tuple(column for column in form.columns if any(column in entry for entry in entries))
    if present:
        listing.class_names = list(form.columns)
    elif form.columns and not any("label" in entry for entry in entries):
        raise DataError(f"No entry of {name} has a field {', '.join(form.columns)} (label_columns), or a label.")
    return present


def _set_label(
    entry: Entry,
    fields: Mapping[str, Any],
    columns: Sequence[str],
    form: LabelForm,
    names: Mapping[int, str] | None,
    where: str,
) -> None:
    label = fields.get("label")
    if form.is_number:
        number = fields.get(columns[0]) if columns else label
        try:
            entry.target = number_value("" if number is None else str(number))
        except ValueError as error:
            raise DataError(f"{where}: the label {error}.") from None
    elif columns:
        cells = {name: "" if fields.get(name) is None else str(fields[name]) for name in columns}
        entry.findings = read_cells(cells, form, where)
    elif isinstance(label, list) and any(value is None or isinstance(value, (int, float)) for value in label):
        if names is None or len(label) != len(names):
            raise DataError(
                f"{where}: a label of 1, 0 and null needs one value for each of the class_names of the list."
            )
        cells = {name: "" if value is None else str(value) for name, value in zip(names.values(), label, strict=True)}
        entry.findings = read_cells(cells, form, where)
    elif label is not None:
        named = [str(part) for part in label] if isinstance(label, list) else _label(label, names, where) or ""
        entry.findings, entry.others = split_names(named, form, where), 0


def _class_names(content: dict[str, Any]) -> dict[int, str] | None:
    given = content.get("class_names", content.get("labels"))
    if given is None:
        return None
    try:
        pairs = given.items() if isinstance(given, dict) else enumerate(given)
        named = sorted(((int(number), str(name)) for number, name in pairs), key=lambda pair: pair[0])
    except (TypeError, ValueError) as error:
        raise DataError('The class names must be a list of names or {"0": name, "1": name}.') from error
    return dict(zip((number for number, _ in named), check_class_names([name for _, name in named]), strict=True))


def _entry(fields: dict[str, Any], split: SplitName | None, root: Path, where: str) -> Entry:
    if not isinstance(fields.get("image"), str) or not fields["image"].strip():
        raise DataError(f"{where} must be a path or an object with a path under 'image'.")
    frame = fields.get("frame")
    if frame is not None and (not isinstance(frame, int) or isinstance(frame, bool) or frame < 0):
        raise DataError(f"{where}: frame must be a number from 0, got {frame!r}.")
    path, key = _located(fields["image"], root, where)
    return Entry(
        path=path,
        key=key,
        patient=None if is_absent(str(fields.get("patient_id"))) else _text(fields.get("patient_id")),
        study=_text(fields.get("study")),
        series=_text(fields.get("series")),
        split=split,
        domain=_text(fields.get("domain")),
        frame=frame,
        id=_text(fields.get("id")),
    )


def _located(written: str, root: Path, where: str) -> tuple[Path, str]:
    try:
        return locate(written, root)
    except DataError as error:
        raise DataError(f"In {where}, {error}.") from None


def _add(listing: Listing, entry: Entry, *, folders: bool, row: str) -> None:
    if problem := file_problem(entry.path, folders=folders):
        lost = SkippedFile(entry.path, entry.key, problem, entry.domain, entry.split, row=row, label=entry.label)
        listing.skipped.append(lost)
    else:
        listing.entries.append(entry)


def _mask(fields: dict[str, Any], root: Path, where: str) -> Path | None:
    written = fields.get("mask", fields.get("label"))
    if written is None:
        return None
    if not isinstance(written, str) or not written.strip():
        raise DataError(f"{where}: segmentation needs the path of a mask under 'label', got {type(written).__name__}.")
    return _located(written, root, where)[0]


def _text(value: Any) -> str | None:
    return None if value is None else tidy(str(value))


def _label(label: Any, names: Mapping[int, str] | None, where: str) -> str | None:
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, (int, str)):
        raise DataError(
            f"{where}: label must be a class name or the number of a class, got {type(label).__name__}. Several "
            "findings need the task multilabel, numbers with decimals the task regression."
        )
    if isinstance(label, str):
        if label.lower().endswith(_MASK_SUFFIXES):
            raise DataError(f"{where}: label is the path of a mask; classification needs a class name or number.")
        return tidy(label)
    if names is None:
        return str(label)
    if label not in names:
        raise DataError(f"{where}: label {label} has no name; the names are numbered {sorted(names, key=int)}.")
    return names[label]


def is_nnunet(root: Path) -> bool:
    """Return True for a data set of nnU-Net v2: it has `imagesTr`, and its `dataset.json` names a file ending.

    A folder with a ``manifest.csv`` is read by its manifest instead.
    """
    if not (root / "imagesTr").is_dir() or not (root / _LIST).is_file() or (root / "manifest.csv").is_file():
        return False
    try:
        content = json.loads((root / _LIST).read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "file_ending" in content


def read_nnunet(root: Path) -> Listing:
    """Return the pairs of a data set of nnU-Net v2: image `imagesTr/CASE_0000.END` and mask `labelsTr/CASE.END`.

    Images of `imagesTs` are the split "test" if `labelsTs` has their masks, else reported as ``image_without_mask``. A
    colour picture is one file, for any number of channels in `dataset.json`.

    Raises:
        DataError: for images of several files, one per channel; for labels that are regions, include "ignore", or are
            not numbered 0, 1, ...; for cases in other folders; if there is no pair.

    Reference:
        Isensee et al., nnU-Net v2, documentation/dataset_format.md.
    """
    root = root.absolute()
    content = json.loads((root / _LIST).read_bytes())
    if content.get("dataset"):
        raise DataError(
            f"{_LIST} lists the files of each case under 'dataset', which is not read; put them into imagesTr and "
            "labelsTr, or name them in a manifest.csv with the columns path and mask."
        )
    listing = Listing(class_names=_nnunet_class_names(content.get("labels")))
    ending = str(content["file_ending"])
    for images, masks, split in _FOLDERS:
        _add_pairs(listing, root, images, masks, split, ending)
    known = {file.path for file in listing.skipped} | {entry.path for entry in listing.entries}
    known |= {entry.mask for entry in listing.entries if entry.mask is not None} | {root / _LIST}
    for path, problem in find_files(root):
        if path not in known:
            reason = problem or name_problem(path, root) or "outside_pair_folders"
            listing.skipped.append(SkippedFile(path, path.relative_to(root).as_posix(), reason))
    if not listing.entries:
        raise DataError(
            f"No image with a mask was found in imagesTr and labelsTr: {_LIST} says that files end in {ending!r}, "
            f"images in '_0000{ending}'."
        )
    return listing


def _nnunet_class_names(labels: Any) -> list[str]:
    if not isinstance(labels, dict) or not labels:
        raise DataError(f'{_LIST} must have \'labels\' such as {{"background": 0, "lesion": 1}}.')
    if any(isinstance(value, list) for value in labels.values()):
        raise DataError(
            f"{_LIST} trains regions (labels that are lists, such as [1, 2]), where a pixel has several classes; here "
            "each pixel has one. Give 'labels' one number each, in the values of the masks."
        )
    if any(str(name).lower() == "ignore" for name in labels):
        raise DataError(
            f"{_LIST} has a label 'ignore', pixels that count for nothing; here every pixel counts. Make them "
            "background in the masks and take the label out."
        )
    numbers = sorted(labels.values(), key=str)
    if sorted(map(str, range(len(labels)))) != [str(number) for number in numbers]:
        raise DataError(f"'labels' of {_LIST} must be numbered 0, 1, ... {len(labels) - 1}, got {numbers}.")
    return check_class_names(sorted(labels, key=lambda name: int(labels[name])))


def _add_pairs(listing: Listing, root: Path, images: str, masks: str, split: SplitName | None, ending: str) -> None:
    cases: dict[str, Path] = {}
    for name, path in _files(listing, root, root / images, split, ending).items():
        channel = _CHANNEL.search(name)
        if channel is not None and channel[1] != "0000":
            raise DataError(
                f"{images} has images of several files, one for each channel ({channel[0]}{ending}); one channel is "
                "read. Give the channel to train on alone, as _0000, or make one picture of three channels."
            )
        if channel is None:
            listing.skipped.append(SkippedFile(path, _key(path, root), "outside_pair_folders", split=split))
        else:
            cases[name[: channel.start()]] = path
    marks = _files(listing, root, root / masks, split, ending)
    for case in natural_sorted([*cases, *marks]):
        image, mask = cases.get(case), marks.get(case)
        if image is not None and mask is not None:
            listing.entries.append(Entry(path=image, key=_key(image, root), split=split, mask=mask))
        elif image is not None:
            listing.skipped.append(SkippedFile(image, _key(image, root), "image_without_mask", split=split))
        elif mask is not None:
            listing.skipped.append(SkippedFile(mask, _key(mask, root), "mask_without_image", split=split))


def _files(listing: Listing, root: Path, folder: Path, split: SplitName | None, ending: str) -> dict[str, Path]:
    """Return the files of a folder by name without the ending; others are skipped."""
    files: dict[str, Path] = {}
    for path, problem in find_files(folder) if folder.is_dir() else ():
        other = None if path.name.endswith(ending) and path.parent == folder else "other_file"
        if reason := problem or name_problem(path, root) or other or file_at_problem(path, root):
            listing.skipped.append(SkippedFile(path, _key(path, root), reason, split=split))
        else:
            files[path.name.removesuffix(ending)] = path
    return files


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
