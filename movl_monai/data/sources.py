"""Layouts of data sets with their readers, choice of the reader for a source, and out-of-distribution sources."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from movl_monai.data.columns import assign_patients_by_pattern, missing_files
from movl_monai.data.entries import Entry, Listing, SkippedFile, file_problem, natural_sorted
from movl_monai.data.expand import SliceAxis, expand
from movl_monai.data.label_forms import CLASSES, LabelForm
from movl_monai.data.read_csv import read_csv
from movl_monai.data.read_folders import has_pairs, read_files, read_folders, read_pairs
from movl_monai.data.read_json import is_nnunet, read_json, read_nnunet
from movl_monai.errors import DataError
from movl_monai.files import missing_part

__all__ = [
    "LAYOUTS",
    "LISTS",
    "Layout",
    "PathLike",
    "SPREADSHEETS",
    "is_paired",
    "read_far_source",
    "read_far_sources",
    "read_images",
    "read_ood_sources",
    "read_source",
    "reader_of",
    "records",
    "with_images",
]

PathLike = str | os.PathLike[str]
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_MASK_PROBLEMS = {
    "missing_file": "missing_mask",
    "empty_file": "empty_mask",
    "not_regular_file": "mask_not_regular_file",
}
logger = logging.getLogger(__name__)
LISTS = ("manifest.csv", "dataset.json", "datalist.json")
"""Lists in a folder, which is then read by its list."""

Reader = Callable[..., Listing]
Use = Literal["labels", "masks", "images"]


def read_source(
    source: Path,
    *,
    data_root: Path | None = None,
    labelled: bool = True,
    masks: bool = False,
    mask_suffix: str = "",
    group_columns: Sequence[str] = (),
    groups_required: bool = True,
    splits: bool = True,
    encoding: str | None = None,
    form: LabelForm | None = CLASSES,
) -> Listing:
    """Return the entries of a CSV file, a JSON file, or a folder (by its list, else by its layout).

    Args:
        source: the file or folder.
        data_root: base folder of the relative paths of a list, default the list's folder.
        labelled: False accepts rows of a CSV file without a label.
        masks: read images with masks instead of classes; images without a mask are skipped.
        mask_suffix: end of the mask names in a folder, after the name of the image.
        group_columns: columns of a list that become groups.
        groups_required: whether a list without such a column is an error; otherwise its images have no value.
        splits: whether to use the splits of a list; a column of another name that holds them is then an error.
        encoding: code page of a CSV file that is not Unicode.
        form: of the labels; None ignores those of a JSON file.

    Raises:
        DataError: if the source does not exist, is of another kind, or has no image, or with ``masks`` no pair; if
            groups are required of class folders, which have no columns.
    """
    if source.is_dir():
        reader = reader_of(source, "masks" if masks else "labels")
        if reader is not None:
            if form is not None and not masks:
                _check_can_name(form, source)
            listing = reader(source, mask_suffix=mask_suffix) if masks else reader(source)
            if group_columns and groups_required and not all(entry.groups for entry in listing.entries):
                raise DataError(
                    f"group_columns={list(group_columns)} are columns of a list, but {source.name!r} is a folder "
                    f"without one; add a manifest.csv with the columns path, label and {', '.join(group_columns)}."
                )
            return with_images(_with_masks(listing) if masks else listing)
        source = next(source / name for name in LISTS if (source / name).is_file())
    elif not source.is_file():
        raise DataError(
            f"There is no file or folder {source.name!r}: {missing_part(source)}. Give a CSV file, a JSON file or a "
            "folder."
        )
    suffix = source.suffix.lower()
    options: dict[str, Any] = {"data_root": data_root, "group_columns": group_columns, "splits": splits}
    if suffix == ".json":
        listing = read_json(source, masks=masks, form=form, **options)
    elif suffix in (".csv", ".tsv", ".txt"):
        options |= {"labelled": labelled and not masks, "groups_required": groups_required, "encoding": encoding}
        options |= {} if form is None or masks else {"form": form}
        listing = read_csv(source, folders=masks, **options)
    else:
        advice = "; save the spreadsheet as 'CSV UTF-8'" if suffix in SPREADSHEETS else ""
        raise DataError(f"A list must be a .csv or .json file, or a folder, got {suffix or 'no suffix'!r}{advice}.")
    return with_images(_with_masks(listing) if masks else listing)


def _check_can_name(form: LabelForm, folder: Path) -> None:
    """Check that class folders are enough for the labels.

    Raises:
        DataError: if they are not.
    """
    if not form.is_class:
        held = "findings of each image" if form.has_findings else "number of each image"
        raise DataError(
            f"{folder.name!r} is a folder without a list, whose class folders give each image one class. The task "
            f"{form.task} needs the {held}: a manifest.csv in it with the columns path and label, or with the columns "
            "that label_columns names."
        )


def _with_masks(listing: Listing) -> Listing:
    """Return the listing without images whose mask is not named or missing, which are skipped with the reason."""
    result = Listing(skipped=list(listing.skipped), class_names=listing.class_names, notes=listing.notes)
    for entry in listing.entries:
        entry.label = None  # a class of the whole image has no meaning here
        problem = "image_without_mask" if entry.mask is None else file_problem(entry.mask)
        if problem is not None:
            reason = _MASK_PROBLEMS.get(problem, problem)
            result.skipped.append(SkippedFile(entry.path, entry.key, reason, entry.domain, entry.split))
        else:
            result.entries.append(entry)
    return result


def read_images(source: Path) -> Listing:
    """Return the images below a folder, a single image, or those of a list, whose labels and splits are ignored."""
    if source.is_dir():
        return read_files(source)
    if source.is_file() and source.suffix.lower() not in (".csv", ".tsv", ".txt", ".json"):
        return Listing(entries=[Entry(path=source.absolute(), key=source.name)])
    return read_source(source, labelled=False, splits=False, form=None)


def records(listing: Listing) -> list[Entry | SkippedFile]:
    """Return entries and skipped files together."""
    return [*listing.entries, *listing.skipped]


def with_images(listing: Listing) -> Listing:
    """Return the listing itself.

    Raises:
        DataError: if it has no image.
    """
    if not listing.entries:
        reasons = Counter(file.reason for file in listing.skipped)
        found = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common()) or "no rows"
        missing = missing_files(listing.skipped, len(listing.skipped))
        raise DataError(f"No image was found ({found}). {missing or 'Paths are relative to the folder of the list.'}")
    return listing


def read_ood_sources(
    sources: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    taken: set[str],
    patient_pattern: str | None = None,
    slice_axis: SliceAxis = "axial",
    read: Callable[[Path], Listing] = read_source,
    option: str = "ood_dataset_dirs",
    expanded: bool = True,
) -> list[Listing]:
    """Read out-of-distribution sources; each becomes a separate "test" domain.

    Args:
        sources: CSV files, JSON files or folders, optionally with names; the default name is the folder's.
        taken: names of domains in use.
        patient_pattern: see :func:`movl_monai.data.read_datalist`; paths without a match have no patient.
        slice_axis: plane of NIfTI slices.
        read: reader of one source.
        option: name of the sources in messages.
        expanded: read the headers of the images, for their frames and patients.

    Raises:
        DataError: if a given name is in use, or a source cannot be read.
    """
    taken = set(taken)
    listings = []
    for given, source in _named(sources):
        path = Path(source).absolute()
        if given in taken:
            raise DataError(f"The name {given!r} of a data set is in use for another domain; choose another one.")
        with _about(option):
            listing = read(path)
        if patient_pattern is not None:
            assign_patients_by_pattern(listing.entries, patient_pattern, required=False)
        taken |= _name_domains(listing, given or _name(path), taken)
        for record in records(listing):
            record.split = "test"
            record.key = f"ood:{record.domain}\0{record.key}"  # two sources may hold the same relative path
        listings.append(expand(listing, slice_axis=slice_axis) if expanded else listing)
    return listings


@contextmanager
def _about(option: str) -> Iterator[None]:
    """Begin the message of an error with the option that names the source."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{option}: {error}") from error


