"""Figures of numbers: scikit-learn as oracle, unknown numbers, and the promise of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn import metrics as sk

from movl_monai.metrics.regression import NUMBER_METRICS, NumberFigures, number_intervals
from movl_monai.metrics.stored.predictions import Predictions


def images(labels: np.ndarray, given: np.ndarray) -> Predictions:
    return Predictions(ids=[str(row) for row in range(len(labels))], logits=given[:, None], labels=labels)


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_figures_equal_scikit_learn_also_when_resampled(shift: float) -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=60) + shift
    given = truth + draw.normal(size=60) * 0.5 + 0.1
    labels = truth.copy()
    labels[::7] = np.nan
    weights = draw.integers(0, 3, size=(60, 4)).astype(float)
    weights[:, 0] = 1
    found = NumberFigures(labels, given)(weights)
    assert tuple(found) == NUMBER_METRICS
    for column in range(4):
        rows = np.repeat(np.arange(60), weights[:, column].astype(int))
        rows = rows[~np.isnan(labels[rows])]
        y, p = truth[rows], given[rows]
        error = p - y
        expected = {
            "mae": sk.mean_absolute_error(y, p),
            "rmse": sk.root_mean_squared_error(y, p),
            "r2": sk.r2_score(y, p),
            "pearson": pearsonr(y, p).statistic,
            "bias": error.mean(),
            "agreement_low": error.mean() - 1.96 * error.std(ddof=1),
            "agreement_high": error.mean() + 1.96 * error.std(ddof=1),
        }
        for name, value in expected.items():
            assert found[name][column] == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_equal_numbers_have_neither_variance_nor_correlation() -> None:
    found = NumberFigures([0.1] * 5, [0.3, 0.2, 0.1, 0.4, 0.1])(np.ones((5, 1)))
    assert np.isnan([found["r2"][0], found["pearson"][0]]).all()
    assert found["mae"][0] == pytest.approx(0.12)
    assert all(np.isnan(value[0]) for value in NumberFigures([np.nan], [1.0])(np.ones((1, 1))).values())


def test_intervals_hold_the_promised_share() -> None:
    draw = np.random.default_rng(3)
    parts = {name: images(truth := draw.normal(size=2000), truth + draw.normal(size=2000)) for name in ("val", "id")}
    found = number_intervals(parts, calibrated_on="val", alpha=0.2)
    errors = np.sort(np.abs(parts["val"].logits[:, 0] - parts["val"].labels))
    assert found["half_width"] == errors[int(np.ceil(2001 * 0.8)) - 1]
    (section,) = found["sections"].values()
    assert section["width"] == 2 * errors[int(np.ceil(2001 * 0.8)) - 1]
    assert section["coverage"] == pytest.approx(0.8, abs=0.03)
    few = number_intervals({"val": parts["val"].take([0, 1]), "id": parts["id"]}, calibrated_on="val", alpha=0.1)
    assert few["half_width"] is None
    assert "too few for alpha=0.1" in few["notes"][0]
    assert "no labeled images in 'calibration'" in number_intervals(parts)["notes"][0]
