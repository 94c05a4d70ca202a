"""Search files for words in any packing or encoding."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Search", "spellings"]

_DEEPEST = 4
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")


def spellings(word: str) -> list[bytes]:
    """Return the byte strings that encode a word: plain, UTF-16 and UTF-32, base64, hexadecimal, percent.

    Example:
        >>> len(spellings("ZQX"))
        15
    """
    plain = word.encode()
    found = [plain, word.lower().encode(), word.encode("utf-16-le"), word.encode("utf-16-be")]
    found += [word.encode("utf-32-le"), word.encode("utf-32-be")]  # NumPy's text arrays
    for text in (plain, found[2]):
        found += [text.hex().encode(), text.hex().upper().encode()]
    found.append("".join(f"%{byte:02X}" for byte in plain).encode())
    # base64 has three spellings, by where the word begins; the ends depend on what stands beside it
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + plain)
        found.append(encoded[(0, 2, 3)[before] :].rstrip(b"=")[: -1 if (before + len(plain)) % 3 else None])
    found.append(plain[::-1])
    return found


@dataclass
class Search:
    """Searches for words, and counts the searched files and bytes.

    Args:
        words: words to find.
        allowed: names of files, and the words that they may hold.

    Attributes:
        files: number of files searched.
        size: bytes searched, including unpacked ones.
        hits: words found and their places.
    """

    words: Sequence[str]
    allowed: dict[str, Sequence[str]] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    hits: list[str] = field(default_factory=list)

    def folder(self, folder: Path) -> None:
        """Search the files of a folder and their names."""
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            self.text(f"name of {relative}", relative.encode(errors="surrogateescape"))
            if path.is_file() and not path.is_symlink():
                self.files += 1
                words = [word for word in self.words if word not in self.allowed.get(path.name, ())]
                self._look(relative, path.read_bytes(), words)

    def text(self, name: str, content: bytes) -> None:
        """Search the bytes that a process printed."""
        self._look(name, content, self.words)

    def _look(self, name: str, content: bytes, words: Sequence[str]) -> None:
        for where, data in _layers(name, content, 0):
            self.size += len(data)
            for word in words:
                for spelling in spellings(word):
                    if (place := data.find(spelling)) >= 0:
                        around = data[max(0, place - 60) : place + 60]
                        self.hits.append(f"{word} in {where} at {place}: {around!r}")
                        break


def _layers(name: str, data: bytes, depth: int) -> Iterator[tuple[str, bytes]]:
    """Yield bytes and everything packed in them: archives, compressed data, pictures, base64."""
    yield name, data
    if depth == _DEEPEST:
        return
    for kind, inner in _unpacked(data):
        yield from _layers(f"{name} > {kind}", inner, depth + 1)


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    if data[:2] == b"PK" and zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.namelist():
                yield member, member.encode() + b"\n" + archive.read(member)
    if data[:2] == b"\x1f\x8b":
        yield "gzip", gzip.decompress(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png_chunks(data)
    if b"base64," in data or len(data) < 2**20:
        for found in _BASE64.findall(data):
            try:
                decoded = base64.b64decode(found.replace(b"-", b"+").replace(b"_", b"/") + b"=" * (-len(found) % 4))
            except (binascii.Error, ValueError):
                continue
            yield "base64", decoded


def _png_chunks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Inflate compressed text and colour profiles; the picture itself holds no text."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if kind in (b"zTXt", b"iTXt", b"iCCP"):
            for start in [place for place in range(len(body)) if body[place : place + 1] == b"\x78"]:
                try:
                    yield kind.decode(), zlib.decompress(body[start:])
                except zlib.error:
                    continue
        position += 12 + length
