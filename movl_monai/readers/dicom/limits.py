"""Limits on the sizes that a file may declare, checked on the header before decoding."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]


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
