"""Compute figures with intervals from logits: per corruption and severity, and per network relative to the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.evaluation import WeightedFigures
from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.weighted import Metric

__all__ = [
    "CLEAN",
    "Cell",
    "Errors",
    "corruption_errors",
    "mean_over",
    "relative_corruption_errors",
    "robustness_figures",
]

Cell = tuple[str, int]  # corruption and severity
CLEAN: Cell = ("clean", 0)
METRICS: tuple[Metric, ...] = CLASS_FIGURES.pictured  # type: ignore[assignment]
_MIN_DEFINED = 0.5  # smallest share of rounds with a value that an interval needs
Errors = Mapping[str, np.ndarray]


def robustness_figures(
    logits: Mapping[str, Mapping[Cell, np.ndarray]],
    labels: np.ndarray,
    *,
    baseline: str,
    patients: Sequence[str | None] | None = None,
    shown: TaskFigures = CLASS_FIGURES,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the figures of several networks on the same images, clean and corrupted.

    All figures of a bootstrap round use the same draw of patients, so that ratios and differences to the baseline are
    paired.

    Args:
        logits: (N, C) by network and cell; every network has the same cells, including :data:`CLEAN`.
        labels: integers (N,) in [0, C), with every class present.
        baseline: name of the network that the others are compared with.
        patients: patient of each image; None if unknown.
        shown: figures of the task, and its predicted class.
        rounds: number of resamples.
        level: confidence level of the intervals.
        seed: seed of the draws.

    Returns:
        ``runs``: by network ``clean``, ``corruptions`` (by name and severity), ``corrupted`` (the mean over severities,
        then over corruptions), ``difference`` (of ``corrupted`` to the baseline), ``corruption_error`` and
        ``relative_corruption_error`` (``per_corruption``, ``mean``); each figure is ``{"value", "interval"}``, None if
        undefined. ``undefined``: the corruptions that each mean leaves out. ``resampling``; ``notes``.
    """
    figures = _Figures(logits, labels, baseline, shown)
    once = {name: _number(value[0]) for name, value in figures(np.ones((len(labels), 1))).items()}
    bootstrap = PatientBootstrap(len(labels), patients, rounds=rounds, level=level, seed=seed)
    drawn = bootstrap.resample(figures) if bootstrap.num_resampled > 1 else {}
    least = {name: 1 - (1 - level) / 2 if _is_ratio(name) else _MIN_DEFINED for name in once}
    intervals = {name: _interval(drawn.get(name), level, least[name]) for name in once}
    found = {name: {"value": value, "interval": intervals[name]} for name, value in once.items()}
    return {
        "runs": {run: figures.arranged(run, found) for run in logits},
        "undefined": {"corruption_error": figures.left_out, "relative_corruption_error": figures.relative_left_out},
        "resampling": {key: value for key, value in bootstrap.facts.items() if key != "notes"},
        "notes": [*bootstrap.notes, *figures.notes(), *_gaps(once, drawn, least, rounds)],
    }


