"""A hostile file: its name, how it is made, and what may become of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Probe", "deflated_zeros", "gzipped_zeros", "png_of_zeros"]

_BLOCK = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One hostile file.

    Args:
        name: what it tries.
        make: writes it; what it returns is read. It gets a folder of its own.
        reasons: the reason codes that are right, "image" among them where the file is harmless.
    """

    name: str
    make: Callable[[Path], Path]
    reasons: tuple[str, ...]


def deflated_zeros(size: int, *, head: bytes = b"") -> bytes:
    """Deflate ``head`` and then ``size`` zeros (a multiple of 16 MiB), in no time and little memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # after a full flush nothing refers back, so the same bytes can follow each other
    block = packer.compress(bytes(_BLOCK)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * (size // _BLOCK) + packer.flush(zlib.Z_FINISH)


def gzipped_zeros(size: int, *, head: bytes = b"") -> bytes:
    """The same as a gzip file, whose checksum is wrong: whoever gets to it has inflated everything."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + deflated_zeros(size, head=head) + struct.pack("<II", 0, size % 2**32)


def png_of_zeros(columns: int, rows: int, *, inflated: int, depth: int = 1, extra: bytes = b"") -> bytes:
    """A grey PNG whose header says one size and whose data inflates to another."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = b"\x78\xda" + deflated_zeros(inflated) + struct.pack(">I", 1)
    header = struct.pack(">IIBBBBB", columns, rows, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
