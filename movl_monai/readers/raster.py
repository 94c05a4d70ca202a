"""Read PNG, JPEG, TIFF, BMP, WebP and GIF files of any pixel layout as images."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import RASTER_FORMATS, ImageFormat, Source, open_source, sniff_format
from movl_monai.readers.pillow_file import (
    Exif,
    check_size,
    declared_bits,
    decoded_upright,
    exif_orientation,
    has_deep_raw_planes,
    open_pillow,
    page_count,
    read_deep_planes,
    seek_page,
)
from movl_monai.readers.pixels import raster_pixels
from movl_monai.readers.slices import choose_frame

__all__ = ["MAX_PIXELS", "raster_frame_count", "raster_turn", "read_raster"]

MAX_PIXELS = 64_000_000
"""Default upper limit on the pixels of one image: 64 Mpx."""


@quiet()
def read_raster(
    source: Source,
    *,
    frame: int | None = None,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = MAX_PIXELS,
    exif: Exif = "apply",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one page of a PNG, JPEG, TIFF, BMP, WebP or GIF file as an image.

    Integers are divided by the largest number of their declared depth (1, 255, 4095, 65535). TIFF files whose 0 is
    white are inverted, palettes applied, transparency composited on black, CMYK converted to RGB, the EXIF rotation
    applied, and colour profiles ignored. The record's ``flags`` name these conversions: ``palette``,
    ``alpha_on_black``, ``cmyk``, ``exif_rotated``, ``exif_ignored``, ``bad_exif`` (ignored), ``16_to_8_bits`` (colours
    of 16 bits, of which Pillow keeps the upper 8), ``dark_16_bit`` (16 bits that hold no value above 4095),
    ``non_finite_replaced``, ``decoder_warning`` (Pillow found damaged metadata).

    Args:
        source: path of a regular file, or a seekable binary file object. The suffix does not matter.
        frame: index of the page, from 0; optional for a file with one page.
        value_range: the (low, high) values that become 0 and 1 in grey images of float, 32, 16 or signed bits. A float,
            32-bit or signed file does not declare its white, and its own minimum and maximum would give every image
            another scale; without this option such files are refused. Grey levels of 16 bits are divided by 65535
            without it; (0, 4095) is right for 12 bits stored in 16. It has no effect on other images.
        max_pixels: upper limit on rows x columns; checked in the header, before decoding.
        exif: "apply" turns the image as EXIF says, "ignore" leaves it as stored.

    Returns:
        The image, float32 (3, H, W) in [0, 1], and a record: ``format``, ``rows``, ``columns``, ``mode`` (Pillow's),
        ``bits``, ``frames``, ``frame``, ``decoder``, ``flags``.

    Raises:
        MedicalImageError: if the file cannot become an image; ``reason`` is one of ``unsupported_format``,
            ``bad_header``, ``too_large``, ``truncated``, ``decode_failed``, ``multi_frame``, ``bad_frame``,
            ``not_finite``, or a reason of :func:`sniff_format`.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2), 51).save(file, "PNG")
        >>> image, record = read_raster(file)
        >>> image.shape, float(image[0, 0, 0]), record["bits"]
        ((3, 2, 4), 0.20000000298023224, 8)
    """
    image_format = _raster_format(source)
    # Pillow warns about damaged metadata; the record's flags keep the warning
    with warnings.catch_warnings(record=True) as caught, open_source(source) as file:
        warnings.simplefilter("always")
        with open_pillow(file, image_format) as image:
            check_size(image, max_pixels)
            count = page_count(image)
            index = choose_frame(frame, count, "page")
            if index:
                seek_page(image, index)
                check_size(image, max_pixels)
            bits, flags = declared_bits(image, image_format, file)
            tags: Any = getattr(image, "tag_v2", {}) if image_format == "tiff" else {}
            white_is_zero = tags.get(262) == 0
            in_planes = image_format == "tiff" and has_deep_raw_planes(image)
            decode = partial(read_deep_planes, file, index) if in_planes else None
            upright = decoded_upright(image, flags, exif=exif, decode=decode)
            pixels = raster_pixels(
                upright,
                bits=bits,
                white_is_zero=white_is_zero,
                signed=tags.get(339, (1,))[0] == 2,
                value_range=value_range,
                flags=flags,
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
        "decoder": "tifffile" if in_planes else "pillow",
        "flags": flags,
    }
    return pixels, record


@quiet()
def raster_turn(source: Source, *, frame: int | None = None) -> tuple[int, tuple[int, int]]:
    """Return the EXIF orientation of a page, from 1 (none) to 8, and its stored rows and columns.

    Raises:
        MedicalImageError: as :func:`read_raster`, for errors that the header shows.
    """
    image_format = _raster_format(source)
    with warnings.catch_warnings(), open_source(source) as file:
        warnings.simplefilter("ignore")
        with open_pillow(file, image_format) as image:
            index = choose_frame(frame, page_count(image), "page")
            if index:
                seek_page(image, index)
            turn = exif_orientation(image, [])
            columns, rows = image.size
            if image_format == "tiff" and turn in range(5, 9):  # Pillow states the size of the turned page
                columns, rows = rows, columns
            return (turn if turn in range(1, 9) else 1), (rows, columns)


@quiet()
def raster_frame_count(source: Source) -> int:
    """Return the number of pages of a PNG, JPEG, TIFF, BMP, WebP or GIF file, without decoding them.

    Raises:
        MedicalImageError: as :func:`read_raster`.
    """
    image_format = _raster_format(source)
    with warnings.catch_warnings(), open_source(source) as file:
        warnings.simplefilter("ignore")
        with open_pillow(file, image_format) as image:
            return page_count(image)


def _raster_format(source: Source) -> ImageFormat:
    image_format = sniff_format(source)
    if image_format not in RASTER_FORMATS:
        raise MedicalImageError(
            f"Expected one of {', '.join(RASTER_FORMATS)}, got {image_format}; use LoadMedicalImage for other formats.",
            reason="unsupported_format",
        )
    return image_format
