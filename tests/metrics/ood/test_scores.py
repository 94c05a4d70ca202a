"""Tests of OOD scores: dense formulas, pytorch-ood, and Gaussians with a known answer are the oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from pytorch_ood import detector as reference
from scipy import stats
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from movl_monai.errors import MovlError
from movl_monai.evaluation import NonFiniteLogitsError
from movl_monai.metrics.ood.detection import SCORES
from movl_monai.metrics.ood.gaussian import KNN, Mahalanobis, RelativeMahalanobis, ShrunkCovariance
from movl_monai.metrics.ood.score import MSP, Energy, MaxLogit, OODFitError
from movl_monai.metrics.ood.subspace import Residual, ViM, principal_axes

SIZES = [(60, 8), (20, 31)]  # more images than features, and fewer
EXACT = {"rtol": 1e-9, "atol": 1e-9}
FITTED = {"mahalanobis", "relative_mahalanobis", "knn", "vim", "residual"}


def training(
    count: int, num_features: int, num_classes: int = 3, *, smallest: float = 0.05, seed: int = 0
) -> dict[str, np.ndarray]:
    """Features around class means with variances as different as those of frozen features, and logits from them."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % num_classes
    scales = np.geomspace(1, smallest, num_features)
    mixing = np.linalg.qr(generator.normal(size=(num_features, num_features)))[0] * scales
    features = (
        generator.normal(size=(num_classes, num_features))[labels]
        + generator.normal(size=(count, num_features)) @ mixing.T
    )
    weight = generator.normal(size=(num_classes, num_features))
    return {"features": features, "labels": labels, "logits": features @ weight.T, "weight": weight}


def parts(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: data[name] for name in ("logits", "features", "labels")}


