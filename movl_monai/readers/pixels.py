"""Convert the images that Pillow decodes to three channels in [0, 1], by Pillow's mode."""

from __future__ import annotations

import numpy as np
from PIL import Image

from movl_monai.readers.errors import MedicalImageError

__all__ = ["grey_to_rgb", "raster_pixels", "scale_values"]


def raster_pixels(
    image: Image.Image,
    *,
    bits: int,
    white_is_zero: bool,
    value_range: tuple[float, float] | None,
    flags: list[str],
    signed: bool = False,
) -> np.ndarray:
    """Return a decoded Pillow image as float32 (3, H, W) in [0, 1].

    Args:
        image: decoded.
        bits: bits per sample in the file.
        white_is_zero: TIFF's PhotometricInterpretation 0, which Pillow does not apply to 16 bits.
        value_range: (low, high) for modes without a defined range, and for 16 bits.
        flags: receives the names of the conversions.
        signed: whether TIFF's SampleFormat declares signed integers; Pillow reads 8 bits without the sign.

    Returns:
        float32 (3, H, W) in [0, 1].

    Raises:
        MedicalImageError: ``unsupported_format`` for float, 32-bit and signed images without ``value_range`` and for
            modes without RGB; ``not_finite`` if there is no finite value.
    """
    if image.mode in ("F", "I"):
        return grey_to_rgb(_ranged(np.asarray(image), value_range, flags))
    if signed and image.mode == "L":
        return grey_to_rgb(_ranged(np.asarray(image).view(np.int8), value_range, flags))
    if image.mode.startswith("I;16"):
        return grey_to_rgb(_sixteen_bits(np.asarray(image), bits, white_is_zero, value_range, flags))
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return grey_to_rgb(np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255))
    levels = np.asarray(_to_rgb(image, flags), dtype=np.float32)
    return np.ascontiguousarray(levels.transpose(2, 0, 1)) / np.float32(255)


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """Repeat (H, W) to a contiguous float32 (3, H, W).

    Example:
        >>> grey_to_rgb(np.zeros((4, 5))).shape
        (3, 4, 5)
    """
    return np.repeat(grey.astype(np.float32, copy=False)[None], 3, axis=0)


def scale_values(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map ``low`` to 0 and ``high`` to 1, clamped; an empty range gives 0 everywhere.

    Args:
        values: any shape, real, finite.
        low: value that becomes 0.
        high: value that becomes 1.

    Returns:
        float32, same shape, in [0, 1].

    Example:
        >>> scale_values(np.array([-1.0, 5.0, 20.0]), 0, 10)
        array([0. , 0.5, 1. ], dtype=float32)
    """
    if not high > low:
        return np.zeros(values.shape, dtype=np.float32)
    # float64: high - low can overflow float32, and 32-bit integers do not fit it
    scaled = (values.astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0, 1).astype(np.float32)


def _ranged(values: np.ndarray, value_range: tuple[float, float] | None, flags: list[str]) -> np.ndarray:
    if value_range is None:
        raise MedicalImageError(
            f"Expected grey levels of 1 to 16 bits or colours, got {values.dtype} values, for which the file does not"
            " say what white is; give value_range=(black, white), or convert the images to 16 bits.",
            reason="unsupported_format",
        )
    finite = np.isfinite(values)
    if not finite.any():
        raise MedicalImageError("Expected finite values, got only NaN or infinite ones.", reason="not_finite")
    if not finite.all():
        flags.append("non_finite_replaced")
    low, high = value_range
    return scale_values(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)


def _sixteen_bits(
    values: np.ndarray, bits: int, white_is_zero: bool, value_range: tuple[float, float] | None, flags: list[str]
) -> np.ndarray:
    if value_range is not None:
        scaled = scale_values(values, *value_range)
        return 1 - scaled if white_is_zero else scaled
    largest = np.float32(2**bits - 1)
    levels = values.astype(np.float32)
    if bits == 16 and 0 < values.max() < 2**12:
        flags.append("dark_16_bit")  # most likely 8 to 12 bits in 16, which no tag of these formats can say
    return (largest - levels if white_is_zero else levels) / largest


def _to_rgb(image: Image.Image, flags: list[str]) -> Image.Image:
    if image.mode in ("P", "PA"):
        flags.append("palette")
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if has_alpha and image.mode in ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa"):
        # La and RGBa hold premultiplied values, which convert to RGBA by one step more
        straight = image.convert("LA") if image.mode == "La" else image
        rgba = straight.convert("RGBA")
        if rgba.getchannel("A").getextrema()[0] == 255:
            return rgba.convert("RGB")
        flags.append("alpha_on_black")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    if image.mode == "CMYK":
        flags.append("cmyk")
    elif image.mode not in ("P", "RGB", "RGBX", "YCbCr", "HSV"):
        raise MedicalImageError(
            f"Expected grey levels or colours, got pixels of mode {image.mode}; convert the image to RGB.",
            reason="unsupported_format",
        )
    return image.convert("RGB")
