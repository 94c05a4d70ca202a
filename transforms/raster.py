"""Read PNG, JPEG, TIFF, BMP, WebP and GIF files as images, whatever their pixel layout."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from movl_monai.transforms.errors import MedicalImageError
from movl_monai.transforms.files import Source, open_source
from movl_monai.transforms.frames import choose_frame
from movl_monai.transforms.pixels import raster_pixels
from movl_monai.transforms.sniff import RASTER_FORMATS, ImageFormat, sniff_format
from PIL import Image, ImageOps

__all__ = ["MAX_PIXELS", "raster_frame_count", "read_raster"]

MAX_PIXELS = 64_000_000
"""The most pixels of one image, by default: 64 Mpx."""

_MAX_FRAMES = 10_000
# what Pillow's plugins raise on damaged data
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
_PLUGINS = {
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
}


def read_raster(
    source: Source,
    *,
    frame: int | None = None,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one page of a PNG, JPEG, TIFF, BMP, WebP or GIF file as an image.

    Whole numbers are divided by the largest number of their declared depth (1, 255, 4095, 65535); TIFF files whose 0 is
    white are inverted; palettes are applied; transparency is composited on black; CMYK is turned to RGB; the EXIF
    rotation is applied; colour profiles are ignored. What happened is in the record's ``flags``.

    Args:
        source: path of a regular file, or a seekable binary file object. The suffix does not matter.
        frame: index of the page, from 0; may be left out where the file has one.
        value_range: the (low, high) values that become 0 and 1 in float and 32-bit images. Nothing in such a file says
            what its white is, and its own minimum and maximum would give every image another scale; without this option
            they are refused. It has no effect on other images.
        max_pixels: the most rows x columns; checked in the header, before anything is decoded.

    Returns:
        The image, float32 (3, H, W) in [0, 1], and a record: ``format``, ``rows``, ``columns``, ``mode`` (Pillow's),
        ``bits``, ``frames``, ``frame``, ``decoder``, ``flags``.

    Raises:
        MedicalImageError: if the file cannot become an image; ``reason`` is one of ``unsupported_format``,
            ``bad_header``, ``too_large``, ``truncated``, ``decode_failed``, ``multi_frame``, ``bad_frame``,
            ``not_finite``, or that of :func:`sniff_format`.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2), 51).save(file, "PNG")
        >>> image, record = read_raster(file)
        >>> image.shape, float(image[0, 0, 0]), record["bits"]
        ((3, 2, 4), 0.20000000298023224, 8)
    """
    image_format = _raster_format(source)
    # Pillow tells of damaged metadata by warnings, which the record's flags keep
    with warnings.catch_warnings(record=True) as caught, open_source(source) as file:
        warnings.simplefilter("always")
        with _open(file, image_format) as image:
            _check_size(image, max_pixels)
            count = _frame_count(image)
            index = choose_frame(frame, count, "page")
            if index:
                _seek(image, index)
                _check_size(image, max_pixels)
            bits, flags = _bits(image, image_format, file)
            white_is_zero = image_format == "tiff" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
            upright = _decoded_upright(image, flags)
            pixels = raster_pixels(
                upright, bits=bits, white_is_zero=white_is_zero, value_range=value_range, flags=flags
            )
    if caught:
        flags.append("decoder_warning")
    record = {
        "format": image_format,
        "rows": pixels.shape[1],
        "columns": pixels.shape[2],
        "mode": image.mode,
        "bits": bits,
        "frames": count,
        "frame": index,
        "decoder": "pillow",
        "flags": flags,
    }
    return pixels, record


def raster_frame_count(source: Source) -> int:
    """Return the number of pages of a PNG, JPEG, TIFF, BMP, WebP or GIF file, without decoding them.

    Raises:
        MedicalImageError: as :func:`read_raster`.
    """
    image_format = _raster_format(source)
    with warnings.catch_warnings(), open_source(source) as file:
        warnings.simplefilter("ignore")
        with _open(file, image_format) as image:
            return _frame_count(image)


def _raster_format(source: Source) -> ImageFormat:
    image_format = sniff_format(source)
    if image_format not in RASTER_FORMATS:
        raise MedicalImageError(
            f"Expected one of {', '.join(RASTER_FORMATS)}, got {image_format}; use LoadMedicalImage for other formats.",
            reason="unsupported_format",
        )
    return image_format


def _open(file: BinaryIO, image_format: ImageFormat) -> Image.Image:
    """Parse the header with the plugin of the sniffed format.

    Not by `Image.open`: it tries all plugins, and warns about big images by a limit that is not ours.
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


def _check_size(image: Image.Image, max_pixels: int) -> None:
    columns, rows = image.size
    if rows * columns > max_pixels:
        raise MedicalImageError(
            f"Expected at most {max_pixels:,} pixels, the header says {rows} x {columns} = {rows * columns:,}; make it"
            " smaller, or raise max_pixels if it is real.",
            reason="too_large",
        )


def _frame_count(image: Image.Image) -> int:
    try:
        count = int(getattr(image, "n_frames", 1))
    except _DECODE_ERRORS as error:
        raise _decode_error(error, reason="bad_header") from None
    if count > _MAX_FRAMES:
        raise MedicalImageError(f"Expected at most {_MAX_FRAMES} pages, got {count}.", reason="too_large")
    return count


def _seek(image: Image.Image, index: int) -> None:
    try:
        image.seek(index)
    except _DECODE_ERRORS as error:
        raise _decode_error(error, reason="decode_failed") from None


def _bits(image: Image.Image, image_format: ImageFormat, file: BinaryIO) -> tuple[int, list[str]]:
    """Bits per sample that the file declares, and a flag if Pillow keeps only the upper 8 of them."""
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


def _decoded_upright(image: Image.Image, flags: list[str]) -> Image.Image:
    # asked before loading, because Pillow turns TIFF files while it loads them, and removes the tag
    orientation = _exif_orientation(image, flags)
    try:
        image.load()
    except (*_DECODE_ERRORS, MemoryError) as error:
        raise _decode_error(error, reason="decode_failed") from None
    if orientation not in range(2, 9):
        return image
    flags.append("exif_rotated")
    return ImageOps.exif_transpose(image)


def _exif_orientation(image: Image.Image, flags: list[str]) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except _DECODE_ERRORS:
        flags.append("bad_exif")
        return 1


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
    # the class alone, and no chained error: texts can hold the file's own bytes, or its path
    return MedicalImageError(
        f"Expected a file that Pillow decodes, got {type(error).__name__}; export it again.", reason=reason
    )
