"""Image Pixel module: layout of the pixel data, checked before decoding."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import FileDataset
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGTransferSyntaxes,
)

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.tags import code_string, integer, uid, values
from movl_monai.readers.errors import MedicalImageError

__all__ = ["PixelLayout", "frame_count", "pixel_layout"]

_SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}


@dataclass(frozen=True, kw_only=True)
class PixelLayout:
    """Layout of the pixel data.

    Args:
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        rows: pixels from top to bottom.
        columns: pixels from left to right.
        frames: number of frames, 1 or more.
        samples: 1 or 3 values per pixel.
        photometric: PhotometricInterpretation.
        bits_allocated: bits from one value to the next.
        bits_stored: bits of one value.
        high_bit: position of the highest bit of a value.
        signed: whether values are in two's complement.
        planar: 0 if the samples of a pixel lie together, 1 if the planes do.
        transfer_syntax: the encoding.
    """

    keyword: str
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    planar: int
    transfer_syntax: UID

    @property
    def is_float(self) -> bool:
        """True for floating point values."""
        return self.keyword != "PixelData"

    @property
    def is_grey(self) -> bool:
        """True if each pixel is one intensity."""
        return self.photometric.startswith("MONOCHROME")

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest value of the stored bits."""
        if self.signed:
            return -(2 ** (self.bits_stored - 1)), 2 ** (self.bits_stored - 1) - 1
        return 0, 2**self.bits_stored - 1


def frame_count(header: FileDataset) -> int:
    """Return the number of frames: NumberOfFrames, or 1 if it is missing or empty.

    Raises:
        MedicalImageError: if NumberOfFrames is not a positive whole number (``reason="bad_header"``).
    """
    flags = Flags()
    count = integer(header, "NumberOfFrames", flags)
    if "invalid:NumberOfFrames" in flags.codes or (count is not None and count < 0):
        raise MedicalImageError(
            "NumberOfFrames must be a whole number >= 1, got something else; correct the tag.", reason="bad_header"
        )
    # some devices write 0 for "not a multi-frame object"
    return count or 1


def pixel_layout(header: FileDataset, *, keyword: str, flags: Flags, limits: Limits) -> PixelLayout:
    """Return the layout of the pixel data; missing tags are inferred if only one reading makes sense.

    Args:
        header: header of the file.
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        flags: receives inferred tags.
        limits: upper limits on the sizes that the header may declare.

    Raises:
        MedicalImageError: if a tag is missing and cannot be inferred, tags contradict each other, the photometric
            interpretation is not supported, or the limits are exceeded; ``reason`` says which.

    Reference:
        DICOM PS3.3 C.7.6.3.
    """
    syntax = _transfer_syntax(header, flags)
    photometric, samples = _colour(header, syntax, flags)
    allocated, stored, high_bit = _bits(header, keyword, flags)
    layout = PixelLayout(
        keyword=keyword,
        rows=_size(header, "Rows"),
        columns=_size(header, "Columns"),
        frames=frame_count(header),
        samples=samples,
        photometric=photometric,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=keyword == "PixelData" and _code(header, "PixelRepresentation", flags) == 1,
        planar=_code(header, "PlanarConfiguration", flags) if samples > 1 else 0,
        transfer_syntax=syntax,
    )
    _check_limits(layout, limits)
    return layout


def _check_limits(layout: PixelLayout, limits: Limits) -> None:
    count = layout.rows * layout.columns * layout.frames * layout.samples
    too_many_pixels = layout.rows * layout.columns > limits.frame_pixels
    if count > limits.values or layout.frames > limits.frames or too_many_pixels:
        raise MedicalImageError(
            f"At most {limits.values} values, {limits.frames} frames and {limits.frame_pixels} pixels in one frame are "
            f"read from one file, the header asks for {layout.rows} x {layout.columns} pixels x {layout.samples} "
            f"samples x {layout.frames} frames; raise the limits if the file is to be trusted.",
            reason="too_large",
        )