def queries(num_features: int, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(9)
    return generator.normal(size=(15, num_classes)) * 3, generator.normal(size=(15, num_features)) * 2


def dense_distances(points: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    precision = np.linalg.inv(covariance)
    return np.array([(point - mean) @ precision @ (point - mean) for point in points])


def class_distances(points: np.ndarray, data: dict[str, np.ndarray]) -> tuple[np.ndarray, float, float]:
    """Return distances to the nearest class, and rho and mu of the shrinkage."""
    means = [data["features"][data["labels"] == index].mean(axis=0) for index in range(3)]
    deviations = data["features"] - np.stack(means)[data["labels"]]
    covariance, shrinkage = ledoit_wolf(deviations, assume_centered=True)
    distances = np.stack([dense_distances(points, mean, covariance) for mean in means]).min(axis=0)
    return distances, shrinkage, np.mean(deviations**2)


@pytest.mark.parametrize(("count", "num_features"), SIZES)
def test_mahalanobis_is_the_distance_under_the_inverse_of_the_shrunk_covariance(count: int, num_features: int) -> None:
    data = training(count, num_features)
    logits, points = queries(num_features)
    found = Mahalanobis.fit(**parts(data), dtype=np.float64)(logits, points)
    np.testing.assert_allclose(found, class_distances(points, data)[0], **EXACT)


@pytest.mark.parametrize(("count", "num_features"), SIZES)
def test_relative_mahalanobis_takes_off_the_distance_to_one_gaussian_of_all(count: int, num_features: int) -> None:
    data = training(count, num_features)
    logits, points = queries(num_features)
    nearest, shrinkage, scale = class_distances(points, data)
    mean = data["features"].mean(axis=0)
    covariance = (1 - shrinkage) * np.cov(data["features"].T, bias=True) + shrinkage * scale * np.eye(num_features)
    expected = nearest - dense_distances(points, mean, covariance)
    found = RelativeMahalanobis.fit(**parts(data), dtype=np.float64)(logits, points)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-8)


def test_relative_mahalanobis_does_not_see_directions_in_which_class_means_do_not_differ() -> None:
    data = parts(training(20, 31))
    score = RelativeMahalanobis.fit(**data, dtype=np.float64)
    # orthogonal to everything in training
    direction = np.linalg.svd(data["features"] - data["features"].mean(axis=0))[2][-1]
    moved = score(data["logits"], data["features"] + 1000 * direction)
    np.testing.assert_allclose(moved, score(data["logits"], data["features"]), atol=1e-4)


@pytest.mark.parametrize(("count", "num_features"), SIZES)
@pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis, Residual, ViM])
def test_axes_in_float32_change_next_to_nothing(kind: Any, count: int, num_features: int) -> None:
    data = parts(training(count, num_features))
    logits, points = queries(num_features)
    exact, kept = (kind.fit(**data, dtype=dtype)(logits, points) for dtype in (np.float64, np.float32))
    np.testing.assert_allclose(kept, exact, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize(("count", "num_features"), SIZES)
def test_the_residual_is_what_a_projection_on_the_largest_axes_leaves(count: int, num_features: int) -> None:
    data = training(count, num_features)
    logits, points = queries(num_features)
    mean = data["features"].mean(axis=0)
    centered = data["features"] - mean
    dimension = min(num_features // 2, np.linalg.matrix_rank(centered) // 2)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    small = vectors[:, np.argsort(values)][:, : num_features - dimension]
    expected = [np.sqrt(np.sum((small.T @ (point - mean)) ** 2)) for point in points]
    score = Residual.fit(**parts(data), dtype=np.float64)
    assert score.axes.shape == (dimension, num_features)
    np.testing.assert_allclose(score(logits, points), expected, **EXACT)


@pytest.mark.parametrize(("count", "num_features"), SIZES)
def test_vim_sets_the_scaled_residual_against_the_energy(count: int, num_features: int) -> None:
    data = parts(training(count, num_features))
    logits, points = queries(num_features)
    residual = Residual.fit(**data, dtype=np.float64)
    alpha = data["logits"].max(axis=1).mean() / residual(data["logits"], data["features"]).mean()
    expected = alpha * residual(logits, points) - np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(ViM.fit(**data, dtype=np.float64)(logits, points), expected, **EXACT)


def test_the_kth_neighbour_is_that_of_a_loop_over_the_rounded_training_features() -> None:
    data = parts(training(20, 31))
    logits, points = queries(31)
    score = KNN.fit(**data)
    kept = score.neighbors.astype(np.float64)
    np.testing.assert_allclose(kept, [row / np.linalg.norm(row) for row in data["features"]], atol=5e-4)
    expected = [sorted(np.linalg.norm(point / np.linalg.norm(point) - row) for row in kept)[3] for point in points]
    assert score.k == 4  # the root of 20
    np.testing.assert_allclose(score(logits, points), expected, **EXACT)


def test_scores_of_logits_are_those_of_loops() -> None:
    logits = queries(2, 4)[0]
    probabilities = [np.exp(row) / np.exp(row).sum() for row in logits]
    np.testing.assert_allclose(MSP()(logits), [1 - max(row) for row in probabilities], **EXACT)
    np.testing.assert_allclose(MaxLogit()(logits), [-max(row) for row in logits], **EXACT)
    np.testing.assert_allclose(Energy()(logits), [-np.log(sum(np.exp(row))) for row in logits], **EXACT)


def test_confident_images_do_not_tie() -> None:
    logits = np.array([[40.0, 0.0], [60.0, 0.0], [800.0, 0.0]])
    assert len(set(MSP()(logits))) == 3
    assert len(set(reference.MaxSoftmax.score(torch.tensor(logits)).tolist())) == 1


def test_scores_of_logits_are_those_of_pytorch_ood() -> None:
    logits = queries(2, 4)[0]
    theirs = torch.tensor(logits)
    np.testing.assert_allclose(MSP()(logits) - 1, reference.MaxSoftmax.score(theirs), **EXACT)
    np.testing.assert_allclose(MaxLogit()(logits), reference.MaxLogit.score(theirs), **EXACT)
    np.testing.assert_allclose(Energy()(logits), reference.EnergyBased.score(theirs), **EXACT)


def test_scores_of_features_are_those_of_pytorch_ood_where_its_float32_has_a_meaning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sklearn.covariance.ledoit_wolf_shrinkage", lambda *_, **__: 0.0)  # theirs does not shrink
    data = training(4000, 6, smallest=0.5, seed=2)
    logits, points = queries(6)
    logits = points @ data["weight"].T
    features, labels = torch.tensor(data["features"]).float(), torch.tensor(data["labels"])
    query, bias = torch.tensor(points).float(), torch.zeros(3)
    # theirs is not divided by the number of images, and Mahalanobis has a half in it
    for kind, theirs, scale in [
        (Mahalanobis, reference.Mahalanobis(None), 2 * 4000),
        (RelativeMahalanobis, reference.RMD(None), 4000),
    ]:
        expected = theirs.fit_features(features, labels).predict_features(query).numpy() * scale
        np.testing.assert_allclose(kind.fit(**parts(data))(logits, points), expected, rtol=1e-3, atol=1e-2)
    expected = reference.KNN(None, k=50).fit_features(features, labels).predict_features(query).numpy()
    np.testing.assert_allclose(KNN.fit(**parts(data), k=50)(logits, points), expected, atol=1e-3)
    theirs = reference.ViM(None, d=2, w=torch.tensor(data["weight"]).float(), b=bias).fit_features(features, labels)
    ours = ViM.fit(**parts(data), origin=np.zeros(6), dimension=2)  # without a bias their origin is 0
    assert ours.alpha == pytest.approx(theirs.alpha, rel=1e-4)
    np.testing.assert_allclose(ours(logits, points), theirs.predict_features(query).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shift", [1.0, 2.5])
def test_mahalanobis_tells_two_gaussians_apart_as_well_as_chi_squared_distances_say(shift: float) -> None:
    generator = np.random.default_rng(5)
    mixing = generator.normal(size=(4, 4))
    train, inside, outside = (generator.normal(size=(5000, 4)) @ mixing.T for _ in range(3))
    direction = mixing @ np.array([shift, 0, 0, 0])  # `shift` standard deviations away
    logits = np.zeros((5000, 2))
    score = Mahalanobis.fit(logits=logits, features=train, labels=np.zeros(5000, dtype=int))
    found = roc_auc_score(
        np.repeat([0, 1], 5000), np.concatenate([score(logits, inside), score(logits, outside + direction)])
    )
    grid = np.linspace(0, 80, 40_001)
    density, above = stats.chi2(4).pdf(grid), stats.ncx2(4, shift**2).sf(grid)
    expected = np.trapezoid(density * above, grid)
    assert found == pytest.approx(expected, abs=0.02)  # two standard errors are 0.012 at most


@pytest.mark.parametrize("name", list(SCORES))
def test_larger_is_more_outside(name: str) -> None:
    data = training(60, 8)
    score = SCORES[name].fit(**parts(data))
    direction = np.ones((1, 8))  # away from all classes; scores of logits see them become equal
    far = score(np.zeros((1, 3)), direction * 300 - data["features"].mean(axis=0) * 50)
    assert np.median(score(data["logits"], data["features"])) < far[0]


@pytest.mark.parametrize("name", list(SCORES))
@pytest.mark.parametrize(("count", "num_features"), SIZES)
def test_a_score_comes_back_from_its_state_to_the_last_bit(name: str, count: int, num_features: int) -> None:
    score = SCORES[name].fit(**parts(training(count, num_features)))
    back = SCORES[name].from_state(score.state())
    logits, points = queries(num_features)
    np.testing.assert_array_equal(back(logits, points), score(logits, points))
    assert back.num_features == (num_features if name in FITTED else None)
    assert all(isinstance(value, np.ndarray | float | int) for value in score.state().values())


@pytest.mark.parametrize("name", list(SCORES))
def test_a_score_of_no_images_is_empty(name: str) -> None:
    score = SCORES[name].fit(**parts(training(60, 8)))
    assert score(np.empty((0, 3)), np.empty((0, 8))).shape == (0,)


@pytest.mark.parametrize("name", sorted(FITTED))
def test_features_that_never_differ_are_refused(name: str) -> None:
    data = {**parts(training(20, 5)), "features": np.full((20, 5), 0.1)}
    with pytest.raises(OODFitError, match="All features are the same in every training image"):
        SCORES[name].fit(**data)


@pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])
def test_classes_whose_images_do_not_differ_are_refused(kind: Any) -> None:
    data = parts(training(20, 5))
    data["features"] = np.array([0.1, 0.3, 0.7])[data["labels"]][:, None] * np.ones(5)
    with pytest.raises(OODFitError, match="images of a class all have the same features"):
        kind.fit(**data)


@pytest.mark.parametrize("name", sorted(FITTED - {"relative_mahalanobis"}))
def test_a_feature_that_is_constant_in_training_counts_when_it_is_not(name: str) -> None:
    data = parts(training(60, 8))
    data["features"][:, 2] = 0.0
    score = SCORES[name].fit(**data)
    usual = score(data["logits"], data["features"])
    woken = data["features"].copy()
    woken[:, 2] = 100.0
    assert np.median(score(data["logits"], woken)) > usual.max()


def test_a_class_with_one_image_keeps_its_mean_and_one_without_has_none() -> None:
    data = parts(training(20, 31))
    data["labels"] = np.where(data["labels"] == 2, 1, data["labels"])
    data["labels"][0] = 4
    score = Mahalanobis.fit(**data)
    assert score.means.shape == (3, 31)
    assert score(data["logits"][:1], data["features"][:1])[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", [Mahalanobis, RelativeMahalanobis])
def test_classes_of_one_image_each_are_refused(kind: Any) -> None:
    data = parts(training(3, 5))
    with pytest.raises(OODFitError, match=r"No class has two or more training images \(3 images, 3 classes\)"):
        kind.fit(**data)


def test_too_few_images_for_a_principal_space_are_refused() -> None:
    with pytest.raises(OODFitError, match="differ along 1 axes, of which 0 would be the principal space"):
        Residual.fit(**parts(training(2, 5, num_classes=2)))


def test_a_covariance_that_nothing_shrinks_is_refused_where_it_has_no_inverse() -> None:
    with pytest.raises(OODFitError, match="4 training images do not determine a covariance"):
        ShrunkCovariance.fit(np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0]]))


