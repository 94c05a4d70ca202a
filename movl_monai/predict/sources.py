"""DICOM files of a case, and its predicted classes in the order and orientation of these files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from movl_monai.predict.loader import Item
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers import read_volume, slices_to_volume
from movl_monai.readers.dicom import Limits, read_header
from movl_monai.readers.series import SAME_PLACE_MM, slices_of
from movl_monai.readers.volume import series_files

__all__ = ["StoredFrames", "headers_of", "stored_frames"]


@dataclass(frozen=True)
class StoredFrames:
    """Predicted classes on the frames of a DICOM source.

    Args:
        files: one file per frame, or one file with all frames.
        classes: uint8 (frames, rows, columns), oriented as in the source.
    """

    files: list[str]
    classes: np.ndarray

    def place(self, number: int) -> tuple[str, int | None]:
        """Return the file of a frame, and the frame's index in a file of several frames, else None."""
        if len(self.files) == 1:
            return self.files[0], number if len(self.classes) > 1 else None
        return self.files[number], None


def stored_frames(case: SegmentedCase) -> StoredFrames:
    """Map the classes of a DICOM case to the frames of its source.

    The model may cut a volume along another plane than that of its files. The files are sorted by position, and copies
    of a slice are left out.
    """
    image = case.items[0]["image"]
    if not case.is_volume:
        return StoredFrames([os.fspath(image)], np.stack(case.planes))
    slices = {int(item["frame"]): plane for item, plane in zip(case.items, case.planes, strict=True)}
    mask = slices_to_volume(slices, read_volume(image), axis=case.record["slice_axis"])
    return StoredFrames(_in_order(_files(image)), np.asarray(mask.dataobj).transpose(2, 1, 0).astype(np.uint8))


def headers_of(files: Sequence[str]) -> list[Any]:
    """Read the headers of files, without pixels."""
    return [read_header(file) for file in files]


def item_place(item: Item) -> tuple[str, int | None]:
    """Return the file of an image, and its frame in a file of several frames, else None."""
    return os.fspath(cast(str, item["image"])), item.get("frame")


def _files(image: Any) -> list[str]:
    if isinstance(image, (list, tuple)):
        return [os.fspath(one) for one in image]
    if os.path.isdir(image):
        return [str(path) for path in series_files(Path(image), Limits())[0]]
    return [os.fspath(image)]


def _in_order(files: Sequence[str]) -> list[str]:
    if len(files) == 1:
        return list(files)
    found = [part for file in files for part in slices_of(file, Limits())]
    normal = found[0].normal
    found.sort(key=lambda part: float(part.position @ normal))
    kept = [found[0]]
    for part in found[1:]:
        if np.linalg.norm(part.position - kept[-1].position) >= SAME_PLACE_MM:
            kept.append(part)
    return [str(part.source) for part in kept]
