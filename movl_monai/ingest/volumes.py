"""Group frames by series and geometry, order them along the normal, and flag irregular volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from movl_monai.data.ids import Salter
from movl_monai.ingest.journal import Journal
from movl_monai.readers.series import SAME_PLACE_MM, SeriesSlice, group_alike, series_affine, spacing_flags

__all__ = ["FLAGS", "Placed", "group_frames", "place_frames"]

FLAGS = {
    "localizer": "a localizer, kept apart from the series that it belongs to",
    "gap": "a distance between slices above 1.5 times the usual one: slices are missing",
    "variable_spacing": "distances between slices that differ by more than 1 %",
    "sheared": "slices are shifted against each other, as by a tilted gantry",
    "uneven_shift": "slices are shifted against each other by unequal amounts",
    "duplicate_positions": "the same slice more than once",
    "several_per_position": "different slices at one position: several echoes, phases or times (4D)",
    "no_positions": "slices without positions; they are in the order of their instance numbers",
}
"""Meaning of the flags of a volume."""

_CROSS_SECTIONAL = ("CT", "MR", "PT")

_SELECT = """
SELECT files.key, frames.frame, files.format, files.modality, files.series, files.localizer, files.rows, files.columns,
    files.thickness, files.instance_number, x, y, z, orientation, row_spacing, column_spacing, pixels, mean, instance,
    paths.sort
FROM frames JOIN files USING (key) JOIN paths USING (key)
WHERE frames.status = 'ok' AND files.status IN ('ok', 'some_frames_unreadable')
ORDER BY CASE files.series WHEN '' THEN files.key ELSE files.series END, paths.sort, files.key, frames.frame
"""


@dataclass(frozen=True)
class Placed:
    """Place of a frame in a volume.

    Args:
        key: of its file.
        frame: from 0.
        volume: salted id of its volume, "" for a single picture.
        order: position in the volume, from 0.
        place: distance along the normal from the first slice in mm, None if unknown.
    """

    key: str
    frame: int
    volume: str
    order: int
    place: float | None


def place_frames(journal: Journal, salter: Salter) -> None:
    """Write the tables ``placed`` (a row per frame) and ``volumes`` (id, slices, flags), one series at a time."""
    db = journal.db
    db.execute(
        'CREATE TEMP TABLE placed (key TEXT, frame INT, volume TEXT, "order" INT, place REAL, sort TEXT, '
        "PRIMARY KEY (key, frame)) WITHOUT ROWID"
    )
    db.execute("CREATE TEMP TABLE volumes (volume TEXT PRIMARY KEY, slices INT, flags TEXT) WITHOUT ROWID")
    cursor = db.execute(_SELECT)
    names = [column[0] for column in cursor.description]
    rows = (dict(zip(names, row, strict=True)) for row in cursor)
    for name, members in groupby(rows, key=lambda row: row["series"] or row["key"]):
        for number, frames in enumerate(group_frames(list(members))):
            placed, flags = _place(frames, salter.short("volume", f"{name}\0{number}"))
            # the whole volume is listed at the place of its first file
            sort = min(row["sort"] for row in frames)
            db.executemany(
                "INSERT INTO placed VALUES (?, ?, ?, ?, ?, ?)",
                [(one.key, one.frame, one.volume, one.order, one.place, sort) for one in placed],
            )
            if placed[0].volume:
                record = (placed[0].volume, len(placed), " ".join(flags))
                db.execute("INSERT INTO volumes VALUES (?, ?, ?)", record)


def group_frames(frames: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group the frames of a series by size, orientation, spacing and localizer flag, keeping their order."""
    placed = [_has_position(frame) for frame in frames]
    groups = group_alike(
        [
            (*(frame[name] for name in ("localizer", "rows", "columns", "format")), is_placed)
            for frame, is_placed in zip(frames, placed, strict=True)
        ],
        [_orientation(one).tolist() if is_placed else [0] * 6 for one, is_placed in zip(frames, placed, strict=True)],
        [
            (one["row_spacing"], one["column_spacing"]) if is_placed else (1, 1)
            for one, is_placed in zip(frames, placed, strict=True)
        ],
    )
    return [[frames[index] for index in group] for group in groups]


