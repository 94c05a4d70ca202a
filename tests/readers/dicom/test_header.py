from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from movl_monai.readers.dicom import frame_count, is_dicom, read_header
from movl_monai.readers.dicom.header import parse
from movl_monai.readers.dicom.limits import Limits
from tests.readers.dicom.objects import as_file, grey_object, shipped
from tests.readers.refusals import refused

SMALL = np.zeros((4, 6), dtype=np.uint16)


def test_the_header_ends_before_the_pixel_data_and_knows_no_path(tmp_path: Path) -> None:
    header = read_header(as_file(grey_object(SMALL), tmp_path / "GEHEIM.dcm"))
    assert header.Columns == 6
    assert "PixelData" not in header
    assert "GEHEIM" not in repr(vars(header))


@pytest.mark.parametrize(
    ("name", "length"), [("MR_small.dcm", 8192), ("MR_small_RLE.dcm", None), ("MR_small_expb.dcm", 8192)]
)
def test_the_place_of_the_pixel_data_is_found(name: str, length: int | None) -> None:
    with shipped(name).open("rb") as file:
        pixels = parse(file, limits=Limits()).pixels
    assert pixels is not None
    assert (pixels.keyword, pixels.length) == ("PixelData", length)


def test_an_object_without_pixel_data_has_a_header() -> None:
    assert read_header(shipped("rtplan.dcm")).Modality == "RTPLAN"
    assert read_header(shipped("DICOMDIR")).file_meta.MediaStorageSOPClassUID.name.startswith("Media Storage")


def test_a_header_that_is_cut_is_refused() -> None:
    with refused("truncated", "ends within its header"):
        read_header(shipped("rtplan_truncated.dcm"))


@pytest.mark.parametrize(("value", "expected"), [(None, 1), ("", 1), (0, 1), (1, 1), (7, 7)])
def test_the_number_of_frames_is_one_unless_stated(value: int | None, expected: int) -> None:
    dataset = grey_object(SMALL)
    if value is not None:
        dataset.NumberOfFrames = value
    assert frame_count(read_header(as_file(dataset))) == expected


def test_a_number_of_frames_that_is_none_is_refused() -> None:
    with refused("bad_header", "NumberOfFrames must be a whole number"):
        frame_count(read_header(shipped("badVR.dcm")))


def test_dicom_is_told_by_its_first_bytes() -> None:
    for name in ("MR_small.dcm", "MR_small_expb.dcm", "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "DICOMDIR"):
        assert is_dicom(shipped(name).read_bytes()[:132]), name
    for start in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"\x5c\x01\0\0", b"", b"\x08\0", bytes(132)):
        assert not is_dicom(start)


def test_a_file_object_is_read_from_its_start_wherever_it_stands() -> None:
    file = io.BytesIO(shipped("MR_small.dcm").read_bytes())
    file.seek(1000)
    assert read_header(file).Rows == 64
