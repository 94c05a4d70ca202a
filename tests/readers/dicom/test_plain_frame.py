"""Frames read straight from the file, and headers parsed once, are those of pydicom."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.pixels import pixel_array

from movl_monai.readers.dicom import stored_values
from movl_monai.readers.dicom.header import read_header
from movl_monai.readers.dicom.plain_frame import is_plain
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, grey_object

FILES = sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm"))


def test_every_plain_frame_of_the_shipped_files_is_that_of_pydicom() -> None:
    compared = 0
    for path in FILES:
        try:
            stored = stored_values(path, frame=0)
        except MedicalImageError:
            continue
        if is_plain(stored.layout):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = pixel_array(dcmread(path, force=True), index=0, raw=True)
            if stored.layout.high_bit == stored.layout.bits_stored - 1:
                np.testing.assert_array_equal(stored.values, expected, err_msg=path.name)
                assert stored.values.dtype == expected.dtype
                compared += 1
    assert compared > 20


def test_every_shipped_header_is_that_of_pydicom() -> None:
    compared = 0
    for path in FILES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                header = read_header(path)
            except MedicalImageError:
                continue
            expected = dcmread(path, stop_before_pixels=True, force=True)
        assert header.original_encoding == expected.original_encoding, path.name
        assert [(raw.tag, raw.VR) for raw in header.file_meta.values()] == [
            (raw.tag, raw.VR) for raw in expected.file_meta.values()
        ]
        assert list(header.keys()) == list(expected.keys()), path.name
        for tag in list(expected.keys()):
            ours, theirs = (dataset.get_item(tag) for dataset in (header, expected))
            # the character set is converted by pydicom as it reads
            if tag != 0x00080005:
                assert ours == theirs, (path.name, tag)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize("kind", ["u", "i"])
@pytest.mark.parametrize("is_dirty", [False, True])
def test_bits_above_the_high_bit_are_taken_off(kind: str, is_dirty: bool) -> None:
    low, high = (0, 2**12 - 1) if kind == "u" else (-(2**11), 2**11 - 1)
    values = np.random.default_rng(0).integers(low, high + 1, (3, 8, 8)).astype(f"{kind}2")
    written = (values & 0xFFF | 0x5000).astype(f"{kind}2") if is_dirty else values
    file = as_file(grey_object(written, bits_stored=12))
    for frame in range(3):
        stored = stored_values(file, frame=frame)
        assert is_plain(stored.layout)
        np.testing.assert_array_equal(stored.values, values[frame])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_frames_of_odd_sizes_are_taken_from_their_place(dtype: str) -> None:
    values = np.random.default_rng(0).integers(0, 100, (3, 5, 7)).astype(dtype)
    file = as_file(grey_object(values))
    for frame in range(3):
        np.testing.assert_array_equal(stored_values(file, frame=frame).values, values[frame])


def test_a_header_in_another_encoding_than_stated_is_still_read() -> None:
    content = as_file(grey_object(np.arange(16, dtype=np.uint8).reshape(4, 4))).getvalue()
    explicit, implicit = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0"
    assert content.count(explicit) == 1
    mislabelled = BytesIO(content.replace(explicit, implicit))
    np.testing.assert_array_equal(stored_values(mislabelled).values.ravel(), np.arange(16))
