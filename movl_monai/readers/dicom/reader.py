"""Pipeline from one frame of a DICOM file to one image, in the order of the standard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from movl_monai.readers.dicom.codes import modality_code, sop_class_name, transfer_syntax_name
from movl_monai.readers.dicom.color import palette_to_rgb, samples_to_rgb
from movl_monai.readers.dicom.frame import ModalityFrame, StoredFrame, modality_values, stored_values
from movl_monai.readers.dicom.geometry import read_geometry
from movl_monai.readers.dicom.header import Source
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import code_string, uid
from movl_monai.readers.dicom.visible import may_show_names
from movl_monai.readers.dicom.voi import VOI, FullRange, WindowVOI, choose_voi, voi_choices
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.windows import Window, resolve_windows, window_linear

__all__ = ["read_dicom"]

_DENSEST_BONE, _DENSEST_METAL = 2000, 32000  # HU
_CT = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)


@quiet()
def read_dicom(
    source: Source,
    *,
    frame: int | None = None,
    ct_windows: Sequence[Window] = ("lungs", "mediastinum", "spine_bone"),
    voi: int | str = 0,
    full_range: Callable[[], tuple[float, float]] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one frame of a DICOM file as an image.

    The order follows the standard: decoding, modality transformation, padding by stored value, values of interest,
    polarity, padding to black, three channels.

    Args:
        source: path of a regular file, or a seekable binary file object.
        frame: index of the frame, from 0; optional for a file with one frame.
        ct_windows: for CT, whose own windows are not used: one window (repeated) or three, each a name of
            ``HU_PRESETS`` or ``[width, level]`` in HU.
        voi: for all other grey images: a choice among the file's VOI LUTs, then windows, by index or explanation. In a
            file without any, 0 is the full range that the stored bits and the rescaling allow. ``"full"`` is always
            that range.
        full_range: returns the (low, high) of the full range, in the unit of the values; called if no window is used.
            None uses the range of the stored bits.
        limits: upper limits on the sizes that the file may declare.

    Returns:
        The image, float32 (3, H, W) in [0, 1], and a record of technical facts, without patient data, that can be
        written as JSON: modality, sop_class, rows, columns, photometric, bits_stored, transfer_syntax, decoder, voi,
        frames, frame, pixel_spacing (mm, between rows and between columns, or None), flags, and shows_names if the
        pixels may show a name.

    Raises:
        MedicalImageError: if the file cannot become an image; ``reason`` says why.

    Reference:
        DICOM PS3.4 N.2 (grey) and PS3.3 C.7.6.3.1.2 (colour).
    """
    windows = resolve_windows(ct_windows)
    stored = stored_values(source, frame=frame, limits=limits)
    if stored.layout.is_grey:
        image, applied = _grey(stored, windows, voi, full_range)
    else:
        image, applied = _color(stored), {"source": "none"}
    return image, _record(stored, applied)


def _color(stored: StoredFrame) -> np.ndarray:
    if stored.layout.photometric == "PALETTE COLOR":
        rgb = palette_to_rgb(stored.header, stored.values, stored.flags)
    else:
        rgb = samples_to_rgb(stored.values, photometric=stored.photometric, layout=stored.layout)
    return np.ascontiguousarray(rgb.transpose(2, 0, 1))


def _grey(
    stored: StoredFrame,
    windows: tuple[tuple[float, float], ...],
    voi: int | str,
    full_range: Callable[[], tuple[float, float]] | None,
) -> tuple[np.ndarray, dict[str, Any]]:
    frame = modality_values(stored)
    values, blank = _finite(stored, frame)
    image = np.empty((3, *values.shape), dtype=np.float32)
    if _is_in_hu(stored, frame):
        for channel, (width, level) in zip(image, windows, strict=True):
            window_linear(values, center=level, width=width, out=channel)
        if _is_implausible(values, blank):
            stored.flags.add("implausible_hu")
        applied: dict[str, Any] = {"source": "ct_windows", "windows": [list(window) for window in windows]}
    else:
        chosen, applied = _chosen_voi(stored, frame, values, blank, voi)
        if isinstance(chosen, FullRange):
            chosen = _shown_range(stored, chosen, values, full_range)
            applied = chosen.describe()
        image[:] = chosen(values)
    if _is_inverted(stored):
        np.subtract(1, image, out=image)
    if blank is not None:
        np.copyto(image, 0, where=blank)
    return image, applied


def _finite(stored: StoredFrame, frame: ModalityFrame) -> tuple[np.ndarray, np.ndarray | None]:
    """Return values without NaN and infinity, and the pixels that become black: padding and non-finite pixels."""
    values, blank = frame.values, frame.padding
    if stored.layout.is_float and not (finite := np.isfinite(values)).all():
        stored.flags.add("non_finite_pixels")
        values = np.where(finite, values, 0)
        blank = ~finite if blank is None else blank | ~finite
    if blank is not None and blank.all():
        if stored.layout.is_float:
            raise MedicalImageError("Expected intensities, no pixel is finite; leave it out.", reason="not_finite")
        stored.flags.add("padding_only")
    return values, blank