class _Figures:
    """All figures as a function of the image weights, keyed by their parts."""

    def __init__(
        self,
        logits: Mapping[str, Mapping[Cell, np.ndarray]],
        labels: np.ndarray,
        baseline: str,
        shown: TaskFigures,
    ) -> None:
        self.runs = list(logits)
        self.baseline = baseline
        cells = list(logits[baseline])
        self.severities = {name: [s for other, s in cells if other == name] for name, _ in cells if name != CLEAN[0]}
        self.weighted = {
            (run, cell): WeightedFigures(labels, logits[run][cell], metrics=METRICS, figures=shown)
            for run in self.runs
            for cell in cells
        }
        whole = self._errors(self._values(np.ones((len(labels), 1))))
        theirs, clean = whole[baseline]
        self.left_out = _undefined(corruption_errors(theirs, theirs))
        relative = relative_corruption_errors(theirs, theirs, clean=clean, baseline_clean=clean)
        self.relative_left_out = _undefined(relative)

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        values = self._values(weights)
        result = {_key(run, *cell, metric): value for (run, cell, metric), value in values.items()}
        means = {(run, metric): self._mean(values, run, metric) for run in self.runs for metric in METRICS}
        for (run, metric), mean in means.items():
            result[_key(run, "corrupted", metric)] = mean
            result[_key(run, "difference", metric)] = mean - means[self.baseline, metric]
        errors = self._errors(values)
        theirs, their_clean = errors[self.baseline]
        for run, (mine, clean) in errors.items():
            plain = corruption_errors(mine, theirs)
            relative = relative_corruption_errors(mine, theirs, clean=clean, baseline_clean=their_clean)
            for kind, found, gone in (("ce", plain, self.left_out), ("rce", relative, self.relative_left_out)):
                result |= {_key(run, kind, name): value for name, value in found.items()}
                result[_key(run, kind)] = mean_over(found, [name for name in found if name not in gone])
        return result

    def arranged(self, run: str, found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """Return the figures of a run in the layout of the report."""

        def cell(*parts: object) -> dict[str, Any]:
            return {metric: found[_key(run, *parts, metric)] for metric in METRICS}

        def errors(kind: str) -> dict[str, Any]:
            per_corruption = {name: found[_key(run, kind, name)] for name in self.severities}
            return {"mean": found[_key(run, kind)], "per_corruption": per_corruption}

        return {
            "clean": cell(*CLEAN),
            "corruptions": {
                name: {str(severity): cell(name, severity) for severity in severities}
                for name, severities in self.severities.items()
            },
            "corrupted": cell("corrupted"),
            "difference": cell("difference"),
            "corruption_error": errors("ce"),
            "relative_corruption_error": errors("rce"),
        }

    def notes(self) -> list[str]:
        """Return notes that name the undefined figures and the reason."""
        notes = []
        if self.left_out:
            notes.append(
                f"{self.baseline} has no error under {', '.join(self.left_out)}: the corruption error has no value"
                " there, and its mean is over the other corruptions, the same for all networks."
            )
        if self.relative_left_out:
            notes.append(
                f"{self.baseline} is not worse under {', '.join(self.relative_left_out)} than without corruption: the"
                " relative corruption error has no value there, and its mean is over the others."
            )
        return notes

    def _values(self, weights: np.ndarray) -> dict[tuple[str, Cell, str], np.ndarray]:
        return {
            (run, cell, metric): value
            for (run, cell), figures in self.weighted.items()
            for metric, value in figures(weights).items()
        }

    def _errors(
        self, values: Mapping[tuple[str, Cell, str], np.ndarray]
    ) -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
        """Return for each run the errors (S, R) by corruption, and the clean error (R,)."""
        main = METRICS[0]
        return {
            run: (
                {
                    name: np.stack([1 - values[run, (name, severity), main] for severity in severities])
                    for name, severities in self.severities.items()
                },
                1 - values[run, CLEAN, main],
            )
            for run in self.runs
        }

    def _mean(self, values: Mapping[tuple[str, Cell, str], np.ndarray], run: str, metric: str) -> np.ndarray:
        per_corruption = [
            np.mean([values[run, (name, severity), metric] for severity in severities], axis=0)
            for name, severities in self.severities.items()
        ]
        return np.mean(per_corruption, axis=0)


def _key(*parts: object) -> str:
    return "\0".join(str(part) for part in parts)


def _undefined(values: Mapping[str, np.ndarray]) -> list[str]:
    return [name for name, value in values.items() if np.isnan(value).any()]


def _is_ratio(key: str) -> bool:
    """Return whether a figure is a ratio to the baseline, which is unbounded if the baseline's value approaches zero.

    Its undefined rounds are extreme rounds and not missing at random, so only few may be left out.
    """
    return key.split("\0")[1] in ("ce", "rce")


def _interval(values: np.ndarray | None, level: float, least: float) -> list[float] | None:
    if values is None:
        return None
    known = values[~np.isnan(values)]
    if len(known) < least * len(values):
        return None
    tail = (1 - level) / 2
    return [float(bound) for bound in np.quantile(known, [tail, 1 - tail])]


def _gaps(
    once: Mapping[str, float | None], drawn: Mapping[str, np.ndarray], least: Mapping[str, float], rounds: int
) -> list[str]:
    """Return notes on intervals that leave rounds out, or are missing although the figure is defined."""
    if not drawn:
        return ["No intervals: resampling needs two or more patients or images."]
    gaps = {name: int(np.isnan(values).sum()) for name, values in drawn.items() if once[name] is not None}
    missing = [name for name, gap in gaps.items() if rounds - gap < least[name] * rounds]
    left_out = [gap for name, gap in gaps.items() if gap and name not in missing]
    notes = []
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(gaps)} intervals leave out rounds in which a class had no images, or the baseline"
            f" no error to be a multiple of (at most {max(left_out)} of {rounds})."
        )
    if missing:
        most = max(gaps[name] for name in missing)
        notes.append(
            f"{len(missing)} of {len(gaps)} intervals are not given: a class had no images, or the baseline no error to"
            f" be a multiple of, in up to {most} of {rounds} rounds, which are the extreme ones."
        )
    return notes


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def corruption_errors(errors: Errors, baseline: Errors) -> dict[str, np.ndarray]:
    r"""Compute the corruption error of each corruption.

    .. math:: CE_c = \sum_s E_{s,c} \Big/ \sum_s E^{\mathrm{baseline}}_{s,c}

    NaN if the baseline has no error, because the ratio is undefined.

    Args:
        errors: errors of a network, (S, ...) in [0, 1] for each corruption.
        baseline: errors of the baseline, for the same corruptions and severities.

    Returns:
        (...) >= 0 for each corruption; 1 equals the baseline, lower is better.

    Raises:
        ValueError: if the two differ in corruptions or severities.

    Example:
        >>> ours = {"blur": np.array([0.1, 0.3]), "noise": np.array([0.2])}
        >>> theirs = {"blur": np.array([0.2, 0.3]), "noise": np.array([0.0])}
        >>> corruption_errors(ours, theirs)
        {'blur': array(0.8), 'noise': array(nan)}
    """
    return {name: _ratio(mine.sum(axis=0), theirs.sum(axis=0)) for name, mine, theirs in _pairs(errors, baseline)}


