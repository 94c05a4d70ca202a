"""Patient-clustered bootstrap: resamples of patients, and percentile intervals of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from movl_monai.metrics.entries import ResamplingFacts

__all__ = ["Figures", "PatientBootstrap", "bootstrap_weights"]

Figures = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # weights (N, R) -> values (R,) by name

_MIN_DEFINED = 0.5  # smallest share of rounds with a value that an interval needs
_CHUNK = 4_000_000  # largest number of weights in memory


class PatientBootstrap:
    """Common resamples of images for any number of figures, so that differences of figures are paired.

    Each round draws as many patients as there are, with replacement, and takes all their images. Images of one patient
    are correlated, so resampling single images would give intervals that are too narrow. If patients are unknown,
    single images are drawn, and ``resampled`` and ``notes`` say so.

    Args:
        count: number of images N.
        patients: patient of each image; an image without one counts as a separate patient. None if all are unknown.
        unit: name of the drawn unit in ``resampled`` if patients are unknown.
        rounds: number of resamples.
        level: confidence level of the intervals, in (0, 1).
        seed: seed of the draws.

    Attributes:
        resampled: "patients", or ``unit``.
        num_resampled: number of patients or units.
        notes: notes for readers, including the reasons of missing intervals.

    Raises:
        ValueError: if there is not one patient per image, or rounds or level are out of range.

    Reference:
        Efron, Tibshirani: An Introduction to the Bootstrap, 1993, section 13.3 (percentile method); Field, Welsh:
        Bootstrapping clustered data, JRSS B 69, 2007 (whole clusters are drawn).

    Example:
        >>> bootstrap = PatientBootstrap(4, ["a", "a", "b", "b"], rounds=100)
        >>> bootstrap.intervals(lambda weights: {"share": np.array([1, 1, 0, 0]) @ weights / weights.sum(axis=0)})
        {'share': [0.0, 1.0]}
    """

    def __init__(
        self,
        count: int,
        patients: Sequence[str | None] | None = None,
        *,
        unit: str = "images",
        rounds: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        if rounds < 1 or not 0 < level < 1:
            raise ValueError(f"rounds must be at least 1 and level in (0, 1), got {rounds} and {level}.")
        self.rounds, self.level, self.seed = rounds, level, seed
        self.groups, self.resampled, self.notes = _groups(patients, count, unit)
        self.num_resampled = int(self.groups.max()) + 1 if count else 0
        self.count = count

    @property
    def facts(self) -> ResamplingFacts:
        """``resampled``, ``num_resampled``, ``rounds``, ``level``, ``seed``, ``notes``."""
        return {
            "resampled": self.resampled,
            "num_resampled": self.num_resampled,
            "rounds": self.rounds,
            "level": self.level,
            "seed": self.seed,
            "notes": self.notes,
        }

    def resample(self, figures: Figures) -> dict[str, np.ndarray]:
        """Compute the figures in every round, (rounds,) each, NaN if undefined."""
        parts: dict[str, list[np.ndarray]] = {}
        for weights in bootstrap_weights(self.groups, rounds=self.rounds, seed=self.seed):
            for name, values in figures(weights).items():
                parts.setdefault(name, []).append(values)
        return {name: np.concatenate(values) for name, values in parts.items()}

    def intervals(self, figures: Figures, *, why: str = "a class had no images") -> dict[str, list[float] | None]:
        """Compute the percentile interval [low, high] of every figure; None with a note if there is none.

        A figure that is undefined on the full sample has neither an interval nor a note here.

        Args:
            figures: maps weights (N, R) to the values (R,) of each figure.
            why: reason why a figure can be undefined in a round, for the notes.
        """
        whole = figures(np.ones((self.count, 1)))
        defined = [name for name, value in whole.items() if not np.isnan(value[0])]
        if self.num_resampled < 2:
            note = f"No intervals: resampling needs two or more {self.resampled}, got {self.num_resampled}."
            self.notes += [note] if note not in self.notes else []
            return dict.fromkeys(whole)
        drawn = self.resample(figures)
        self._note_gaps({name: int(np.isnan(drawn[name]).sum()) for name in defined}, why)
        found = {name: self._interval(drawn[name]) for name in defined}
        return {name: found.get(name) for name in whole}

    def _interval(self, values: np.ndarray) -> list[float] | None:
        known = values[~np.isnan(values)]
        if len(known) < _MIN_DEFINED * len(values):
            return None
        tail = (1 - self.level) / 2
        return [float(bound) for bound in np.quantile(known, [tail, 1 - tail])]

    def _note_gaps(self, gaps: Mapping[str, int], why: str) -> None:
        """Add one note per number of undefined rounds, for all figures with that number."""
        for gap in sorted(set(gaps.values()) - {0}):
            names = [name for name, value in gaps.items() if value == gap]
            rounds = f"{gap} of {self.rounds} resamples"
            if self.rounds - gap < _MIN_DEFINED * self.rounds:
                has = "it has" if len(names) == 1 else "they have"
                self.notes.append(f"No interval for {', '.join(names)}: {has} no value in {rounds}, in which {why}.")
            else:
                what = f"interval of {names[0]} leaves" if len(names) == 1 else f"intervals of {', '.join(names)} leave"
                self.notes.append(f"The {what} out {rounds} in which {why}.")


def bootstrap_weights(groups: np.ndarray, *, rounds: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the number of draws of each image in each round, in chunks (N, r) whose r add up to ``rounds``.

    Args:
        groups: integers (N,) from 0 without gaps; images of one group are drawn together.
        rounds: number of resamples.
        seed: seed of the draws.
    """
    generator = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    step = int(np.clip(_CHUNK // len(groups), 1, 64))  # small chunks stay in the processor's cache
    for start in range(0, rounds, step):
        size = min(step, rounds - start)
        draws = generator.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count)
        yield np.ascontiguousarray(times.T[groups], dtype=np.float64)


def _groups(patients: Sequence[str | None] | None, count: int, unit: str) -> tuple[np.ndarray, str, list[str]]:
    if patients is None or all(patient is None for patient in patients):
        note = "Images were resampled one by one because patients are not known; with several images per patient the "
        return np.arange(count), unit, [note + "intervals are too narrow."]
    if len(patients) != count:
        raise ValueError(f"Expected one patient per image, got {len(patients)} for {count} images.")
    alone = sum(patient is None for patient in patients)
    notes = [f"{alone} images without a patient count as patients of their own."] if alone else []
    keys: dict[object, int] = {}
    numbers = [
        keys.setdefault(("image", index) if patient is None else patient, len(keys))
        for index, patient in enumerate(patients)
    ]
    return np.array(numbers, dtype=np.int64), "patients", notes
