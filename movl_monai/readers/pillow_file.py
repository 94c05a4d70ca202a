"""Open a raster file with one Pillow plugin, check its header, and decode it; every failure has a reason."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import ImageFormat

__all__ = [
    "Exif",
    "check_size",
    "declared_bits",
    "decoded_upright",
    "exif_orientation",
    "has_deep_raw_planes",
    "open_pillow",
    "page_count",
    "read_deep_planes",
    "seek_page",
    "turn_array",
]

Exif = Literal["apply", "ignore"]
"""Use of the EXIF orientation: turn the pixels, or leave them as stored."""
_MAX_FRAMES = 10_000
# errors of Pillow's plugins on damaged data
_DECODE_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {6: 8, 8: 6}  # every other turn undoes itself
_PLUGINS = {
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
}
_COLUMNS, _ROWS, _BITS, _COMPRESSION, _PLANAR = 256, 257, 258, 259, 284
_PLANES = 2
_RAW = 1


def open_pillow(file: BinaryIO, image_format: ImageFormat) -> Image.Image:
    """Parse the header with the plugin of the sniffed format; only the WebP plugin already decodes.

    ``Image.open`` is not used: it tries all plugins, and its warnings about large images have another limit.

    Args:
        file: at its beginning; stays open.
        image_format: a raster format, as sniffed.

    Raises:
        MedicalImageError: ``bad_header``, ``truncated`` or ``too_large``.
    """
    module, name = _PLUGINS[image_format]
    try:
        return getattr(import_module(module), name)(file)
    except _DECODE_ERRORS as error:
        # Pillow's WebP plugin decodes as it opens, and does not say why it failed
        shortened = EOFError() if image_format == "webp" and _ends_early(file) else error
        raise _decode_error(shortened, reason="bad_header") from None


def _ends_early(riff: BinaryIO) -> bool:
    riff.seek(4)
    declared = int.from_bytes(riff.read(4), "little") + 8
    return declared > riff.seek(0, os.SEEK_END)


def check_size(image: Image.Image, max_pixels: int) -> None:
    """Refuse an image whose header declares too many pixels.

    Raises:
        MedicalImageError: ``too_large``.
    """
    columns, rows = image.size
    if rows * columns > max_pixels:
        raise MedicalImageError(
            f"Expected at most {max_pixels:,} pixels, the header says {rows} x {columns} = {rows * columns:,}; make it"
            " smaller, or raise max_pixels if it is real.",
            reason="too_large",
        )


def page_count(image: Image.Image) -> int:
    """Return the number of pages, 1 for formats without pages.

    Raises:
        MedicalImageError: ``too_large`` above 10 000; ``bad_header`` or ``truncated`` if the pages cannot be counted.
    """
    try:
        # Pillow parses every page of a TIFF file to count them, which takes minutes where there are a million
        count = _MAX_FRAMES + 1 if _has_many_tiff_pages(image) else int(getattr(image, "n_frames", 1))
    except _DECODE_ERRORS as error:
        raise _decode_error(error, reason="bad_header") from None
    if count > _MAX_FRAMES:
        raise MedicalImageError(f"Expected at most {_MAX_FRAMES} pages, got more; split the file.", reason="too_large")
    return count


def _has_many_tiff_pages(image: Image.Image) -> bool:
    """Return True if a TIFF file has more pages than the limit; only the links between pages are followed.

    Reference:
        TIFF Revision 6.0, section 2, Image File Directory; BigTIFF has longer numbers.
    """
    if image.format != "TIFF":
        return False
    file = image.fp  # type: ignore[attr-defined]
    position = file.tell()
    try:
        return _tiff_links(file) > _MAX_FRAMES
    finally:
        file.seek(position)


def _tiff_links(file: BinaryIO) -> int:
    """Return the number of pages of a TIFF file; counting stops beyond the limit, at a loop, and at the end."""
    file.seek(0)
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    is_big = 43 in (head[2], head[3])
    count_size, entry_size, link_size = (8, 20, 8) if is_big else (2, 12, 4)
    link = int.from_bytes(head[8:16] if is_big else head[4:8], order)
    seen: set[int] = set()
    while link and link not in seen and len(seen) <= _MAX_FRAMES:
        seen.add(link)
        file.seek(link)
        entries = int.from_bytes(file.read(count_size), order)
        file.seek(link + count_size + entries * entry_size)
        link = int.from_bytes(file.read(link_size), order)
    return len(seen)


def seek_page(image: Image.Image, index: int) -> None:
    """Go to a page; GIF and WebP decode all pages before it.

    Raises:
        MedicalImageError: ``decode_failed`` or ``truncated``.
    """
    try:
        image.seek(index)
    except _DECODE_ERRORS as error:
        raise _decode_error(error, reason="decode_failed") from None


def declared_bits(image: Image.Image, image_format: ImageFormat, file: BinaryIO) -> tuple[int, list[str]]:
    """Return the bits per sample that the file declares, and a flag if Pillow keeps only the upper 8."""
    bits = {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
    if image_format == "tiff":
        bits = int(image.tag_v2.get(258, (bits,))[0])  # type: ignore[attr-defined]
    elif image_format == "png":
        position = file.tell()
        file.seek(24)
        bits = file.read(1)[0]
        file.seek(position)
    # Pillow has no colour modes of more than 8 bits; the error is below 1/255
    lossy = bits > 8 and image.mode not in ("I", "F") and not image.mode.startswith("I;16")
    return bits, ["16_to_8_bits"] if lossy else []


def decoded_upright(
    image: Image.Image,
    flags: list[str],
    *,
    exif: Exif = "apply",
    decode: Callable[[Image.Image], Image.Image] | None = None,
) -> Image.Image:
    """Decode the pixels and apply the EXIF orientation, or leave them as stored.

    Args:
        image: an open image.
        flags: receives ``exif_rotated``, ``exif_ignored``, or ``bad_exif`` for unreadable EXIF.
        exif: "apply" turns the pixels, "ignore" does not.
        decode: returns the decoded image, not turned; None for Pillow's decoder.

    Raises:
        MedicalImageError: ``truncated`` or ``decode_failed``.
    """
    # read before loading, because Pillow turns TIFF files while it loads them, and removes the tag
    orientation = exif_orientation(image, flags)
    try:
        if decode is None:
            image.load()
        else:
            image = decode(image)
    except MedicalImageError:
        raise
    except (*_DECODE_ERRORS, MemoryError) as error:
        raise _decode_error(error, reason="decode_failed") from None
    if orientation not in range(2, 9):
        return image
    if exif == "ignore":
        flags.append("exif_ignored")
        return image.transpose(_TURNS[_BACK.get(orientation, orientation)]) if image.format == "TIFF" else image
    flags.append("exif_rotated")
    # not by ImageOps.exif_transpose: it also rewrites the EXIF data, and fails if they are damaged
    return image if image.format == "TIFF" else image.transpose(_TURNS[orientation])


def exif_orientation(image: Image.Image, flags: list[str]) -> int:
    """Return the EXIF orientation of an open image, 1 if it has none; the value is not checked.

    Args:
        image: an open image.
        flags: receives ``bad_exif`` for unreadable EXIF.
    """
    try:
        return image.getexif().get(0x0112, 1)
    except _DECODE_ERRORS:
        flags.append("bad_exif")
        return 1


def turn_array(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (rows, columns, ...) by an EXIF orientation from 1 to 8.

    Example:
        >>> turn_array(np.array([[1, 2, 3]]), 6)[:, 0].tolist()
        [1, 2, 3]
    """
    turned = values.swapaxes(0, 1) if orientation >= 5 else values
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    return turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned


def _decode_error(error: BaseException, *, reason: str) -> MedicalImageError:
    text = str(error).lower()
    if isinstance(error, EOFError) or "truncated" in text or "not enough" in text or "unexpected end" in text:
        return MedicalImageError(
            "Expected a complete file, its pixel data ends too early; copy or export it again.", reason="truncated"
        )
    if isinstance(error, Image.DecompressionBombError):
        return MedicalImageError(
            "Expected an image of a sane size, Pillow refuses it as a decompression bomb; leave it out.",
            reason="too_large",
        )
    # only the class, and no chained error: texts can hold the file's own bytes, or its path
    return MedicalImageError(
        f"Expected a file that Pillow decodes, got {type(error).__name__}; export it again.", reason=reason
    )


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
