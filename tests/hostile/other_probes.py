"""Hostile NIfTI, PNG, JPEG, TIFF, GIF, WebP and BMP files, and places that are no files."""

from __future__ import annotations

import io
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from tests.hostile.dicom_probes import _Evil
from tests.hostile.probe import Probe, deflated_zeros, gzipped_zeros, png_of_zeros

__all__ = ["NIFTI_PROBES", "PLACE_PROBES", "RASTER_PROBES"]

GIB = 2**30


def written(name: str, make: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(make())
        return folder / name

    return write


def nifti_header(shape: tuple[int, ...], *, offset: float = 352, **fields: object) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"] = [len(shape), *shape, *[1] * (7 - len(shape))]
    header["magic"], header["vox_offset"] = b"n+1", offset
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + bytes(4)


def tiff_pages(count: int, *, is_loop: bool = False) -> bytes:
    """Pages of one white pixel, each of which names the next one."""
    pages, position = [struct.pack("<2sHI", b"II", 42, 8)], 8
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 4), (277, 1), (278, 1), (279, 1)]
    size = 2 + 12 * len(tags) + 4
    for page in range(count):
        following = 8 if is_loop else 0 if page == count - 1 else position + size
        entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
        position += size
    return b"".join(pages)


def tiff_of(columns: int, rows: int, strip: bytes, *, compression: int = 8, count: int = 1) -> bytes:
    values = {256: columns, 257: rows, 258: 8, 259: compression, 262: 1, 277: 1, 278: rows}
    tags = [(tag, 4, 1, value) for tag, value in values.items()]
    tags += [(273, 4, count, 8), (279, 4, 1, len(strip))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + directory


def gif_pages(count: int) -> bytes:
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<2H3B", 1, 1, 0x80, 0, 0) + bytes(6) + frame * count + b"\x3b"


def gif_screen() -> bytes:
    return gif_pages(1).replace(struct.pack("<2H3B", 1, 1, 0x80, 0, 0), struct.pack("<2H3B", 65535, 65535, 0x80, 0, 0))


def bmp() -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def jpeg(columns: int, rows: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (16, 16)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    return content.replace(struct.pack(">HH", 16, 16), struct.pack(">HH", rows, columns), 1)


def webp_pages(count: int) -> bytes:
    file = io.BytesIO()
    pages = [Image.new("RGB", (8, 8), (index % 251, index % 7 * 30, 9)) for index in range(count)]
    pages[0].save(file, "WEBP", save_all=True, append_images=pages[1:], duration=10, lossless=True)
    return file.getvalue()


def text_chunk(size: int) -> bytes:
    data = b"Comment\0\0\x78\xda" + deflated_zeros(size)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


def torch_pickle(folder: Path) -> Path:
    torch.save({"image": _Evil(folder / "executed")}, folder / "evil.png")
    return folder / "evil.png"


def named_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.dcm")
    return folder / "pipe.dcm"


def listening(folder: Path) -> Path:
    path = folder / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def linked(target: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "link.dcm").symlink_to(target)
        return folder / "link.dcm"

    return make


def _nifti(name: str, make: Callable[[], bytes], *reasons: str, suffix: str = ".nii") -> Probe:
    return Probe(name=f"NIfTI: {name}", make=written(f"probe{suffix}", make), reasons=reasons)


def _raster(name: str, make: Callable[[], bytes], *reasons: str) -> Probe:
    return Probe(name=name, make=written("probe.png", make), reasons=reasons)


_GIB_VOLUME = (1024, 1024, 1024)

NIFTI_PROBES = [
    _nifti("gz of 1 GiB", lambda: gzipped_zeros(GIB, head=nifti_header(_GIB_VOLUME)), "too_large", suffix=".nii.gz"),
    _nifti(
        "gz of 256 MiB, 1000 : 1",
        lambda: gzipped_zeros(2**28, head=nifti_header((1024, 1024, 255))),
        "too_large",
        suffix=".nii.gz",
    ),
    _nifti(
        "gz of a small volume with 1 GiB behind it",
        lambda: gzipped_zeros(GIB, head=nifti_header((4, 4, 1)) + bytes(16)),
        "image",
        suffix=".nii.gz",
    ),
    _nifti(
        "gz whose first voxel lies behind 1 GiB",
        lambda: gzipped_zeros(GIB, head=nifti_header((4, 4, 1), offset=GIB)),
        "too_large",
        "truncated",
        suffix=".nii.gz",
    ),
    _nifti(
        "gz in gz of 1 GiB", lambda: gzipped_zeros(0, head=gzipped_zeros(GIB)), "unsupported_format", suffix=".nii.gz"
    ),
    _nifti("32767 x 32767 x 32767", lambda: nifti_header((32767, 32767, 32767)), "too_large"),
    _nifti("32767 to the power of 7", lambda: nifti_header((32767,) * 7), "too_large", "bad_dimensions"),
    _nifti("sizes below zero", lambda: nifti_header((-5, 4, 4)), "bad_header"),
    _nifti("15 dimensions", lambda: nifti_header((4, 4, 4), dim=[15, *[4] * 7]), "bad_header"),
    _nifti("32767 volumes", lambda: nifti_header((64, 64, 64, 32767)), "too_large"),
    _nifti("first voxel at 1e30", lambda: nifti_header((4, 4, 4), offset=1e30), "truncated", "bad_header"),
    _nifti("first voxel at infinity", lambda: nifti_header((4, 4, 4), offset=np.inf), "truncated", "bad_header"),
    _nifti(
        "slope and affine that are no numbers",
        lambda: nifti_header((4, 4, 1), scl_slope=np.nan, qform_code=1, quatern_b=np.nan, sform_code=1) + bytes(16),
        "image",
        "decode_failed",
    ),
    _nifti("unknown data type", lambda: nifti_header((4, 4, 4), datatype=4242), "bad_header"),
]
RASTER_PROBES = [
    _raster("PNG: 100 Mpx of one bit", lambda: png_of_zeros(10_000, 10_000, inflated=2**24), "too_large"),
    _raster("PNG: 400 Mpx of one bit", lambda: png_of_zeros(20_000, 20_000, inflated=3 * 2**24), "too_large"),
    _raster("PNG: 2147483647 x 2147483647", lambda: png_of_zeros(2**31 - 1, 2**31 - 1, inflated=2**24), "too_large"),
    _raster("PNG: 64 Mpx of one bit, within the limits", lambda: png_of_zeros(8_000, 8_000, inflated=2**24), "image"),
    _raster(
        "PNG: 8 x 8 whose data inflates to 1 GiB", lambda: png_of_zeros(8, 8, inflated=GIB), "image", "decode_failed"
    ),
    _raster(
        "PNG: text of 1 GiB",
        lambda: png_of_zeros(8, 8, inflated=2**24, extra=text_chunk(GIB)),
        "image",
        "bad_header",
        "decode_failed",
    ),
    _raster("JPEG: progressive, 65500 x 65500", lambda: jpeg(65500, 65500), "too_large"),
    _raster("TIFF: 200 000 pages", lambda: tiff_pages(200_000), "too_large"),
    _raster("TIFF: pages in a loop", lambda: tiff_pages(1, is_loop=True), "image", "multi_frame", "bad_header"),
    _raster("TIFF: 60000 x 60000", lambda: tiff_of(60_000, 60_000, zlib.compress(bytes(64))), "too_large"),
    _raster(
        "TIFF: 8 x 8 whose strip inflates to 1 GiB",
        lambda: tiff_of(8, 8, b"\x78\xda" + deflated_zeros(GIB) + bytes(4)),
        "image",
        "decode_failed",
    ),
    _raster(
        "TIFF: 4 billion strips",
        lambda: tiff_of(8, 8, bytes(64), compression=1, count=2**32 - 1),
        "image",
        "bad_header",
        "decode_failed",
        "truncated",
    ),
    _raster("GIF: 20 000 pages", lambda: gif_pages(20_000), "too_large"),
    _raster("GIF: 65535 x 65535", gif_screen, "too_large"),
    _raster("WebP: 300 pages", lambda: webp_pages(300), "image"),
    _raster("BMP: 60000 x 60000", bmp, "too_large"),
    _raster("pickle named probe.png", lambda: pickle.dumps([1]), "unsupported_format"),
]
PLACE_PROBES = [
    Probe(name="torch pickle named evil.png", make=torch_pickle, reasons=("unsupported_format",)),
    Probe(name="named pipe", make=named_pipe, reasons=("not_regular_file",)),
    Probe(name="socket", make=listening, reasons=("not_regular_file",)),
    Probe(name="folder", make=lambda folder: folder, reasons=("not_regular_file",)),
    Probe(name="missing file", make=lambda folder: folder / "missing.dcm", reasons=("not_regular_file",)),
    Probe(name="link to /dev/zero", make=linked("/dev/zero"), reasons=("not_regular_file",)),
    Probe(name="link to itself", make=linked("link.dcm"), reasons=("not_regular_file",)),
    Probe(name="empty file", make=written("probe.dcm", bytes), reasons=("empty_file",)),
]
