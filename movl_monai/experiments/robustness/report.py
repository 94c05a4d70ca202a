"""Result of a suite as a JSON-able dictionary, and its four files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.evaluation import run_info
from movl_monai.experiments.robustness.figure import draw_robustness
from movl_monai.experiments.robustness.figures import CLEAN, Cell, robustness_figures
from movl_monai.experiments.robustness.table import robustness_csv, robustness_markdown
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = ["SCHEMA_VERSION", "build_result", "write_result"]

SCHEMA_VERSION = 1


def build_result(
    logits: Mapping[str, Mapping[Cell, np.ndarray]],
    labels: np.ndarray,
    *,
    class_names: Sequence[str],
    baseline: str,
    patients: Sequence[str | None] | None = None,
    seed: int = 0,
    facts: Mapping[str, Mapping[str, Any]] | None = None,
    notes: Sequence[str] = (),
    **resampling: Any,
) -> dict[str, Any]:
    """Collect the results of a suite.

    Args:
        logits: (N, C) by network and cell, see :func:`~movl_monai.experiments.robustness.figures.robustness_figures`.
        labels: integers (N,), with every class present.
        class_names: names in the order of the logits.
        baseline: name of the baseline network.
        patients: patient of each image; only their number is written.
        seed: seed of the corruptions.
        facts: facts about each network, without paths.
        notes: further notes for readers.
        resampling: ``rounds`` and ``level`` of the bootstrap.

    Returns:
        JSON-able: ``schema_version``, ``baseline``, ``seed``, ``images`` (``n``, ``patients``, ``classes``),
        ``corruptions`` (``meaning``, ``parameters`` by severity), ``facts``, ``versions``, and the entries of
        ``robustness_figures``.
    """
    found = robustness_figures(logits, labels, baseline=baseline, patients=patients, **resampling)
    names = [name for name in dict.fromkeys(name for name, _ in logits[baseline]) if name != CLEAN[0]]
    counts = Counter(int(label) for label in labels)
    known = patients is not None and None not in patients
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "baseline": baseline,
        "seed": seed,
        "images": {
            "n": len(labels),
            "patients": len(set(patients or ())) if known else None,
            "classes": {name: counts[index] for index, name in enumerate(class_names)},
        },
        "corruptions": {
            name: _described(name, [s for other, s in logits[baseline] if other == name]) for name in names
        },
        "facts": {run: dict((facts or {}).get(run, {})) for run in logits},
        "versions": run_info()["versions"],
        **found,
    }
    result["notes"] = [*notes, *result["notes"]]
    return dict(jsonable(result))


def write_result(folder: Path, result: Mapping[str, Any], *, command: str) -> str:
    """Write robustness.json, .csv, .png and .md atomically into a folder, and return the Markdown page.

    Raises:
        MovlError: if the folder cannot be written.
    """
    page = robustness_markdown(result, command=command, picture="robustness.png")
    write_atomically(folder / "robustness.json", to_json(result).encode())
    write_atomically(folder / "robustness.csv", robustness_csv(result).encode())
    write_atomically(folder / "robustness.png", draw_robustness(result))
    write_atomically(folder / "robustness.md", page.encode())
    return page


def _described(name: str, severities: Sequence[int]) -> dict[str, Any]:
    part = CORRUPTIONS[name]
    return {"meaning": part.meaning, "parameters": {str(s): part.parameters[s - 1] for s in severities}}
