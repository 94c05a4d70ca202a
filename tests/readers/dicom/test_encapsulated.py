from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_j2k_parameters

from movl_monai.readers.dicom.encapsulated import Codestream, read_jpeg_2000_header, read_jpeg_header
from tests.readers.dicom.objects import shipped


def frame_of(name: str) -> bytes:
    return get_frame(dcmread(shipped(name)).PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("JPEG-lossy.dcm", (1024, 256, 1, 12)),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100, 3, 8)),
        ("SC_rgb_jpeg_gdcm.dcm", (100, 100, 3, 8)),
        ("JPEGLSNearLossless_16.dcm", (50, 10, 1, 16)),
    ],
)
def test_a_jpeg_header_states_size_components_and_precision(name: str, size: tuple[int, int, int, int]) -> None:
    found = read_jpeg_header(frame_of(name))
    assert found is not None
    assert (found.rows, found.columns, found.components, found.precision) == size


@pytest.mark.parametrize(
    ("name", "rows", "columns", "components"),
    [("693_J2KI.dcm", 512, 512, 1), ("examples_jpeg2k.dcm", 480, 640, 3), ("JPEG2000.dcm", 1024, 256, 1)],
)
def test_a_jpeg_2000_header_states_size_components_and_precision(
    name: str, rows: int, columns: int, components: int
) -> None:
    stated = get_j2k_parameters(frame_of(name))
    expected = Codestream(
        rows=rows,
        columns=columns,
        components=components,
        precision=stated["precision"],
        signed=stated["is_signed"],
    )
    assert read_jpeg_2000_header(frame_of(name)) == expected
    assert read_jpeg_2000_header(b"JP2 boxes" * 9 + frame_of(name)) == expected


def test_a_jpeg_header_that_is_cut_or_damaged_anywhere_states_nothing() -> None:
    frame = frame_of("SC_rgb_jpeg_dcmtk.dcm")
    scan = frame.index(b"\xff\xda")
    for end in range(scan):
        assert read_jpeg_header(frame[:end]) is None
    assert read_jpeg_header(b"\xff\xd8" + b"\x00" + frame[2:]) is None
    start = frame.index(b"\xff\xc0")
    assert read_jpeg_header(frame[:start] + frame[start:scan] * 2 + frame[scan:]) is None


def test_a_jpeg_2000_header_that_is_cut_states_nothing() -> None:
    assert read_jpeg_2000_header(frame_of("JPEG2000.dcm")[:44]) is None
    assert read_jpeg_2000_header(b"") is None
