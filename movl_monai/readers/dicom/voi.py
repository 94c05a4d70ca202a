"""Values of interest: choice and application of a file's window or VOI LUT, or of the range of its whole series."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from pydicom import Dataset, FileDataset

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.frame import modality_values, stored_values
from movl_monai.readers.dicom.header import Source
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.lut import LookupTable, is_empty_lut, read_lut
from movl_monai.readers.dicom.scan import HeaderScan, scan_header
from movl_monai.readers.dicom.tags import code_string, each_number, functional_group, items, values
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.windows import WindowFunction, apply_window, intensity_range

__all__ = ["FULL", "FullRange", "LutVOI", "SeriesRange", "UnusableVOI", "VOI", "WindowVOI", "choose_voi", "voi_choices"]

FULL = "full"
"""Value of the option ``voi`` that ignores all windows and tables of a file."""

_STATED_BY = ("WindowCenter", "WindowWidth", "VOILUTSequence")
_SMALLEST_WIDTH = {"LINEAR": 1.0, "LINEAR_EXACT": 0.0, "SIGMOID": 0.0}
_MOST_VALUES = 2**22


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
        """Return the applied window without its free-text explanation."""
        return {"source": "window", "center": self.center, "width": self.width, "function": self.function}


@dataclass(frozen=True, kw_only=True)
class LutVOI:
    """A VOI LUT of the file."""

    lut: LookupTable
    explanation: str = ""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map values to [0, 1]: the output of the table divided by the output for white, at most 1."""
        return self.lut(values).astype(np.float32) / np.float32(self.lut.white)

    def describe(self) -> dict[str, Any]:
        """Return the applied table without its free-text explanation."""
        return {"source": "lut", "entries": len(self.lut.entries), "first": self.lut.first, "bits": self.lut.bits}


