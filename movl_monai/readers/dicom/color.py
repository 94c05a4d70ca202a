"""Conversion of colour images to RGB in [0, 1]: palettes, luminance with colour differences, any depth."""

from __future__ import annotations

import numpy as np
from pydicom import FileDataset

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.layout import PixelLayout
from movl_monai.readers.dicom.lut import expand_segments
from movl_monai.readers.dicom.tags import numbers, raw_data
from movl_monai.readers.errors import MedicalImageError

__all__ = ["palette_to_rgb", "samples_to_rgb"]


def samples_to_rgb(stored: np.ndarray, *, photometric: str, layout: PixelLayout) -> np.ndarray:
    r"""Return an image with three samples per pixel as RGB in [0, 1].

    For YBR_FULL and YBR_FULL_422, with ``b`` bits and ``o = 2^(b-1)``:

    .. math:: R = Y + 1.402 (C_R - o),\ G = Y - 0.344136 (C_B - o) - 0.714136 (C_R - o),\ B = Y + 1.772 (C_B - o)

    Args:
        stored: (H, W, 3).
        photometric: RGB, YBR_FULL or YBR_FULL_422, after decoding.
        layout: of the pixel data.

    Returns:
        float32 (H, W, 3) in [0, 1]: the stored value over ``2^BitsStored - 1``.

    Raises:
        MedicalImageError: for another colour space after decoding (``reason="unsupported_photometric"``).

    Reference:
        DICOM PS3.3 C.7.6.3.1.2.
    """
    rgb: np.ndarray = stored.astype(np.float32 if layout.bits_stored <= 16 else np.float64)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        offset = 2.0 ** (layout.bits_stored - 1)
        luminance, blue, red = rgb[..., 0], rgb[..., 1] - offset, rgb[..., 2] - offset
        green = luminance - (0.114 * 1.772 / 0.587) * blue - (0.299 * 1.402 / 0.587) * red
        rgb = np.stack([luminance + 1.402 * red, green, luminance + 1.772 * blue], axis=-1)
    elif photometric != "RGB":
        raise MedicalImageError(
            f"Expected RGB after decoding, the decoder left {photometric}; convert the image to RGB.",
            reason="unsupported_photometric",
        )
    np.divide(rgb, 2.0**layout.bits_stored - 1, out=rgb)
    return rgb.clip(0, 1).astype(np.float32, copy=False)


def palette_to_rgb(header: FileDataset, stored: np.ndarray, flags: Flags) -> np.ndarray:
    """Return a PALETTE COLOR image as RGB in [0, 1].

    Entries of 16 bits are shifted down to 8: DICOM fills them by shifting 8 bits up, so that white is 65280.

    Args:
        header: holds the three colour tables.
        stored: indices (H, W).
        flags: receives anomalies.

    Returns:
        float32 (H, W, 3) in [0, 1].

    Raises:
        MedicalImageError: if a table is missing or damaged (``reason="bad_palette"``).

    Reference:
        DICOM PS3.3 C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.
    """
    tables, first = [], 0
    for color in ("Red", "Green", "Blue"):
        table, first, is_16_bit = _table(header, color, flags)
        tables.append(table)
    colors = np.stack(tables, axis=-1)
    if is_16_bit:
        if colors.max() > 255:
            colors = colors >> 8
        else:
            flags.add("palette_of_8_bit_values")
    index = np.clip(stored.astype(np.int64) - first, 0, len(colors) - 1)
    return (colors.astype(np.float32) / np.float32(255))[index]


def _table(header: FileDataset, color: str, flags: Flags) -> tuple[np.ndarray, int, bool]:
    """Return the entries of one colour, the index of the first entry, and True for 16 bits."""
    keyword = f"{color}PaletteColorLookupTable"
    descriptor = [int(value) for value in numbers(header, f"{keyword}Descriptor", flags)]
    if len(descriptor) != 3 or descriptor[2] not in (8, 16):
        raise _bad_palette(f"{keyword}Descriptor must be three numbers (entries, first index, 8 or 16 bits)")
    count = descriptor[0] or 2**16
    data, byte_order = raw_data(header, f"{keyword}Data")
    segments, segment_order = raw_data(header, f"Segmented{keyword}Data")
    if isinstance(data, bytes) and data:
        # 8-bit entries may be packed or padded to 16 bits, whatever the descriptor says: the length decides
        is_16_bit = len(data) >= 2 * count
        table = np.frombuffer(data[: len(data) // 2 * 2], f"{byte_order}u2") if is_16_bit else _bytes(data, byte_order)
        # 8-bit entries that lie in words are not to be shifted
        shift = is_16_bit and descriptor[2] == 16
    elif isinstance(segments, bytes) and segments:
        shift = descriptor[2] == 16
        even = segments[: len(segments) // 2 * 2]
        words = np.frombuffer(even, f"{segment_order}u2") if shift else _bytes(segments, segment_order)
        table = expand_segments(words, count=count, is_16_bit=shift)
    else:
        raise _bad_palette(f"{keyword}Data or Segmented{keyword}Data is needed")
    if len(table) < count:
        raise _bad_palette(f"{keyword}Data must have {count} entries, got {len(table)}")
    return table[:count].astype(np.int32), descriptor[1], shift


def _bytes(data: bytes, byte_order: str) -> np.ndarray:
    """Return packed 8-bit entries; in big-endian files the two bytes of a word are swapped."""
    words = np.frombuffer(data + b"\0" * (len(data) % 2), f"{byte_order}u2")
    return words.astype("<u2").view(np.uint8)[: len(data)]


def _bad_palette(expected: str) -> MedicalImageError:
    return MedicalImageError(f"{expected}, it is not so in this file; export the file again.", reason="bad_palette")
