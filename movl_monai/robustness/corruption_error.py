r"""Errors under corruption as multiples of a baseline's.

``errors`` hold, for each corruption, an array (S, ...) of the error at each of its severities; further axes, such as
the rounds of a bootstrap, are kept. A corruption may have fewer severities than others.

Reference:
    Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
    section 4. Deviation: errors may be any, here 1 - balanced accuracy, as in MedMNIST-C (Di Salvo et al., 2024), and
    what has no value is left out and named instead of being divided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["Errors", "corruption_errors", "mean_over", "relative_corruption_errors"]

Errors = Mapping[str, np.ndarray]


def corruption_errors(errors: Errors, baseline: Errors) -> dict[str, np.ndarray]:
    r"""Corruption error of each corruption.

    .. math:: CE_c = \sum_s E_{s,c} \Big/ \sum_s E^{\mathrm{baseline}}_{s,c}

    NaN where the baseline has no error, of which nothing can be a multiple.

    Args:
        errors: of a network, (S, ...) in [0, 1] for each corruption.
        baseline: of the baseline, the same corruptions and severities.

    Returns:
        (...) >= 0 for each corruption; 1 is as good as the baseline, less is better.

    Raises:
        ValueError: if the two have other corruptions or severities.

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
    r"""Relative corruption error of each corruption: how much is lost to it, whatever the error without it.

    .. math:: \mathrm{relative}\ CE_c = \sum_s (E_{s,c} - E_{\mathrm{clean}}) \Big/
              \sum_s (E^{\mathrm{baseline}}_{s,c} - E^{\mathrm{baseline}}_{\mathrm{clean}})

    NaN where the baseline loses nothing, or even gains: a multiple of that would rank networks the wrong way round.

    Args:
        errors: of a network, (S, ...) in [0, 1] for each corruption.
        baseline: of the baseline, the same corruptions and severities.
        clean: error of the network without corruption, (...).
        baseline_clean: that of the baseline.

    Returns:
        (...) for each corruption; negative where the network gains.

    Raises:
        ValueError: if the two have other corruptions or severities.

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
    """Mean (...) over some corruptions; NaN where one of them has no value, or there are none.

    With the names of those that have a value on the images as they are, a bootstrap's rounds are all means over the
    same corruptions.

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
    # sums of differences that cancel leave rounding behind, which is no error to divide by
    there = np.asarray(denominator > 1e-9)
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=there)
