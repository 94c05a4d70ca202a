"""Record of the files that an application did not predict, reported at its end; independent of the SDK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from movl_monai.data.series import HARMLESS
from movl_monai.errors import EXIT_SOME_FAILED
from movl_monai.evaluation.rows import OK

if TYPE_CHECKING:
    from movl_monai.predict.listing import Listed

__all__ = ["LeftOut", "Outcome", "outcome_of"]


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file or study that is not predicted. It identifies patients and stays in memory.

    Args:
        path: path of the file, or of the folder with the study's first file.
        reason: code of :data:`movl_monai.data.series.REASONS` or :data:`movl_monai.readers.errors.REASONS`.
        study: StudyInstanceUID of a study; "" for a file.
    """

    path: Path
    reason: str
    study: str = ""


class Outcome:
    """Outcome of an application: predicted studies, failures, and outputs that could not be written.

    Attributes:
        left_out: files and studies that never reach the network; the inference operator writes a row for each.
        started: time stamp of the outputs, in seconds; None takes that of the prediction.
        text: a few sentences about the failures, "" if there are none.
        exit_code: 0, or 4 if something failed and the rest was predicted, as in `movl-monai predict`.

    Example:
        >>> outcome = Outcome()
        >>> outcome.found_studies(["1.2.1", "1.2.2"])
        >>> outcome.leave_out(Path("a"), "several_series", study="1.2.1")
        >>> outcome.text, outcome.exit_code
        ('1 of 2 studies could not be predicted.', 4)
    """

    def __init__(self) -> None:
        self.left_out: list[LeftOut] = []
        self.started: int | None = None
        self._found: set[str] = set()
        self._predicted: set[str] = set()
        self._failed_images: Counter[str] = Counter()
        self._not_written: Counter[str] = Counter()
        self._tables: list[str] = []

    def found_studies(self, studies: Iterable[str]) -> None:
        """Add the StudyInstanceUIDs of all images in the input."""
        self._found.update(studies)

    def leave_out(self, path: Path, reason: str, *, study: str = "") -> None:
        """Add a file or study that is not predicted, unless no prediction was expected for it."""
        if reason not in HARMLESS:
            self.left_out.append(LeftOut(path=path, reason=reason, study=study))

    def predicted(self, listed: Listed, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add the listed files and the rows of a prediction."""
        cases = {item["id"]: item["case"] for item in listed.items}
        scans = listed.series
        for row in rows:
            scan = scans.get(cases.get(row["id"], row["id"]))
            if row["status"] == OK:
                self._predicted.add("" if scan is None else scan.study)
            elif scan is not None:
                self._failed_images[scan.study] += 1

    def not_written(self, problems: Mapping[str, int]) -> None:
        """Add outputs that could not be written, counted by output and reason."""
        self._not_written.update(problems)

    def table(self, name: str) -> None:
        """Add the name of a file whose rows hold the reasons."""
        self._tables.append(name)

    @property
    def text(self) -> str:
        """A few sentences about the failures."""
        failed = {one.study for one in self.left_out if one.study} | (set(self._failed_images) - self._predicted)
        images = sum(count for study, count in self._failed_images.items() if study not in failed)
        files = sum(not one.study for one in self.left_out)
        said = []
        if failed:
            said.append(f"{len(failed)} of {len(self._found | failed)} studies could not be predicted.")
        if images:
            said.append(f"{images} {_of('image', images)} of the others could not be predicted.")
        if files:
            said.append(f"{files} {_of('file', files)} could not be read.")
        if said and self._tables:
            said.append(f"Each has a row with its reason in {', '.join(self._tables)}.")
        if self._not_written:
            listed = ", ".join(f"{what} {count}" for what, count in self._not_written.most_common())
            said.append(f"Not written: {listed}.")
        return " ".join(said)

    @property
    def exit_code(self) -> int:
        """Exit code, 0 or 4."""
        return EXIT_SOME_FAILED if self.text else 0


def outcome_of(fragment: Any) -> Outcome:
    """The application's outcome, or a throw-away one."""
    found = getattr(fragment, "outcome", None)
    return found if isinstance(found, Outcome) else Outcome()


def _of(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