def _transfer_syntax(header: FileDataset, flags: Flags) -> UID:
    if stated := uid(header.file_meta, "TransferSyntaxUID"):
        return stated
    flags.add("no_transfer_syntax")
    is_implicit, is_little_endian = header.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _size(header: FileDataset, keyword: str) -> int:
    size = integer(header, keyword)
    if size is None:
        raise MedicalImageError(
            f"{keyword} is missing or empty, and the pixels cannot be arranged without it; export the file again.",
            reason="missing_tag",
        )
    if not 0 < size < 2**16:
        raise MedicalImageError(f"{keyword} must be in 1...65535, got {size}; correct the tag.", reason="bad_header")
    return size


def _colour(header: FileDataset, syntax: UID, flags: Flags) -> tuple[str, int]:
    photometric = code_string(header, "PhotometricInterpretation")
    samples = integer(header, "SamplesPerPixel", flags)
    if not photometric:
        photometric = _likely_photometric(header, samples, syntax)
        flags.add("inferred", "PhotometricInterpretation")
    if photometric not in _SAMPLES:
        raise MedicalImageError(
            f"PhotometricInterpretation must be one of {', '.join(_SAMPLES)}, got something else; "
            "convert the image to one of them.",
            reason="unsupported_photometric",
        )
    if samples is None:
        flags.add("inferred", "SamplesPerPixel")
    elif samples != _SAMPLES[photometric]:
        raise MedicalImageError(
            f"{photometric} needs SamplesPerPixel {_SAMPLES[photometric]}, got {samples}; correct one of the tags.",
            reason="bad_header",
        )
    return photometric, _SAMPLES[photometric]


def _likely_photometric(header: FileDataset, samples: int | None, syntax: UID) -> str:
    if samples == 3:
        # JPEG encoders store luminance and colour differences unless told otherwise
        return "YBR_FULL_422" if syntax in JPEGTransferSyntaxes else "RGB"
    if values(header, "RedPaletteColorLookupTableDescriptor"):
        return "PALETTE COLOR"
    return "MONOCHROME2"


def _bits(header: FileDataset, keyword: str, flags: Flags) -> tuple[int, int, int]:
    if keyword != "PixelData":
        bits = 32 if keyword == "FloatPixelData" else 64
        return bits, bits, bits - 1
    allocated, stored = integer(header, "BitsAllocated", flags), integer(header, "BitsStored", flags)
    if allocated is None:
        if stored is None:
            raise MedicalImageError(
                "BitsAllocated and BitsStored are missing, one is needed; export the file again.", reason="missing_tag"
            )
        allocated = 8 if stored <= 8 else 16 if stored <= 16 else 32
        flags.add("inferred", "BitsAllocated")
    if stored is None:
        stored = allocated
        flags.add("inferred", "BitsStored")
    if allocated not in (1, 8, 16, 32) or not 0 < stored <= allocated:
        raise MedicalImageError(
            f"BitsAllocated must be 1, 8, 16 or 32 and BitsStored in 1...BitsAllocated, "
            f"got {allocated} and {stored}; correct the tags.",
            reason="bad_header",
        )
    return allocated, stored, _high_bit(header, allocated, stored, flags)


def _high_bit(header: FileDataset, allocated: int, stored: int, flags: Flags) -> int:
    high_bit = integer(header, "HighBit", flags)
    if high_bit is None:
        flags.add("inferred", "HighBit")
        return stored - 1
    if not stored - 1 <= high_bit < allocated:
        flags.add("invalid", "HighBit")
        return stored - 1
    return high_bit


def _code(header: FileDataset, keyword: str, flags: Flags) -> int:
    code = integer(header, keyword, flags)
    if code is None:
        flags.add("inferred", keyword)
        return 0
    if code not in (0, 1):
        raise MedicalImageError(f"{keyword} must be 0 or 1, got {code}; correct the tag.", reason="bad_header")
    return code