def _is_in_hu(stored: StoredFrame, frame: ModalityFrame) -> bool:
    """Return True if the values are Hounsfield units, for which the fixed windows apply."""
    header = stored.header
    sop_class = uid(header, "SOPClassUID")
    is_ct = sop_class in _CT if sop_class else code_string(header, "Modality") == "CT"
    if not is_ct:
        # a screenshot of a CT console has the modality CT, but no Hounsfield units
        return False
    if not frame.modality.is_stated or frame.modality.unit not in ("", "HU", "HU_MOD", "US"):
        stored.flags.add("ct_not_in_hu")
        return False
    if frame.modality.unit == "US":
        stored.flags.add("rescale_type_unspecified")
    return True


def _is_implausible(values: np.ndarray, blank: np.ndarray | None) -> bool:
    """Return True if a tenth of the pixels are denser than any bone, or a thousandth denser than any metal."""
    if values.max() < _DENSEST_BONE:
        return False
    measured = values if blank is None else values[~blank]
    return bool((measured > _DENSEST_BONE).mean() > 0.1 or (measured > _DENSEST_METAL).mean() > 0.001)


def _chosen_voi(
    stored: StoredFrame, frame: ModalityFrame, values: np.ndarray, blank: np.ndarray | None, voi: int | str
) -> tuple[VOI, dict[str, Any]]:
    if stored.layout.is_float:
        measured = values if blank is None else values[~blank]
        low, high = float(measured.min()), float(measured.max())
    else:
        low, high = frame.modality.range(stored.layout)
    choices = voi_choices(stored.header, stored.index, highest_input=high, flags=stored.flags)
    chosen = choose_voi(choices, voi, full_range=FullRange(low=low, high=high))
    if not isinstance(chosen, FullRange):
        if isinstance(chosen, WindowVOI) and _is_in_stored_units(chosen, values, stored.values):
            stored.flags.add("window_in_stored_units")
        return chosen, {**chosen.describe(), "index": [choice is chosen for choice in choices].index(True)}
    return chosen, {}


def _shown_range(
    stored: StoredFrame, range_: FullRange, values: np.ndarray, given: Callable[[], tuple[float, float]] | None
) -> FullRange:
    """Return the displayed range without a window: the given one, else the range of the stored bits."""
    if given is not None:
        low, high = given()
        return FullRange(low=low, high=high, source="series_percentiles")
    if stored.layout.is_float:
        stored.flags.add("range_from_data")
    elif np.ptp(values) < (range_.high - range_.low) / 8:
        stored.flags.add("little_of_range_used")
    return range_


def _is_in_stored_units(window: WindowVOI, values: np.ndarray, stored: np.ndarray) -> bool:
    """Return True if the values span less than 1/16 of a window, and the stored values more than 1/4 of it."""
    return _share_of(window, values) < 1 / 16 and _share_of(window, stored) > 1 / 4


def _share_of(window: WindowVOI, values: np.ndarray) -> float:
    """Return the part of a window, in [0, 1], between the smallest and the largest value."""
    low, high = window.center - window.width / 2, window.center + window.width / 2
    ends = np.clip([float(values.min()), float(values.max())], low, high)
    return float(ends[1] - ends[0]) / window.width


def _is_inverted(stored: StoredFrame) -> bool:
    """Return True if the smallest value is white: by PresentationLUTShape, else by PhotometricInterpretation."""
    is_monochrome_1 = stored.layout.photometric == "MONOCHROME1"
    shape = code_string(stored.header, "PresentationLUTShape")
    if shape not in ("IDENTITY", "INVERSE"):
        return is_monochrome_1
    if (shape == "INVERSE") != is_monochrome_1:
        stored.flags.add("polarity_conflict")
    return shape == "INVERSE"


def _record(stored: StoredFrame, applied: dict[str, Any]) -> dict[str, Any]:
    layout, header, flags = stored.layout, stored.header, stored.flags
    spacing = read_geometry(header, frame=stored.index, flags=flags).spacing
    if layout.is_grey and code_string(header, "PixelPresentation") in ("COLOR", "MIXED"):
        flags.add("supplemental_palette_ignored")
    return {
        "modality": modality_code(header),
        "sop_class": sop_class_name(header),
        "rows": layout.rows,
        "columns": layout.columns,
        "photometric": layout.photometric,
        "bits_stored": layout.bits_stored,
        "transfer_syntax": transfer_syntax_name(layout.transfer_syntax),
        "decoder": stored.decoder,
        "voi": applied,
        "frames": layout.frames,
        "frame": stored.index,
        "pixel_spacing": None if spacing is None else list(spacing),
        "flags": flags.codes,
        **({"shows_names": True} if may_show_names(header) else {}),
    }
