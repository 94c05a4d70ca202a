"""List the images to be predicted, series of slices as volumes, and the DICOM files of each case."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from movl_monai.data import IdMap
from movl_monai.data.decode import fault_of
from movl_monai.data.entries import Entry, FileHeader, Listing, SkippedFile, file_problem, natural_key
from movl_monai.data.expand import SliceAxis, read_header, read_series_header
from movl_monai.data.series import HARMLESS, Selection, SeriesScan, problem_of
from movl_monai.data.sources import read_images
from movl_monai.data.units import Units, group_units
from movl_monai.errors import DataError
from movl_monai.predict.loader import Item, paths_of
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers import read_volume, slices_to_volume, sniff_format
from movl_monai.readers.dicom import Limits, scan_header
from movl_monai.readers.dicom import read_header as read_dicom_header
from movl_monai.readers.series import SAME_PLACE_MM, group_alike, slices_of
from movl_monai.readers.volume import series_files

__all__ = ["Listed", "StoredFrames", "headers_of", "list_images", "stored_frames"]

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Images and skipped files of a source.

    Args:
        items: images in order, as preprocessing takes them: ``id``, ``image`` (a path, or the paths of a series),
            ``frame`` in files of several, and ``case``, the id of the volume or else of the image. Instances of units
            follow each other and have ``unit``, its id.
        skipped: files that are not predicted: ``id``, ``reason`` and ``detail``.
        series: DICOM series, by the case of their items. It identifies patients and stays in memory.
        labels: labels of a list, by the id of the image or unit; of a unit whose images have the same.
        splits: splits of a list, by the id of the image or unit.
    """

    items: list[dict[str, Any]]
    skipped: list[dict[str, str]]
    series: dict[str, SeriesScan] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)

    def places(self, ids: IdMap, *, by_case: bool) -> Iterator[tuple[str, str, int | None]]:
        """Yield id, path and frame of every row; a volume has a line for each of its files.

        Args:
            ids: map that gave the ids.
            by_case: whether rows are about cases instead of images.
        """
        for item in self.items:
            is_part = by_case and item["case"] != item["id"]
            for path in paths_of(item):
                name = item["case"] if by_case else item.get("unit", item["id"])
                yield name, path, None if is_part else item.get("frame")
        for file in self.skipped:
            yield file["id"], ids.path_of(file["id"]), None


@dataclass
class _Found:
    """A file or a series."""

    entry: Entry
    frames: int
    files: tuple[str, ...] = ()
    scan: SeriesScan | None = None


def list_images(
    source: Source,
    *,
    id_map: IdMap,
    volumes: bool,
    slice_axis: str = "axial",
    modalities: Sequence[str] = (),
    series: Literal["all", "one"] = "all",
    split: str | None = None,
    units: Units | None = None,
) -> Listed:
    """Find the images of a folder, file or manifest; headers are read, pixels are not.

    Args:
        source: a folder (searched recursively), one file, a CSV or JSON list, or several files.
        id_map: gives the ids; it is saved.
        volumes: take the slices of a DICOM series as one volume.
        slice_axis: plane of the slices of volumes.
        modalities: DICOM modalities to predict; () takes all.
        series: "all" series, or exactly "one" per study, see :class:`movl_monai.data.series.Selection`.
        split: split of a list to predict; None takes all.
        units: series, studies or patients to predict; None for single images.

    Raises:
        DataError: if the source does not exist, or holds no file that a prediction could be expected for.
    """
    listing = _chosen(source) if isinstance(source, Sequence) and not isinstance(source, str) else _read(Path(source))
    if split is not None:
        _keep_split(listing, split)
    found: list[_Found] = []
    skipped = [(file.path, file.key, file.reason, "") for file in listing.skipped]
    for entry in listing.entries:
        try:
            one, problem = _look(entry, cast(SliceAxis, slice_axis))
            detail = ""
        except Exception as error:  # any kind of damage; the other files are still listed
            problem, detail = fault_of(error)
        if problem:
            skipped.append((entry.path, entry.key, problem, detail))
        else:
            found.append(one)
    reasons = Selection(modalities=modalities, one=series == "one").reasons(
        {one.entry.key: one.scan for one in found if one.scan is not None}
    )
    skipped += [
        (one.entry.path, one.entry.key, reasons[one.entry.key], "") for one in found if one.entry.key in reasons
    ]
    found = [one for one in found if one.entry.key not in reasons]
    if volumes:
        found = _with_volumes(found, id_map, cast(SliceAxis, slice_axis))
    found.sort(key=lambda one: (natural_key(one.entry.key), one.entry.key, one.entry.frame or 0))
    of_each = [(one.entry, _items(one, id_map, volumes)) for one in found]
    items = [item for _, part in of_each for item in part]
    instances = items if units is None else _instances(of_each, found, units, id_map)
    lost = [] if units is None else [entry for entry, part in of_each if not any("unit" in item for item in part)]
    skipped += [(entry.path, entry.key, "unknown_patient", "") for entry in lost]
    result = Listed(
        items=instances,
        skipped=[
            {"id": id_map.add(key, path=path), "reason": reason, "detail": detail}
            for path, key, reason, detail in sorted(skipped)
        ],
        series={item["case"]: one.scan for one, item in _first_items(found, items) if one.scan is not None},
        labels=_agreed((item, entry.label) for entry, part in of_each for item in part),
        splits=_agreed((item, entry.split) for entry, part in of_each for item in part),
    )
    id_map.save()
    _check_some(result)
    return result


