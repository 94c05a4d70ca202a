"""Figures of images and of segmented cases by patient group, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from movl_monai.data.entries import natural_key
from movl_monai.metrics.declared import CLASS_FIGURES, MASK_FIGURES, TaskFigures
from movl_monai.metrics.entries import (
    Group,
    GroupComparison,
    GroupFacts,
    GroupGap,
    Groups,
    Intervals,
    MainGap,
    MaskGroup,
    MaskGroups,
)
from movl_monai.metrics.intervals import Figures, PatientBootstrap, weighted_mean
from movl_monai.metrics.stored.cases import Case
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.weighted import WeightedFigures

__all__ = ["GROUP_METRICS", "SMALL_BELOW", "group_figures", "group_report", "mask_groups"]

GROUP_METRICS = CLASS_FIGURES.leading
SMALL_BELOW = 20  # number of images, and of patients if they are known
_MANY = 12  # columns with more values should be put into bands
_FIGURES = MASK_FIGURES.leading


def group_report(
    sections: Mapping[str, StoredOutputs],
    *,
    columns: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    weighted: Callable[[Predictions], Figures] | None = None,
    small_below: int = SMALL_BELOW,
    **resampling: Any,
) -> Groups:
    """Compute the figures of every group in every section, and the largest gap between two groups.

    Args:
        sections: images by section, with their groups; images without a label are left out.
        columns: names of the group columns; None takes all.
        metrics: names of figures; the gap of a section is that of the first with a value in two groups. None takes
            the leading ones.
        figures: figures of a task that gives one of several classes, and its predicted class.
        weighted: maps labelled images to their figures by weights; None for ``figures``.
        small_below: number of images, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Returns:
        for each column, by section, the ``groups`` of :func:`group_figures` by value ("" for images without one);
        ``gaps``: for each section its ``gap``; ``notes`` of the column. Beside the columns general ``notes``.
    """
    names = list(dict.fromkeys(name for part in sections.values() for name in part.groups))
    wanted = names if columns is None else list(columns)
    result: Groups = {}
    notes = [
        f"There is no group {name!r}; there are: {', '.join(names) or 'none'}." for name in wanted if name not in names
    ]
    shown = [name for name in wanted if name in names]
    if shown:
        notes.append(
            f"Groups of fewer than {small_below} images or patients are marked as small. The gap is the largest of "
            "several, so part of it is chance even where its interval is not around 0."
        )
    for name in shown:
        groups: dict[str, dict[str, Group]] = {}
        gaps: dict[str, MainGap] = {}
        own: list[str] = []
        for section, part in sections.items():
            known = part.labeled()
            if not len(known) or name not in known.groups:
                own.append(f"{section}: no labeled images with this column.")
                continue
            found = group_figures(
                known.predictions,
                known.groups[name],
                metrics=metrics,
                figures=figures,
                weighted=weighted,
                small_below=small_below,
                **resampling,
            )
            groups[section], gaps[section] = found["groups"], found["gap"]
            own += [f"{section}: {note}" for note in found["notes"]]
        # the key "notes" holds the notes of the report
        result["notes (column)" if name == "notes" else name] = {"gaps": gaps, "notes": own, **groups}
    return {**result, "notes": notes}


def group_figures(
    images: Predictions,
    values: Sequence[str],
    *,
    metrics: Sequence[str] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    weighted: Callable[[Predictions], Figures] | None = None,
    small_below: int = SMALL_BELOW,
    **resampling: Any,
) -> GroupComparison:
    """Compute the figures of every group of the same images, and the gaps, with common resamples of patients.

    Args:
        images: labeled images, (N,).
        values: group of each image, (N,); "" if it has none.
        metrics: names of figures; None takes the leading ones.
        figures: see :func:`group_report`.
        weighted: see :func:`group_report`.
        small_below: number of images, and of known patients, below which a group is marked as small.
        resampling: ``rounds``, ``level``, ``seed``.

    Returns:
        ``groups``: by value ``n``, ``n_patients`` (None if unknown), ``small``, each metric (None if undefined) and
        ``intervals``; ``gap``: ``metric``, ``largest`` (None without two groups that have a value), ``between`` (the
        better one first), ``interval``, ``small`` (whether a group of the gap is small, because there are not two
        others), ``notes``, and ``all``: the same for every metric; ``notes``.

    Raises:
        ValueError: if there is not one value per image.

    Example:
        >>> images = Predictions(ids=["0", "1", "2", "3"], labels=[0, 1, 0, 1], logits=np.eye(2)[[0, 1, 0, 0]])
        >>> found = group_figures(images, ["F", "F", "M", "M"], metrics=["accuracy"], rounds=10)
        >>> found["groups"]["M"]["accuracy"], found["gap"]["largest"], found["gap"]["between"]
        (0.5, 0.5, ['F', 'M'])
    """
    if len(values) != len(images):
        raise ValueError(f"Expected one value per image, got {len(values)} for {len(images)} images.")
    metrics = figures.leading if metrics is None else metrics
    parts = {}
    for value, rows in _rows(values).items():
        own = images.take(rows)
        weigh: Figures = (
            weighted(own) if weighted else WeightedFigures(own.labels, own.logits, metrics=metrics, figures=figures)
        )
        once = {metric: float(drawn[0]) for metric, drawn in weigh(np.ones((len(own), 1))).items()}
        parts[value] = _Part(rows, _facts(own.patients, small_below), once, weigh)
    bootstrap = PatientBootstrap(len(images), images.patients, **resampling)
    groups, gaps = _compare(parts, metrics, gaps_of=metrics, bootstrap=bootstrap)
    main = next((gap for gap in gaps.values() if gap["largest"] is not None), gaps[metrics[0]])
    notes = [*_group_notes(parts, metrics), *bootstrap.notes]
    return {"groups": groups, "gap": {**main, "all": gaps}, "notes": notes}


class _Part(NamedTuple):
    """A group: its rows, its size, its figures, and its figures for weights (n, R) of its rows."""

    rows: np.ndarray
    facts: GroupFacts
    once: Mapping[str, float]
    weigh: Callable[[np.ndarray], Mapping[str, np.ndarray]]


def _compare(
    parts: Mapping[str, _Part],
    metrics: Sequence[str],
    *,
    gaps_of: Sequence[str],
    bootstrap: PatientBootstrap,
    **reason: str,
) -> tuple[dict[str, Any], dict[str, GroupGap]]:
    """Return the entries of groups and their gaps, with common resamples of patients."""
    pairs = {metric: _largest(parts, metric) for metric in gaps_of}

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = {value: part.weigh(weights[part.rows]) for value, part in parts.items()}
        named = {_name(metric, value): drawn[value][metric] for value in parts for metric in metrics}
        for metric, pair in pairs.items():
            if pair is not None:
                named[f"the gap in {metric}"] = drawn[pair[0]][metric] - drawn[pair[1]][metric]
        return named

    intervals = bootstrap.intervals(figures, **reason)
    groups: dict[str, Any] = {}
    for value, part in parts.items():
        numbers = {metric: _number(part.once[metric]) for metric in metrics}
        bounds: Intervals = {metric: intervals[_name(metric, value)] for metric in metrics}
        groups[value] = {**part.facts, **numbers, "intervals": bounds}
    return groups, {metric: _gap(metric, pair, parts, intervals) for metric, pair in pairs.items()}


def _name(metric: str, value: str) -> str:
    return f"{metric} of {value!r}"


def _largest(parts: Mapping[str, _Part], metric: str) -> tuple[str, str] | None:
    """Return the two groups that differ most, the better one first; small groups only if there are not two others."""
    known = {value: part.once[metric] for value, part in parts.items() if not np.isnan(part.once[metric])}
    large = [value for value in known if not parts[value].facts["small"]]
    chosen = large if len(large) > 1 else list(known)
    pairs = [(one, two) if known[one] >= known[two] else (two, one) for one, two in combinations(chosen, 2)]
    return max(pairs, key=lambda pair: known[pair[0]] - known[pair[1]], default=None)


def _gap(metric: str, pair: tuple[str, str] | None, parts: Mapping[str, _Part], intervals: Intervals) -> GroupGap:
    if pair is None:
        why = [f"There are not two groups with a value of {metric}."]
        return {"metric": metric, "largest": None, "between": None, "interval": None, "small": False, "notes": why}
    small = any(parts[value].facts["small"] for value in pair)
    return {
        "metric": metric,
        "largest": parts[pair[0]].once[metric] - parts[pair[1]].once[metric],
        "between": list(pair),
        "interval": intervals[f"the gap in {metric}"],
        "small": small,
        "notes": ["There are not two groups that are not small."] if small else [],
    }


def _facts(patients: Sequence[str | None], small_below: int) -> GroupFacts:
    known = {patient for patient in patients if patient is not None}
    alone = sum(patient is None for patient in patients)  # each may be a separate patient
    small = len(patients) < small_below or (bool(known) and len(known) + alone < small_below)
    return {"n": len(patients), "n_patients": len(known) or None, "small": small}


def _group_notes(parts: Mapping[str, _Part], metrics: Sequence[str]) -> list[str]:
    notes = []
    if "" in parts:
        notes.append(f"{parts[''].facts['n']} images tell no value; they are a group of their own.")
    if len(parts) > _MANY:
        notes.append(f"There are {len(parts)} values; put them into bands, such as '40-59', to have larger groups.")
    for metric in metrics:
        without = [repr(value) for value, part in parts.items() if np.isnan(part.once[metric])]
        if without:
            notes.append(f"{metric} has no value in {', '.join(without)}: a class has no images there, or all of them.")
    return notes


def _rows(values: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each distinct value in natural order, the missing value last."""
    ordered = sorted(set(values), key=lambda value: (value == "", natural_key(value), value))
    return {value: np.flatnonzero(np.asarray(values) == value) for value in ordered}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


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
    columns = {name: np.array([case.mean(name) for case in cases]) for name in _FIGURES}
    parts = {}
    for value, rows in _rows(values).items():
        own = {name: column[rows] for name, column in columns.items()}
        once = {name: float(np.nan if np.isnan(column).all() else np.nanmean(column)) for name, column in own.items()}
        facts = _facts([cases[int(row)].patient for row in rows], small_below)
        parts[value] = _Part(rows, facts, once, partial(_weigh, own))
    bootstrap = PatientBootstrap(len(cases), [case.patient for case in cases], unit="cases", **resampling)
    main = MASK_FIGURES.main
    why = "a group had no case with a value"
    groups, gaps = _compare(parts, _FIGURES, gaps_of=[main], bootstrap=bootstrap, why=why)
    return groups, gaps[main], bootstrap.notes


def _weigh(columns: Mapping[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    return {name: weighted_mean(column, weights) for name, column in columns.items()}
