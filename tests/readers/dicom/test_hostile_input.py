"""Files made to exhaust memory, stack or patience are refused with a reason, and quickly."""

from __future__ import annotations

import io
import os
import struct
import threading
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless

from movl_monai.readers.dicom import Limits, read_dicom, read_header
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, grey_object, shipped

SMALL = np.zeros((4, 4), dtype=np.uint8)


def refused(source: Any, message: str, **options: Any) -> str:
    """Read a source that must be refused; return the reason."""
    with pytest.raises(MedicalImageError, match=message) as caught:
        read_dicom(source, **options)
    return caught.value.reason


def with_syntax(dataset: FileDataset, syntax: str, codestream: bytes) -> io.BytesIO:
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([codestream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return as_file(dataset)


def deflated(payload: bytes) -> io.BytesIO:
    """A file whose deflated data set is a small image header, a private value, and its pixels."""
    dataset = grey_object(SMALL)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    block = dataset.private_block(0x0011, "TEST", create=True)
    block.add_new(0x01, "OB", payload)
    return as_file(dataset)


def test_a_deflated_file_is_read() -> None:
    image, record = read_dicom(shipped("image_dfl.dcm"))
    np.testing.assert_allclose(image[0] * 255, dcmread(shipped("image_dfl.dcm")).pixel_array, atol=1e-4)
    assert record["transfer_syntax"] == DeflatedExplicitVRLittleEndian


def test_a_deflate_bomb_is_refused_before_it_goes_off() -> None:
    bomb = deflated(bytes(64 * 2**20))
    assert len(bomb.getvalue()) < 2**17
    tracemalloc.start()
    reason = refused(bomb, "200 times its size")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason == "too_large"
    assert peak < 48 * 2**20


def test_a_deflated_data_set_beyond_the_size_limit_is_refused() -> None:
    noise = np.random.default_rng(0).bytes(2**16)
    assert refused(deflated(noise), "may inflate to 1000 bytes", limits=Limits(inflated_bytes=1000)) == "too_large"
    assert read_dicom(deflated(noise))[1]["rows"] == 4


def test_a_deflated_data_set_that_is_cut_or_damaged_is_refused() -> None:
    content = shipped("image_dfl.dcm").read_bytes()
    assert refused(io.BytesIO(content[:-100]), "ends before its end marker") == "truncated"
    damaged = content[:400] + bytes(255 - byte for byte in content[400:])
    assert refused(io.BytesIO(damaged), "does not inflate") == "bad_header"


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 65535, "Columns": 65535},
        {"NumberOfFrames": 2_000_000},
        {"NumberOfFrames": 2**31 - 1},
        {"NumberOfFrames": 10_001},
        {"Rows": 16384, "Columns": 16384, "NumberOfFrames": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("codestream", [None, b"\xff\x4f\xff\x51 nothing more"], ids=["native", "JPEG 2000"])
def test_a_header_that_asks_for_too_much_is_refused_before_decoding(
    tags: dict[str, int], codestream: bytes | None
) -> None:
    dataset = grey_object(SMALL, **tags)
    file = as_file(dataset) if codestream is None else with_syntax(dataset, JPEG2000Lossless, codestream)
    assert refused(file, "the header asks for", frame=0) == "too_large"


def test_limits_can_be_raised_and_lowered() -> None:
    file = as_file(grey_object(SMALL))
    assert refused(file, "At most 15 values", limits=Limits(values=15)) == "too_large"
    assert read_dicom(file, limits=Limits(values=16))[0].shape == (3, 4, 4)


def test_a_codestream_larger_than_rows_and_columns_is_refused_before_decoding() -> None:
    codestream = get_frame(dcmread(shipped("693_J2KI.dcm")).PixelData, 0, number_of_frames=1)
    size = struct.pack(">II", 30000, 30000)
    start = codestream.index(b"\xff\x4f\xff\x51") + 8
    bomb = codestream[:start] + size + codestream[start + 8 :]
    file = with_syntax(grey_object(np.zeros((512, 512), dtype=np.int16)), JPEG2000Lossless, bomb)
    assert refused(file, "are 512, 512, 1 with 16 bits, the compressed frame says 30000, 30000, 1 with") == "bad_header"


@pytest.mark.parametrize("depth", [2000, 50_000])
def test_deeply_nested_sequences_are_refused(depth: int) -> None:
    nested = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    content = as_file(grey_object(SMALL)).getvalue()
    start = content.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    file = io.BytesIO(content[:start] + nested * depth + content[start:])
    assert refused(file, r"cannot be parsed \(RecursionError\)") == "bad_header"


def test_a_pixel_data_length_beyond_the_file_does_not_matter_where_enough_is_there() -> None:
    content = as_file(grey_object(SMALL)).getvalue()
    length = content.rindex(struct.pack("<I", 16))
    endless = content[:length] + struct.pack("<I", 0xFFFFFFF0) + content[length + 4 :]
    assert "excess_pixel_data" in read_dicom(io.BytesIO(endless))[1]["flags"]
    assert refused(io.BytesIO(endless[:-1]), "says 16 bytes of pixel data, there are 15") == "truncated"


def test_a_header_value_length_beyond_the_file_is_refused() -> None:
    dataset = grey_object(SMALL)
    dataset.private_block(0x0011, "TEST", create=True).add_new(0x01, "OB", b"abcd")
    content = as_file(dataset).getvalue()
    endless = content.replace(struct.pack("<I", 4) + b"abcd", struct.pack("<I", 0xFFFFFFF0) + b"abcd")
    assert endless != content
    assert refused(io.BytesIO(endless), "ends within its header") == "truncated"


def test_a_large_header_value_is_skipped_unread() -> None:
    dataset = grey_object(SMALL)
    dataset.private_block(0x0011, "TEST", create=True).add_new(0x01, "OB", bytes(8 * 2**20))
    file = as_file(dataset)
    tracemalloc.start()
    read_dicom(file, limits=Limits(header_value_bytes=2**20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21


@pytest.mark.parametrize("kind", ["pipe", "folder", "missing", "device", "null byte"])
def test_only_regular_files_are_opened_and_nothing_hangs(kind: str, tmp_path: Path) -> None:
    path: Any = tmp_path / "x.dcm"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "null byte":
        path = "x\0y"
    assert refused(path, "Expected a regular file") == "not_regular_file"


def test_an_empty_file_is_named_empty(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").touch()
    assert refused(tmp_path / "x.dcm", "no bytes") == "empty_file"
    assert refused(io.BytesIO(), "no bytes") == "empty_file"


@pytest.mark.parametrize(
    "name",
    ["MR_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
def test_damaged_files_give_an_image_or_a_reason(name: str) -> None:
    content = np.frombuffer(shipped(name).read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = content.copy()
        places = rng.integers(132, len(content), 20)
        damaged[places] = rng.integers(0, 256, 20)
        try:
            image, _ = read_dicom(io.BytesIO(damaged.tobytes()))
        except MedicalImageError:
            continue
        assert image.dtype == np.float32
        assert np.isfinite(image).all()


@pytest.mark.parametrize("name", ["MR_small.dcm", "examples_palette.dcm", "MR_small_RLE.dcm"])
def test_files_cut_anywhere_are_refused(name: str) -> None:
    content = shipped(name).read_bytes()
    whole, _ = read_dicom(io.BytesIO(content))
    padding = 150  # MR_small ends with a trailing element after its pixels
    for end in np.linspace(0, len(content) - padding, 40).astype(int):
        with pytest.raises(MedicalImageError):
            read_dicom(io.BytesIO(content[:end]))
    assert np.isfinite(whole).all()


def test_reading_in_threads_leaves_warnings_and_loggers_as_they_were() -> None:
    import logging

    before = (list(warnings.filters), logging.getLogger("pydicom").propagate)
    content = shipped("MR_small.dcm").read_bytes()
    results: list[Dataset] = []

    def work() -> None:
        for _ in range(20):
            results.append(read_header(io.BytesIO(content)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 120
    assert (list(warnings.filters), logging.getLogger("pydicom").propagate) == before
