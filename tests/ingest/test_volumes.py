"""Frames in groups and in order, and faults of volumes."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.ingest.conftest import MakePng, MakeSlice, read_folder

SAGITTAL = (0, 1, 0, 0, 0, -1)


def volumes(root: Path) -> dict[str, tuple[list[str], list[float | None], str]]:
    """Names and places of the slices, and flags, by volume."""
    with read_folder(root) as journal:
        rows = journal.db.execute(
            'SELECT placed.volume, path, place, COALESCE(flags, "") FROM placed JOIN paths USING (key) '
            'LEFT JOIN volumes USING (volume) ORDER BY placed.sort, placed.volume, "order"'
        ).fetchall()
    found: dict[str, tuple[list[str], list[float | None], str]] = {}
    for volume, path, place, flags in rows:
        names, places, _ = found.setdefault(volume, ([], [], flags))
        names.append(os.fsdecode(path))
        places.append(place)
    return found


def only(root: Path) -> tuple[list[str], list[float | None], str]:
    (volume,) = volumes(root).values()
    return volume


def test_slices_are_sorted_by_position_and_not_by_instance_number(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, z in enumerate((30.0, 10.0, 20.0)):
        make_slice(tmp_path / f"{number}.dcm", z=z, InstanceNumber=number, seed=number)
    assert only(tmp_path) == (["1.dcm", "2.dcm", "0.dcm"], [0.0, 10.0, 20.0], "")


def test_the_normal_decides_in_any_orientation(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, z in enumerate((2.0, 3.0, 1.0)):
        make_slice(tmp_path / f"{number}.dcm", z=z, orientation=SAGITTAL, seed=number)
    names, places, flags = only(tmp_path)
    assert (names, places, flags) == (["2.dcm", "0.dcm", "1.dcm"], [0.0, 1.0, 2.0], "")


@pytest.mark.parametrize(
    ("places", "flag"),
    [
        ((0, 1, 2, 4, 5, 6), "gap"),
        ((0, 1, 2.2, 3.1, 4.2, 5), "variable_spacing"),
        ((0, 1, 2, 3), ""),
        ((0, 1.004, 2, 3), ""),
    ],
)
def test_distances_are_looked_at(tmp_path: Path, make_slice: MakeSlice, places: tuple[float, ...], flag: str) -> None:
    for number, z in enumerate(places):
        make_slice(tmp_path / f"{number}.dcm", z=z, seed=number)
    flags = only(tmp_path)[2].split()
    assert (flag in flags) if flag else flags == []


def test_slices_that_are_shifted_are_sheared(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number in range(4):
        make_slice(tmp_path / f"{number}.dcm", z=number, shift=0.2 * number, seed=number)
    assert "sheared" in only(tmp_path)[2]


def test_the_same_slice_twice_is_a_duplicate_position(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, z in enumerate((0, 1, 2, 1)):
        make_slice(tmp_path / f"{number}.dcm", z=z, seed=int(z))
    assert only(tmp_path)[2] == "duplicate_positions"


def test_different_slices_at_a_position_are_several_echoes_or_times(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, z in enumerate((0, 1, 2, 0, 1, 2)):
        make_slice(tmp_path / f"{number}.dcm", z=z, seed=number, InstanceNumber=number)
    names, places, flags = only(tmp_path)
    assert flags == "several_per_position"
    assert names == ["0.dcm", "3.dcm", "1.dcm", "4.dcm", "2.dcm", "5.dcm"]
    assert places == [0, 0, 1, 1, 2, 2]


def test_a_localizer_of_the_series_is_a_volume_of_its_own(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number in range(3):
        make_slice(tmp_path / f"{number}.dcm", z=number, seed=number)
    make_slice(tmp_path / "l.dcm", z=100, seed=9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = sorted((names, flags) for names, _, flags in volumes(tmp_path).values())
    assert found == [(["0.dcm", "1.dcm", "2.dcm"], ""), (["l.dcm"], "localizer")]


@pytest.mark.parametrize(
    "other", [{"orientation": SAGITTAL}, {"size": 14}, {"PixelSpacing": [2.0, 2.0]}, {"series": "b"}, {"z": None}]
)
def test_another_geometry_or_series_is_another_volume(
    tmp_path: Path, make_slice: MakeSlice, other: dict[str, object]
) -> None:
    for number in range(2):
        make_slice(tmp_path / f"{number}.dcm", z=number, seed=number)
    make_slice(tmp_path / "x.dcm", **{"z": 5, "seed": 9, **other})
    assert sorted(names for names, _, _ in volumes(tmp_path).values()) == [["0.dcm", "1.dcm"], ["x.dcm"]]


def test_slices_without_positions_are_ordered_by_instance_number_and_flagged(
    tmp_path: Path, make_slice: MakeSlice
) -> None:
    for number, instance in enumerate((3, 1, 2)):
        make_slice(tmp_path / f"{number}.dcm", z=None, InstanceNumber=instance, seed=number)
    assert only(tmp_path) == (["1.dcm", "2.dcm", "0.dcm"], [None, None, None], "no_positions")


def test_projections_of_a_series_are_no_volume(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number in range(2):
        make_slice(tmp_path / f"{number}.dcm", z=None, Modality="DX", seed=number)
    assert list(volumes(tmp_path)) == [""]


def test_slices_of_nifti_are_a_volume_and_pictures_are_none(tmp_path: Path, make_png: MakePng) -> None:
    pixels = np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(pixels, np.diag([1.0, 1.0, 2.5, 1.0])), tmp_path / "v.nii.gz")
    make_png(tmp_path / "a.png")
    found = volumes(tmp_path)
    assert found.pop("")[0] == ["a.png"]
    ((names, places, flags),) = found.values()
    assert (names, places, flags) == (["v.nii.gz"] * 3, [0.0, 2.5, 5.0], "")


def test_blank_copies_of_a_slice_are_duplicates(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, z in enumerate((0, 1, 1)):
        make_slice(tmp_path / f"{number}.dcm", z=z, seed=number, PixelData=bytes(288))
    assert only(tmp_path)[2] == "duplicate_positions"