def _named(sources: PathLike | Sequence[PathLike] | Mapping[str, PathLike]) -> list[tuple[str | None, PathLike]]:
    if isinstance(sources, Mapping):
        return [(str(name), source) for name, source in sources.items()]
    return [(None, source) for source in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]


def _name(path: Path) -> str:
    if path.is_dir():
        return path.name
    return path.parent.name if path.stem in ("manifest", "dataset", "datalist") else path.stem


def _name_domains(listing: Listing, name: str, taken: set[str]) -> set[str]:
    """Rename the domains after the source in place, with their own names if there are several; return the names."""
    domains = natural_sorted(entry.domain or "" for entry in listing.entries)
    renamed: dict[str, str] = {}
    for domain in domains:
        wanted = f"{name}_{domain}" if len(domains) > 1 and domain else name
        candidates = itertools.chain([wanted], (f"{wanted}_{number}" for number in itertools.count(2)))
        renamed[domain] = next(c for c in candidates if c not in taken and c not in renamed.values())
    for record in records(listing):
        record.domain = renamed.get(record.domain or "", renamed[domains[0]])
    return set(renamed.values())


def read_far_sources(
    sources: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    taken: set[str],
    slice_axis: SliceAxis = "axial",
    expanded: bool = True,
) -> list[Listing]:
    """Read far sets; each becomes a separate domain of test images without labels.

    Args:
        sources: folders, CSV or JSON files, optionally with names; the default name is the folder's.
        taken: names of domains in use.
        slice_axis: plane of NIfTI slices.
        expanded: read the headers of the images, for their frames and patients.

    Raises:
        DataError: if a source has no image, or a given name is in use.
    """
    listings = read_ood_sources(
        sources,
        taken=taken,
        slice_axis=slice_axis,
        read=read_far_source,
        option="far_dataset_dirs",
        expanded=expanded,
    )
    for listing in listings:
        if not listing.entries:
            raise DataError("A far set has no image; see far_dataset_dirs.")
        logger.info("Far set %s: %d images, for OOD detection only.", listing.entries[0].domain, len(listing.entries))
    return listings


