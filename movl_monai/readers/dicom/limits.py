"""Limits on the sizes that a file may declare, checked on the header before decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import BinaryIO

from pydicom.datadict import DicomDictionary
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from movl_monai.readers.errors import MedicalImageError

__all__ = ["HeaderBudget", "Limits"]

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_SEQUENCES = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_LONG = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
_WINDOW = 2**20
_SMALL = 2**12
"""Length in bytes up to which a sequence of stated length is not counted: 512 items at most."""
_OUTER = _EMPTY_ITEM = 32
_ITEM = 8
"""Weights by cost and by the needs of real files, relative to an element in a sequence (1)."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits on the sizes that one file may declare.

    Args:
        values: rows x columns x frames x samples per pixel.
        frame_pixels: rows x columns; the image of one frame takes 12 bytes per pixel.
        frames: number of frames.
        inflated_bytes: size of a deflated data set once inflated.
        inflation_ratio: inflated size over deflated size.
        header_elements: elements of a header; an item of a sequence counts as 8, an empty one and an element outside of
            sequences as 32.
        header_value_bytes: size of one header value; larger ones are skipped unread.

    Raises:
        ValueError: if a limit is not positive.

    Example:
        >>> Limits(frames=100).values == 2**28
        True
    """

    values: int = 2**28
    frame_pixels: int = 2**26
    frames: int = 10_000
    inflated_bytes: int = 512 * 2**20
    inflation_ratio: int = 200
    header_elements: int = 2**21
    header_value_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} must be > 0, got {value}.")


@dataclass
class _Level:
    """Sequence or item that is being stepped through; ``end`` is None if a delimiter ends it."""

    is_item: bool
    end: int | None
    implicit: bool | None = None


class HeaderBudget:
    """Refuse a header of too many elements and items; for the parser's callback before each element.

    Args:
        file: the parser's file, which is at the value of the element when the callback runs.
        limits: holds ``header_elements``.
        little_endian: byte order of the header.
    """

    def __init__(self, file: BinaryIO, limits: Limits, *, little_endian: bool = True) -> None:
        self.file = file
        self.most = limits.header_elements
        self.counted = 0
        order = "<" if little_endian else ">"
        self._element = struct.Struct(f"{order}HHL").unpack_from
        self._length = struct.Struct(f"{order}L").unpack_from
        self._short_length = struct.Struct(f"{order}H").unpack_from
        self._delimiter = struct.pack(f"{order}HH", _SEQUENCE_END >> 16, _SEQUENCE_END & 0xFFFF)
        self._buffer, self._start = b"", 0

    def count(self, tag: int, vr: str | None, length: int) -> None:
        """Count an element outside of sequences and, for a sequence, all of its content.

        Raises:
            MedicalImageError: ``too_large`` beyond the limit.
        """
        self._add(_OUTER)
        undefined = length == _UNDEFINED_LENGTH
        is_sequence = vr == "SQ" or (vr in (None, "UN") and (undefined or tag in _SEQUENCES))
        if not is_sequence or (not undefined and length <= _SMALL):
            return
        position = self.file.tell()
        try:
            self._walk(position, None if undefined else position + length, implicit=vr is None)
        finally:
            self.file.seek(position)
            self._buffer, self._start = b"", 0

    def _walk(self, position: int, end: int | None, *, implicit: bool) -> None:
        """Step through a sequence; damage is left for the parser to report."""
        levels = [_Level(False, end, implicit)]
        while levels:
            level = levels[-1]
            if level.end is not None and position >= level.end:
                levels.pop()
                continue
            at = self._at(position, 12)
            if at is None:
                return
            group, element, length = self._element(self._buffer, at)
            tag = group << 16 | element
            if tag == (_ITEM_END if level.is_item else _SEQUENCE_END):
                levels.pop()
                position += 8
                continue
            self._add(1 if level.is_item else _ITEM if length else _EMPTY_ITEM)
            if level.is_item:
                position = self._step(position, at, tag, length, level, levels)
            else:
                position += 8
                inner = None if length == _UNDEFINED_LENGTH else position + length
                levels.append(_Level(True, inner, level.implicit or None))

    def _step(self, position: int, at: int, tag: int, length: int, level: _Level, levels: list[_Level]) -> int:
        """Return the position behind an element of an item, or behind the first item of a sequence that it opens."""
        vr = self._buffer[at + 4 : at + 6]
        is_letters = b"AA" <= vr <= b"ZZ"
        if level.implicit is None:
            level.implicit = not is_letters
        implicit = level.implicit or not is_letters
        position += 8
        if not implicit:
            if vr in _LONG:
                (length,) = self._length(self._buffer, at + 8)
                position += 4
            else:
                (length,) = self._short_length(self._buffer, at + 6)
        undefined = length == _UNDEFINED_LENGTH
        unnamed = implicit or vr == b"UN"
        if (vr == b"SQ" and not implicit) or (unnamed and (undefined or tag in _SEQUENCES)):
            levels.append(_Level(False, None if undefined else position + length, implicit))
            return position
        return self._behind_delimiter(position) if undefined else position + length

    def _at(self, position: int, size: int) -> int | None:
        """Return the index of a position in the buffer, filled as needed; None at the end of the file."""
        at = position - self._start
        if at >= 0 and at + size <= len(self._buffer):
            return at
        self.file.seek(position)
        self._buffer, self._start = self.file.read(_WINDOW), position
        if len(self._buffer) < 8:
            return None
        if len(self._buffer) < _WINDOW:
            self._buffer += bytes(size)  # the last element of a file may have 8 bytes
        return 0

    def _behind_delimiter(self, position: int) -> int:
        """Return the position behind the delimiter of a value of undefined length, or behind the file."""
        while (at := self._at(position, 12)) is not None:
            found = self._buffer.find(self._delimiter, at)
            if found >= 0:
                return self._start + found + 8
            position = self._start + max(len(self._buffer) - 16, at + 1)
        return position

    def _add(self, weight: int) -> None:
        self.counted += weight
        if self.counted > self.most:
            raise MedicalImageError(
                f"At most {self.most:,} elements are read from one header, of which an item of a sequence counts as "
                f"{_ITEM}, an empty one and an element outside of sequences as {_EMPTY_ITEM}; this one has more. Raise "
                "the limit header_elements if the file is to be trusted.",
                reason="too_large",
            )
