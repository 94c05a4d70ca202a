"""Uncompressed planar TIFF pages of more than 8 bits, which Pillow decodes to noise."""

from __future__ import annotations

import logging
from typing import BinaryIO

import numpy as np
from PIL import Image

from movl_monai.readers.errors import MedicalImageError

__all__ = ["has_deep_raw_planes", "read_deep_planes"]

_COLUMNS, _ROWS, _BITS, _COMPRESSION, _PLANAR = 256, 257, 258, 259, 284
_PLANES = 2
_RAW = 1


def has_deep_raw_planes(image: Image.Image) -> bool:
    """Return True if Pillow would read the 16-bit samples of an open planar TIFF page as 8-bit samples.

    Reference:
        TIFF Revision 6.0, PlanarConfiguration.
    """
    tags = image.tag_v2  # type: ignore[attr-defined]
    is_raw = tags.get(_COMPRESSION, _RAW) == _RAW
    return is_raw and tags.get(_PLANAR) == _PLANES and max(tags.get(_BITS, (1,))) > 8


def read_deep_planes(file: BinaryIO, index: int, image: Image.Image) -> Image.Image:
    """Read a page with tifffile, as Pillow would: in its mode, with the upper 8 of 16 bits.

    Args:
        file: the TIFF file; its position is kept.
        index: of the page.
        image: the page as Pillow opened it, already checked against the size limits.

    Returns:
        A decoded image of the same size and mode, not turned.

    Raises:
        MedicalImageError: ``truncated`` or ``decode_failed``.
    """
    import tifffile

    position, logger = file.tell(), logging.getLogger("tifffile")
    was_disabled, logger.disabled = logger.disabled, True  # it quotes text of the file
    try:
        file.seek(0)
        # some file objects have a number for a name
        page = tifffile.TiffFile(file, name="page.tif").pages[index]
        _check_complete(file, page)
        planes = page.asarray(maxworkers=1)
    except MedicalImageError:
        raise
    except Exception as error:
        raise MedicalImageError(
            f"Expected planes that tifffile reads, got {type(error).__name__}; export the file again.",
            reason="decode_failed",
        ) from None
    finally:
        logger.disabled = was_disabled
        file.seek(position)
    bands, tags = len(image.getbands()), image.tag_v2  # type: ignore[attr-defined]
    # not image.size, which is the size of the turned image
    if planes.dtype != np.uint16 or planes.shape != (bands, tags.get(_ROWS), tags.get(_COLUMNS)):
        raise MedicalImageError(
            f"Expected {bands} planes of 16 bits, got {planes.shape} of {planes.dtype}; convert the image to 8 bits.",
            reason="decode_failed",
        )
    return Image.merge(image.mode, [Image.fromarray((plane >> 8).astype(np.uint8)) for plane in planes])


def _check_complete(file: BinaryIO, page: object) -> None:
    """Refuse a page whose data ends beyond the end of the file; tifffile would fill it with zeros."""
    end = file.seek(0, 2)
    parts = zip(page.dataoffsets, page.databytecounts, strict=True)  # type: ignore[attr-defined]
    if any(offset + count > end for offset, count in parts):
        raise MedicalImageError(
            "Expected a complete file, its pixel data ends too early; copy or export it again.", reason="truncated"
        )
