"""The values of interest: which window or VOI LUT of a file is used, and what it makes of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from movl_monai.transforms.dicom.flags import Flags
from movl_monai.transforms.dicom.lut import LookupTable, read_lut
from movl_monai.transforms.dicom.tags import code_string, functional_group, items, numbers, values
from movl_monai.transforms.errors import MedicalImageError
from movl_monai.transforms.windows import WindowFunction, apply_window
from pydicom import Dataset, FileDataset

__all__ = ["VOI", "FullRange", "LutVOI", "WindowVOI", "choose_voi", "voi_choices"]


@dataclass(frozen=True, kw_only=True)
class WindowVOI:
    """A window of the file."""

    center: float
    width: float
    function: WindowFunction
    explanation: str = ""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values to [0, 1]."""
        return apply_window(values, center=self.center, width=self.width, function=self.function)

    def describe(self) -> dict[str, Any]:
        """Return what was applied; the free text of the explanation is left out."""
        return {"source": "window", "center": self.center, "width": self.width, "function": self.function}


@dataclass(frozen=True, kw_only=True)
class LutVOI:
    """A VOI LUT of the file."""

    lut: LookupTable
    explanation: str = ""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values to [0, 1]: the output of the table over the largest its depth allows."""
        return self.lut(values).astype(np.float32) / np.float32(2**self.lut.bits - 1)

    def describe(self) -> dict[str, Any]:
        """Return what was applied; the free text of the explanation is left out."""
        return {"source": "lut", "entries": len(self.lut.entries), "first": self.lut.first, "bits": self.lut.bits}


@dataclass(frozen=True, kw_only=True)
class FullRange:
    """The full range, where the file states neither window nor table."""

    low: float
    high: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map ``low`` to 0 and ``high`` to 1; a range of one value becomes 0."""
        if self.high <= self.low:
            return np.zeros(values.shape, dtype=np.float32)
        return ((values - self.low) / (self.high - self.low)).clip(0, 1)

    def describe(self) -> dict[str, Any]:
        """Return what was applied."""
        return {"source": "full_range", "low": self.low, "high": self.high}


VOI = WindowVOI | LutVOI | FullRange


def voi_choices(header: FileDataset, frame: int, *, highest_input: float, flags: Flags) -> list[WindowVOI | LutVOI]:
    """Return the choices that a file offers for a frame: its VOI LUTs, then its windows.

    Args:
        header: header of the file; a FrameVOILUTSequence of the frame wins over the tags of the whole file.
        frame: index of the frame, from 0.
        highest_input: largest value after the modality transformation.
        flags: receives what was unusual.

    Raises:
        MedicalImageError: if a VOI LUT is damaged, or VOILUTFunction is unknown (``reason="bad_window"``).

    Reference:
        DICOM PS3.3 C.11.2 and C.7.6.16.2.10.
    """
    group = functional_group(header, "FrameVOILUTSequence", frame)
    dataset = header if group is None else group
    tables = [
        LutVOI(
            lut=read_lut(item, highest_input=highest_input, flags=flags, reason="bad_window"),
            explanation=_text(values(item, "LUTExplanation"), 0),
        )
        for item in items(dataset, "VOILUTSequence", flags)
    ]
    return [*tables, *_windows(dataset, flags)]


def choose_voi(choices: list[WindowVOI | LutVOI], voi: int | str, *, full_range: FullRange) -> VOI:
    """Return the choice with an index or explanation; the full range where the file offers none and 0 is asked for.

    Raises:
        MedicalImageError: if there is no such choice (``reason="unknown_voi"``).
    """
    if isinstance(voi, str):
        matching = [choice for choice in choices if choice.explanation.casefold() == voi.strip().casefold()]
        if matching:
            return matching[0]
    elif 0 <= voi < len(choices):
        return choices[voi]
    elif voi == 0:
        return full_range
    raise MedicalImageError(
        f"voi must be one of the {len(choices)} windows and VOI LUTs of the file, by index from 0 or by explanation, "
        f"got {voi!r}; 0 is always possible.",
        reason="unknown_voi",
    )


def _windows(dataset: Dataset, flags: Flags) -> list[WindowVOI]:
    centers, widths = numbers(dataset, "WindowCenter", flags), numbers(dataset, "WindowWidth", flags)
    if len(centers) != len(widths):
        flags.add("unequal_window_lists")
    if not centers or not widths:
        return []
    function = code_string(dataset, "VOILUTFunction") or "LINEAR"
    explanations = values(dataset, "WindowCenterWidthExplanation")
    return [
        # the function is checked where it is applied
        WindowVOI(center=center, width=width, function=function, explanation=_text(explanations, index))
        for index, (center, width) in enumerate(zip(centers, widths, strict=False))
    ]


def _text(texts: list[Any], index: int) -> str:
    return str(texts[index]).strip() if index < len(texts) else ""
