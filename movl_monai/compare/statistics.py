"""Figures of the arms over seeds, and their paired differences with intervals, from the files of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from movl_monai.compare.runs import Result
from movl_monai.compare.tasks import CLASSIFICATION, Judged, Task, read_judged, task_of
from movl_monai.errors import MovlError

__all__ = ["Difference", "DomainFigures", "compare_results"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean over the seeds of (arm - reference).

    Args:
        value: the difference on the images as they are; None without a value.
        interval: percentile interval, or None.
    """

    value: float | None
    interval: tuple[float, float] | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


@dataclass(frozen=True, kw_only=True)
class DomainFigures:
    """An arm on one domain.

    Args:
        arm: name of the arm.
        domain: "id", or the name of another domain.
        images: labelled images, or cases of a segmentation.
        patients: None if they are not known.
        seeds: those with a result.
        values: by metric, one value per seed (NaN where it has none).
        intervals: by metric, percentile interval of the mean over the seeds.
        differences: by reference and metric.
        task: whose metrics these are.
    """

    arm: str
    domain: str
    images: int
    patients: int | None
    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]
    intervals: Mapping[str, tuple[float, float] | None]
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    task: Task = CLASSIFICATION

    def mean(self, metric: str) -> float | None:
        """Mean over the seeds."""
        return _number(float(np.mean(self.values[metric])))

    def sd(self, metric: str) -> float | None:
        """Standard deviation over the seeds (n - 1); None with one seed."""
        return _number(float(np.std(self.values[metric], ddof=1))) if len(self.seeds) > 1 else None


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

    With :math:`m_{a,s}(w)` the figure of arm a trained with seed s when image i counts :math:`w_i` times, the
    difference of arm a and reference b is

    .. math:: d(w) = \frac{1}{|S|} \sum_{s \in S} m_{a,s}(w) - m_{b,s}(w)

    over the seeds S that both have. Each round draws whole patients with replacement; the same rounds serve all arms,
    seeds and metrics, so what makes images hard for both cancels out. Logits are not averaged over seeds: that would
    be the figure of an ensemble, which nobody trained. The interval tells what other patients would change, for
    these trained networks; it does not hold what other training images would change.

    Args:
        results: of all arms and seeds; those that failed are left out.
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
    parts = _read(results, id_domain)
    finished = [result for result in results if not result.training.failed]
    task = task_of(finished[0].folder / "evaluation") if finished else CLASSIFICATION
    arms = list(dict.fromkeys(result.arm for result in results))
    seeds = {
        arm: [result.seed for result in results if result.arm == arm and not result.training.failed] for arm in arms
    }
    entries = []
    for domain in dict.fromkeys(domain for _, _, domain in parts):
        first = next(part for (_, _, name), part in parts.items() if name == domain)
        groups = first.groups()
        draws: dict[tuple[str, int], dict[str, np.ndarray]] = {}
        for arm in arms:
            for number in seeds[arm]:
                part = parts[arm, number, domain]
                if part.ids != first.ids or part.truth != first.truth:
                    raise MovlError(f"The arms were evaluated on different images of the domain '{domain}'.")
                draws[arm, number] = part.draws(groups, rounds=rounds, seed=seed)
        for arm in arms:
            if seeds[arm]:
                entries.append(_entry(arm, domain, first, seeds, draws, references, level, task))
    return entries


def _read(results: Sequence[Result], id_domain: str) -> dict[tuple[str, int, str], Judged]:
    parts = {}
    for result in results:
        if not result.training.failed:
            for domain, part in read_judged(result.folder / "evaluation", id_domain=id_domain).items():
                parts[result.arm, result.seed, domain] = part
    return parts


def _entry(
    arm: str,
    domain: str,
    images: Judged,
    seeds: Mapping[str, Sequence[int]],
    draws: Mapping[tuple[str, int], Mapping[str, np.ndarray]],
    references: Sequence[str],
    level: float,
    task: Task,
) -> DomainFigures:
    own = {metric: np.stack([draws[arm, number][metric] for number in seeds[arm]]) for metric in task.metrics}
    differences: dict[str, dict[str, Difference]] = {}
    for reference in references:
        common = [number for number in seeds[arm] if number in seeds.get(reference, ())]
        if reference == arm or not common:
            continue
        differences[reference] = {}
        for metric in task.metrics:
            pairs = [draws[arm, number][metric] - draws[reference, number][metric] for number in common]
            change = np.mean(pairs, axis=0)
            interval = _interval(change[1:], level)
            differences[reference][metric] = Difference(value=_number(float(change[0])), interval=interval)
    patients = set(images.patients)
    return DomainFigures(
        arm=arm,
        domain=domain,
        images=len(images),
        patients=None if None in patients else len(patients),
        seeds=tuple(seeds[arm]),
        values={metric: values[:, 0] for metric, values in own.items()},
        intervals={metric: _interval(values.mean(axis=0)[1:], level) for metric, values in own.items()},
        differences=differences,
        task=task,
    )


def _interval(values: np.ndarray, level: float) -> tuple[float, float] | None:
    defined = values[~np.isnan(values)]
    if len(defined) < len(values) / 2:  # a class is too rare for an interval
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