def _instances(
    of_each: Sequence[tuple[Entry, list[dict[str, Any]]]], found: Sequence[_Found], units: Units, id_map: IdMap
) -> list[dict[str, Any]]:
    """Return the instances of all units, of one unit after the other; each of their images gets ``unit``."""
    images = []
    for (entry, part), one in zip(of_each, found, strict=True):
        scan = one.scan
        series = entry.series or (scan.series if scan else None) or None
        key = units.key_of(
            patient=entry.patient or (scan.patient if scan else None),
            study=entry.study or (scan.study if scan else None) or None,
            series=series,
            volume=entry.key,
        )
        name = None if key is None else id_map.salter.short(units.unit, key)
        place = {"unit": name, "series": series, "key": entry.key, "position": scan.position if scan else None}
        for item in part:
            if name is not None:
                item["unit"] = name
            images.append({**item, **place, "item": item})
    return [image["item"] for unit in group_units(images, units) for image in unit]


def _agreed(values: Iterable[tuple[dict[str, Any], str | None]]) -> dict[str, str]:
    """Return the value of each row, without those of units whose images differ."""
    found: dict[str, set[str]] = {}
    for item, value in values:
        if value:
            found.setdefault(item.get("unit", item["id"]), set()).add(value)
    return {name: next(iter(part)) for name, part in found.items() if len(part) == 1}


def _keep_split(listing: Listing, split: str) -> None:
    """Leave the images of one split of a list."""
    there = sorted({entry.split for entry in listing.entries if entry.split})
    if split not in there:
        found = f"the list has {', '.join(there)}" if there else "the input names no splits"
        raise DataError(
            f"`--split {split}` takes the images of one split of a list, and {found}. Leave it out, or fill the column "
            "`split`."
        )
    listing.entries[:] = [entry for entry in listing.entries if entry.split == split]
    listing.skipped[:] = [file for file in listing.skipped if file.split == split]


def _check_some(listed: Listed) -> None:
    """Refuse a source without any file that a prediction could be expected for."""
    reasons = Counter(file["reason"] for file in listed.skipped)
    if not listed.items and set(reasons) <= HARMLESS:
        found = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        raise DataError(f"No image was found ({found}); give a folder of DICOM, NIfTI, PNG, JPEG or TIFF files.")


def _chosen(files: Sequence[str | os.PathLike[str]]) -> Listing:
    listing = Listing()
    for path in dict.fromkeys(Path(file).absolute() for file in files):
        if problem := file_problem(path):
            listing.skipped.append(SkippedFile(path, path.as_posix(), problem))
        else:
            listing.entries.append(Entry(path=path, key=path.as_posix()))
    return listing


def _read(path: Path) -> Listing:
    listing = read_images(path)
    if not listing.entries and not listing.skipped:
        raise DataError(
            "There is no file in the folder; give a folder of DICOM, NIfTI, PNG, JPEG or TIFF files, one such file, or "
            "a manifest with a column `path`."
        )
    return listing


def _look(entry: Entry, slice_axis: SliceAxis) -> tuple[_Found, str | None]:
    """Inspect a file; return it, and a reason code if it is not an image."""
    if entry.path.is_dir():
        header = read_header(entry.path, slice_axis=slice_axis)
        return _Found(entry, header.frames), header.problem
    if sniff_format(entry.path) != "dicom":
        header = read_header(entry.path, slice_axis=slice_axis)
        return _Found(entry, header.frames), header.problem
    scan = scan_header(entry.path)
    if problem := problem_of(scan):
        return _Found(entry, 1), problem
    return _Found(entry, len(scan.frames), (), SeriesScan.of(entry.path, scan)), None


