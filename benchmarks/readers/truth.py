"""Truth for a DICOM file: dcmtk's rendering, or pydicom's decoded values with the formulas of the standard.

Nothing here imports our own reader, which is judged by it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

__all__ = ["CT_WINDOW", "Truth", "dcmtk_version", "displayed", "judged_frames", "modality_values", "render", "truth_of"]

CT_WINDOW = (400.0, 40.0)
"""Width and level of the CT window in HU."""

_CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_MASKS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
# its compressed frames are complete, only the delimiter after them is missing; pydicom then finds no pixel data
_TWINS = {"emri_small_jpeg_2k_lossless_too_short.dcm": "emri_small.dcm"}
_HEADER = re.compile(rb"P([56])\s+(?:#[^\n]*\n)?(\d+)\s+(\d+)\s+(\d+)\s")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Truth for one file.

    Args:
        kind: an image; a label mask; no image (no pixel data, or not DICOM); damaged (less pixel data than the header
            states, or undecodable).
        frames: the judged frames, from 0.
        frame_count: of the file.
        shown: for each frame (H, W) or (H, W, 3) in [0, 1], windowed: the network's input.
        values: for each frame (H, W) after the modality transformation, black below white, or (H, W, 3): the result of
            other readers, up to scale.
        padding: for each frame bool (H, W), or None.
        tolerance: of ``shown``.
        value_tolerance: of ``values``, as a part of their range.
        facts: of the header, for the diagnosis: photometric, has_modality_lut.
        source: origin of the truth.
    """

    kind: Literal["image", "mask", "no image", "damaged"]
    frames: tuple[int, ...] = ()
    frame_count: int = 1
    shown: tuple[np.ndarray, ...] = ()
    values: tuple[np.ndarray, ...] = ()
    padding: tuple[np.ndarray | None, ...] = ()
    tolerance: float = 1 / 255
    value_tolerance: float = 2 / 255
    facts: tuple[str, ...] = ()
    source: str = ""


