"""Range of grey values of a whole DICOM series, for files without a window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movl_monai.readers.dicom.frame import modality_values, stored_values
from movl_monai.readers.dicom.limits import Limits
from movl_monai.readers.dicom.scan import HeaderScan, scan_header
from movl_monai.readers.dicom.source import Source
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.windows import intensity_range

__all__ = ["SeriesRange"]

_MOST_VALUES = 2**22


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