def _with_volumes(found: Sequence[_Found], id_map: IdMap, slice_axis: SliceAxis) -> list[_Found]:
    """Merge the slices of each series into one entry."""
    keys: list[Hashable] = []
    places: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for number, one in enumerate(found):
        if one.scan is not None and one.scan.is_slice and one.scan.geometry and one.entry.frame is None:
            # copies of a series in two folders are two volumes
            keys.append((one.entry.path.parent, one.scan.volume))
            places.append(one.scan.geometry[1:])
        else:
            keys.append(number)
            places.append(((0.0,) * 6, (1.0,) * 2))
    result: list[_Found] = []
    for group in group_alike(keys, [place[0] for place in places], [place[1] for place in places]):
        members = sorted((found[number] for number in group), key=lambda one: one.entry.key)
        header = _series_header(members, slice_axis)
        if header is None:
            result += members
            continue
        first = members[0].scan
        name = id_map.salter.short("series", repr((first.volume, first.geometry) if first else ""))
        folder = members[0].entry.key.rpartition("/")[0]
        entry = Entry(path=members[0].entry.path.parent, key=f"{folder}/series {name}")
        result.append(_Found(entry, header.frames, tuple(str(one.entry.path) for one in members), first))
    return result


def _series_header(members: Sequence[_Found], slice_axis: SliceAxis) -> FileHeader | None:
    """Return the header of files as one volume; None if they do not form a volume."""
    if len(members) < 2:
        return None
    header = read_series_header([one.entry.path for one in members], slice_axis=slice_axis)
    return None if header.problem else header


def _items(found: _Found, id_map: IdMap, volumes: bool) -> list[dict[str, Any]]:
    entry = found.entry
    image: Any = found.files or str(entry.path)
    several = found.frames > 1 and entry.frame is None
    frames = range(found.frames) if several else [entry.frame]
    items = []
    for frame in frames:
        if entry.id and not several:
            image_id = id_map.keep(entry.id, entry.key, path=entry.path, frame=frame)
        else:
            image_id = id_map.add(entry.key, path=entry.path, frame=frame)
        item = {"id": image_id, "image": image, "case": image_id}
        items.append(item if frame is None else item | {"frame": frame})
    if volumes and several:
        case = id_map.add(entry.key, path=entry.path)
        items = [item | {"case": case} for item in items]
    return items


def _first_items(found: Sequence[_Found], items: Sequence[dict[str, Any]]) -> list[tuple[_Found, dict[str, Any]]]:
    pairs: list[tuple[_Found, dict[str, Any]]] = []
    position = 0
    for one in found:
        count = one.frames if one.entry.frame is None else 1
        pairs += [(one, item) for item in items[position : position + count]]
        position += count
    return pairs


@dataclass(frozen=True)
class StoredFrames:
    """Predicted classes on the frames of a DICOM source.

    Args:
        files: one file per frame, or one file with all frames.
        classes: uint8 (frames, rows, columns), oriented as in the source.
    """

    files: list[str]
    classes: np.ndarray

    def place(self, number: int) -> tuple[str, int | None]:
        """Return the file of a frame, and the frame's index in a file of several frames, else None."""
        if len(self.files) == 1:
            return self.files[0], number if len(self.classes) > 1 else None
        return self.files[number], None


def stored_frames(case: SegmentedCase) -> StoredFrames:
    """Map the classes of a DICOM case to the frames of its source.

    The model may cut a volume along another plane than that of its files. The files are sorted by position, and copies
    of a slice are left out.
    """
    image = case.items[0]["image"]
    if not case.is_volume:
        return StoredFrames([os.fspath(image)], np.stack(case.planes))
    slices = {int(item["frame"]): plane for item, plane in zip(case.items, case.planes, strict=True)}
    mask = slices_to_volume(slices, read_volume(image), axis=case.record["slice_axis"])
    return StoredFrames(_in_order(_files(image)), np.asarray(mask.dataobj).transpose(2, 1, 0).astype(np.uint8))


def headers_of(files: Sequence[str]) -> list[Any]:
    """Read the headers of files, without pixels."""
    return [read_dicom_header(file) for file in files]


def item_place(item: Item) -> tuple[str, int | None]:
    """Return the file of an image, and its frame in a file of several frames, else None."""
    return os.fspath(cast(str, item["image"])), item.get("frame")


def _files(image: Any) -> list[str]:
    if isinstance(image, (list, tuple)):
        return [os.fspath(one) for one in image]
    if os.path.isdir(image):
        return [str(path) for path in series_files(Path(image), Limits())[0]]
    return [os.fspath(image)]


def _in_order(files: Sequence[str]) -> list[str]:
    if len(files) == 1:
        return list(files)
    found = [part for file in files for part in slices_of(file, Limits())]
    normal = found[0].normal
    found.sort(key=lambda part: float(part.position @ normal))
    kept = [found[0]]
    for part in found[1:]:
        if np.linalg.norm(part.position - kept[-1].position) >= SAME_PLACE_MM:
            kept.append(part)
    return [str(part.source) for part in kept]