def relative_corruption_errors(
    errors: Errors, baseline: Errors, *, clean: np.ndarray | float, baseline_clean: np.ndarray | float
) -> dict[str, np.ndarray]:
    r"""Compute the relative corruption error of each corruption: the loss it causes, relative to the baseline's loss.

    .. math:: \mathrm{relative}\ CE_c = \sum_s (E_{s,c} - E_{\mathrm{clean}}) \Big/
              \sum_s (E^{\mathrm{baseline}}_{s,c} - E^{\mathrm{baseline}}_{\mathrm{clean}})

    NaN if the baseline loses nothing or gains: the ratio would rank networks in the wrong order.

    Args:
        errors: errors of a network, (S, ...) in [0, 1] for each corruption.
        baseline: errors of the baseline, for the same corruptions and severities.
        clean: error of the network without corruption, (...).
        baseline_clean: error of the baseline without corruption, (...).

    Returns:
        (...) for each corruption; negative if the network gains.

    Raises:
        ValueError: if the two differ in corruptions or severities.

    Example:
        >>> ours, theirs = {"blur": np.array([0.2, 0.3])}, {"blur": np.array([0.3, 0.4])}
        >>> relative_corruption_errors(ours, theirs, clean=0.2, baseline_clean=0.25)["blur"].round(6)
        np.float64(0.5)
    """
    return {
        name: _ratio((mine - clean).sum(axis=0), (theirs - baseline_clean).sum(axis=0))
        for name, mine, theirs in _pairs(errors, baseline)
    }


def mean_over(values: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Compute the mean (...) over some corruptions; NaN if one of them is NaN, or ``names`` is empty.

    Pass the names of the corruptions that are defined on the full sample, so that all bootstrap rounds average the same
    corruptions.

    Example:
        >>> mean_over({"blur": np.array([1.0, 2.0]), "noise": np.array([3.0, np.nan])}, ["blur", "noise"])
        array([ 2., nan])
    """
    if not names:
        first = next(iter(values.values()), np.empty(()))
        return np.full(np.shape(first), np.nan)
    return np.mean([values[name] for name in names], axis=0)


def _pairs(errors: Errors, baseline: Errors) -> list[tuple[str, np.ndarray, np.ndarray]]:
    pairs = [(name, np.asarray(errors[name]), np.asarray(baseline.get(name, []))) for name in errors]
    wrong = [name for name, mine, theirs in pairs if mine.ndim == 0 or mine.shape != theirs.shape]
    if wrong or set(errors) != set(baseline):
        raise ValueError(
            f"Both need the same corruptions and severities, got {sorted(errors)} and {sorted(baseline)}; they differ"
            f" in {wrong or sorted(set(errors) ^ set(baseline))}."
        )
    return pairs


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    # differences that cancel leave rounding errors, which must not be divided by
    there = np.asarray(denominator > 1e-9)
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=there)
