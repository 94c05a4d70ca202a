"""Job of a prediction, as its outputs see it, and the record of the files that they wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.data.decode import fault_of
from movl_monai.data.series import SeriesScan
from movl_monai.errors import UnwritableError
from movl_monai.evaluation.mask_files import IrregularSpacingError, MaskFiles
from movl_monai.predict.listing import StoredFrames, headers_of, item_place, stored_frames
from movl_monai.predict.loader import Item
from movl_monai.predict.model import Model
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers.dicom.visible import may_show_names

__all__ = ["Ending", "Job", "Picture", "Written"]

Row = dict[str, Any]


@dataclass(kw_only=True)
class Job:
    """Model, folder and sources of a prediction, as its outputs need them.

    Args:
        model: model that predicts.
        folder: folder of the outputs.
        series: DICOM series, by case.
        started: time stamp of the outputs, in seconds.
        codes: codes of classes, by name: (value, scheme designator, meaning).
    """

    model: Model
    folder: Path
    series: Mapping[str, SeriesScan]
    started: int
    codes: Mapping[str, Sequence[str]] | None = None
    _frames: tuple[SegmentedCase, StoredFrames | None] | None = None

    @cached_property
    def masks(self) -> MaskFiles:
        """Writer of masks."""
        return MaskFiles(self.folder / "masks", mask_dtype=self.model.mask_dtype)

    def frames(self, case: SegmentedCase) -> StoredFrames | None:
        """Return the classes of a case on the frames of its DICOM source; None for another source."""
        if self._frames is None or self._frames[0] is not case:
            self._frames = case, stored_frames(case) if case.id in self.series else None
        return self._frames[1]

    def image(self, item: Item) -> np.ndarray:
        """Load an image as the model does, at its original size."""
        return np.asarray(self.model.preprocessing.transforms[0](dict(item))["image"])

    def place(self, item: Item) -> tuple[str, int | None]:
        """Return the file of an image, and its frame in a file of several."""
        return item_place(item)

    def header(self, file: str) -> Any:
        """Read the header of a DICOM file, without pixels."""
        return headers_of([file])[0]

    def may_show_names(self, file: str) -> bool:
        """Return whether the image of a DICOM file may show a name."""
        return may_show_names(self.header(file))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Picture of an image, or of a frame with findings.

    Args:
        name: name of its file, without a suffix.
        case: case that it belongs to.
        place: its file, and its frame in a file of several; None for a slice of a volume in one file.
        number: position among the pictures of the case, from 1.
        pixels: draws it.
    """

    name: str
    case: str
    place: tuple[str, int | None] | None
    number: int
    pixels: Callable[[], np.ndarray]


class Written:
    """Files written for a row, and the reasons why others could not be written."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.problems: dict[str, str] = {}

    def add(self, name: str, write: Callable[[], list[str]]) -> None:
        """Write an output, or keep the reason of the failure; a full disk ends the run."""
        try:
            self.files += write()
        except Exception as error:
            self.fail(name, error)

    def fail(self, name: str, error: Exception) -> None:
        """Keep the reason why an output could not be written.

        Raises:
            Exception: the error itself, if it must end the run.
        """
        from movl_monai.predict.dicom import DicomOutputError

        if isinstance(error, UnwritableError):
            reason = error.reason
        elif isinstance(error, IrregularSpacingError):
            reason = "irregular_spacing"
        else:
            reason = "unfit_source" if isinstance(error, DicomOutputError) else fault_of(error)[0]
        self.problems[name] = reason

    def added_to(self, row: Row) -> Row:
        """Return a row with the files and problems added to those that it already has."""
        problems = [*row.get("not_written", ()), *(f"{name}:{why}" for name, why in self.problems.items())]
        entries: Row = {"files": [*row.get("files", ()), *self.files]}
        return row | entries | ({"not_written": problems} if problems else {})


@dataclass(frozen=True)
class Ending:
    """Finished rows, for outputs about several images.

    Args:
        rows: rows of images and skipped files.
        items: images by id.
        written: files and problems by id, to be filled in.
    """

    rows: Sequence[Row]
    items: Mapping[str, Item]
    written: dict[str, Written] = field(default_factory=lambda: defaultdict(Written))

    def add(self, ids: Sequence[str], name: str, write: Callable[[], list[str]]) -> None:
        """Write an output about several images, and record it for each of them."""
        common = Written()
        common.add(name, write)
        for one in ids:
            self.written[one].files += common.files
            self.written[one].problems |= common.problems