def _has_position(frame: dict[str, Any]) -> bool:
    return bool(frame["orientation"]) and frame["x"] is not None and frame["row_spacing"] is not None


def _orientation(frame: dict[str, Any]) -> np.ndarray:
    return np.array(frame["orientation"].split(), dtype=float)


def _place(frames: Sequence[dict[str, Any]], volume: str) -> tuple[list[Placed], list[str]]:
    flags = ["localizer"] if frames[0]["localizer"] else []
    if frames[0]["format"] != "dicom":
        return _slices_of_file(frames, volume), flags
    if not frames[0]["series"] and len(frames) == 1:
        return [Placed(frames[0]["key"], frames[0]["frame"], "", 0, None)], flags
    if not _has_position(frames[0]):
        # projections, photographs and films are single pictures
        sliced = frames[0]["modality"] in _CROSS_SECTIONAL and bool(frames[0]["series"])
        flags += ["no_positions"] if sliced and len(frames) > 1 and not flags else []
        ordered = sorted(frames, key=_instance)
        return [
            Placed(one["key"], one["frame"], volume if sliced else "", order, None) for order, one in enumerate(ordered)
        ], flags
    parts = [_slice(frame) for frame in frames]
    normal = parts[0].normal
    order = sorted(
        range(len(frames)), key=lambda i: (round(float(parts[i].position @ normal), 3), _instance(frames[i]))
    )
    frames, parts = [frames[i] for i in order], [parts[i] for i in order]
    places = [float((part.position - parts[0].position) @ normal) for part in parts]
    flags += _problems(frames, parts)
    return [
        Placed(frame["key"], frame["frame"], volume, number, round(place, 3))
        for number, (frame, place) in enumerate(zip(frames, places, strict=True))
    ], flags


def _slices_of_file(frames: Sequence[dict[str, Any]], volume: str) -> list[Placed]:
    """Return slices of a NIfTI volume, or pages, which are not a volume."""
    is_volume = frames[0]["format"] == "nifti"
    step = frames[0]["thickness"] if is_volume else None
    return [
        Placed(
            frame["key"],
            frame["frame"],
            volume if is_volume else "",
            frame["frame"],
            None if step is None else round(step * frame["frame"], 3),
        )
        for frame in frames
    ]


def _instance(frame: dict[str, Any]) -> tuple[int, str, int]:
    return frame["instance_number"] or 0, frame["sort"], frame["frame"]


def _slice(frame: dict[str, Any]) -> SeriesSlice:
    return SeriesSlice(
        source="",
        frame=frame["frame"],
        shape=(frame["rows"], frame["columns"]),
        spacing=(frame["row_spacing"], frame["column_spacing"]),
        position=np.array([frame["x"], frame["y"], frame["z"]]),
        orientation=_orientation(frame),
        series="",
        modality="",
        thickness=frame["thickness"] or 1.0,
    )


def _are_copies(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return True for equal pixels; constant images have no hash and are compared by mean or instance."""
    if one["pixels"] or other["pixels"]:
        return bool(one["pixels"] == other["pixels"])
    is_blank = one["mean"] is not None and one["mean"] == other["mean"]
    return is_blank or bool(one["instance"] and one["instance"] == other["instance"])


def _problems(frames: Sequence[dict[str, Any]], parts: Sequence[SeriesSlice]) -> list[str]:
    """Return the flags of sorted slices; slices at one position count once for the distances."""
    flags: dict[str, None] = {}
    kept = [0]
    for index in range(1, len(parts)):
        if np.linalg.norm(parts[index].position - parts[kept[-1]].position) >= SAME_PLACE_MM:
            kept.append(index)
            continue
        same = _are_copies(frames[index], frames[kept[-1]])
        flags["duplicate_positions" if same else "several_per_position"] = None
    slices = [parts[index] for index in kept]
    affine, places = series_affine(slices)
    # parallel slices side by side, as in a mosaic, have no distances
    if len(slices) > 1 and np.ptp(places) > SAME_PLACE_MM:
        flags.update(dict.fromkeys(spacing_flags(slices, places, affine)))
    return list(flags)
