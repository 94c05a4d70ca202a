"""Deflated frames and run lengths of single bits: exact contents, and no byte beyond them."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from movl_monai.readers.dicom import read_dicom, stored_values
from movl_monai.readers.dicom.header import read_header
from movl_monai.readers.dicom.packed_frame import is_plain
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, compressed, deflate, grey_object, rgb_object, run_lengths
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
FILES = sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32])
@pytest.mark.parametrize("shape", [(5, 7), (4, 6)])
def test_deflated_grey_frames_come_back_as_they_were(dtype: type, shape: tuple[int, int]) -> None:
    info = np.iinfo(dtype)
    frames = RNG.integers(info.min, info.max, (3, *shape), dtype=dtype, endpoint=True)
    little = frames.astype(frames.dtype.newbyteorder("<"))
    file = compressed(grey_object(frames), [deflate(frame.tobytes()) for frame in little], DEFLATED_FRAMES)
    for index, expected in enumerate(frames):
        found = stored_values(file, frame=index)
        np.testing.assert_array_equal(found.values, expected)
        assert found.decoder == "zlib"


@pytest.mark.parametrize("planar", [0, 1])
def test_deflated_colour_keeps_its_planes(planar: int) -> None:
    samples = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    stored = samples.transpose(2, 0, 1) if planar else samples
    dataset = rgb_object(samples, PlanarConfiguration=planar)
    image, record = read_dicom(compressed(dataset, [deflate(stored.tobytes())], DEFLATED_FRAMES))
    np.testing.assert_allclose(image, samples.transpose(2, 0, 1) / 255, atol=1e-6)
    assert record["transfer_syntax"] == DEFLATED_FRAMES


def test_a_padding_byte_after_an_odd_frame_does_not_count() -> None:
    pixels = RNG.integers(0, 256, (3, 3), dtype=np.uint8)
    file = compressed(grey_object(pixels), [deflate(pixels.tobytes() + b"\0")], DEFLATED_FRAMES)
    np.testing.assert_array_equal(stored_values(file).values, pixels)


@pytest.mark.parametrize(
    ("zeros", "error"),
    [(35, "ValueError"), (37, "ValueError"), (200 * 2**20, "ValueError"), (None, "error")],
    ids=["short", "long", "bomb", "garbage"],
)
def test_a_frame_of_another_size_or_of_garbage_is_refused(zeros: int | None, error: str) -> None:
    frame = b"\xff" * 30 if zeros is None else deflate(bytes(zeros))
    file = compressed(grey_object(np.zeros((6, 6), dtype=np.uint8)), [frame], DEFLATED_FRAMES)
    with refused("decode_failed", rf"Every decoder failed .*zlib: {error}"):
        read_dicom(file)


@pytest.mark.parametrize("shape", [(5, 7), (8, 16)])
def test_run_lengths_of_single_bits_come_back_as_they_were(shape: tuple[int, int]) -> None:
    frames = RNG.integers(0, 2, (2, *shape), dtype=np.uint8)
    packed = [np.packbits(frame.ravel(), bitorder="little") for frame in frames]
    encoded = [run_lengths(row) for row in packed]
    dataset = grey_object(frames, BitsAllocated=1, BitsStored=1, HighBit=0)
    file = compressed(dataset, encoded, RLELossless)
    for index, expected in enumerate(frames):
        image, _ = read_dicom(file, frame=index)
        np.testing.assert_array_equal(image[0], expected)


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
