"""Series, studies and patients as units: several images (instances) with one label and one prediction."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from movl_monai.data.entries import Entry, natural_key
from movl_monai.errors import ConfigError, DataError, LeakageError

__all__ = ["UnitName", "Units", "assign_units", "check_units", "group_units", "slice_position", "unit_label"]

UnitName = Literal["series", "study", "patient"]
_T = TypeVar("_T")
_SHOWN = 5
_HOW = {
    "patient": "a column patient_id, `--patient_pattern REGEX`, or DICOM files with a PatientID",
    "study": "a column study, or DICOM files with a StudyInstanceUID",
    "series": "a column series, or DICOM files with a SeriesInstanceUID",
}


@dataclass(frozen=True, kw_only=True)
class Units:
    """Settings that group images into units, and choose their instances.

    Args:
        unit: "series", "study" or "patient".
        unit_label: rule for images with different labels: "same" refuses them; "max" takes the highest, as for the
            worse grade of both eyes, or a finding that any image shows.
        every_nth: use every n-th instance of a series, from the middle of the first n.
        max_instances: largest number of instances of a unit, spread evenly; None for no limit.

    Raises:
        ConfigError: for another value.

    Example:
        >>> Units(unit="series", every_nth=3).chosen(range(7))
        [1, 4]
    """

    unit: UnitName
    unit_label: Literal["same", "max"] = "same"
    every_nth: int = 1
    max_instances: int | None = None

    def __post_init__(self) -> None:
        if self.unit not in get_args(UnitName):
            raise ConfigError(f"unit must be one of {', '.join(get_args(UnitName))}, got {self.unit!r}.")
        if self.unit_label not in ("same", "max"):
            raise ConfigError(f"unit_label must be same or max, got {self.unit_label!r}.")
        if not (isinstance(self.every_nth, int) and self.every_nth >= 1):
            raise ConfigError(f"every_nth must be a whole number, at least 1, got {self.every_nth!r}.")
        if self.max_instances is not None and not (isinstance(self.max_instances, int) and self.max_instances >= 1):
            raise ConfigError(f"max_instances must be a whole number, at least 1, or null, got {self.max_instances!r}.")

    @property
    def plural(self) -> str:
        """The unit in the plural."""
        return {"series": "series", "study": "studies", "patient": "patients"}[self.unit]

    def facts(self) -> dict[str, Any]:
        """Return the settings for a checkpoint; the rule for labels is of the data alone."""
        return {name: value for name, value in asdict(self).items() if name != "unit_label"}

    def key_of(self, *, patient: str | None, study: str | None, series: str | None, volume: str) -> str | None:
        """Return the unit of an image, None if it is not known.

        Args:
            patient: its patient.
            study: from a column or the DICOM header.
            series: from a column or the DICOM header.
            volume: key of its file, which holds all slices of a volume.
        """
        if self.unit == "patient":
            return patient
        return (study if self.unit == "study" else series) or volume

    def chosen(self, instances: Sequence[_T]) -> list[_T]:
        """Return every n-th instance of a series; a short series keeps its middle one."""
        start = (self.every_nth - 1) // 2
        return list(instances[start :: self.every_nth]) or [instances[(len(instances) - 1) // 2]]

    def limited(self, instances: Sequence[_T]) -> list[_T]:
        """Return at most ``max_instances``, spread evenly over the unit."""
        most = self.max_instances
        if most is None or len(instances) <= most:
            return list(instances)
        return [instances[int((number + 0.5) * len(instances) / most)] for number in range(most)]


@dataclass(frozen=True)
class _Place:
    """Place of an image in its unit: series, position along the normal in mm, and name."""

    series: str
    position: float | None
    key: str
    frame: int | None


def _in_order(units: Units, members: Sequence[_T], place: Callable[[_T], _Place]) -> list[_T]:
    """Return the instances of a unit in canonical order.

    Series come in natural order of their first path; slices in order of their positions, which all must state and which
    must differ, else in natural order of path and frame.
    """
    series: dict[str, list[_T]] = defaultdict(list)
    for member in sorted(members, key=lambda one: _by_name(place(one))):
        series[place(member).series].append(member)
    found: list[_T] = []
    for part in series.values():
        positions = [place(member).position for member in part]
        if None not in positions and len(set(positions)) == len(part):
            part.sort(key=lambda one: place(one).position or 0.0)
        found += units.chosen(part)
    return units.limited(found)


def _by_name(place: _Place) -> tuple[Any, ...]:
    return natural_key(place.key), place.key, place.frame or 0


def assign_units(entries: Sequence[Entry], units: Units, *, known: bool = True) -> list[Entry]:
    """Set the unit of each image, and return the instances, sorted within their units.

    An image without a label gets one of its unit, in which labels must agree or the highest counts.

    Args:
        entries: images with patients and headers; those that are no instances are left out.
        units: settings.
        known: whether an image without a unit is an error; otherwise its file is a unit by itself.

    Raises:
        DataError: if the unit of an image is not known.
    """
    groups: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    lost = 0
    for entry in entries:
        key = units.key_of(patient=entry.patient, study=entry.study, series=entry.series, volume=entry.key)
        lost += key is None
        entry.unit = f"file:{entry.key}" if key is None else key
        groups[entry.domain or "", entry.unit].append(entry)
    if lost and known:
        raise DataError(
            f"The {units.unit} of {lost} of {len(entries)} images is not known, which `unit` {units.unit} groups them "
            f"by. Expected {_HOW[units.unit]}; or choose another unit."
        )
    ordered = [_in_order(units, part, _place_of_entry) for part in groups.values()]
    for whole, part in zip(groups.values(), ordered, strict=True):
        label = next((entry.label for entry in whole if entry.label is not None), None)
        target = next((entry.target for entry in whole if entry.target is not None), None)
        for number, entry in enumerate(part):
            entry.instance = number
            entry.label = label if entry.label is None else entry.label
            entry.target = target if entry.target is None else entry.target
    return [entry for part in ordered for entry in part]


def _place_of_entry(entry: Entry) -> _Place:
    return _Place(entry.series or ("" if entry.frame is None else entry.key), entry.position, entry.key, entry.frame)


def group_units(images: Sequence[Mapping[str, Any]], units: Units) -> list[list[Mapping[str, Any]]]:
    """Return the instances of each unit in canonical order, units in the order of their first image.

    Args:
        images: with ``unit`` (None if unknown, which leaves an image out), ``series`` and ``position`` (None if
            unknown), ``key`` and optionally ``frame``.
        units: settings.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for image in images:
        if image["unit"] is not None:
            groups[image["unit"]].append(image)

    def place(image: Mapping[str, Any]) -> _Place:
        frame = image.get("frame")
        series = image["series"] or ("" if frame is None else image["key"])
        return _Place(series, image["position"], image["key"], frame)

    return [_in_order(units, part, place) for part in groups.values()]


