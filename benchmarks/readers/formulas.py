"""Formulas of the standard, independent of our reader, for files that dcmtk does not render."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut

__all__ = ["displayed", "modality_values"]


def modality_values(dataset: Dataset, stored: np.ndarray, frame: int) -> np.ndarray:
    """Return the values of a decoded frame after the modality transformation, float64; palettes and colour as RGB.

    Reference:
        DICOM PS3.3 C.11.1, C.7.6.16.2.9 and C.7.6.3.1.5.
    """
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        colours: np.ndarray = apply_color_lut(stored, dataset)
        # entries of 16 bits are filled from above
        return (colours >> 8 if colours.dtype == np.uint16 and colours.max() > 255 else colours).astype(np.float64)
    if stored.ndim == 3:
        return stored.astype(np.float64)
    transformation = _group(dataset, "PixelValueTransformationSequence", frame)
    if transformation is not None:
        return stored * float(transformation.RescaleSlope) + float(transformation.RescaleIntercept)
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, dataset).astype(np.float64)
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return stored * float(1 if slope in (None, "") else slope) + float(0 if intercept in (None, "") else intercept)


def displayed(
    dataset: Dataset, values: np.ndarray, *, frame: int, window: tuple[float, float] | None = None
) -> np.ndarray:
    """Return the displayed form of values after the modality transformation, in [0, 1].

    Args:
        dataset: of the file.
        values: from :func:`modality_values`.
        frame: from 0.
        window: width and level that replace the file's.

    Reference:
        DICOM PS3.3 C.11.2.1.2 and C.11.6.
    """
    if values.ndim == 3:
        is_palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        return values / (255 if is_palette else 2.0**dataset.BitsStored - 1)
    shown = _windowed(dataset, values, frame, window)
    shape = dataset.get("PresentationLUTShape")
    inverted = shape == "INVERSE" or (shape != "IDENTITY" and dataset.get("PhotometricInterpretation") == "MONOCHROME1")
    return 1 - shown if inverted else shown


def _windowed(dataset: Dataset, values: np.ndarray, frame: int, window: tuple[float, float] | None) -> np.ndarray:
    group = _group(dataset, "FrameVOILUTSequence", frame)
    source = dataset if group is None else group
    function = "LINEAR"
    if window is None and source.get("WindowCenter") not in (None, ""):
        center, width = (_first(source.get(name)) for name in ("WindowCenter", "WindowWidth"))
        window, function = (width, center), source.get("VOILUTFunction", "LINEAR")
    if window is not None:
        width, center = window
        if function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - center) / width))
        if function == "LINEAR_EXACT":
            return np.clip((values - center) / width + 0.5, 0, 1)
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    if "PixelData" not in dataset:
        finite = values[np.isfinite(values)]
        return (values - finite.min()) / (finite.max() - finite.min())
    bits, signed = int(dataset.BitsStored), int(dataset.PixelRepresentation)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = sorted(modality_values(dataset, ends, frame))
    return (values - low) / (high - low)


def _first(value: object) -> float:
    return float(value[0]) if hasattr(value, "__getitem__") and not isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _group(dataset: Dataset, keyword: str, frame: int) -> Dataset | None:
    own = list(dataset.get("PerFrameFunctionalGroupsSequence", []))[frame : frame + 1]
    for item in [*own, *list(dataset.get("SharedFunctionalGroupsSequence", []))[:1]]:
        if found := item.get(keyword):
            return found[0]
    return None
