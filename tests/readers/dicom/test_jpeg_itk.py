from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest

from movl_monai.readers.dicom import read_dicom, stored_values
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, rewritten, shipped


def test_colour_in_jpeg_lossless_equals_the_uncompressed_twin() -> None:
    expected, _ = read_dicom(shipped("SC_rgb_rle.dcm"))
    np.testing.assert_array_equal(read_dicom(shipped("SC_rgb_jpeg_gdcm.dcm"))[0], expected)


def test_components_named_r_g_b_are_believed_against_the_header() -> None:
    expected, _ = read_dicom(shipped("SC_rgb_jpeg_gdcm.dcm"))
    dataset = rewritten("SC_rgb_jpeg_gdcm.dcm", PhotometricInterpretation="YBR_FULL")
    decoded = stored_values(as_file(dataset))
    assert decoded.photometric == "RGB"
    np.testing.assert_array_equal(read_dicom(as_file(dataset))[0], expected)


def test_a_frame_on_which_gdcm_ends_the_program_costs_only_this_file() -> None:
    content = bytearray(shipped("SC_rgb_jpeg_gdcm.dcm").read_bytes())
    adobe = content.index(b"Adobe")
    content[adobe + 11] = 0xBA  # a colour transform that does not exist
    header = content.index(b"\xff\xc3", adobe)
    content[header + 13] = 0x00  # the second component loses its name
    try:
        image, _ = read_dicom(io.BytesIO(bytes(content)))
    except MedicalImageError as error:
        reason = error.reason
    else:
        reason = "none"
        assert image.shape == (3, 100, 100)
    assert reason in {"none", "decode_failed"}


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    read_dicom(shipped("JPGExtended.dcm"))
    damaged = bytearray(shipped("JPGExtended.dcm").read_bytes())
    scan = damaged.index(b"\xff\xda")
    damaged[scan + 4 : scan + 12] = b"\xff" * 8
    with pytest.raises(MedicalImageError, match="Every decoder failed"):
        read_dicom(io.BytesIO(bytes(damaged)))
    assert not list(tmp_path.iterdir())