@dataclass(frozen=True, kw_only=True)
class FullRange:
    """Full range, for a file without window and table."""

    low: float
    high: float
    source: Literal["full_range", "series_percentiles"] = "full_range"

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Map ``low`` to 0 and ``high`` to 1; a range of one value becomes 0."""
        if self.high <= self.low:
            return np.zeros(values.shape, dtype=np.float32)
        return ((values - self.low) / (self.high - self.low)).clip(0, 1)

    def describe(self) -> dict[str, Any]:
        """Return the applied range."""
        return {"source": self.source, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class UnusableVOI:
    """Unusable window or table of the file; it keeps its place among the choices."""

    explanation: str = ""


VOI = WindowVOI | LutVOI | FullRange
Choice = WindowVOI | LutVOI | UnusableVOI


def voi_choices(header: FileDataset, frame: int, *, highest_input: float, flags: Flags) -> list[Choice]:
    """Return the choices that a file offers for a frame: its VOI LUTs, then its windows, including unusable ones.

    Unusable are a table without descriptor or entries, and a window whose width is below the allowed minimum, or whose
    center or width is not a number. An unknown VOILUTFunction counts as absent.

    Args:
        header: header of the file; a FrameVOILUTSequence of the frame takes precedence over the tags of the whole file.
        frame: index of the frame, from 0.
        highest_input: largest value after the modality transformation.
        flags: receives anomalies.

    Raises:
        MedicalImageError: if a VOI LUT is damaged (``reason="bad_window"``).

    Reference:
        DICOM PS3.3 C.11.2 and C.7.6.16.2.10.
    """
    group = functional_group(header, "FrameVOILUTSequence", frame)
    dataset = group if group is not None and any(keyword in group for keyword in _STATED_BY) else header
    return [*_tables(dataset, highest_input, flags), *_windows(dataset, flags)]


def choose_voi(choices: list[Choice], voi: int | str, *, full_range: FullRange) -> VOI:
    """Return the choice with an index or explanation.

    An unusable choice is replaced by the next usable one, else by the first usable one, else by the full range.

    Args:
        choices: from :func:`voi_choices`.
        voi: index from 0, explanation, or ``"full"`` for the full range. Without choices, 0 is the full range.
        full_range: the full range.

    Raises:
        MedicalImageError: if there is no such choice (``reason="unknown_voi"``).
    """
    index = _index(choices, voi)
    if index is None:
        return full_range
    usable = [choice for choice in choices[index:] + choices[:index] if not isinstance(choice, UnusableVOI)]
    return usable[0] if usable else full_range


def _index(choices: list[Choice], voi: int | str) -> int | None:
    """Return the index of the requested choice, None for the full range."""
    if isinstance(voi, str):
        wanted = voi.strip().casefold()
        if wanted == FULL:
            return None
        matching = [index for index, choice in enumerate(choices) if choice.explanation.casefold() == wanted]
        if matching:
            return matching[0]
    elif 0 <= voi < len(choices):
        return voi
    elif voi == 0:
        return None
    raise MedicalImageError(
        f"voi must be one of the {len(choices)} windows and VOI LUTs of the file, by index from 0 or by explanation, "
        f'or "full", got {voi!r}; 0 and "full" are always possible.',
        reason="unknown_voi",
    )


def _tables(dataset: Dataset, highest_input: float, flags: Flags) -> list[Choice]:
    found: list[Choice] = []
    for item in items(dataset, "VOILUTSequence", flags):
        explanation = _text(values(item, "LUTExplanation"), 0)
        if is_empty_lut(item):
            flags.add("empty", "VOILUTSequence")
            found.append(UnusableVOI(explanation=explanation))
        else:
            lut = read_lut(item, highest_input=highest_input, flags=flags, reason="bad_window")
            found.append(LutVOI(lut=lut, explanation=explanation))
    return found


def _windows(dataset: Dataset, flags: Flags) -> list[Choice]:
    centers = each_number(dataset, "WindowCenter", flags)
    widths = each_number(dataset, "WindowWidth", flags)
    if len(centers) != len(widths):
        flags.add("unequal_window_lists")
    if not centers or not widths:
        return []
    function = code_string(dataset, "VOILUTFunction") or "LINEAR"
    if function not in _SMALLEST_WIDTH:
        flags.add("invalid", "VOILUTFunction")
        function = "LINEAR"
    explanations = values(dataset, "WindowCenterWidthExplanation")
    return [
        _window(center, width, function, _text(explanations, index), flags)
        for index, (center, width) in enumerate(zip(centers, widths, strict=False))
    ]


def _window(center: float, width: float, function: str, explanation: str, flags: Flags) -> Choice:
    smallest = _SMALLEST_WIDTH[function]
    if not math.isfinite(center):
        flags.add("invalid", "WindowCenter")
        return UnusableVOI(explanation=explanation)
    # the smallest width of LINEAR is allowed, 0 is not; written so that NaN fails
    if not (math.isfinite(width) and width > 0 and width >= smallest):
        flags.add("invalid", "WindowWidth")
        return UnusableVOI(explanation=explanation)
    return WindowVOI(center=center, width=width, function=cast(WindowFunction, function), explanation=explanation)


def _text(texts: list[Any], index: int) -> str:
    return str(texts[index]).strip() if index < len(texts) else ""


class SeriesRange:
    """Two percentiles of the values of a series: the files with one SeriesInstanceUID in one folder.

    All slices of a series get one scale, in any order of reading. Padding is ignored. Large series are sampled at every
    n-th pixel. Ranges are kept, by folder and series, as long as the folder does not change.

    Args:
        percentiles: (lower, upper) in percent.
        limits: upper limits on the sizes that a file may declare.
    """

    def __init__(self, percentiles: Sequence[float], limits: Limits) -> None:
        self.percentiles = tuple(percentiles)
        self.limits = limits
        self._ranges: dict[tuple[object, ...], tuple[float, float]] = {}
        self._folder: tuple[tuple[object, ...], dict[str, list[tuple[Path, HeaderScan]]]] | None = None

    def __call__(self, source: Source) -> tuple[float, float]:
        """Return the (low, high) of the series of a file, in the unit of its values; for a file object, its own range.

        Raises:
            MedicalImageError: if no file of the series can be read.
        """
        scan = scan_header(source, limits=self.limits)
        if not isinstance(source, str | os.PathLike) or not scan.series:
            return self._measured([(source, scan)])
        folder = Path(os.path.abspath(source)).parent
        state = (str(folder), os.stat(folder).st_mtime_ns)
        key = (*state, scan.series)
        if key not in self._ranges:
            self._ranges[key] = self._measured(self._series(folder, state).get(scan.series) or [(Path(source), scan)])
        return self._ranges[key]

    def _series(self, folder: Path, state: tuple[object, ...]) -> dict[str, list[tuple[Path, HeaderScan]]]:
        """Return the images of a folder by series."""
        if self._folder is None or self._folder[0] != state:
            found: dict[str, list[tuple[Path, HeaderScan]]] = {}
            for path in sorted(
                Path(entry.path) for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)
            ):
                try:
                    scan = scan_header(path, limits=self.limits)
                except MedicalImageError:
                    continue  # not a DICOM file, or one that reports its error when it is read
                if not scan.problem:
                    found.setdefault(scan.series, []).append((path, scan))
            self._folder = (state, found)
        return self._folder[1]

    def _measured(self, files: Sequence[tuple[Source, HeaderScan]]) -> tuple[float, float]:
        frames = [(source, frame) for source, scan in files for frame in range(len(scan.frames))]
        pixels = sum(scan.shape[0] * scan.shape[1] * len(scan.frames) for _, scan in files)
        step = -(-pixels // _MOST_VALUES) or 1
        parts, failure = [], None
        for source, frame in frames:
            try:
                parts.append(self._values(source, frame)[::step])
            except MedicalImageError as error:
                failure = error
        if not parts:
            raise failure or MedicalImageError("Expected a series of images, it has no frame.", reason="bad_frame")
        low, high, _ = intensity_range(np.concatenate(parts), "percentile", self.percentiles)
        return low, high

    def _values(self, source: Source, frame: int) -> np.ndarray:
        measured = modality_values(stored_values(source, frame=frame, limits=self.limits))
        values = measured.values if measured.padding is None else measured.values[~measured.padding]
        return values.ravel()

    def __getstate__(self) -> dict[str, object]:
        """Return the state without cached ranges; worker processes compute them anew."""
        return self.__dict__ | {"_ranges": {}, "_folder": None}