def read_far_source(source: Path) -> Listing:
    """Return all images of a source as one domain, without labels and masks.

    A folder is read by its list if it has one, by its images if its layout pairs images and masks, and else as all
    images below it.
    """
    if not source.is_dir():
        listing = read_images(source)
    elif reader := reader_of(source, "images"):
        listing = with_images(reader(source))
    else:
        listing = read_source(source, labelled=False, splits=False, form=None)
    for record in records(listing):
        record.domain = None
    for entry in listing.entries:
        entry.label, entry.mask, entry.groups, entry.findings, entry.target = None, None, {}, None, None
    return listing


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Layout of a data set in a folder.

    Args:
        fits: returns whether a folder has this layout.
        labels: reads the images with classes; None if the layout has none.
        masks: reads the images with masks, given ``mask_suffix``, see :func:`movl_monai.data.read_folders.read_pairs`;
            None if the layout has none.
        has_list: whether the layout has a list of its own, so that it counts before :data:`LISTS`.
    """

    fits: Callable[[Path], bool]
    labels: Reader | None = None
    masks: Reader | None = None
    has_list: bool = False


def _refuse_nnunet(folder: Path) -> NoReturn:
    raise DataError(
        f"{folder.name!r} is a data set of nnU-Net: images with masks, for segmentation. Classification needs a class "
        "for each image: a manifest.csv with the columns path and label, or class folders."
    )


LAYOUTS = {
    "nnunet": Layout(
        fits=is_nnunet,
        labels=_refuse_nnunet,
        masks=lambda folder, *, mask_suffix="": read_nnunet(folder),
        has_list=True,
    ),
    "pairs": Layout(fits=has_pairs, masks=read_pairs),
}
"""Layouts by name; a folder of another one is read as class folders, and for masks as pairs."""

_OTHERS: dict[Use, Reader] = {"labels": read_folders, "masks": read_pairs, "images": read_files}


def reader_of(folder: Path, use: Use, *, lists: bool = True) -> Reader | None:
    """Return the reader of a folder, or None for a folder that is read by its list.

    Args:
        folder: the folder.
        use: contents to read; "images" are those with masks or else with classes.
        lists: whether lists in the folder count.
    """
    has_list = lists and any((folder / name).is_file() for name in LISTS)
    for layout in LAYOUTS.values():
        reader = layout.labels if use == "labels" else layout.masks
        if use == "images":
            reader = layout.masks or layout.labels
        if reader is not None and (layout.has_list or not has_list) and layout.fits(folder):
            return reader
    return None if has_list else _OTHERS[use]


def is_paired(folder: Path) -> bool:
    """Return True for a folder of images and masks, whether or not it has a list."""
    try:
        return any(layout.masks is not None and layout.fits(folder) for layout in LAYOUTS.values())
    except DataError:
        return False
