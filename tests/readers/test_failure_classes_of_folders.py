"""Known failures of readers of folders, F25 to F31: each gives the right result for a volume of slices."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import FileDataset

from movl_monai.readers import read_volume
from movl_monai.transforms import CanonicalSlices
from tests.readers.dicom.objects import as_file, shipped
from tests.readers.refusals import refused
from tests.readers.segmentations import slice_object, source_series


def hu(source: FileDataset) -> np.ndarray:
    """Values of a slice as the axes of a volume, (columns, rows)."""
    return source.pixel_array.T.astype(np.float32) - 1024


def folder_of(sources: Sequence[FileDataset], folder: Path) -> Path:
    """Write a series so that neither names nor times are in the order of the slices."""
    folder.mkdir(exist_ok=True)
    for k, source in enumerate(sources):
        as_file(source, folder / f"{(k * 7) % 11:02d}.dcm")
    return folder


def expected_values(sources: Sequence[FileDataset]) -> np.ndarray:
    return np.stack([hu(source) for source in sources], axis=-1)


@pytest.mark.parametrize("tags", [{}, {"PatientID": "another"}])
def test_f25_several_series_or_patients_are_refused_and_never_mixed(tags: dict[str, str], tmp_path: Path) -> None:
    folder = folder_of(source_series(), tmp_path / "x")
    for k, source in enumerate(source_series(SeriesInstanceUID="1.2.3", **tags)):
        as_file(source, folder / f"other{k}.dcm")
    with refused("bad_header", "5 of 10 with another series than the first") as caught:
        read_volume(folder)
    assert "another" not in str(caught.value).replace("with another series", "")


@pytest.mark.parametrize("shape", [(12, 10), (20, 20)])
def test_f26_a_localizer_in_the_series_is_refused_whatever_its_shape(shape: tuple[int, int], tmp_path: Path) -> None:
    folder = folder_of(source_series(), tmp_path / "x")
    localizer = slice_object(np.zeros(shape), (0, 0, 0), (0, 1, 0, 0, 0, -1))
    as_file(localizer, folder / "localizer.dcm")
    with refused("bad_header", "another orientation.*leave localizers out"):
        read_volume(folder)


def test_f27_slices_lie_in_the_order_of_their_positions_not_of_names_or_instance_numbers(tmp_path: Path) -> None:
    sources = source_series()
    for number, source in zip((4, 1, 5, 2, 3), sources, strict=True):
        source.InstanceNumber = number
    volume = read_volume(folder_of(sources, tmp_path / "x"))
    np.testing.assert_array_equal(volume.values, expected_values(sources))
    assert volume.record["slice_positions"] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        (lambda sources: sources.pop(2), {"gap", "variable_spacing"}),
        (lambda sources: sources.append(sources[1]), {"duplicate_positions"}),
        (lambda sources: sources[4].__setattr__("ImagePositionPatient", [-10, 20, 42.5]), {"variable_spacing"}),
    ],
    ids=["gap", "duplicate", "variable spacing"],
)
def test_f28_irregular_series_are_flagged_and_keep_their_slices(
    change: Callable[[list[FileDataset]], Any], flags: set[str], tmp_path: Path
) -> None:
    sources = source_series()
    change(sources)
    volume = read_volume(folder_of(sources, tmp_path / "x"))
    assert set(volume.flags) == flags
    np.testing.assert_array_equal(volume.values, expected_values(sources[:5]))


def test_f28_several_times_at_one_place_are_refused(tmp_path: Path) -> None:
    sources = source_series()
    later = source_series()
    for source in later:
        source.PixelData = source.PixelData[::-1]
    with refused("bad_dimensions", "split it by echo, phase or time"):
        read_volume(folder_of([*sources, *later], tmp_path / "x"))


def test_f29_each_slice_has_its_own_rescaling_in_floating_point(tmp_path: Path) -> None:
    sources = source_series()
    for k, source in enumerate(sources):
        source.RescaleSlope, source.RescaleIntercept, source.Modality = 10.0 ** (k - 1) + 0.5, 0, "PT"
    volume = read_volume(folder_of(sources, tmp_path / "x"))
    expected = np.stack([s.pixel_array.T * float(s.RescaleSlope) for s in sources], axis=-1)
    np.testing.assert_allclose(volume.values, expected, rtol=1e-6)
    assert volume.values.max() > 2**15  # where 16 bits would have turned over


def test_f30_what_is_no_image_does_not_get_in_the_way(tmp_path: Path) -> None:
    sources = source_series()
    folder = folder_of(sources, tmp_path / "x")
    for name in ("test-SR.dcm", "DICOMDIR", "README.txt"):
        shutil.copy(shipped(name), folder / name)
    folder_of(source_series(SeriesInstanceUID="1.2.3"), folder / "deeper")
    (folder / "empty.dcm").touch()
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.values, expected_values(sources))
    assert volume.record["skipped"] == 4


@pytest.mark.parametrize("missing", [range(5), [2]])
def test_f31_instance_numbers_may_be_missing(missing: Sequence[int], tmp_path: Path) -> None:
    sources = source_series()
    for k in missing:
        del sources[k].InstanceNumber
    folder = folder_of(sources, tmp_path / "x")
    np.testing.assert_array_equal(read_volume(folder).values, expected_values(sources))
    assert len(CanonicalSlices()(folder)) == 5
