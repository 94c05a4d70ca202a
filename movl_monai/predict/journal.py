"""Journal of finished units and the outputs written for each; an interrupted run resumes and gives the same results."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.errors import RESEARCH_USE, DataError, MovlError
from movl_monai.files import write_atomically
from movl_monai.predict.job import Ending, Job, Picture, Written
from movl_monai.predict.listing import Listed, item_place
from movl_monai.predict.loader import Item
from movl_monai.predict.outputs import OUTPUTS, Output
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.report.tasks import task_named

__all__ = ["Journal", "Writer"]

_FORMAT = 2  # rows with answers
_PATTERN = "journal*.jsonl"
Row = dict[str, Any]


class Journal:
    """Results of finished units, one line of JSON each; a line cut off by a crash is ignored.

    Each process writes its own file in the same folder, and all files are read. The files hold salted ids and no paths.

    Args:
        folder: folder of the files.
        settings: everything besides the images that the results depend on; other settings in the folder are an error.
        rank: number of this process.
        first: makes the values that the first run fixes for all later runs, such as ``batch_size``.

    Attributes:
        fixed: values made by ``first``, in this run or in the first one.
        done: rows, by the key of their unit.

    Raises:
        DataError: if the folder holds results of another model or with other settings.
        MovlError: if the file cannot be written.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, Any], first: Callable[[], Mapping[str, Any]] = dict, rank: int = 0
    ) -> None:
        self.path = folder / (f"journal.{rank}.jsonl" if rank else "journal.jsonl")
        self.settings = dict(settings)
        self.fixed: dict[str, Any] = {}
        self.done: dict[str, Any] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob(_PATTERN)):
                self._read(path)
            self._end_torn_line()
            # created with its final mode, so that other users can never read it
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._stream = os.fdopen(descriptor, "ab", buffering=0)
            self.fixed = self.fixed or dict(first())
            if not os.path.getsize(self.path):
                self._append({"format": _FORMAT, "settings": self.settings, "fixed": self.fixed})
        except OSError as error:
            raise _cannot_write(error) from error

    def add(self, key: str, rows: Any) -> None:
        """Record a finished unit; it is on disk when this returns.

        Raises:
            MovlError: if the disk is full, or the file cannot be written.
        """
        try:
            self._append({"unit": key, "rows": rows})
        except OSError as error:
            raise _cannot_write(error) from error
        self.done[key] = rows

    def reload(self) -> None:
        """Read the files again, for the entries of other processes."""
        for path in sorted(self.path.parent.glob(_PATTERN)):
            self._read(path)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        if self._stream.write(line) != len(line):
            raise OSError(28, "No space left on device")
        os.fsync(self._stream.fileno())

    def _read(self, path: Path) -> None:
        lines = path.read_bytes().split(b"\n")[:-1]  # the part after the last line end is incomplete
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # a cut-off line that a later run terminated
            if number == 0:
                self._check(entry)
                self.fixed |= entry["fixed"]
            elif "unit" in entry:
                self.done[entry["unit"]] = entry["rows"]

    def _check(self, entry: Mapping[str, Any]) -> None:
        theirs = entry.get("settings") or {}
        if entry.get("format") != _FORMAT or theirs != self.settings:
            names = sorted(name for name in {*theirs, *self.settings} if theirs.get(name) != self.settings.get(name))
            raise DataError(
                f"The output folder holds predictions with another {', '.join(names) or 'format'}; choose another "
                "--output_dir, or delete that folder."
            )

    def _end_torn_line(self) -> None:
        if self.path.exists() and (content := self.path.read_bytes()) and not content.endswith(b"\n"):
            kept = content[: content.rfind(b"\n") + 1]
            os.truncate(self.path, len(kept))


def _cannot_write(error: OSError) -> MovlError:
    return MovlError(
        f"The journal of the predictions cannot be written: {error.strerror or error}. Expected an --output_dir that "
        "can be written, with space left; free some, and give the same command again: it goes on where it was."
    )


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

        task = task_named(self.job.model.task)
        said = [*task.said(row, self.job.model.class_names), RESEARCH_USE]
        pixels = cache(lambda: draw_text(self.job.image(item), said))
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
