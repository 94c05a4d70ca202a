"""Figures of a segmentation by patient group, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from movl_monai.metrics.entries import GroupFacts, GroupGap, MaskGroup, MaskGroups
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.stored.cases import Case

__all__ = ["SMALL_BELOW", "mask_groups"]

SMALL_BELOW = 20  # number of cases, and of patients if they are known
_FIGURES = ("dice", "iou", "hd95")


def mask_groups(
    sections: Mapping[str, Sequence[Case]], *, small_below: int = SMALL_BELOW, **resampling: Any
) -> MaskGroups | None:
    """Compute the means of every group in every section, and the largest gap in Dice between two groups.

    Args:
        sections: cases by section.
        small_below: number of cases, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level``, ``seed`` of the patient-clustered intervals.

    Returns:
        None without a group column; else the layout of a classification's entry ``groups``, with the figures ``dice``,
        ``iou`` and ``hd95``: by column and section the groups by value ("" for a case without one), ``gaps`` and
            ``notes``.
    """
    columns = list(dict.fromkeys(name for part in sections.values() for case in part for name in case.groups))
    if not columns:
        return None
    result: MaskGroups = {"notes": [f"Groups of fewer than {small_below} cases or patients are marked as small."]}
    for name in columns:
        groups: dict[str, dict[str, MaskGroup]] = {}
        gaps: dict[str, GroupGap] = {}
        own: list[str] = []
        for key, cases in sections.items():
            if not any(name in case.groups for case in cases):
                own.append(f"{key}: no cases with this column.")
                continue
            values = [case.groups.get(name, "") for case in cases]
            groups[key], gaps[key], notes = _section(cases, values, small_below, resampling)
            own += [f"{key}: {note}" for note in notes]
        # the key "notes" holds the notes of the report
        result["notes (column)" if name == "notes" else name] = {"gaps": gaps, "notes": own, **groups}
    return result


def _section(
    cases: Sequence[Case], values: Sequence[str], small_below: int, resampling: Mapping[str, Any]
) -> tuple[dict[str, MaskGroup], GroupGap, list[str]]:
    figures = {name: np.array([case.mean(name) for case in cases]) for name in _FIGURES}
    rows = {value: np.asarray(values) == value for value in sorted(set(values), key=lambda value: (value == "", value))}
    means = {(value, name): _mean(figures[name][own]) for value, own in rows.items() for name in _FIGURES}
    facts = {
        value: _facts([cases[int(row)] for row in np.flatnonzero(own)], small_below) for value, own in rows.items()
    }
    pair = _furthest(means, facts)
    bootstrap = PatientBootstrap(len(cases), [case.patient for case in cases], unit="cases", **resampling)

    def drawn(weights: np.ndarray) -> dict[str, np.ndarray]:
        found = {
            f"{name} of {value!r}": _weighted_mean(figures[name][own], weights[own])
            for value, own in rows.items()
            for name in _FIGURES
        }
        if pair is not None:
            found["the gap in dice"] = found[f"dice of {pair[0]!r}"] - found[f"dice of {pair[1]!r}"]
        return found

    intervals = bootstrap.intervals(drawn, why="a group had no case with a value")
    groups: dict[str, MaskGroup] = {
        value: {
            **size,
            "dice": means[value, "dice"],
            "iou": means[value, "iou"],
            "hd95": means[value, "hd95"],
            "intervals": {name: intervals[f"{name} of {value!r}"] for name in _FIGURES},
        }
        for value, size in facts.items()
    }
    if pair is None:
        why = ["There are not two groups with a Dice."]
        return (
            groups,
            {"metric": "dice", "largest": None, "between": None, "interval": None, "notes": why},
            bootstrap.notes,
        )
    small = any(facts[value]["small"] for value in pair)
    largest = (means[pair[0], "dice"] or 0.0) - (means[pair[1], "dice"] or 0.0)
    gap: GroupGap = {
        "metric": "dice",
        "largest": largest,
        "between": list(pair),
        "interval": intervals["the gap in dice"],
        "small": small,
        "notes": [],
    }
    return groups, gap, bootstrap.notes


def _furthest(
    means: Mapping[tuple[str, str], float | None], groups: Mapping[str, GroupFacts]
) -> tuple[str, str] | None:
    """Return the two groups that differ most in Dice, the better first; small groups only if not two others exist."""
    known = {value: mean for value in groups if (mean := means[value, "dice"]) is not None}
    large = [value for value in known if not groups[value]["small"]]
    chosen = large if len(large) > 1 else list(known)
    pairs = [(one, two) if known[one] >= known[two] else (two, one) for one, two in combinations(chosen, 2)]
    return max(pairs, key=lambda pair: known[pair[0]] - known[pair[1]], default=None)


def _facts(cases: Sequence[Case], small_below: int) -> GroupFacts:
    patients = {case.patient for case in cases if case.patient is not None}
    alone = sum(case.patient is None for case in cases)  # each may be a separate patient
    small = len(cases) < small_below or (bool(patients) and len(patients) + alone < small_below)
    return {"n": len(cases), "n_patients": len(patients) or None, "small": small}


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    total = weights[known].sum(axis=0)
    return np.divide(values[known] @ weights[known], total, out=np.full(len(total), np.nan), where=total > 0)
