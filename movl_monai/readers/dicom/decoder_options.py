"""Options of pydicom's decoders for the pixel data."""

from __future__ import annotations

from typing import Any

from movl_monai.readers.dicom.layout import PixelLayout

__all__ = ["decoder_options"]


def decoder_options(layout: PixelLayout, photometric: str, *, frames: int) -> dict[str, Any]:
    """Return the options of ``pydicom.pixels.Decoder.as_array``.

    Args:
        layout: of the pixel data.
        photometric: photometric interpretation, which can differ from the header.
        frames: number of frames in the decoder's input.
    """
    return {
        "transfer_syntax_uid": layout.transfer_syntax,
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": frames,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "planar_configuration": layout.planar,
        "pixel_keyword": layout.keyword,
    }
