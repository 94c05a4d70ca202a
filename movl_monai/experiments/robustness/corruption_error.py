r"""Corruption errors relative to a baseline.

``errors`` maps each corruption to an array (S, ...) of the error at each of its S severities. Further axes, such as
bootstrap rounds, are kept. Corruptions may differ in the number of severities.

Reference:
    Hendrycks, Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
    section 4. Deviations: any error may be used, here 1 - balanced accuracy, as in MedMNIST-C (Di Salvo et al., 2024);
    undefined ratios are named and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["Errors", "corruption_errors", "mean_over", "relative_corruption_errors"]

Errors = Mapping[str, np.ndarray]


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
