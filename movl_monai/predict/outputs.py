"""Write what was found in other forms than tables: masks, DICOM objects, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from movl_monai.evaluation.mask_files import MaskFiles
from movl_monai.predict.batches import Item
from movl_monai.predict.listing import Listed
from movl_monai.predict.model import Model
from movl_monai.predict.series import SeriesScan
from movl_monai.predict.tasks import SegmentedCase

__all__ = ["Outputs"]


class Outputs:
    """Writes the outputs of images and cases as they are done.

    Args:
        model: the model.
        kinds: of :data:`movl_monai.predict.kinds.KINDS`.
        folder: where to.
        series: of the cases of DICOM files.
        started: the time that outputs carry, in seconds.
    """

    def __init__(
        self, model: Model, kinds: frozenset[str], folder: Path, series: Mapping[str, SeriesScan], *, started: int
    ) -> None:
        self.model, self.kinds, self.folder, self.series, self.started = model, kinds, folder, series, started
        self.masks = MaskFiles(folder / "masks", class_names=model.class_names, mask_dtype=model.mask_dtype)

    def classified(self, item: Item, row: dict[str, Any]) -> dict[str, Any] | None:
        """Take an image."""
        return None

    def segmented(self, case: SegmentedCase) -> dict[str, Any] | None:
        """Write the mask of a case."""
        if case.is_volume and "nifti" in self.kinds:
            slices = {int(item["frame"]): plane for item, plane in zip(case.items, case.planes, strict=True)}
            source = case.items[0]["image"]
            axis = case.record["slice_axis"]
            self.masks.write_volume(case.id, slices, source=source, axis=axis, spacing=case.spacing)
        if not case.is_volume and "png" in self.kinds:
            for item, plane in zip(case.items, case.planes, strict=True):
                self.masks.write_image(item["id"], plane, spacing=None)
        return None

    def finish(self, listed: Listed, rows: list[dict[str, Any]]) -> list[str]:
        """Write what is made of everything together; returns notes."""
        return []
