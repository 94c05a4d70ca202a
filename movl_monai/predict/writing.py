"""Write the outputs of each image or case when it is done, and the reports and tables at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from movl_monai.errors import RESEARCH_USE
from movl_monai.evaluation.rows import no_answer
from movl_monai.files import write_atomically
from movl_monai.fonts import legible_names
from movl_monai.predict.job import Ending, Job, Picture, Written
from movl_monai.predict.listing import Listed
from movl_monai.predict.loader import Item
from movl_monai.predict.outputs import OUTPUTS, Output
from movl_monai.predict.sources import item_place
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers.dicom.quiet import quiet

__all__ = ["Writer"]

Row = dict[str, Any]


class Writer:
    """Write the outputs of a prediction.

    The row of a case lists the outputs that could not be written (``not_written``) and the written files (``files``;
    this list stays on this machine).

    Args:
        job: model, folder and sources of the prediction.
        names: names of the outputs, see :data:`movl_monai.predict.outputs.OUTPUTS`.
    """

    def __init__(self, job: Job, names: Sequence[str]) -> None:
        self.job = job
        self.outputs = [OUTPUTS[name](job) for name in sorted(names)]
        self.of_units = [output for output in self.outputs if output.is_of_units()]

    @quiet()
    def classified(self, item: Item, row: Row) -> Row:
        """Write the outputs of an image, and return its row with the files added."""
        return self._write(row, lambda output: output.classified(item, row), self._picture(item, row))

    @quiet()
    def segmented(self, case: SegmentedCase, row: Row) -> Row:
        """Write the outputs of a case, and return its row with the files added."""
        return self._write(row, lambda output: output.segmented(case, row), self._pictures(case))

    def _write(self, row: Row, write: Callable[[Output], list[str]], pictures: Iterator[Picture]) -> Row:
        if not self.of_units:
            return row
        written = Written()
        for output in self.of_units:
            written.add(output.name, partial(write, output))
        drawing = [output for output in self.of_units if type(output).draw is not Output.draw]
        try:
            drawn = list(pictures) if drawing else []
        except Exception as error:
            for output in drawing:
                written.fail(output.name, error)
            return written.added_to(row)
        for picture in drawn:
            for output in drawing:
                written.add(output.name, partial(output.draw, picture))
        return written.added_to(row)

    @quiet()
    def finish(self, listed: Listed, rows: Sequence[Row]) -> list[Row]:
        """Write the outputs about several images, and return the rows with the files added."""
        ending = Ending(rows, {item["id"]: item for item in listed.items})
        for output in self.outputs:
            output.finish(ending)
        return [ending.written[row["id"]].added_to(row) if row["id"] in ending.written else row for row in rows]

    def write_tables(self, rows: Sequence[Row]) -> list[str]:
        """Write the tables of all rows, and return their names."""
        shown = [{name: value for name, value in row.items() if name != "files"} for row in rows]
        tables = [table for output in self.outputs if (table := output.table(shown)) is not None]
        for name, content in tables:
            write_atomically(self.job.folder / name, content)
        return [name for name, _ in tables]

    def _picture(self, item: Item, row: Row) -> Iterator[Picture]:
        """Yield the picture of an image: its pixels, and the answer below them."""
        from movl_monai.predict.dicom import draw_text

        pixels = cache(lambda: draw_text(self.job.image(item), _said(row, self.job.model.class_names)))
        yield Picture(name=item["id"], case=item["case"], place=item_place(item), number=1, pixels=pixels)

    def _pictures(self, case: SegmentedCase) -> Iterator[Picture]:
        """Yield pictures of the frames with findings, or of the middle frame if there are none."""
        frames = self.job.frames(case)
        planes = list(case.planes if frames is None else frames.classes)
        found = [number for number, plane in enumerate(planes) if plane.any()]
        lines = [*([] if found else ["Nothing found."]), RESEARCH_USE]
        for position, number in enumerate(found or [len(planes) // 2], start=1):
            place = None if frames is None else frames.place(number)
            item = case.items[number] if place is None else _item_at(*place)
            yield Picture(
                name=case.id if len(planes) == 1 else f"{case.id}_{number:04d}",
                case=case.id,
                place=place,
                number=position,
                pixels=cache(partial(self._drawn, item, planes[number], lines)),
            )

    def _drawn(self, item: Item, plane: np.ndarray, lines: Sequence[str]) -> np.ndarray:
        from movl_monai.predict.dicom import draw_classes

        return draw_classes(self.job.image(item), plane, self.job.model.class_names, lines)


def _item_at(file: str, frame: int | None) -> Item:
    return {"image": file} if frame is None else {"image": file, "frame": frame}


def _said(row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Return the lines below an image: the answer, or the reason why there is none."""
    predicted = legible_names(class_names)[list(class_names).index(row["predicted"])]
    values = row.get("calibrated") or row["probabilities"]
    refusal = no_answer(outside=row.get("outside"), abstain=row.get("abstain"))
    if refusal:
        return [refusal, f"Raw output of the network, not to be relied on: {predicted} {max(values):.2f}", RESEARCH_USE]
    kind = "calibrated" if row.get("calibrated") else "not calibrated"
    return [f"Most probable: {predicted}, probability {max(values):.2f} ({kind})", RESEARCH_USE]
