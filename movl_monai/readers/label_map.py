"""Read raster files whose pixels are classes, and map the values of a mask to classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import RASTER_FORMATS, Source, open_source, sniff_format
from movl_monai.readers.pillow_file import Exif, check_size, decoded_upright, open_pillow, page_count, seek_page
from movl_monai.readers.raster import MAX_PIXELS
from movl_monai.readers.slices import choose_frame

__all__ = ["looks_swapped", "mask_classes", "read_label_map"]

_SHOWN = 8


@quiet()
def read_label_map(
    source: Source,
    *,
    frame: int | None = None,
    as_grey: bool = False,
    max_pixels: int = MAX_PIXELS,
    exif: Exif = "apply",
) -> np.ndarray:
    """Read the stored values of a mask in a PNG, JPEG, TIFF, BMP, WebP or GIF file.

    Unlike an image, nothing is scaled. Values of 8, 16 and 32 bits and palette indices are returned as stored, pixels
    of 1 bit as 0 and 1. A colour picture with equal channels is grey.

    Args:
        source: path of a regular file, or a seekable binary file object.
        frame: index of the page, from 0; optional for a file with one page.
        as_grey: turn colours into brightness instead of refusing them, for masks with a threshold.
        max_pixels: upper limit on rows x columns.
        exif: "apply" turns the mask as its EXIF says, "ignore" leaves it as it is stored.

    Returns:
        (rows, columns), integers, or floating for TIFF files of floating values.

    Raises:
        MedicalImageError: ``mask_values`` for a picture in colours, and the errors of reading an image.
    """
    image_format = sniff_format(source)
    if image_format not in RASTER_FORMATS:
        raise MedicalImageError(
            f"Expected a mask in one of {', '.join(RASTER_FORMATS)}, got {image_format}.", reason="unsupported_format"
        )
    with warnings.catch_warnings(), open_source(source) as file:
        warnings.simplefilter("ignore")  # Pillow warns about metadata, which masks do not need
        with open_pillow(file, image_format) as image:
            check_size(image, max_pixels)
            index = choose_frame(frame, page_count(image), "page")
            if index:
                seek_page(image, index)
                check_size(image, max_pixels)
            return _values(decoded_upright(image, [], exif=exif), as_grey=as_grey)


@quiet()
def mask_classes(
    values: np.ndarray,
    *,
    num_classes: int,
    threshold: float | None = None,
    mask_values: Sequence[int] | None = None,
) -> np.ndarray:
    """Map the values of a mask to classes.

    Args:
        values: any shape, real.
        num_classes: number of classes, including the background.
        threshold: values of at least this are class 1, the others 0; for two classes.
        mask_values: the value of each class, in class order; None: class k has the value k.

    Returns:
        uint8, same shape, in 0 .. num_classes - 1.

    Raises:
        MedicalImageError: ``mask_values``, naming the values without a class.

    Example:
        >>> mask_classes(np.array([0, 255]), num_classes=2, mask_values=[0, 255])
        array([0, 1], dtype=uint8)
    """
    if not np.isfinite(values).all():
        raise MedicalImageError(
            f"Expected classes from 0 to {num_classes - 1}, the mask holds NaN or infinite values; mend it.",
            reason="mask_values",
        )
    if threshold is not None:
        return (values >= threshold).astype(np.uint8)
    known = np.arange(num_classes) if mask_values is None else np.asarray(mask_values)
    found = np.unique(values)
    stray = found[~np.isin(found, known)]
    if len(stray):
        raise _stray_values(stray, known, num_classes)
    classes = np.zeros(values.shape, dtype=np.uint8)
    for number, value in enumerate(known):
        if number:
            classes[values == value] = number
    return classes


def looks_swapped(image: np.ndarray, mask: np.ndarray) -> bool:
    """Return True if the image has few levels, as a mask, and the mask many, as an image.

    Args:
        image: (rows, columns), any real values.
        mask: (rows, columns), as stored.

    Example:
        >>> grey, marks = np.arange(4096).reshape(64, 64), np.eye(64)
        >>> looks_swapped(marks, grey), looks_swapped(grey, marks)
        (True, False)
    """
    seen, marked = (values[:: _step(values.shape[0]), :: _step(values.shape[1])] for values in (image, mask))
    return _spread(seen) <= 3 and _spread(marked) >= 5 and len(np.unique(marked)) >= 32


def _step(size: int) -> int:
    return max(1, size // 256)


def _spread(values: np.ndarray) -> int:
    """Return the smallest number of 16 equal ranges that hold 95 % of the values."""
    counts = np.histogram(values, bins=16)[0] if np.isfinite(values).all() else np.zeros(16)
    held = np.cumsum(np.sort(counts)[::-1])
    return int(np.searchsorted(held, 0.95 * held[-1])) + 1


def _stray_values(stray: np.ndarray, known: np.ndarray, num_classes: int) -> MedicalImageError:
    shown = ", ".join(f"{value:g}" for value in stray[:_SHOWN])
    more = f" and {len(stray) - _SHOWN} more" if len(stray) > _SHOWN else ""
    hint = " (JPEG never keeps exact values), or mask_threshold" if num_classes == 2 else ""
    return MedicalImageError(
        f"Expected a mask of the values {', '.join(f'{value:g}' for value in known)} for {num_classes} classes, got"
        f" also {shown}{more}; correct num_classes, or say what the values mean with mask_values{hint}.",
        reason="mask_values",
    )


def _values(image: Image.Image, *, as_grey: bool) -> np.ndarray:
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode in ("L", "P", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    if image.mode in ("LA", "La", "PA"):
        return np.asarray(image)[..., 0]
    if as_grey:
        return np.asarray(image.convert("L"))
    levels = np.asarray(image.convert("RGB"))
    if (levels[..., 0] != levels[..., 1]).any() or (levels[..., 0] != levels[..., 2]).any():
        raise MedicalImageError(
            "Expected one class per pixel, the mask is a picture in colours; write classes as grey levels or as indices"
            " into a palette, or set mask_threshold for two classes told apart by brightness.",
            reason="mask_values",
        )
    return levels[..., 0]
