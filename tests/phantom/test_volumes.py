"""CT series: valid slices of one volume per folder, lesions in few neighbouring slices, one label per patient."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from movl_monai.data import read_datalist
from movl_monai.phantom import write_phantom
from movl_monai.phantom.thorax import draw_lumps, draw_thorax, render_slice
from movl_monai.phantom.volumes import draw_series
from movl_monai.readers import read_volume
from tests.phantom.test_dicom import complaints
from tests.tables import read_rows


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    write_phantom(folder, kind="volumes", patients=(2, 2, 0, 1), images_per_patient=1, size=64, progress=False)
    return folder


def test_folder_is_one_volume_whose_files_have_another_order(volumes: Path) -> None:
    slices = defaultdict(list)
    for row in read_rows(volumes / "lesion_slices.csv"):
        slices[Path(row["path"]).parent].append(row)
    assert len(slices) == 5
    for folder, rows in slices.items():
        volume = read_volume(volumes / folder)
        assert not volume.flags
        assert [int(row["slice"]) for row in rows] == list(range(volume.values.shape[2]))
        headers = [pydicom.dcmread(volumes / row["path"]) for row in rows]
        for number, header in enumerate(headers):
            values = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)
            np.testing.assert_array_equal(volume.values[:, :, number], values.T)
        assert [header.InstanceNumber for header in headers] == list(range(len(headers), 0, -1))
        assert sorted(row["path"] for row in rows) != [row["path"] for row in rows]
        for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
            assert len({header[keyword].value for header in headers}) == 1


def test_slices_are_valid_for_dciodvfy(volumes: Path) -> None:
    for scanner in ("scanner_a", "scanner_b"):
        path = next((volumes / "images" / scanner).rglob("*.dcm"))
        assert complaints(path, "CTImage") == []


def test_datalist_has_the_slices_with_the_label_of_their_volume(volumes: Path) -> None:
    rows = read_rows(volumes / "manifest.csv")
    assert list(rows[0]) == ["path", "label", "patient_id", "split", "domain", "study", "series"]
    datalist = read_datalist(volumes, split_fractions=None)
    assert len(datalist) == len(rows) == len(list(volumes.rglob("*.dcm")))
    assert datalist.class_names == ["lesion", "no_lesion"]


def test_lesions_are_in_two_to_five_neighbouring_slices_of_positive_volumes() -> None:
    drawn = draw_series(60, 2, np.random.default_rng(0))
    assert sum(of_patient[0].label for of_patient in drawn) == 30
    assert {len(of_patient) for of_patient in drawn} == {1, 2}
    for of_patient in drawn:
        assert len({series.label for series in of_patient}) == 1
        for series in of_patient:
            assert 16 <= len(series.positions) <= 24
            places = np.flatnonzero(series.lesions)
            assert len(places) == 0 if not series.label else 2 <= len(places) <= 5
            assert (np.diff(places) == 1).all()


def test_lesion_slices_are_those_that_the_lesions_change() -> None:
    along = np.linspace(-180, 180, 64)
    for seed in range(5):
        thorax = draw_thorax(np.random.default_rng(seed))
        series = next(s for [s] in draw_series(4, 1, np.random.default_rng(seed)) if s.label)
        lumps = draw_lumps(
            thorax, z=series.center, half_height=series.half_height, rng=np.random.default_rng([seed, 1])
        )
        for z, lesion in zip(series.positions, series.lesions, strict=True):
            without, with_lesion = (render_slice(thorax, along, along, z, lumps=found) for found in ((), lumps))
            assert (with_lesion - without > 400).any() == bool(lesion)
            assert -1001 < with_lesion.min() < -900 < 200 < with_lesion.max() < 600
