"""Compare the segmentations of two runs case by case, also if their ids have different salts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from movl_monai.data.kept_splits import LEARNED
from movl_monai.errors import MovlError
from movl_monai.files import to_json, write_atomically

__all__ = ["add_mask_comparisons", "refuse_learned_cases", "with_ids_of"]

_Row = TypeVar("_Row")


def add_mask_comparisons(evaluation: str | os.PathLike[str], against: Sequence[str | os.PathLike[str]]) -> None:
    """Add paired differences to other runs to the report of a segmentation, and rewrite its page.

    Args:
        evaluation: the folder with report.json.
        against: other runs, evaluated on the same cases.

    Raises:
        MovlError: if a run has no report, is of another task, or was evaluated on other cases. The report is then left
            unchanged.
    """
    from movl_monai.report.html import read_report, write_html
    from movl_monai.report.several_runs import compare_reports

    folder, entries = Path(evaluation), []
    for other in against:
        (entry,) = compare_reports([other, folder])["differences"].values()
        if not entry["sections"]:
            raise MovlError(" ".join(entry["notes"]))
        entries.append(entry)
    report = {**read_report(folder), "comparisons": entries}
    write_atomically(folder / "report.json", to_json(report).encode())
    write_html(folder)


def with_ids_of(one: Mapping[str, Any], two: Mapping[str, _Row], *, runs: tuple[Path, Path]) -> dict[str, _Row]:
    """Return the rows of one evaluation under the ids of another, also if the salts differ.

    Args:
        one: rows by salted id; only the ids are used.
        two: rows of the same cases by other ids.
        runs: folders of both evaluations; `local/id_map.json` beside each gives the names behind its ids.

    Raises:
        DifferentTestSetsError: if one evaluation has cases that the other lacks.
        MovlError: if the salts differ and an id map is missing.
    """
    from movl_monai.metrics.matching import match_images

    names = [_names(run) for run in runs]
    ids = list(two)
    rows = match_images(list(one), ids, names_a=names[0], names_b=names[1])
    return {name: two[ids[row]] for name, row in zip(one, rows, strict=True)}


def refuse_learned_cases(cases: Mapping[str, Mapping[str, str]], *, runs: tuple[Path, Path]) -> None:
    """Refuse test cases that one of two runs learned from.

    Raises:
        LeakageError: if a run learned from one of them.
    """
    from movl_monai.metrics.unlearned import refuse_learned

    test = [name for name, row in cases.items() if row["split"] not in LEARNED]
    refuse_learned(runs, test, _names(runs[0]), domain="test")


def _names(evaluation: Path) -> Any:
    from movl_monai.data import IdMap
    from movl_monai.metrics.matching import ImageNames

    file = evaluation.resolve().parent / "local" / "id_map.json"
    if not file.is_file():
        return None
    ids = IdMap(file)
    keys = ids.keys()
    return ImageNames(keys, paths={name: ids.path_of(name) for name in keys})
