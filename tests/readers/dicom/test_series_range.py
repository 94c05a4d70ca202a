"""One range for all files of a series, however they are read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import MRImageStorage, generate_uid

from movl_monai.transforms import LoadMedicalImage
from tests.readers.dicom.objects import as_file, grey_object

RNG = np.random.default_rng(0)


def write(folder: Path, series: str, stored: np.ndarray, name: str, **tags: object) -> Path:
    """One slice of an MR series."""
    uids = {"SeriesInstanceUID": generate_uid(entropy_srcs=[series])}
    return as_file(grey_object(stored, sop_class=MRImageStorage, modality="MR", **uids, **tags), folder / name)


@pytest.mark.parametrize(("offset", "dtype"), [(0, np.uint16), (-32768, np.int16)])
def test_all_files_of_a_series_have_its_percentiles(offset: int, dtype: type, tmp_path: Path) -> None:
    slices = [RNG.integers(0, top, (20, 20)) for top in (300, 1100, 900)]
    paths = [write(tmp_path, "a", (part + offset).astype(dtype), f"{k}.dcm") for k, part in enumerate(slices)]
    write(tmp_path, "b", np.full((20, 20), 9999, np.uint16), "other.dcm")
    (tmp_path / "notes.txt").write_text("no image")
    low, high = np.percentile(np.stack(slices) + offset, (0.5, 99.5))
    load = pickle.loads(pickle.dumps(LoadMedicalImage(dicom_range="percentile")))
    for path, part in zip(reversed(paths), reversed(slices), strict=True):
        image, record = load.read(path)
        assert record["voi"] == {"source": "series_percentiles", "low": low, "high": high}
        np.testing.assert_allclose(image[0], ((part + offset - low) / (high - low)).clip(0, 1), atol=1e-6)
        assert record["flags"] == []


def test_a_window_of_the_file_wins_unless_it_is_passed_over(tmp_path: Path) -> None:
    stored = np.arange(400, dtype=np.uint16).reshape(20, 20)
    path = write(tmp_path, "a", stored, "0.dcm", WindowCenter=50, WindowWidth=20)
    assert LoadMedicalImage(dicom_range="percentile").read(path)[1]["voi"]["source"] == "window"
    record = LoadMedicalImage(dicom_range="percentile", voi="full").read(path)[1]
    assert record["voi"]["source"] == "series_percentiles"
    with path.open("rb") as file:
        assert LoadMedicalImage(dicom_range="percentile", voi="full").read(file)[1]["voi"] == record["voi"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dicom_range": "minmax"}, "dicom_range must be"), ({"value_range": (5, 5)}, "value_range must be")],
)
def test_ranges_that_do_not_exist_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadMedicalImage(**options)
