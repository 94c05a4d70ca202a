"""Figures of the arms over seeds and draws, and their paired differences with intervals, from files of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from movl_monai.errors import MovlError
from movl_monai.experiments.compare.runs import Result
from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures
from movl_monai.metrics.judged import Judged
from movl_monai.report.tasks import task_in

__all__ = ["Difference", "DomainFigures", "compare_results"]

Run = tuple[int, int]  # draw and seed
Rows = dict[Run, dict[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean over the draws and seeds of (arm - reference).

    Args:
        value: the difference on the images as they are; None without a value.
        interval: percentile interval, or None.
    """

    value: float | None
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """True if the interval lies on one side of 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, kw_only=True)
class DomainFigures:
    """An arm on one domain.

    Args:
        arm: name of the arm.
        domain: "id", or the name of another domain.
        images: labelled images, or cases of a segmentation.
        patients: None if they are not known.
        seeds: of each value; those with a result.
        values: by metric, one value per seed and draw (NaN where it has none).
        intervals: by metric, percentile interval of the mean.
        differences: by reference and metric.
        shown: figures of the task.
        unit: name of one of the images or cases, in the plural.
        draws: of each value; () where all are of the first draw.
    """

    arm: str
    domain: str
    images: int
    patients: int | None
    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]
    intervals: Mapping[str, tuple[float, float] | None]
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    shown: TaskFigures = CLASS_FIGURES
    unit: str = "images"
    draws: tuple[int, ...] = ()

    @property
    def main(self) -> str:
        """The main figure on this domain."""
        return self.shown.main_of(self.domain)

    def mean(self, metric: str) -> float | None:
        """Mean over the draws of the means over the seeds."""
        return _number(float(np.mean(self._by_draw(metric))))

    def sd(self, metric: str) -> float | None:
        """Standard deviation (n - 1) over the draws of the means over the seeds; with one draw, over the seeds.

        None with one value.
        """
        by_draw = self._by_draw(metric)
        values = by_draw if len(by_draw) > 1 else self.values[metric]
        return _number(float(np.std(values, ddof=1))) if len(values) > 1 else None

    def _by_draw(self, metric: str) -> np.ndarray:
        draws = self.draws or (0,) * len(self.seeds)
        return _draw_means(dict(zip(zip(draws, self.seeds, strict=True), self.values[metric], strict=True)))


def compare_results(
    results: Sequence[Result],
    *,
    references: Sequence[str],
    id_domain: str = "id",
    rounds: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[DomainFigures]:
    r"""Compute figures and paired differences.

    With :math:`m_{a,k,s}(w)` the figure of arm a trained on draw k with seed s when image i counts :math:`w_i` times,
    the difference of arm a and reference b is

    .. math:: d(w, u) = \frac{1}{\sum_k u_k} \sum_k u_k \frac{1}{|S_k|} \sum_{s \in S_k} m_{a,k,s}(w) - m_{b,k,s}(w)

    over the draws k and seeds :math:`S_k` that both have. Each round draws whole test patients (w) and draws (u) with
    replacement; the same rounds serve all arms, seeds and metrics, so images that are hard for both cancel out. Of
    K draws a round takes K - 1, for which the spread of their mean is unbiased; K of K would be too narrow by
    :math:`\sqrt{(K-1)/K}`, which counts for few draws. With one draw :math:`u_1 = 1`, and the interval holds nothing
    of the change that other training images would bring. Logits are not averaged over seeds: that would be the figure
    of an ensemble, which nobody trained.

    Reference: J. N. K. Rao and C. F. J. Wu, Resampling inference with complex survey data, JASA 83 (1988): the
    bootstrap of n - 1.

    Args:
        results: of all arms, seeds and draws; those that failed are left out.
        references: arms to compare with; one that is not among the results is left out.
        id_domain: the in-distribution domain.
        rounds: resamples.
        level: probability that an interval is to cover.
        seed: of the resampling.

    Returns:
        for each domain (in-distribution first) one entry per arm, in the order of ``results``.

    Raises:
        MovlError: if the arms were not evaluated on the same images.
    """
    finished = [result for result in results if not result.training.failed]
    if not finished:
        return []
    task = task_in(finished[0].folder / "evaluation")
    shown = task.compared(finished[0].training.metric)
    parts = {
        (result.arm, (result.draw, result.seed), domain): part
        for result in finished
        for domain, part in task.judged(result.folder / "evaluation", id_domain=id_domain, figures=shown).items()
    }
    arms = list(dict.fromkeys(result.arm for result in results))
    runs = {
        arm: [(result.draw, result.seed) for result in results if result.arm == arm and not result.training.failed]
        for arm in arms
    }
    entries = []
    for domain in dict.fromkeys(domain for *_, domain in parts):
        first = next(part for (*_, name), part in parts.items() if name == domain)
        groups = first.groups()
        rows: dict[str, Rows] = {arm: {} for arm in arms}
        for arm in arms:
            for run in runs[arm]:
                part = parts[arm, run, domain]
                if part.ids != first.ids or part.truth != first.truth:
                    raise MovlError(f"The arms were evaluated on different images of the domain '{domain}'.")
                rows[arm][run] = part.draws(groups, metrics=shown.compared, rounds=rounds, seed=seed)
        for arm in arms:
            if runs[arm]:
                entries.append(_entry(arm, domain, first, rows, references, level, shown, task.unit, seed))
    return entries


def _entry(
    arm: str,
    domain: str,
    images: Judged,
    rows: Mapping[str, Rows],
    references: Sequence[str],
    level: float,
    shown: TaskFigures,
    unit: str,
    seed: int,
) -> DomainFigures:
    own = rows[arm]
    differences: dict[str, dict[str, Difference]] = {}
    for reference in references:
        other = rows.get(reference, {})
        common = [run for run in own if run in other]
        if reference == arm or not common:
            continue
        differences[reference] = {}
        for metric in shown.compared:
            change = _mean_rounds({run: own[run][metric] - other[run][metric] for run in common}, seed)
            interval = _interval(change[1:], level)
            differences[reference][metric] = Difference(value=_number(float(change[0])), interval=interval)
    means = {metric: _mean_rounds({run: row[metric] for run, row in own.items()}, seed) for metric in shown.compared}
    patients = set(images.patients)
    return DomainFigures(
        arm=arm,
        domain=domain,
        images=len(images),
        patients=None if None in patients else len(patients),
        seeds=tuple(number for _, number in own),
        draws=tuple(draw for draw, _ in own),
        values={metric: np.array([row[metric][0] for row in own.values()]) for metric in shown.compared},
        intervals={metric: _interval(values[1:], level) for metric, values in means.items()},
        differences=differences,
        shown=shown,
        unit=unit,
    )


def _draw_means(values: Mapping[Run, Any]) -> np.ndarray:
    """Means over the seeds, one row per draw."""
    by_draw: dict[int, list[Any]] = {}
    for (draw, _), value in values.items():
        by_draw.setdefault(draw, []).append(value)
    return np.array([np.mean(by_draw[draw], axis=0) for draw in sorted(by_draw)])


def _mean_rounds(values: Mapping[Run, np.ndarray], seed: int) -> np.ndarray:
    """Mean over the draws of the data as they are (first), then of resampled draws: (1 + rounds,)."""
    stack = _draw_means(values)
    count, rounds = len(stack), stack.shape[1] - 1
    taken = np.ones((count, 1 + rounds))
    if count > 1:
        drawn = np.random.default_rng((seed, count)).integers(count, size=(rounds, count - 1))
        taken[:, 1:] = (drawn[:, :, None] == np.arange(count)).sum(axis=1).T
    total: np.ndarray = np.where(taken > 0, stack * taken, 0).sum(axis=0) / taken.sum(axis=0)
    return total


def _interval(values: np.ndarray, level: float) -> tuple[float, float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) < len(values) / 2:  # a class is too rare for an interval
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