def judged_frames(count: int) -> tuple[int, ...]:
    """Return the judged frames of a file: all of up to five, else first, second, middle and last.

    Example:
        >>> judged_frames(3), judged_frames(30)
        ((0, 1, 2), (0, 1, 15, 29))
    """
    return tuple(range(count)) if count <= 5 else (0, 1, count // 2, count - 1)


def truth_of(path: Path) -> Truth:
    """Return the truth for a file."""
    twin = path.with_name(_TWINS.get(path.name, path.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _truth_of(twin if twin.is_file() else path)


def _truth_of(path: Path) -> Truth:
    try:
        dataset = dcmread(path, force=True)
        keyword = next(
            (name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in dataset), ""
        )
        if not keyword or ("SOPClassUID" not in dataset and "Rows" not in dataset):
            return Truth(kind="no image")
    except Exception:
        return Truth(kind="no image")
    if dataset.get("SOPClassUID") in _MASKS:
        return Truth(kind="mask")
    try:
        frames = judged_frames(_frame_count(dataset))
        return Truth(kind="damaged") if _is_short(dataset, keyword) else _image(path, dataset, frames)
    except Exception:
        return Truth(kind="damaged")


def _image(path: Path, dataset: Dataset, frames: tuple[int, ...]) -> Truth:
    try:
        stored: list[np.ndarray] | None = [_stored(dataset, frame) for frame in frames]
    except Exception:  # pydicom has no decoder, but dcmtk may have one
        stored = None
    rendered = _by_dcmtk(path, dataset, frames)
    if rendered is not None:
        shown, values = rendered
        tolerance = (2 if _calculates_in_whole_numbers(dataset) else 1) / 255
        return _truth(dataset, frames, stored, shown, values, tolerance=tolerance, source="dcmtk")
    if stored is None:
        return Truth(kind="damaged")
    values = [modality_values(dataset, plane, frame) for frame, plane in zip(frames, stored, strict=True)]
    window = CT_WINDOW if _is_in_hu(dataset) else None
    shown = [displayed(dataset, plane, frame=frame, window=window) for frame, plane in zip(frames, values, strict=True)]
    if _is_inverted(dataset):
        values = [-plane for plane in values]
    return _truth(dataset, frames, stored, shown, values, value_tolerance=1e-3, source="pydicom and formulas")


def _frame_count(dataset: Dataset) -> int:
    return int(dataset.get("NumberOfFrames") or 1)


def _is_short(dataset: Dataset, keyword: str) -> bool:
    if _syntax(dataset) not in _NATIVE:
        return False
    count = dataset.Rows * dataset.Columns * dataset.get("SamplesPerPixel", 1) * _frame_count(dataset)
    bits = count * int(dataset.BitsAllocated)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits // 3 * 2
    return len(dataset[keyword].value) < bits // 8


def _stored(dataset: Dataset, frame: int) -> np.ndarray:
    """Decode a frame with pydicom, with colour converted to RGB."""
    index = frame if _frame_count(dataset) > 1 else None
    found: np.ndarray = pixel_array(dataset, index=index)
    return found[0] if index is None and found.ndim - (dataset.get("SamplesPerPixel", 1) > 1) > 2 else found


def _syntax(dataset: Dataset) -> str:
    return str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", ""))


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    value = dataset.get("PixelPaddingValue")
    if value is None or not isinstance(value, int) or stored.ndim > 2:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    mask = (stored >= min(value, limit)) & (stored <= max(value, limit))
    return mask if mask.any() else None


def _voi_options(dataset: Dataset) -> tuple[str, ...]:
    if _is_in_hu(dataset):
        width, level = CT_WINDOW
        return "+Ww", f"{level:g}", f"{width:g}"
    if dataset.get("VOILUTSequence"):
        return "+Wl", "1"
    return ("+Wi", "1") if dataset.get("WindowCenter") not in (None, "") else ()


def _is_in_hu(dataset: Dataset) -> bool:
    if dataset.get("SOPClassUID") not in _CT:
        return False
    return _has_own_rescaling(dataset) or "RescaleSlope" in dataset or "RescaleIntercept" in dataset


def _has_own_rescaling(dataset: Dataset) -> bool:
    """Return True if functional groups rescale the frames."""
    groups = dataset.get("SharedFunctionalGroupsSequence", []), dataset.get("PerFrameFunctionalGroupsSequence", [])
    return any("PixelValueTransformationSequence" in item for part in groups for item in part)


def _by_dcmtk(
    path: Path, dataset: Dataset, frames: tuple[int, ...]
) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """Return the frames as displayed, and over their own range; None if dcmtk does not render them."""
    syntax = _syntax(dataset)
    if syntax == _BIG_ENDIAN and dataset.BitsAllocated == 32:
        return None  # dcmtk reads them as swapped words of 16 bits
    if _has_own_rescaling(dataset):
        return None  # dcmtk 3.6 does not apply it
    shown: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for frame in frames:
        for target, options in ((shown, _voi_options(dataset)), (values, ("+Wm",))):
            found = render(path, *options, frame=frame, transfer_syntax=syntax)
            if found is None or found.shape[:2] != (dataset.Rows, dataset.Columns):
                return None
            target.append(found / 255)
    return shown, values


def _calculates_in_whole_numbers(dataset: Dataset) -> bool:
    """Return True if dcmtk rounds intermediate results: colour differences, and rescaled values with fractions."""
    slope = float(dataset.get("RescaleSlope") or 1)
    return dataset.get("PhotometricInterpretation", "").startswith("YBR") or slope != int(slope)


def _truth(
    dataset: Dataset,
    frames: tuple[int, ...],
    stored: list[np.ndarray] | None,
    shown: list[np.ndarray],
    values: list[np.ndarray],
    **rest: Any,
) -> Truth:
    facts = [f"photometric:{dataset.get('PhotometricInterpretation', '')}"]
    facts += ["modality LUT"] if dataset.get("ModalityLUTSequence") else []
    return Truth(
        kind="image",
        frames=frames,
        frame_count=_frame_count(dataset),
        shown=tuple(shown),
        values=tuple(values),
        padding=tuple(None if stored is None else _padding(dataset, stored[k]) for k in range(len(frames))),
        facts=tuple(facts),
        **rest,
    )


def _is_inverted(dataset: Dataset) -> bool:
    shape = dataset.get("PresentationLUTShape")
    return shape == "INVERSE" or (shape != "IDENTITY" and dataset.get("PhotometricInterpretation") == "MONOCHROME1")


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


def render(path: Path, *options: str, frame: int = 0, transfer_syntax: str = "") -> np.ndarray | None:
    """Render one frame with ``dcmj2pnm`` (JPEG-LS: ``dcml2pnm``), without overlays.

    Args:
        path: the file.
        options: of the program, for example ``+Wi 1`` for the first window.
        frame: from 0.
        transfer_syntax: its UID.

    Returns:
        uint8 (H, W), or (H, W, 3) for colour; None if dcmtk does not render the file or is not installed.
    """
    program = shutil.which("dcml2pnm" if transfer_syntax in _JPEG_LS else "dcmj2pnm")
    if program is None:
        return None
    command = [program, "-q", "-O", "+op", "+F", str(frame + 1), *options, str(path)]
    result = subprocess.run(command, capture_output=True, check=False, timeout=60)
    header = _HEADER.match(result.stdout)
    if result.returncode or header is None:
        return None
    kind, columns, rows, largest = (int(group) for group in header.groups())
    values = np.frombuffer(result.stdout[header.end() :], dtype=np.uint8)
    shape = (rows, columns, 3) if kind == 6 else (rows, columns)
    return values.reshape(shape) if largest == 255 and values.size == np.prod(shape) else None


def dcmtk_version() -> str:
    """Return the version of dcmtk, or "not installed"."""
    program = shutil.which("dcmj2pnm")
    if program is None:
        return "not installed"
    text = subprocess.run([program, "--version"], capture_output=True, check=False, text=True, timeout=60).stdout
    found = re.search(r"v(\d[\w.]*)", text)
    return found.group(1) if found else "unknown"
