"""Hostile DICOM files."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
)

from tests.hostile.probe import Probe, deflated_zeros
from tests.readers.dicom.objects import as_file, grey_object, lut_item, rgb_object

__all__ = ["DICOM_PROBES"]

SMALL = np.zeros((4, 4), dtype=np.uint8)
DEFLATED_FRAME = b"1.2.840.10008.1.2.8.1\0"  # newer than pydicom's list
GIB = 2**30


def content(dataset: Dataset) -> bytes:
    return as_file(dataset).getvalue()


def written(make: Callable[[], bytes]) -> Callable[[Path], Path]:
    """Make a probe's file of bytes."""

    def write(folder: Path) -> Path:
        path = folder / "probe.dcm"
        path.write_bytes(make())
        return path

    return write


def header(**tags: Any) -> Callable[[], bytes]:
    return lambda: content(grey_object(SMALL, **tags))


def compressed(syntax: UID, frame: Callable[[], bytes], **tags: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        dataset = grey_object(SMALL, **tags)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([frame()])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        return content(dataset)

    return make


def deflated_frame() -> bytes:
    """A frame that inflates to 1 GiB instead of to 16 bytes."""
    whole = compressed(JPEG2000Lossless, lambda: deflated_zeros(GIB))()
    return whole.replace(JPEG2000Lossless.encode(), DEFLATED_FRAME)


def before_pixels(element: bytes) -> bytes:
    """The small file with bytes put in front of SamplesPerPixel."""
    whole = content(grey_object(SMALL))
    start = whole.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    return whole[:start] + element + whole[start:]


def nested(depth: int) -> bytes:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return before_pixels((sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * depth)


def empty_items() -> bytes:
    """A sequence of 3 million empty items, 24 MB."""
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    return before_pixels(sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 3_000_000)


def deflated_bomb() -> bytes:
    """A private value of 1 GiB of zeros."""
    dataset = grey_object(SMALL)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta = content(dataset)
    group_length = int.from_bytes(meta[140:144], "little")
    head = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", 2) + b"OT"
    head += struct.pack("<HH2sHI", 0x0011, 0x1001, b"OB", 0, GIB)
    return meta[: 144 + group_length] + deflated_zeros(GIB, head=head)


def jpeg_2000(rows: int, columns: int) -> bytes:
    """A codestream header of a size, and then nothing but zeros."""
    size = struct.pack(">HHIIIIIIIIH", 41, 0, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\x07\x01\x01"
    coding = struct.pack(">HBBHBBBBBB", 12, 0, 0, 1, 0, 5, 4, 4, 0, 1)
    quantization = struct.pack(">HB16B", 19, 0x40, *[0x40] * 16)
    tile = struct.pack(">HHIBB", 10, 0, 0, 0, 1)
    return (
        b"\xff\x4f\xff\x51"
        + size
        + b"\xff\x52"
        + coding
        + b"\xff\x5c"
        + quantization
        + b"\xff\x90"
        + tile
        + b"\xff\x93"
        + bytes(64)
        + b"\xff\xd9"
    )


def jpeg(rows: int, columns: int, marker: int) -> bytes:
    frame = struct.pack(">BBHBHHB3B", 0xFF, marker, 11, 8, rows, columns, 1, 1, 0x11, 0)
    return b"\xff\xd8" + frame + b"\xff\xda" + struct.pack(">HB2B3B", 8, 1, 1, 0, 0, 63, 0) + bytes(64) + b"\xff\xd9"


def run_lengths(size: int) -> bytes:
    """A run-length frame of one segment of repeated zeros that is longer than any frame."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * (size // 128)


def with_window_width(value: bytes) -> bytes:
    """The small file with this WindowWidth, in the implicit encoding, which has no limit of 64 KiB."""
    dataset = grey_object(SMALL, WindowCenter=1, WindowWidth=1)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    whole = content(dataset)
    old = struct.pack("<HHI", 0x0028, 0x1051, 4) + b"1.0 "
    start = whole.index(old)
    return whole[:start] + struct.pack("<HHI", 0x0028, 0x1051, len(value)) + value + whole[start + len(old) :]


def segmented_palette() -> bytes:
    """Indirect segments that refer to a linear one of 65535 entries, 65535 times."""
    dataset = grey_object(SMALL, photometric="PALETTE COLOR")
    words = [0, 1, 0, 1, 65535, 65535, *[2, 65535, 6, 0] * 5000]
    for color in ("Red", "Green", "Blue"):
        dataset.add_new(f"{color}PaletteColorLookupTableDescriptor", "US", [0, 0, 16])
        dataset.add_new(f"Segmented{color}PaletteColorLookupTableData", "OW", struct.pack(f"<{len(words)}H", *words))
    return content(dataset)


def many_groups() -> bytes:
    dataset = grey_object(SMALL)
    dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(50_000)]
    return content(dataset)


def many_items() -> bytes:
    whole = compressed(RLELossless, lambda: bytes(64))()
    start = whole.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OB"))
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    return whole[:start] + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + items


def endless_pixels(*, is_cut: bool) -> bytes:
    whole = content(grey_object(SMALL))
    length = whole.rindex(struct.pack("<I", 16))
    endless = whole[:length] + struct.pack("<I", 0xFFFFFFF0) + whole[length + 4 :]
    return endless[:-1] if is_cut else endless


def endless_value() -> bytes:
    return before_pixels(struct.pack("<HH2sHI", 0x0011, 0x1001, b"OB", 0, 0xFFFFFFF0))


def endless_meta() -> bytes:
    whole = content(grey_object(SMALL))
    return whole[:144] + struct.pack("<HH2sHI", 0x0002, 0x0102, b"OB", 0, 0xFFFFFFF0) + whole[144:]


def bad_lut() -> bytes:
    dataset = grey_object(SMALL)
    item = lut_item([1, 2, 3], first=0, bits=16)
    item.LUTDescriptor = [0, 0, 16]
    dataset.VOILUTSequence = [item]
    return content(dataset)


def color(**tags: Any) -> Callable[[], bytes]:
    return lambda: content(rgb_object(np.zeros((4, 4, 3), dtype=np.uint8), **tags))


def directory(folder: Path) -> Path:
    """A DICOMDIR that refers to a pipe outside its folder: whoever opens it hangs."""
    os.mkfifo(folder / "outside")
    (folder / "media").mkdir()
    record = Dataset()
    record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    record.RecordInUseFlag, record.DirectoryRecordType = 0xFFFF, "IMAGE"
    record.ReferencedFileID = ["..", "outside"]
    dataset = grey_object(SMALL, sop_class=MediaStorageDirectoryStorage)
    for keyword in [element.keyword for element in dataset if element.tag.group >= 0x0028]:
        del dataset[keyword]
    dataset.DirectoryRecordSequence = [record]
    as_file(dataset, folder / "media" / "DICOMDIR")
    return folder / "media" / "DICOMDIR"


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def pickled(folder: Path) -> Path:
    """A pickle that leaves a mark when it is executed."""
    path = folder / "evil.dcm"
    path.write_bytes(pickle.dumps(_Evil(folder / "executed")))
    return path


_HUGE = {"Rows": 65535, "Columns": 65535}


def _dicom(name: str, make: Callable[[], bytes], *reasons: str) -> Probe:
    return Probe(name=f"DICOM: {name}", make=written(make), reasons=reasons)


DICOM_PROBES = [
    _dicom("deflated data set of 1 GiB", deflated_bomb, "too_large"),
    _dicom("deflated frame of 1 GiB", deflated_frame, "decode_failed", "no_decoder"),
    _dicom("65535 x 65535, native", header(**_HUGE), "too_large"),
    _dicom(
        "65535 x 65535, JPEG 2000", compressed(JPEG2000Lossless, lambda: jpeg_2000(65535, 65535), **_HUGE), "too_large"
    ),
    _dicom("65535 x 65535, run lengths", compressed(RLELossless, lambda: run_lengths(2**16), **_HUGE), "too_large"),
    _dicom(
        "16000 x 16000 zeros, JPEG 2000 of 200 bytes",
        compressed(JPEG2000Lossless, lambda: jpeg_2000(16000, 16000), Rows=16000, Columns=16000),
        "too_large",
    ),
    _dicom(
        "8000 x 8000 zeros, JPEG 2000 of 200 bytes, within the limits",
        compressed(JPEG2000Lossless, lambda: jpeg_2000(8000, 8000), Rows=8000, Columns=8000),
        "image",
        "decode_failed",
        "too_large",
    ),
    _dicom(
        "JPEG 2000 of 30000 x 30000 in a 4 x 4 image",
        compressed(JPEG2000Lossless, lambda: jpeg_2000(30000, 30000)),
        "bad_header",
    ),
    _dicom(
        "JPEG of 65500 x 65500 in a 4 x 4 image",
        compressed(JPEGBaseline8Bit, lambda: jpeg(65500, 65500, 0xC0)),
        "bad_header",
    ),
    _dicom(
        "JPEG Lossless of 65500 x 65500 in a 4 x 4 image",
        compressed(JPEGLosslessSV1, lambda: jpeg(65500, 65500, 0xC3)),
        "bad_header",
    ),
    _dicom(
        "JPEG-LS of 65500 x 65500 in a 4 x 4 image",
        compressed(JPEGLSLossless, lambda: jpeg(65500, 65500, 0xF7)),
        "bad_header",
    ),
    _dicom("JPEG Lossless without any data", compressed(JPEGLosslessSV1, lambda: jpeg(4, 4, 0xC3)), "decode_failed"),
    _dicom(
        "run lengths of 256 MiB in a 4 x 4 image",
        compressed(RLELossless, lambda: run_lengths(2**28)),
        "decode_failed",
        "image",
    ),
    _dicom("2 000 000 frames", header(NumberOfFrames=2_000_000), "too_large"),
    _dicom("2147483647 frames", header(NumberOfFrames=2**31 - 1), "too_large"),
    _dicom("10 001 frames", header(NumberOfFrames=10_001), "too_large"),
    _dicom("10 000 frames that are not there", header(NumberOfFrames=10_000), "truncated"),
    _dicom("colour of 65535 x 65535", color(**_HUGE), "too_large"),
    _dicom("2000 nested sequences", lambda: nested(2000), "bad_header"),
    _dicom("3 000 000 empty items of a sequence", empty_items, "too_large"),
    _dicom("50 000 nested sequences", lambda: nested(50_000), "bad_header"),
    _dicom("PixelData of 0xfffffff0 bytes, enough of them there", lambda: endless_pixels(is_cut=False), "image"),
    _dicom("PixelData of 0xfffffff0 bytes, not enough there", lambda: endless_pixels(is_cut=True), "truncated"),
    _dicom("header value of 0xfffffff0 bytes", endless_value, "truncated", "bad_header"),
    _dicom("file meta value of 0xfffffff0 bytes", endless_meta, "truncated", "bad_header"),
    _dicom("8 million window widths", lambda: with_window_width(b"1\\" * (8 * 2**20)), "image"),
    _dicom("a number of 60 000 digits and a letter", lambda: with_window_width(b"1" * 59_999 + b"x"), "image"),
    _dicom("segmented palette of 20 billion entries", segmented_palette, "image", "bad_palette"),
    _dicom("50 000 functional groups", many_groups, "image"),
    _dicom("2 000 000 empty items of pixel data", many_items, "truncated", "decode_failed"),
    _dicom("VOI LUT of 65536 entries that holds 3", bad_lut, "bad_window"),
    Probe(name="DICOMDIR that refers to a pipe outside its folder", make=directory, reasons=("not_image",)),
    Probe(name="pickle named evil.dcm", make=pickled, reasons=("unsupported_format",)),
]
