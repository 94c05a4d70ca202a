"""Coverage and size of prediction sets in every section of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from movl_monai.metrics.checks import UndefinedMetricError
from movl_monai.metrics.conformal import ConformalFit, ConformalMethod, fit_conformal, smallest_alpha
from movl_monai.metrics.entries import Conformal, ConformalSets, SetFigures
from movl_monai.metrics.stored.predictions import Predictions

__all__ = ["METHODS", "binomial_interval", "conformal_report", "one_per_patient", "set_figures"]

# names in a report's entry "conformal": (method, per_class)
METHODS: dict[str, tuple[ConformalMethod, bool]] = {
    "lac": ("lac", False),
    "aps": ("aps", False),
    "aps_randomised": ("aps_randomised", False),
    "lac_per_class": ("lac", True),
    "aps_per_class": ("aps", True),
}


def conformal_report(
    sections: Mapping[str, Predictions],
    *,
    class_names: Sequence[str],
    calibrated_on: str = "calibration",
    alpha: float = 0.1,
    methods: Sequence[str] = tuple(METHODS),
    single_image: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Conformal:
    """Fit thresholds on one section, and measure coverage and set size on all others.

    Args:
        sections: images by section; images without a label are left out.
        class_names: names in the order of the logits.
        calibrated_on: section that the thresholds are fitted on.
        alpha: allowed rate of missing the true class, in (0, 1).
        methods: any of "lac", "aps", "aps_randomised", "lac_per_class", "aps_per_class".
        single_image: calibrate on one randomly drawn image of each patient. Patients are exchangeable, images of one
            patient are not.
        level: confidence level of the exact binomial intervals (Clopper-Pearson), which treat images as independent.
        seed: seed of the draws.

    Returns:
        ``alpha``; ``smallest_alpha``; ``calibrated_on``: ``split``, ``n``; ``methods``: for each name ``randomised``,
        ``per_class``, ``threshold`` (None with thresholds per class), ``thresholds`` (of each class; None for a class
        with too few images, which is in every set), ``sections`` with the entries of :func:`set_figures`, and its own
        ``notes``; general ``notes``. A method that could not be fitted has no thresholds and no sections; its notes
        give the smallest possible alpha.

    Raises:
        ValueError: for an unknown method or an alpha that is not in (0, 1).
    """
    if unknown := [name for name in methods if name not in METHODS]:
        raise ValueError(f"methods must be of {', '.join(METHODS)}, got {unknown[0]!r}.")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    known = {name: images.labeled() for name, images in sections.items()}
    source = known.pop(calibrated_on, None)
    if source is None or not len(source):
        why = f"No conformal sets: there are no labeled images in '{calibrated_on}'."
        return {
            "alpha": alpha,
            "smallest_alpha": None,
            "calibrated_on": {"split": calibrated_on, "n": 0},
            "methods": {},
            "notes": [why],
        }
    notes = _notes(source, calibrated_on, single_image)
    source = one_per_patient(source, seed=seed) if single_image else source
    fitted: dict[str, ConformalSets] = {}
    for name in methods:
        own: list[str] = []
        fit = _fit(name, source, alpha, seed, own, class_names)
        fitted[name] = {
            "randomised": name == "aps_randomised",
            "per_class": METHODS[name][1],
            "notes": own,
            "threshold": None if fit is None or fit.per_class else float(fit.thresholds[0]),
            "thresholds": None if fit is None else _thresholds(fit, class_names),
            "sections": {} if fit is None else _sections(fit, known, class_names, level, seed),
        }
    return {
        "alpha": alpha,
        "smallest_alpha": smallest_alpha(len(source)),
        "calibrated_on": {"split": calibrated_on, "n": len(source)},
        "methods": fitted,
        "notes": notes,
    }


def set_figures(labels: np.ndarray, sets: np.ndarray, *, class_names: Sequence[str], level: float = 0.95) -> SetFigures:
    """Compute coverage and size of prediction sets.

    Args:
        labels: integers (N,) in [0, C), N > 0.
        sets: bool (N, C).
        class_names: the C names.
        level: confidence level of the intervals.

    Returns:
        ``n``; ``coverage``: share of sets that contain the label, and ``coverage_interval``; ``mean_size``; ``sizes``:
        number of sets by size, "0" to "C"; ``per_class_coverage`` and ``per_class_interval`` by name, None without
        images.

    Example:
        >>> figures = set_figures(np.array([0, 1]), np.array([[True, False], [True, False]]), class_names=["a", "b"])
        >>> figures["coverage"], figures["mean_size"], figures["sizes"], figures["per_class_coverage"]
        (0.5, 1.0, {'0': 0, '1': 2, '2': 0}, {'a': 1.0, 'b': 0.0})
    """
    covered, size = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    hits = {str(name): covered[labels == index] for index, name in enumerate(class_names)}
    counts = np.bincount(size, minlength=len(class_names) + 1)
    return {
        "n": len(labels),
        "coverage": float(covered.mean()),
        "coverage_interval": binomial_interval(int(covered.sum()), len(labels), level=level),
        "mean_size": float(size.mean()),
        "sizes": {str(index): int(count) for index, count in enumerate(counts)},
        "per_class_coverage": {name: float(hit.mean()) if len(hit) else None for name, hit in hits.items()},
        "per_class_interval": {
            name: binomial_interval(int(hit.sum()), len(hit), level=level) if len(hit) else None
            for name, hit in hits.items()
        },
    }


def binomial_interval(hits: int, n: int, *, level: float = 0.95) -> list[float]:
    """Return the exact confidence interval [low, high] of the share ``hits / n`` of n independent images.

    Reference:
        Clopper, Pearson: The Use of Confidence or Fiducial Limits, Biometrika 26, 1934.

    Example:
        >>> [round(bound, 4) for bound in binomial_interval(9, 10)]
        [0.555, 0.9975]
    """
    from scipy.stats import binomtest

    found = binomtest(hits, n).proportion_ci(confidence_level=level, method="exact")
    return [float(found.low), float(found.high)]


def one_per_patient(images: Predictions, *, seed: int = 0) -> Predictions:
    """Draw one image of each patient at random; an image without a patient counts as a separate patient."""
    order = np.random.default_rng(seed).permutation(len(images))
    patients = [images.patients[row] or ("image", int(row)) for row in order]
    first = {patient: int(row) for patient, row in reversed(list(zip(patients, order, strict=True)))}
    return images.take(sorted(first.values()))


def _fit(
    name: str, source: Predictions, alpha: float, seed: int, notes: list[str], class_names: Sequence[str]
) -> ConformalFit | None:
    method, per_class = METHODS[name]
    try:
        fit = fit_conformal(source.labels, source.logits, alpha=alpha, method=method, per_class=per_class, seed=seed)
    except UndefinedMetricError as reason:
        notes.append(str(reason))
        return None
    if fit.short:
        count = np.bincount(source.labels, minlength=len(class_names))
        few = ", ".join(
            f"{class_names[index]} ({count[index]} images, smallest possible alpha {smallest_alpha(count[index]):.4g})"
            for index in fit.short
        )
        notes.append(f"Too few calibration images for alpha={alpha:g}, so in every set: {few}.")
    return fit


def _thresholds(fit: ConformalFit, class_names: Sequence[str]) -> dict[str, float | None]:
    values = zip(class_names, fit.thresholds, strict=True)
    return {str(name): float(value) if np.isfinite(value) else None for name, value in values}


def _sections(
    fit: ConformalFit, known: Mapping[str, Predictions], class_names: Sequence[str], level: float, seed: int
) -> dict[str, SetFigures]:
    # u of calibration and test must be independent, hence a different seed
    sets = {name: fit.sets(part.logits, seed=seed + 1 + number) for number, (name, part) in enumerate(known.items())}
    return {
        name: set_figures(part.labels, sets[name], class_names=class_names, level=level)
        for name, part in known.items()
        if len(part)
    }


def _notes(source: Predictions, calibrated_on: str, single_image: bool) -> list[str]:
    notes = [
        "The coverage is promised for images exchangeable with those calibrated on, so for no other site or device."
    ]
    if calibrated_on == "val":
        notes.append("val selected the checkpoint, so its images fit better than new ones: sets may be too small.")
    patients = [patient for patient in source.patients if patient is not None]
    if not patients:
        notes.append("Patients are not known; several images of one patient would make the promise a rough one.")
    elif len(set(patients)) < len(patients):
        notes.append(
            "One image of each patient was drawn to calibrate on."
            if single_image
            else "Several images come from one patient and are not exchangeable one by one with those of new patients: "
            "the promise is a rough one. Calibrating on one image per patient restores it."
        )
        notes.append(
            "The intervals of the coverage take images as independent; with several per patient they are too narrow."
        )
    return notes
