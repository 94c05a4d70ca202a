"""Read a data set of any form into a :class:`~movl_monai.data.Datalist`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from movl_monai.data.columns import (
    assign_patients_by_pattern,
    check_group_columns,
    check_group_values,
    check_labels,
    missing_files,
    one_patient_each,
    warn_if_unknown,
)
from movl_monai.data.datalist import Datalist, Item
from movl_monai.data.entries import (
    SPLITS,
    Entry,
    Listing,
    SkippedFile,
    check_class_names,
    natural_key,
    natural_sorted,
)
from movl_monai.data.expand import SliceAxis, expand, group_series
from movl_monai.data.findings import settle_findings
from movl_monai.data.ids import IdMap
from movl_monai.data.keep import Keeping, Leak, NewImages, leakage_error, open_keeping
from movl_monai.data.label_forms import LabelForm, Uncertain, label_form
from movl_monai.data.sources import PathLike, read_far_sources, read_images, read_ood_sources, read_source, records
from movl_monai.data.spelling import settle_labels, unify_patients
from movl_monai.data.splits import (
    check_can_split,
    check_patients,
    check_train_classes,
    check_train_targets,
    complete_splits,
    set_aside_calibration,
)
from movl_monai.data.targets import labels_of
from movl_monai.data.units import Units, assign_units, check_units
from movl_monai.errors import DataError

__all__ = [
    "_build_datalist",
    "_inside_domain",
    "_log_notes",
    "check_lists",
    "read_datalist",
    "read_mask_datalist",
    "read_unlabelled",
    "_refuse_leaks",
]

logger = logging.getLogger(__name__)
_FORM = {
    "label_columns": "columns",
    "label_separator": "separator",
    "no_finding": "no_finding",
    "uncertain": "uncertain",
}
"""Arguments of :func:`read_datalist` that :func:`~movl_monai.data.targets.label_form` takes under other names."""


def read_datalist(
    source: PathLike,
    *,
    ood_dataset_dirs: PathLike | Sequence[PathLike] = (),
    id_domain: str = "id",
    far_dataset_dirs: PathLike | Sequence[PathLike] | Mapping[str, PathLike] = (),
    split_fractions: Sequence[float] | None = (0.6, 0.2, 0.2),
    calibration_fraction: float = 0.0,
    group_columns: Sequence[str] = (),
    seed: int = 0,
    patient_pattern: str | None = None,
    one_image_per_patient: bool = False,
    allow_missing_classes: bool = False,
    allow_patient_overlap: bool = False,
    merge_labels: bool = False,
    masks: bool = False,
    mask_suffix: str = "",
    encoding: str | None = None,
    class_names: Sequence[str] | None = None,
    data_root: PathLike | None = None,
    slice_axis: SliceAxis = "axial",
    id_salt: str | bytes | None = None,
    id_map: IdMap | PathLike | None = None,
    kept_splits: PathLike | None = None,
    new_images: NewImages = None,
    task: str = "classification",
    units: Units | None = None,
    label_columns: Sequence[str] = (),
    label_separator: str = "|",
    no_finding: str = "No Finding",
    uncertain: Uncertain = "ignore",
) -> Datalist:
    """Return the images of a data set with labels, patients, splits and salted ids; no pixel is read.

    The source is a CSV manifest, decathlon JSON, or a folder: its ``manifest.csv``, ``dataset.json`` or
    ``datalist.json`` if it has one, else its class folders. See ``read_csv``, ``read_json`` and ``read_folders`` of
    this package for the forms.

    Classes are the names in the in-distribution domain in natural order, unless given. Patients come from the list,
    else from ``patient_pattern``, else from the DICOM header. Missing splits are made by patient (see
    :func:`movl_monai.data.splits.complete_splits`). Domains other than ``id_domain``, and the sources in
    ``ood_dataset_dirs``, are out of distribution and for evaluation only. Their items keep the splits of the list but
    must not be trained on; without a split they are "test".

    Args:
        source: CSV file, JSON file, or folder.
        ood_dataset_dirs: further sources of the same forms. Each is a "test" domain named after its folder (``name_2``
            if taken; ``name_domain`` if its list has several).
        id_domain: the in-distribution domain of the list; also the name for a list without domains.
        far_dataset_dirs: images of another kind, without labels: folders, lists, or a mapping of names to them. Each is
            a domain for OOD detection only, see :mod:`movl_monai.data.sources`.
        split_fractions: of train, val and test, for splits that must be made; None makes none.
        calibration_fraction: share of the val patients in [0, 1) to set aside as the split "calibration", if the list
            marks none; see :func:`movl_monai.data.splits.set_aside_calibration`.
        group_columns: columns of the list, such as sex or site, whose values are kept as ``groups`` of each item.
        seed: of the split.
        patient_pattern: regular expression with a group ``patient``, searched in the path relative to the data root.
        one_image_per_patient: assert that every file without a patient is of a different patient.
        allow_missing_classes: accept a class without an image in val (logged), instead of raising.
        allow_patient_overlap: accept (and log) patients in two splits, or test images of a training's patients, instead
            of raising.
        merge_labels: merge labels that differ only in case, blanks or width into one class, instead of raising.
        masks: read images with masks instead of classes, see :func:`read_mask_datalist`.
        mask_suffix: end of the mask names in a folder, after the name of the image, such as "_mask".
        encoding: code page of CSV lists that are not Unicode, such as gbk; None assumes Windows-1252 and logs it.
        class_names: all classes in the order of the labels, such as the classes of a trained network; a source may lack
            one.
        data_root: base folder of the relative paths of ``source``, default the folder of the list.
        slice_axis: plane of NIfTI slices, each of which is an item with ``frame``; the loading transform needs the same
            plane.
        id_salt: salt of the ids; None uses the salt of ``id_map``, or draws one.
        id_map: an :class:`IdMap`, or its file, which maps ids to paths.
        kept_splits: ``splits.csv`` of a training, whose images keep their splits; no splits are made. If the file is
            missing, because the training is older, splits are made as without it.
        new_images: "test" is the split of images that were not part of the training and have no split in the list; None
            leaves them without a split.
        task: kind of the labels, one of :data:`movl_monai.data.targets.TASKS`. With "multilabel" the class names are
            the findings, in the order of their columns or in natural order; with "regression" they are the name of the
            number.
        label_columns: columns of the findings, with 1, 0, -1 (uncertain) or blank (unknown), or of the number. Without
            them the column ``label`` is used, and in a CSV list without it the columns that look like findings.
        label_separator: text between the findings of an image in the column ``label``.
        no_finding: name of an image without a finding, also as a column: 1 makes its blank findings 0.
        uncertain: meaning of -1.
        units: series, studies or patients that have one label and one prediction; items then have ``unit``, its salted
            id, and ``instance``, the number of the image in it. None for single images.

    Raises:
        ConfigError: if the settings of labels do not fit the task.
        LeakageError: if one patient is in two splits, or an image or patient that the training with the kept splits
            learned from would be scored as test.
        DataError: for no images, only one class, an unknown class, a finding with one value alone in train or val,
            unknown patients where a split must be made, or a list that cannot be understood.
    """
    ids = id_map if isinstance(id_map, IdMap) else IdMap(id_map, salt=id_salt)
    form = label_form(
        task,
        columns=label_columns,
        separator=label_separator,
        no_finding=no_finding,
        uncertain=uncertain,
        known=class_names,
    )
    columns = check_group_columns(group_columns)
    read = partial(
        read_source, masks=masks, mask_suffix=mask_suffix, encoding=encoding, group_columns=columns, form=form
    )
    if units is not None:  # the label of another image of the unit may stand for a blank one
        read = partial(read, labelled=False)
    listing = read(Path(source), data_root=None if data_root is None else Path(data_root))
    _log_notes(listing)
    names = _settle(listing, class_names, id_domain, form, merge=merge_labels, masks=masks, pattern=patient_pattern)
    listing = expand(listing, slice_axis=slice_axis, patients=not one_image_per_patient)
    if one_image_per_patient:
        one_patient_each(listing.entries)
    respelled = unify_patients(listing.entries)
    _group([listing], units, id_domain)
    inside = _inside_domain(listing, id_domain)
    keeping = open_keeping(kept_splits, new_images=new_images, allow_patient_overlap=allow_patient_overlap)
    leaks = [] if keeping is None else keeping.inside(inside)
    if keeping is None and split_fractions is not None:
        if masks:
            _split_alike(inside, split_fractions, seed)
        else:
            complete_splits(inside, fractions=split_fractions, seed=seed)
            _check_train(inside, names, form, allow_missing=allow_missing_classes)
    if keeping is None:
        set_aside_calibration(inside, fraction=calibration_fraction, seed=seed)
    if not leaks:
        check_patients(inside, allow_overlap=allow_patient_overlap, respelled=respelled)
    warn_if_unknown(inside)
    taken = {entry.domain or "" for entry in listing.entries}
    others = read_ood_sources(
        ood_dataset_dirs,
        taken=taken,
        patient_pattern=patient_pattern,
        slice_axis=slice_axis,
        read=partial(read, groups_required=False, splits=False),
    )
    for other in [] if masks else others:
        _log_notes(other)
        _settle_other(other, names, form, merge=merge_labels)
    labelled = [listing, *others]
    check_group_values([entry for part in labelled for entry in part.entries], columns)
    taken |= {entry.domain or "" for part in others for entry in part.entries}
    far = read_far_sources(far_dataset_dirs, taken=taken, slice_axis=slice_axis)
    _group(others, units, id_domain)
    _group(far, units, id_domain, known=False)
    if keeping is not None:
        _refuse_leaks(keeping, leaks, inside, [*labelled, *far], ids)
    return _build_datalist(
        [*labelled, *far], names, id_domain, ids, cases=masks, far=len(far), keeping=keeping, task=task, units=units
    )


def check_lists(arguments: Mapping[str, Any], *, masks: bool = False, kept: bool = False) -> None:
    """Read the lists of a data set without opening an image, and discard them.

    Args:
        arguments: some of those of :func:`read_datalist`, ``source`` among them.
        masks: whether the images have masks instead of classes.
        kept: whether the splits of a training are kept, so that those of the list do not count.

    Raises:
        DataError: as :func:`read_datalist`, as far as the lists alone show it.
        LeakageError: for a patient that the list names in two splits.
    """
    columns = check_group_columns(arguments.get("group_columns", ()))
    chosen = {name: arguments[name] for name in ("mask_suffix", "encoding") if name in arguments}
    settings = {name: arguments[key] for key, name in _FORM.items() if key in arguments}
    form = label_form(arguments.get("task", "classification"), **settings, known=arguments.get("class_names"))

    def read(path: Path, **further: Any) -> Listing:
        return read_source(path, masks=masks, group_columns=columns, form=form, **chosen, **further)

    domain, pattern = arguments.get("id_domain", "id"), arguments.get("patient_pattern")
    merge = bool(arguments.get("merge_labels"))
    listing = read(Path(arguments["source"]))
    names = _settle(listing, arguments.get("class_names"), domain, form, merge=merge, masks=masks, pattern=pattern)
    inside = _inside_domain(listing, domain)
    respelled = unify_patients(listing.entries)
    if not kept and not arguments.get("allow_patient_overlap"):
        check_patients(inside, allow_overlap=False, respelled=respelled)
    given = {entry.split for entry in inside}
    if not (kept or masks or None in given) and given > {"train", "val"}:
        _check_train(inside, names, form, allow_missing=bool(arguments.get("allow_missing_classes")))
    if not kept and "split_fractions" in arguments:
        alone = bool(arguments.get("one_image_per_patient"))
        check_can_split(inside, fractions=arguments["split_fractions"], one_image_per_patient=alone)
    taken = {entry.domain or "" for entry in listing.entries}
    others = read_ood_sources(
        arguments.get("ood_dataset_dirs", ()),
        taken=taken,
        patient_pattern=pattern,
        read=partial(read, groups_required=False, splits=False),
        expanded=False,
    )
    for other in [] if masks else others:
        _settle_other(other, names, form, merge=merge)
    read_far_sources(arguments.get("far_dataset_dirs", ()), taken=taken, expanded=False)


def _settle(
    listing: Listing,
    given: Sequence[str] | None,
    id_domain: str,
    form: LabelForm,
    *,
    merge: bool,
    masks: bool,
    pattern: str | None,
) -> list[str]:
    """Return the class names, after settling labels, domains and the patients of paths in place."""
    if masks:
        names = check_class_names(given or listing.class_names or ["background", "foreground"])
    elif form.has_findings:
        known = given or listing.class_names
        inside = _inside_domain(listing, id_domain)
        names = settle_findings(listing.entries, known, inside=inside, trained=given is not None, merge=merge)
    elif form.is_number:
        names = _number_name(given or form.columns or listing.class_names or ["value"])
        _check_numbers(_inside_domain(listing, id_domain), trained=given is not None)
    else:
        names = _settle_classes(listing, given, id_domain, merge=merge)
        if given is None:
            labels_of(form.task).check_names(names)
    inside = _inside_domain(listing, id_domain)
    if pattern is not None:
        assign_patients_by_pattern(inside, pattern, required=True)
        assign_patients_by_pattern(listing.entries, pattern, required=False)
    return names


def _settle_classes(listing: Listing, given: Sequence[str] | None, id_domain: str, *, merge: bool) -> list[str]:
    """Return the class names, after merging spellings of labels in place and checking all labels."""
    _check_missing(listing)
    names = settle_labels(listing.entries, given or listing.class_names, merge=merge, apart=given is not None)
    check_labels(listing.entries, given or ())
    found = _class_names(_inside_domain(listing, id_domain), names)
    _check_labels(listing.entries, found)
    return found


def _settle_other(listing: Listing, names: Sequence[str], form: LabelForm, *, merge: bool) -> None:
    """Settle the labels of an out-of-distribution source in place."""
    if form.has_findings:
        settle_findings(listing.entries, names, merge=merge)
    elif form.is_class:
        settle_labels(listing.entries, names, merge=merge, apart=True)
        _check_labels(listing.entries, names)


def _check_train(entries: Sequence[Entry], names: Sequence[str], form: LabelForm, *, allow_missing: bool) -> None:
    if form.is_class:
        check_train_classes(entries, names, allow_missing=allow_missing)
    else:
        check_train_targets(entries, names, allow_missing=allow_missing)


def _number_name(given: Sequence[str]) -> list[str]:
    if len(given) != 1:
        raise DataError(f"class_names of a regression must be the name of its number alone, got {list(given)}.")
    return [str(given[0])]


def _check_numbers(entries: Sequence[Entry], *, trained: bool) -> None:
    known = [entry.target for entry in entries if entry.target is not None]
    if not known and not trained:
        raise DataError("No image has a number; fill the column `label`, or name another one with label_columns.")
    if len(known) < len(entries):
        logger.warning("%d of %d images have no number and are in no figure.", len(entries) - len(known), len(entries))


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
    return read_datalist(
        source,
        masks=True,
        class_names=class_names,
        ood_dataset_dirs=ood_dataset_dirs,
        id_domain=id_domain,
        split_fractions=split_fractions,
        seed=seed,
        patient_pattern=patient_pattern,
        one_image_per_patient=one_image_per_patient,
        allow_patient_overlap=allow_patient_overlap,
        mask_suffix=mask_suffix,
        encoding=encoding,
        data_root=data_root,
        slice_axis=slice_axis,
        id_salt=id_salt,
        id_map=id_map,
        kept_splits=kept_splits,
        new_images=new_images,
    )


def _split_alike(entries: Sequence[Entry], fractions: Sequence[float], seed: int) -> None:
    """Complete the splits without stratification: all images count as one class."""
    for entry in entries:
        entry.label = "image"
    try:
        complete_splits(entries, fractions=fractions, seed=seed)
    finally:
        for entry in entries:
            entry.label = None


def _refuse_leaks(
    keeping: Keeping, leaks: Sequence[Leak], inside: Sequence[Entry], listings: Sequence[Listing], ids: IdMap
) -> None:
    """Check that no other domain has images that a training learned from.

    Raises:
        LeakageError: if there are any, or ``leaks`` of the in-distribution domain.
    """
    own = {id(entry) for entry in inside}
    others = [entry for part in listings for entry in part.entries if id(entry) not in own]
    found = [*leaks, *keeping.outside(others, inside=inside)]
    if found:
        raise leakage_error(found, None if ids.path is None else ids.path.parent)


def read_unlabelled(
    source: PathLike,
    *,
    class_names: Sequence[str],
    slice_axis: SliceAxis = "axial",
    domain: str = "inference",
    series: bool = False,
    id_salt: str | bytes | None = None,
    id_map: IdMap | PathLike | None = None,
    task: str = "classification",
    units: Units | None = None,
) -> Datalist:
    """Return the images of a folder, a single file, or a manifest, for inference: without splits or labels.

    Args:
        source: a folder (all files below it), one image file, or a CSV or JSON list, whose labels are ignored.
        class_names: of the network, in the order of its logits.
        slice_axis: plane of NIfTI slices, as in the transform that loads them.
        domain: name of all images.
        series: read a folder whose DICOM files are one series as one volume; items then have ``case``, the salted id of
            the volume.
        id_salt: salt of the ids; None uses the salt of ``id_map``, or draws one.
        id_map: an :class:`IdMap`, or its file, which maps ids to paths.
        task: of the network.
        units: of the network, as for :func:`read_datalist`; an image of unknown patient is skipped as
            ``unknown_patient`` if patients are predicted.

    Raises:
        DataError: if the source does not exist, or contains no file that could be an image.
    """
    ids = id_map if isinstance(id_map, IdMap) else IdMap(id_map, salt=id_salt)
    listing = read_images(Path(source))
    _log_notes(listing)
    if series:
        listing = group_series(listing)
    listing = expand(listing, slice_axis=slice_axis, patients=units is not None, alone=True)
    if units is not None and units.unit == "patient":
        _skip_unknown_patients(listing)
    if not listing.entries:
        raise DataError(
            f"No image was found among {len(listing.skipped)} files; give a folder of DICOM, NIfTI, PNG, JPEG or TIFF "
            "files, one such file, or a manifest with a column `path`."
        )
    for record in records(listing):
        record.domain, record.split = domain, None
    for entry in listing.entries:
        entry.label = entry.findings = entry.target = None
    _group([listing], units, domain)
    return _build_datalist([listing], list(class_names), domain, ids, cases=series, task=task, units=units)


def _group(listings: Sequence[Listing], units: Units | None, id_domain: str, *, known: bool = True) -> None:
    """Leave the instances of units in the listings; see :func:`movl_monai.data.units.assign_units`."""
    if units is None:
        return
    for listing in listings:
        for entry in listing.entries:
            entry.domain = entry.domain or id_domain
        listing.entries = assign_units(listing.entries, units, known=known)


def _skip_unknown_patients(listing: Listing) -> None:
    unknown = [entry for entry in listing.entries if entry.patient is None]
    if unknown and len(unknown) == len(listing.entries):
        raise DataError(
            f"The model predicts patients, and the patient of none of the {len(unknown)} images is known. Give DICOM "
            "files with a PatientID, or a list with the columns path and patient_id."
        )
    listing.entries = [entry for entry in listing.entries if entry.patient is not None]
    for entry in unknown:
        listing.skipped.append(SkippedFile(entry.path, entry.key, "unknown_patient", entry.domain, entry.split))


def _log_notes(listing: Listing) -> None:
    """Log the unused contents of a list, and its missing files."""
    for note in listing.notes:
        logger.info(note)
    total = len(listing.entries) + len(listing.skipped)
    if missing := missing_files(listing.skipped, total):
        logger.warning(missing)


def _inside_domain(listing: Listing, id_domain: str) -> list[Entry]:
    """Return the entries of the in-distribution domain, which is the domain of records without one.

    Raises:
        DataError: if there is none.
    """
    for record in records(listing):
        record.domain = record.domain or id_domain
    inside = [entry for entry in listing.entries if entry.domain == id_domain]
    if not inside:
        found = ", ".join(natural_sorted(entry.domain or "" for entry in listing.entries)) or "none"
        raise DataError(
            f"No image of the domain {id_domain!r}; the domains with images are: {found}. Set id_domain to one of them."
        )
    return inside


def _class_names(entries: Sequence[Entry], given: Sequence[str] | None) -> list[str]:
    found = natural_sorted(entry.label for entry in entries if entry.label is not None)
    if given is not None:
        return check_class_names(given)
    if len(found) < 2:
        raise DataError(
            f"Classification needs two or more classes, got {len(found)}: {', '.join(found) or 'no labels'}. "
            "Add the images of another class, in a folder of its own or with its name in the column `label`; to "
            "evaluate images of one class alone, give the class_names of the network."
        )
    return found


def _check_missing(listing: Listing) -> None:
    """Check that no class is lost because its files are missing.

    Raises:
        DataError: if one is.
    """
    missing = [file for file in listing.skipped if file.reason == "missing_file"]
    lost = natural_sorted({file.label for file in missing if file.label} - {entry.label for entry in listing.entries})
    if lost:
        total = len(listing.entries) + len(listing.skipped)
        raise DataError(f"No image of class {', '.join(map(repr, lost[:5]))} is there. {missing_files(missing, total)}")


def _check_labels(entries: Sequence[Entry], class_names: Sequence[str]) -> None:
    unknown = natural_sorted({entry.label for entry in entries if entry.label is not None} - set(class_names))
    if unknown:
        domains = natural_sorted(entry.domain or "" for entry in entries if entry.label in unknown)
        raise DataError(
            f"Class {', '.join(map(repr, unknown[:5]))} (domain {', '.join(domains)}) is not one of the classes "
            f"{', '.join(class_names)}; rename it (case counts), or remove those images."
        )


def _build_datalist(
    listings: Sequence[Listing],
    class_names: list[str],
    id_domain: str,
    ids: IdMap,
    *,
    cases: bool = False,
    far: int = 0,
    keeping: Keeping | None = None,
    task: str = "classification",
    units: Units | None = None,
) -> Datalist:
    """Return the list of all entries, ordered and with salted ids.

    Args:
        listings: of the in-distribution source and the others.
        class_names: in the order of the labels.
        id_domain: name of the in-distribution domain.
        ids: makes and keeps the ids, and is saved.
        cases: whether items have ``case``, the salted id of a slice's volume.
        far: number of far sets, which are the last of the listings.
        keeping: the splits of a training that were applied to the entries.
        task: kind of the labels.
        units: series, studies or patients that the entries are instances of.
    """
    entries = [entry for listing in listings for entry in listing.entries]
    for entry in entries:
        if entry.domain != id_domain:
            entry.split = entry.split or "test"
    entries.sort(key=lambda entry: (entry.domain != id_domain, *_position(entry)))
    skipped = [file for listing in listings for file in listing.skipped]
    for file in skipped:
        file.id = ids.add(file.key, path=file.path)
    labels = {name: label for label, name in enumerate(class_names)}
    items = [_item(entry, labels, ids) for entry in entries]
    if cases:
        for entry, item in zip(entries, items, strict=True):
            item["case"] = item["id"] if entry.frame is None else ids.add(entry.key, path=entry.path)
    if units is not None:
        for entry, item in zip(entries, items, strict=True):
            name = f"{entry.domain}\0{entry.unit}"
            item |= {"unit": ids.salter.short(units.unit, name), "instance": entry.instance}
        check_units(items, units)
    datalist = Datalist(
        items,
        class_names=class_names,
        id_domain=id_domain,
        far_domains=[listing.entries[0].domain or "" for listing in listings[len(listings) - far :]],
        skipped=skipped,
        id_map=ids,
        keeping=keeping,
        task=task,
        units=units,
    )
    ids.save()
    logger.info("Data set:\n%s", datalist.summary())
    return datalist


def _item(entry: Entry, labels: dict[str, int], ids: IdMap) -> Item:
    if entry.id:
        image_id = ids.keep(entry.id, entry.key, path=entry.path, frame=entry.frame)
    else:
        image_id = ids.add(entry.key, path=entry.path, frame=entry.frame)
    item: Item = {
        "image": str(entry.path),
        "label": entry.target if entry.label is None else labels[entry.label],
        "patient_id": entry.patient,
        "split": entry.split,
        "domain": entry.domain,
        "id": image_id,
    }
    item |= {} if entry.frame is None else {"frame": entry.frame}
    item |= {} if entry.known is None else {"known": entry.known}
    item |= {"groups": dict(entry.groups)} if entry.groups else {}
    return item if entry.mask is None else item | {"mask": str(entry.mask)}


def _position(entry: Entry) -> tuple[Any, ...]:
    """Return the sort key of an entry, independent of the order on disk."""
    split = (*SPLITS, None).index(entry.split)
    return natural_key(entry.domain or ""), split, natural_key(entry.key), entry.key, entry.frame or 0
