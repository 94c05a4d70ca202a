"""Expansion of a segmented palette colour lookup table."""

from __future__ import annotations

import numpy as np

from movl_monai.readers.errors import MedicalImageError

__all__ = ["expand_segments"]


def expand_segments(words: np.ndarray, *, count: int, is_16_bit: bool) -> np.ndarray:
    """Return the entries of a segmented table.

    Args:
        words: the segments, uint8 or uint16.
        count: number of entries in the descriptor; expansion stops there.
        is_16_bit: width of the words, which decides the form of an indirect segment's offset.

    Raises:
        MedicalImageError: if a segment is unknown, cut, refers outside the data or to another indirect segment, or the
            first one is not discrete (``reason="bad_palette"``).

    Reference:
        DICOM PS3.3 C.7.9.2.

    Example:
        >>> expand_segments(np.array([0, 1, 10, 1, 2, 30], dtype=np.uint8), count=3, is_16_bit=False)
        array([10, 20, 30])
    """
    entries: list[int] = []
    data = words.tolist()
    position = 0
    try:
        # the last word may be padding
        while position + 2 < len(data) + 1 and len(entries) < count:
            if data[position] == 2:
                segments, offset, position = _indirect(data, position, is_16_bit=is_16_bit)
                for _ in range(segments):
                    offset = _append(data, offset, entries)
                    if len(entries) >= count:
                        break
            else:
                position = _append(data, position, entries)
    except (IndexError, ValueError):
        raise MedicalImageError(
            "The segmented palette has a segment that cannot be expanded; export the file again.", reason="bad_palette"
        ) from None
    return np.asarray(entries[:count])


def _append(data: list[int], position: int, entries: list[int]) -> int:
    """Expand one discrete (0) or linear (1) segment; return the position after it."""
    kind, length = data[position], data[position + 1]
    if kind == 0 and length:
        entries.extend(data[position + 2 : position + 2 + length])
        return position + 2 + length
    if kind == 1 and entries and length:
        start, end = entries[-1], data[position + 2]
        entries.extend(np.rint(np.linspace(start, end, length + 1)[1:]).astype(int).tolist())
        return position + 3
    raise ValueError("not a segment that can stand here")


def _indirect(data: list[int], position: int, *, is_16_bit: bool) -> tuple[int, int, int]:
    """Return the number of segments, the position of the first, and the position after the indirect segment (2)."""
    segments = data[position + 1]
    low_to_high = data[position + 2 : position + 4] if is_16_bit else data[position + 2 : position + 6]
    word_bits, word_bytes = (16, 2) if is_16_bit else (8, 1)
    offset = sum(word << (word_bits * index) for index, word in enumerate(low_to_high))
    return segments, offset // word_bytes, position + 2 + len(low_to_high)