def check_units(items: Iterable[Mapping[str, Any]], units: Units) -> None:
    """Check that the images of each unit belong together.

    Args:
        items: of a list, with ``unit``.
        units: settings.

    Raises:
        LeakageError: if a unit is in two splits.
        DataError: if a unit is of two patients, or its images have different labels and ``unit_label`` is "same".
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        groups[item["unit"]].append(item)
    split = {name for name, part in groups.items() if len({item["split"] for item in part}) > 1}
    if split:
        raise LeakageError(
            f"{_count(split, units)} in two splits ({_shown(split)}): the images of a {units.unit} have one label and "
            "one prediction. Put all of them into one split, or leave the splits out to have them made by patient."
        )
    mixed = {name for name, part in groups.items() if len({item["patient_id"] for item in part}) > 1}
    if mixed:
        raise DataError(
            f"{_count(mixed, units)} of two patients ({_shown(mixed)}). Correct the column {units.unit}, or the "
            "patients."
        )
    blank = {name for name, part in groups.items() if part[0]["split"] in ("train", "val") and not _known_labels(part)}
    if blank and len(blank) < len(groups):
        raise DataError(
            f"{_count(blank, units)} without a label ({_shown(blank)}), and train and val need one for each "
            f"{units.unit}. Label one image of each, or leave those images out."
        )
    if units.unit_label == "max":
        return
    differing = {name for name, part in groups.items() if len(_known_labels(part)) > 1}
    if differing:
        raise DataError(
            f"{_count(differing, units)} with images of different labels ({_shown(differing)}), expected one label per "
            f"{units.unit}; an image without a label may stand beside. Correct the labels, choose a smaller unit, or, "
            "where classes are grades or findings, let the highest count: `--unit_label max`."
        )


def _known_labels(items: Iterable[Mapping[str, Any]]) -> set[Any]:
    return {item["label"] for item in items if item["label"] is not None}


def _count(names: set[str], units: Units) -> str:
    return f"1 {units.unit} is" if len(names) == 1 else f"{len(names)} {units.plural} are"


def _shown(names: set[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def unit_label(labels: Iterable[Any]) -> Any:
    """Return the label of a unit: the highest of the known labels, for findings one by one; None if none is known.

    Example:
        >>> unit_label([0, None, 2]), unit_label([(1, None), (0, None)]), unit_label([None])
        (2, (1, None), None)
    """
    known = [label for label in labels if label is not None]
    if not known:
        return None
    if not isinstance(known[0], (tuple, list)):
        return max(known)
    return tuple(max((value for value in part if value is not None), default=None) for part in zip(*known, strict=True))


def slice_position(frames: Sequence[Any]) -> float | None:
    """Return the place of a slice along the normal of its plane in mm; None without a valid geometry, or for a film.

    Args:
        frames: geometry of the frames of a file, with ``position`` and ``orientation``.

    Reference:
        DICOM PS3.3 C.7.6.2.1.1.
    """
    if len(frames) != 1 or frames[0].position is None or frames[0].orientation is None:
        return None
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    place = float(normal @ np.asarray(frames[0].position, dtype=np.float64))
    return round(place, 3) if math.isfinite(place) else None
