"""Pictures small enough for a page."""

from __future__ import annotations

import io
from collections.abc import Mapping

__all__ = ["fit_pictures"]

_PAGE_PICTURES = 3_000_000  # largest total of PNG bytes in a page: 4 MB as base64, which leaves room for the tables


def fit_pictures(pictures: Mapping[str, bytes], *, limit: int = _PAGE_PICTURES) -> dict[str, bytes]:
    """Shrink the largest pictures until all together have at most ``limit`` bytes.

    Args:
        pictures: PNGs by file name.
        limit: largest total number of bytes.

    Returns:
        pictures under the same names; small ones are unchanged.
    """
    fitted = dict(pictures)
    while fitted and sum(map(len, fitted.values())) > limit:
        name = max(fitted, key=lambda key: len(fitted[key]))
        smaller = _smaller(fitted[name])
        if len(smaller) >= len(fitted[name]):
            break  # a picture of a few pixels cannot shrink further
        fitted[name] = smaller
    return fitted


def _smaller(data: bytes) -> bytes:
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        size = (max(1, image.width * 7 // 10), max(1, image.height * 7 // 10))
        stream = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
