"""The one error of reading medical images, with a reason code that reports can count.

A message says what was expected, what came and what to do. It never carries a path, a file name, patient data or an
instance UID; the caller, who knows the image's salted short id, adds that id.
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["REASONS", "MedicalImageError"]

REASONS = MappingProxyType(
    {
        "not_regular_file": "the path is missing, a folder, a pipe or a device, not a regular file that can be opened",
        "empty_file": "the file has no bytes",
        "unsupported_format": "the bytes are of no format that this library reads",
        "not_image": "a valid object without pixel data: report, plan, structure set, waveform, DICOMDIR, palette",
        "segmentation": "the object is a label mask (DICOM SEG), not an image: read it with LoadSegmentation",
        "label_image": "the label, overview or thumbnail of a glass slide, or an image that shows its label",
        "not_segmentation": "a mask was asked for, and the object is no DICOM segmentation",
        "unknown_segment": "the segmentation has no segment with the number or label that was asked for",
        "overlapping_segments": "segments share pixels, which one map of labels cannot hold: read them as channels",
        "mask_mismatch": "the segmentation does not lie on the pixels of the image or volume that it was asked for",
        "mask_values": "the mask holds values that stand for no class, or is a picture in colours",
        "bad_header": "the header cannot be parsed, or contradicts itself",
        "missing_tag": "a tag that the pixels cannot be understood without is absent and cannot be inferred",
        "too_large": "the file asks for more pixels, frames or bytes than the limits allow or the memory has",
        "truncated": "there is less pixel data than the header says",
        "no_decoder": "no installed decoder reads this transfer syntax",
        "decode_failed": "every decoder for this transfer syntax failed on the data",
        "unsupported_photometric": "PhotometricInterpretation is not one that can be turned into grey or RGB",
        "bad_palette": "the palette colour lookup tables are missing or damaged",
        "bad_rescale": "RescaleSlope is 0 or not finite, or the Modality LUT is damaged",
        "bad_window": "a window's width is below the allowed minimum, or a VOI LUT is damaged",
        "unknown_voi": "the file has no window or VOI LUT with the index or explanation that was asked for",
        "multi_frame": "the file has several frames and none was chosen",
        "bad_frame": "the frame that was asked for does not exist",
        "no_slices": "the mask marks no slice of the volume in the range that was asked for",
        "bad_dimensions": "the array has a number of dimensions that does not make one 2D image",
        "rgb_nifti": "NIfTI with RGB voxels, which have no defined intensity",
        "not_finite": "no finite pixel value is left",
    }
)
"""Meaning of each reason code. The table is closed: reports and tests rely on it."""


class MedicalImageError(ValueError):
    """A file that cannot become an image; `reason` is a code that reports can count.

    Args:
        message: expectation, finding and remedy; without path, name, patient data or instance UID.
        reason: a key of :data:`REASONS`.

    Raises:
        ValueError: if ``reason`` is not a key of :data:`REASONS`.

    Example:
        >>> error = MedicalImageError("Expected pixel data, the file has none; leave it out.", reason="not_image")
        >>> error.reason
        'not_image'
    """

    def __init__(self, message: str, *, reason: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}, got {reason!r}.")
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword argument, so that the error crosses from a worker process."""
        return _rebuild, (str(self), self.reason)


def _rebuild(message: str, reason: str) -> MedicalImageError:
    return MedicalImageError(message, reason=reason)
