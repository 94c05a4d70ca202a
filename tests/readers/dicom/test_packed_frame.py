"""Deflated frames and run lengths of single bits: exact contents, and no byte beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.uid import RLELossless

from movl_monai.readers.dicom import read_dicom, stored_values
from tests.readers.dicom.objects import compressed, deflate, grey_object, rgb_object, run_lengths
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"


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
