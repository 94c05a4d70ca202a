"""Tests of the figures of OOD detection: scikit-learn and loops over resamples are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from movl_monai.evaluation import UndefinedMetricError
from movl_monai.metrics.intervals import bootstrap_weights
from movl_monai.metrics.ood.metrics import OODFigures, ood_figures


def scikit_learn(inside: np.ndarray, outside: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    positive = np.repeat([0, 1], [len(inside), len(outside)])
    scores = np.concatenate([inside, outside])
    passing, kept, _ = roc_curve(1 - positive, -scores, sample_weight=weights, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(positive, scores, sample_weight=weights),
        "aupr": average_precision_score(positive, scores, sample_weight=weights),
        "fpr95": float(passing[np.argmax(kept >= 0.95)]),
    }


def random_scores(seed: int, inside: int, outside: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    shift = generator.normal()
    return generator.normal(size=inside).round(digits), (generator.normal(size=outside) + shift).round(digits)


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    inside=st.integers(1, 60),
    outside=st.integers(1, 40),
    digits=st.sampled_from([0, 1, 8]),
)
def test_figures_equal_scikit_learn(seed: int, inside: int, outside: int, digits: int) -> None:
    scores = random_scores(seed, inside, outside, digits)
    found = OODFigures(*scores)(np.ones((inside + outside, 1)))
    for name, expected in scikit_learn(*scores).items():
        assert found[name][0] == pytest.approx(expected, abs=1e-9), name


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), digits=st.sampled_from([0, 1, 8]))
def test_weighted_figures_equal_scikit_learn_with_sample_weights(seed: int, digits: int) -> None:
    scores = random_scores(seed, 25, 15, digits)
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, size=(40, 5)).astype(float)
    weights[[0, 30]] = 1  # some of either side
    found = OODFigures(*scores)(weights)
    for column in range(5):
        # scikit-learn counts images of weight 0 as points of its curve; the draws of a bootstrap leave them out
        drawn = weights[:, column] > 0
        kept = [part[drawn[start : start + len(part)]] for part, start in zip(scores, (0, 25), strict=True)]
        for name, expected in scikit_learn(*kept, weights[drawn, column]).items():
            assert found[name][column] == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("count", [20, 40, 60, 100, 300])
def test_a_threshold_that_keeps_95_percent_to_the_last_image_is_found(count: int) -> None:
    inside = np.arange(count, dtype=float)
    edge = inside[round(0.95 * count) - 1]  # exactly 95 % score up to here
    found = OODFigures(inside, np.array([edge, edge + 0.5]))(np.ones((count + 2, 1)))
    assert found["fpr95"][0] == 0.5


def test_a_side_that_is_not_drawn_has_no_figures() -> None:
    weights = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    found = OODFigures(np.array([0.0, 1.0]), np.array([2.0]))(weights)
    assert all(np.isnan(values).all() for values in found.values())


def test_intervals_are_quantiles_of_scikit_learn_over_draws_of_whole_patients() -> None:
    inside, outside = random_scores(3, 30, 20, 1)
    patients = [f"p{index // 3}" for index in range(30)] + [f"q{index // 2}" for index in range(20)]
    figures, facts = ood_figures({"s": inside}, {"s": outside}, patients=patients, rounds=40, level=0.9, seed=4)
    groups = np.unique([f"{name[0]}{int(name[1:]):03}" for name in patients], return_inverse=True)[1]
    weights = np.concatenate(list(bootstrap_weights(groups, rounds=40, seed=4)), axis=1)
    drawn = [
        scikit_learn(np.repeat(inside, column[:30].astype(int)), np.repeat(outside, column[30:].astype(int)))
        for column in weights.T
    ]
    assert facts["resampled"] == "patients"
    assert facts["num_resampled"] == 20
    for name in ("auroc", "aupr", "fpr95"):
        expected = np.quantile([row[name] for row in drawn], [0.05, 0.95])
        np.testing.assert_allclose(figures["s"][f"{name}_interval"], expected, atol=1e-9)
        assert figures["s"][name] == pytest.approx(scikit_learn(inside, outside)[name], abs=1e-9)


def test_one_side_without_images_is_refused() -> None:
    with pytest.raises(UndefinedMetricError, match="got 2 in-distribution and 0 outside"):
        OODFigures(np.array([0.0, 1.0]), np.empty(0))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="Scores must be finite"):
        OODFigures(np.array([0.0, np.nan]), np.array([1.0]))
