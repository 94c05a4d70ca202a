"""Flags for anomalies of a readable file; no repair is silent."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["FLAGS", "Flags"]

FLAGS = MappingProxyType(
    {
        "inferred": "a required tag is missing and was inferred",
        "empty": "a tag has no value; its default was taken",
        "invalid": "the value of a tag cannot be used; it was taken as absent",
        "no_transfer_syntax": "the transfer syntax is not stated and was taken from the encoding of the header",
        "unusual_high_bit": "the stored bits do not end at BitsStored - 1 and were shifted",
        "excess_pixel_data": "there is more pixel data than the header says",
        "not_subsampled": "PhotometricInterpretation says subsampled colour, the amount of data says otherwise",
        "no_sequence_delimiter": "the compressed pixel data ends without its delimiter",
        "padded_frame": "padding before the end marker of the compressed frame was left out",
        "sign_mismatch": "PixelRepresentation and the compressed frame disagree about the sign; the frame's was taken",
        "wrong_bits_stored": "the compressed frame uses more bits than BitsStored says; its own number was taken",
        "lossy_overshoot": "values that lossy compression put beyond the stored bits were clipped",
        "color_mismatch": "called RGB, but the compressed frame holds luminance and colour differences",
        "no_end_marker": "the compressed frame ends without its end marker and may be cut",
        "ct_not_in_hu": "a CT object whose values are not Hounsfield units; the windows of the file were used",
        "rescale_type_unspecified": "a CT image whose RescaleType is not HU but unspecified; taken as Hounsfield units",
        "modality_lut_not_for_display": "XA/XRF: the modality transformation gives X-ray intensity and was not applied",
        "range_from_data": "float values without window: the full range is that of the data",
        "little_of_range_used": "without window, the values fill less than 1/8 of the full range: ask for a window",
        "window_in_stored_units": 'the window fits the stored values, not the rescaled ones: ask for voi="full"',
        "implausible_hu": "CT values that no tissue has: negative ones may have become large positive ones",
        "non_finite_pixels": "NaN or infinite pixels were set to black",
        "padding_only": "every pixel is padding",
        "polarity_conflict": "PresentationLUTShape contradicts PhotometricInterpretation and took precedence",
        "unequal_window_lists": "there are not as many window widths as centers; the first pairs were used",
        "wrong_lut_depth": "a lookup table holds more bits than it states, or at least two fewer; its entries count",
        "palette_of_8_bit_values": "a 16-bit palette that holds 8-bit values was not shifted",
        "supplemental_palette_ignored": "the colours painted over a grey image were left out",
        "nonconforming": "a segmentation breaks the standard at a tag that its mask does not need",
        "no_segment_in_plane": "a segmentation has no frame in the plane of the image; the mask is empty",
        "frames_outside_volume": "frames of a segmentation lie outside the volume and were left out",
        "imager_pixel_spacing": "the spacing is that at the detector, not in the patient",
    }
)
"""Meaning of each flag; ``:`` and a DICOM keyword follow ``inferred``, ``empty``, ``invalid`` and ``nonconforming``."""


class Flags:
    """Collect the flags of one file, each once, in order of occurrence.

    Example:
        >>> flags = Flags()
        >>> flags.add("empty", "RescaleSlope")
        >>> flags.add("empty", "RescaleSlope")
        >>> flags.codes
        ['empty:RescaleSlope']
    """

    def __init__(self) -> None:
        self._codes: dict[str, None] = {}

    def add(self, code: str, keyword: str | None = None) -> None:
        """Add a flag.

        Raises:
            ValueError: if ``code`` is not a key of :data:`FLAGS`.
        """
        if code not in FLAGS:
            raise ValueError(f"code must be one of {', '.join(FLAGS)}, got {code!r}.")
        self._codes[code if keyword is None else f"{code}:{keyword}"] = None

    @property
    def codes(self) -> list[str]:
        """List of the flags, each once."""
        return list(self._codes)
