"""Read a data set of images with masks into a :class:`~movl_monai.data.Datalist`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from movl_monai.data.datalist import Datalist
from movl_monai.data.entries import Entry, Listing, SkippedFile, check_class_names, file_problem
from movl_monai.data.expand import SliceAxis, expand
from movl_monai.data.ids import IdMap
from movl_monai.data.keep import NewImages, open_keeping
from movl_monai.data.patients import assign_patients_by_pattern, one_patient_each, warn_if_unknown
from movl_monai.data.read_csv import read_csv
from movl_monai.data.read_json import read_json
from movl_monai.data.read_nnunet import is_nnunet, read_nnunet
from movl_monai.data.read_pairs import read_pairs
from movl_monai.data.reading import build_datalist, inside_domain, log_notes, refuse_leaks
from movl_monai.data.sources import LISTS, PathLike, no_list, read_ood_sources, with_images
from movl_monai.data.spelling import unify_patients
from movl_monai.data.splits import check_patients, complete_splits
from movl_monai.errors import DataError

__all__ = ["read_mask_datalist", "read_mask_source"]

_MASK_PROBLEMS = {
    "missing_file": "missing_mask",
    "empty_file": "empty_mask",
    "not_regular_file": "mask_not_regular_file",
}


def read_mask_datalist(
    source: PathLike,
    *,
    class_names: Sequence[str] | None = None,
    ood_dataset_dirs: PathLike | Sequence[PathLike] = (),
    id_domain: str = "id",
    split_fractions: Sequence[float] | None = (0.6, 0.2, 0.2),
    seed: int = 0,
    patient_pattern: str | None = None,
    one_image_per_patient: bool = False,
    allow_patient_overlap: bool = False,
    mask_suffix: str = "",
    encoding: str | None = None,
    data_root: PathLike | None = None,
    slice_axis: SliceAxis = "axial",
    id_salt: str | bytes | None = None,
    id_map: IdMap | PathLike | None = None,
    kept_splits: PathLike | None = None,
    new_images: NewImages = None,
) -> Datalist:
    """Return the images of a data set with their masks, patients, splits and salted ids; no pixel is read.

    The source is a folder with ``images`` and ``masks`` (see ``read_pairs`` of this package), a data set of nnU-Net v2
    (``read_nnunet``), a CSV manifest with the columns ``path`` and ``mask``, decathlon JSON whose ``label`` is the path
    of a mask, or a folder with such a list. Every slice of a NIfTI volume, or of a folder with one DICOM series, is an
    item. ``case`` is the id of its volume, for an image its own id. Images without a mask are skipped and reported as
    ``image_without_mask``, masks without an image as ``mask_without_image``.

    Patients and splits are as in :func:`movl_monai.data.read_datalist`: by patient, and therefore by volume. Arguments
    that are not described here are as for :func:`movl_monai.data.read_datalist`.

    Args:
        source: CSV file, JSON file, or folder.
        class_names: of the values 0, 1, ... of the masks, the background first. None uses the names of the JSON, else
            "background" and "foreground".
        one_image_per_patient: as for ``read_datalist``; a volume counts as one image.
        mask_suffix: end of the mask names in a folder, after the name of the image, such as "_mask".

    Raises:
        LeakageError: as :func:`movl_monai.data.read_datalist`.
        DataError: if there is no image with a mask, patients are unknown where a split must be made, one is in two
            splits, or a list cannot be understood.
    """
    ids = id_map if isinstance(id_map, IdMap) else IdMap(id_map, salt=id_salt)
    read = partial(read_mask_source, mask_suffix=mask_suffix, encoding=encoding)
    listing = read(Path(source), data_root=None if data_root is None else Path(data_root))
    log_notes(listing)
    names = check_class_names(class_names or listing.class_names or ["background", "foreground"])
    inside = inside_domain(listing, id_domain)
    if patient_pattern is not None:
        assign_patients_by_pattern(inside, patient_pattern, required=True)
        assign_patients_by_pattern(listing.entries, patient_pattern, required=False)
    listing = expand(listing, slice_axis=slice_axis, patients=not one_image_per_patient)
    if one_image_per_patient:
        one_patient_each(listing.entries)
    respelled = unify_patients(listing.entries)
    inside = inside_domain(listing, id_domain)
    keeping = open_keeping(kept_splits, new_images=new_images, allow_patient_overlap=allow_patient_overlap)
    leaks = [] if keeping is None else keeping.inside(inside)
    if keeping is None and split_fractions is not None:
        _split(inside, split_fractions, seed)
    if not leaks:
        check_patients(inside, allow_overlap=allow_patient_overlap, respelled=respelled)
    warn_if_unknown(inside)
    taken = {entry.domain or "" for entry in listing.entries}
    others = read_ood_sources(
        ood_dataset_dirs,
        taken=taken,
        patient_pattern=patient_pattern,
        slice_axis=slice_axis,
        read=partial(read, splits=False),
    )
    if keeping is not None:
        refuse_leaks(keeping, leaks, inside, [listing, *others], ids)
    return build_datalist([listing, *others], names, id_domain, ids, cases=True, keeping=keeping)


def read_mask_source(
    source: Path,
    *,
    data_root: Path | None = None,
    mask_suffix: str = "",
    splits: bool = True,
    encoding: str | None = None,
) -> Listing:
    """Return the pairs of a source; images without a mask are skipped.

    Args:
        source: a folder, CSV or JSON file.
        data_root: base folder of the relative paths of a list, default the list's folder.
        mask_suffix: end of the mask names in a folder, after the name of the image.
        splits: whether to use the splits of a list; a column of another name that holds them is then an error.
        encoding: code page of a CSV file that is not Unicode.

    Raises:
        DataError: if the source does not exist, is of another kind, or has no pair.
    """
    if source.is_dir():
        if is_nnunet(source):
            return read_nnunet(source)
        lists = [source / name for name in LISTS if (source / name).is_file()]
        if not lists:
            return read_pairs(source, mask_suffix=mask_suffix)
        source = lists[0]
    elif not source.is_file():
        raise DataError(f"There is no file or folder {source.name!r}; give a CSV file, a JSON file or a folder.")
    suffix = source.suffix.lower()
    if suffix == ".json":
        listing = read_json(source, data_root=data_root, masks=True, splits=splits)
    elif suffix in (".csv", ".tsv", ".txt"):
        listing = read_csv(source, data_root=data_root, labelled=False, folders=True, splits=splits, encoding=encoding)
    else:
        raise no_list(suffix)
    return with_images(_with_masks(listing))


def _with_masks(listing: Listing) -> Listing:
    """Return the listing without images whose mask is not named or missing, which are skipped with the reason."""
    result = Listing(skipped=list(listing.skipped), class_names=listing.class_names, notes=listing.notes)
    for entry in listing.entries:
        entry.label = None  # a class of the whole image has no meaning here
        if reason := _mask_problem(entry):
            result.skipped.append(SkippedFile(entry.path, entry.key, reason, entry.domain, entry.split))
        else:
            result.entries.append(entry)
    return result


def _mask_problem(entry: Entry) -> str | None:
    if entry.mask is None:
        return "image_without_mask"
    problem = file_problem(entry.mask)
    return None if problem is None else _MASK_PROBLEMS[problem]


def _split(entries: Sequence[Entry], fractions: Sequence[float], seed: int) -> None:
    """Complete the splits without stratification: all images count as one class."""
    for entry in entries:
        entry.label = "image"
    try:
        complete_splits(entries, fractions=fractions, seed=seed)
    finally:
        for entry in entries:
            entry.label = None
