"""Compare a run with named runs and with the baselines in folders beside it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from movl_monai.errors import MovlError
from movl_monai.metrics.entries import Comparison
from movl_monai.metrics.paired import compare_runs
from movl_monai.metrics.stored.outputs import find_outputs, read_outputs
from movl_monai.report.options import ReportOptions

__all__ = ["BASELINES", "compare_with_runs"]

_LOGGER = logging.getLogger(__name__)

BASELINES = ("linear_probe", "full_finetune")


def compare_with_runs(
    evaluation: str | os.PathLike[str], against: Sequence[str | os.PathLike[str]] = (), *, options: ReportOptions
) -> list[Comparison]:
    """Compare a run in pairs with others on the same test images.

    Folders beside the run's folder called ``linear_probe`` or ``full_finetune`` are baselines by default. A baseline
    that cannot be compared, because it was evaluated on other images, is left out and logged.

    Args:
        evaluation: folder of the run's evaluation, with its stored outputs.
        against: folders of other runs, or of their evaluations.
        options: options of the resampling.

    Returns:
        for each other run the entries of :func:`movl_monai.metrics.paired.compare_outputs`; ``strategy`` is the list of
        its stages, if known.

    Raises:
        MovlError: if a named run has no stored outputs.
        DifferentTestSetsError: if a named run was evaluated on other images.
    """
    own = find_outputs(evaluation).resolve()
    named = [
        find_outputs(path).resolve() for path in ([against] if isinstance(against, (str, os.PathLike)) else against)
    ]
    entries = [_compare(own, other, options) for other in dict.fromkeys(named) if other != own]
    for other in _baselines(own):
        if other in named:
            continue
        try:
            entries.append(_compare(own, other, options))
        except MovlError as error:
            _LOGGER.info("Not compared with %s beside this run: %s", _name(other), error)
    return entries


def _baselines(own: Path) -> list[Path]:
    places = [own.parent.parent.parent / name / "evaluation" / own.name for name in BASELINES]
    return [place for place in places if place.is_file() and place != own]


def _name(outputs: Path) -> str:
    """Return the name of the run's folder."""
    return (outputs.parent.parent if outputs.parent.name == "evaluation" else outputs.parent).name


def _compare(own: Path, other: Path, options: ReportOptions) -> Comparison:
    entry = compare_runs(own, other, name=_name(other), **options.resampling)
    return {**entry, "strategy": (read_outputs(other).facts.get("run") or {}).get("strategy")}