def test_more_neighbours_than_images_are_refused() -> None:
    with pytest.raises(OODFitError, match="no neighbour number 21 among 20 training images"):
        KNN.fit(**parts(training(20, 5)), k=21)


def test_a_head_that_separates_nothing_has_no_virtual_logit() -> None:
    data = {**parts(training(20, 6)), "logits": np.zeros((20, 3))}
    with pytest.raises(OODFitError, match="the scale 0, .* does not separate the training images"):
        ViM.fit(**data)


@pytest.mark.parametrize("name", sorted(FITTED))
def test_features_that_do_not_fit_are_refused(name: str) -> None:
    score = SCORES[name].fit(**parts(training(60, 8)))
    with pytest.raises(MovlError, match=r"Expected features \(15, 8\).*got \(15, 9\)"):
        score(*queries(9))
    with pytest.raises(MovlError, match=r"Expected features \(15, 8\).*got \(15, 0\)"):
        score(queries(8)[0])
    logits, points = queries(8)
    points[3, 1] = np.nan
    with pytest.raises(MovlError, match="features of 1 of 15 images are NaN"):
        score(logits, points)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFiniteLogitsError, match="logits of 1 of 2 images are NaN"):
        MSP()([[0.0, np.inf], [0.0, 1.0]])


def test_axes_are_found_where_the_fast_decomposition_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    deviations = np.random.default_rng(0).normal(size=(6, 9))
    expected = principal_axes(deviations)
    real = scipy.linalg.svd

    def failing(values: np.ndarray, *, lapack_driver: str = "gesdd", **options: Any) -> Any:
        if lapack_driver == "gesdd":
            raise scipy.linalg.LinAlgError("SVD did not converge")
        return real(values, lapack_driver=lapack_driver, **options)

    monkeypatch.setattr("scipy.linalg.svd", failing)
    variances, axes = principal_axes(deviations)
    np.testing.assert_allclose(variances, expected[0], **EXACT)
    np.testing.assert_allclose(abs(np.sum(axes * expected[1], axis=1)), 1, **EXACT)
