"""Tests of prediction sets: written-out definitions, and the coverage by simulation on exchangeable images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from movl_monai.evaluation import NonFiniteLogitsError, Predictions, UndefinedMetricError
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.conformal import (
    binomial_interval,
    conformal_report,
    conformal_scores,
    conformal_threshold,
    fit_conformal,
    one_per_patient,
    set_figures,
    smallest_alpha,
)
from tests.evaluation.data import random_logits
from tests.metrics.data import drawn_from_softmax, images


def aps_by_loop(row: np.ndarray, label: int, u: float) -> float:
    """Probability before a class plus the share u of its own; ties by class number."""
    before = [p for index, p in enumerate(row) if p > row[label] or (p == row[label] and index < label)]
    return sum(before) + u * row[label]


@pytest.mark.parametrize("num_classes", [2, 5])
def test_scores_equal_their_definitions(num_classes: int) -> None:
    probabilities = softmax(random_logits(40, num_classes)[1])
    probabilities[0] = 1 / num_classes  # all equal
    drawn = np.random.default_rng(7).random(40)
    lac, aps, randomised = (
        conformal_scores(probabilities, method=method, seed=7) for method in ("lac", "aps", "aps_randomised")
    )
    for row in range(40):
        for label in range(num_classes):
            assert lac[row, label] == 1 - probabilities[row, label]
            assert aps[row, label] == pytest.approx(aps_by_loop(probabilities[row], label, 1.0), abs=1e-12)
            expected = aps_by_loop(probabilities[row], label, drawn[row])
            assert randomised[row, label] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100)
@given(n=st.integers(1, 60), percent=st.integers(1, 99), seed=st.integers(0, 100))
def test_threshold_is_the_smallest_score_that_covers_enough_of_n_plus_one(n: int, percent: int, seed: int) -> None:
    scores = np.random.default_rng(seed).random(n).round(1)
    wanted = (n + 1) * (100 - percent)  # exact, in hundredths
    reaching = [score for score in sorted(scores) if 100 * int((scores <= score).sum()) >= wanted]
    if reaching:
        assert conformal_threshold(scores, alpha=percent / 100) == reaching[0]
    else:
        assert percent / 100 < smallest_alpha(n)
        with pytest.raises(UndefinedMetricError, match=f"smallest possible alpha is 1/{n + 1}"):
            conformal_threshold(scores, alpha=percent / 100)


def test_too_few_images_say_how_many_are_needed() -> None:
    with pytest.raises(UndefinedMetricError, match=r"18 calibration images are too few .* 1/19 = .* give 19 or more"):
        conformal_threshold(np.arange(18), alpha=0.05)
    assert conformal_threshold(np.arange(19), alpha=0.05) == 18


@pytest.mark.parametrize(("alpha", "scores", "message"), [(0, [0.1], "alpha must be"), (0.5, [np.nan], "without NaN")])
def test_bad_alpha_and_scores_are_refused(alpha: float, scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conformal_threshold(scores, alpha=alpha)


def simulate(method: str, *, per_class: bool, n: int, alpha: float, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return for many trials whether the set of a new image holds its label, and that label."""
    labels, logits = drawn_from_softmax(trials * (n + 1), 3, seed=11)
    labels, logits = labels.reshape(trials, n + 1), 1.7 * logits.reshape(trials, n + 1, 3)  # not calibrated
    held = np.zeros(trials, dtype=bool)
    for trial in range(trials):
        fit = fit_conformal(
            labels[trial, 1:], logits[trial, 1:], alpha=alpha, method=method, per_class=per_class, seed=2 * trial
        )
        held[trial] = fit.sets(logits[trial, :1], seed=2 * trial + 1)[0, labels[trial, 0]]
    return held, labels[:, 0]


@pytest.mark.parametrize("method", ["lac", "aps", "aps_randomised"])
def test_coverage_on_exchangeable_images_is_within_binomial_error_of_the_promise(method: str) -> None:
    n, alpha, trials = 39, 0.1, 2000
    held, _ = simulate(method, per_class=False, n=n, alpha=alpha, trials=trials)
    assert held.sum() >= binom.ppf(0.001, trials, 1 - alpha)
    if method != "aps":  # deterministic APS has many equal scores (1, the last class), and covers more
        assert held.sum() <= binom.ppf(0.999, trials, 1 - alpha + 1 / (n + 1))


@pytest.mark.parametrize("method", ["lac", "aps_randomised"])
def test_coverage_of_every_class_is_within_binomial_error_of_the_promise(method: str) -> None:
    alpha, trials = 0.2, 1500
    held, labels = simulate(method, per_class=True, n=90, alpha=alpha, trials=trials)
    for label in range(3):
        hits = held[labels == label]
        assert hits.sum() >= binom.ppf(0.001, len(hits), 1 - alpha)
        assert hits.sum() <= binom.ppf(0.999, len(hits), 1 - alpha + 1 / 10)  # 1 / (n_class + 1), n_class > 9


def test_coverage_of_one_calibration_follows_its_beta_distribution() -> None:
    labels, logits = drawn_from_softmax(40_000, 4, seed=3)
    n, alpha = 500, 0.1
    fit = fit_conformal(labels[:n], logits[:n], alpha=alpha)
    coverage = fit.sets(logits[n:])[np.arange(len(labels) - n), labels[n:]].mean()
    rank = int(np.ceil((n + 1) * (1 - alpha)))
    low, high = beta.ppf([0.001, 0.999], rank, n + 1 - rank)
    assert low - 0.01 < coverage < high + 0.01  # 0.01: six binomial deviations of the images counted


def test_randomised_sets_are_smaller_and_deterministic_ones_do_not_depend_on_the_seed() -> None:
    labels, logits = drawn_from_softmax(4000, 4)
    fits = {name: fit_conformal(labels, logits, method=name) for name in ("aps", "aps_randomised")}
    sizes = {name: fit.sets(logits, seed=1).sum(axis=1).mean() for name, fit in fits.items()}
    assert sizes["aps_randomised"] < sizes["aps"]
    np.testing.assert_array_equal(fits["aps"].sets(logits, seed=1), fits["aps"].sets(logits, seed=2))
    assert (fits["aps_randomised"].sets(logits, seed=1) != fits["aps_randomised"].sets(logits, seed=2)).any()
    np.testing.assert_array_equal(
        fits["aps_randomised"].sets(logits, seed=1), fits["aps_randomised"].sets(logits, seed=1)
    )


def test_surest_images_have_no_empty_sets_of_aps_though_their_score_is_the_largest() -> None:
    labels, logits = np.zeros(100, dtype=int), np.tile([3.0, 0.0], (100, 1))
    sure = [[30.0, 0.0], [0.0, 30.0]]
    for per_class in (False, True):
        fit = fit_conformal(labels, logits, method="aps", per_class=per_class)
        assert (conformal_scores(softmax(sure), method="aps").min(axis=1) > fit.thresholds[0]).all()
        assert fit.sets(sure).tolist()[0][0]
        assert fit.sets(sure).tolist()[1][1]


def test_network_that_errs_more_than_alpha_gets_the_last_class_in_spite_of_rounding() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2000, 3))
    labels = logits.argmin(axis=1)  # always the least likely
    fit = fit_conformal(labels, logits, alpha=0.1, method="aps")
    assert fit.sets(generator.normal(size=(2000, 3))).all()


def test_class_with_too_few_images_is_in_every_set() -> None:
    labels, logits = drawn_from_softmax(300, 3)
    keep = np.flatnonzero((labels != 2) | (np.cumsum(labels == 2) <= 5))
    fit = fit_conformal(labels[keep], logits[keep], alpha=0.1, per_class=True)
    assert fit.short == (2,)
    assert fit.sets(logits)[:, 2].all()
    assert not fit.sets(logits)[:, 0].all()


def test_per_class_without_any_large_enough_class_is_refused() -> None:
    with pytest.raises(UndefinedMetricError, match=r"No class has enough .* the largest has 5, .* 1/6"):
        fit_conformal([0, 1] * 5, np.zeros((10, 2)), alpha=0.1, per_class=True)


def test_bad_input_of_sets_is_refused() -> None:
    fit = fit_conformal([0, 1] * 10, np.zeros((20, 2)))
    with pytest.raises(ValueError, match=r"logits must be \(N, 2\), got \(1, 3\)"):
        fit.sets([[0.0, 0.0, 0.0]])
    with pytest.raises(NonFiniteLogitsError):
        fit.sets([[0.0, np.inf]])
    with pytest.raises(ValueError, match="method must be one of lac, aps, aps_randomised, ordinal_aps, got 'raps'"):
        fit_conformal([0, 1] * 10, np.zeros((20, 2)), method="raps")


def test_set_figures_equal_a_loop() -> None:
    labels, sets = random_logits(50, 4)[0], np.random.default_rng(1).random((50, 4)) < 0.6
    found = set_figures(labels, sets, class_names=list("abcd"))
    covered = [bool(sets[row, label]) for row, label in enumerate(labels)]
    assert found["coverage"] == sum(covered) / 50
    assert found["sizes"] == {str(size): sum(sum(row) == size for row in sets.tolist()) for size in range(5)}
    assert found["mean_size"] == sum(int(size) * count for size, count in found["sizes"].items()) / 50
    own = [hit for hit, label in zip(covered, labels, strict=True) if label == 1]
    assert found["per_class_coverage"]["b"] == sum(own) / len(own)
    assert found["coverage_interval"] == binomial_interval(sum(covered), 50)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20)])
def test_binomial_interval_is_that_of_clopper_and_pearson(hits: int, n: int) -> None:
    low = 0.0 if hits == 0 else beta.ppf(0.025, hits, n - hits + 1)
    high = 1.0 if hits == n else beta.ppf(0.975, hits + 1, n - hits)
    assert binomial_interval(hits, n) == pytest.approx([low, high], abs=1e-9)


def sections_of(count: int = 600) -> dict[str, Predictions]:
    labels, logits = drawn_from_softmax(3 * count, 3)
    parts = {"calibration": slice(count), "id": slice(count, 2 * count), "ood:b": slice(2 * count, None)}
    sections = {name: images(labels[part], logits[part], patients=count) for name, part in parts.items()}
    shifted = sections["ood:b"]
    sections["ood:b"] = images((shifted.labels + 1) % 3, shifted.logits, patients=count)
    return sections


def test_report_covers_in_distribution_and_shows_that_it_does_not_elsewhere() -> None:
    report = conformal_report(sections_of(), class_names=["a", "b", "c"], alpha=0.2)
    assert report["calibrated_on"] == {"split": "calibration", "n": 600}
    assert list(report["methods"]) == ["lac", "aps", "aps_randomised", "lac_per_class", "aps_per_class"]
    for entry in report["methods"].values():
        assert entry["sections"]["id"]["coverage_interval"][1] > 0.8
        assert entry["sections"]["ood:b"]["coverage"] < 0.7
        assert list(entry["sections"]) == ["id", "ood:b"]
    assert report["methods"]["lac"]["sections"]["id"]["coverage_interval"][0] < 0.8
    assert "for no other site or device" in report["notes"][0]


def test_report_of_too_few_images_says_the_smallest_alpha_and_gives_no_sets() -> None:
    labels, logits = random_logits(8, 2)
    report = conformal_report({"calibration": images(labels, logits)}, class_names=["a", "b"], alpha=0.1)
    assert report["smallest_alpha"] == 1 / 9
    assert [entry["thresholds"] for entry in report["methods"].values()] == [None] * 5
    assert "8 calibration images are too few" in report["methods"]["lac"]["notes"][0]
    assert "1/9" in report["methods"]["lac"]["notes"][0]
    assert "No class has enough" in report["methods"]["lac_per_class"]["notes"][0]


def test_report_names_a_class_with_too_few_images() -> None:
    sections = sections_of(100)
    part = sections["calibration"]
    rare = np.flatnonzero((part.labels != 2) | (np.cumsum(part.labels == 2) <= 3))
    report = conformal_report(
        {**sections, "calibration": part.take(rare)}, class_names=["a", "b", "c"], methods=["lac_per_class"]
    )
    entry = report["methods"]["lac_per_class"]
    thresholds = entry["thresholds"]
    assert thresholds["c"] is None
    assert None not in (thresholds["a"], thresholds["b"])
    assert "in every set: c (3 images, smallest possible alpha 0.25)" in entry["notes"][0]


def test_report_without_a_calibration_part_has_no_methods_and_the_reason() -> None:
    sections = sections_of(100)
    del sections["calibration"]
    report = conformal_report(sections, class_names=["a", "b", "c"])
    assert (report["methods"], report["smallest_alpha"]) == ({}, None)
    assert "no labeled images in 'calibration'" in report["notes"][0]


def test_report_on_val_says_that_val_selected_the_checkpoint() -> None:
    sections = sections_of(100)
    sections["val"] = sections.pop("calibration")
    report = conformal_report(sections, class_names=["a", "b", "c"], calibrated_on="val", methods=["lac"])
    assert any("val selected the checkpoint" in note for note in report["notes"])


def test_one_image_per_patient_restores_the_promise_that_clusters_break() -> None:
    labels, logits = drawn_from_softmax(60, 3)
    clustered = images(np.tile(labels, 5), np.tile(logits, (5, 1)), patients=60)
    single = one_per_patient(clustered, seed=0)
    assert len(single) == len(set(single.patients)) == 60
    options = {"class_names": ["a", "b", "c"], "methods": ["lac"]}
    plain = conformal_report({"calibration": clustered}, **options)
    report = conformal_report({"calibration": clustered}, single_image=True, **options)
    assert (plain["calibrated_on"]["n"], report["calibrated_on"]["n"]) == (300, 60)
    assert any("the promise is a rough one" in note for note in plain["notes"])
    assert any("One image of each patient was drawn" in note for note in report["notes"])


def test_image_of_a_patient_is_drawn_at_random() -> None:
    predictions = images(np.zeros(400, dtype=int), np.zeros((400, 2)), patients=100)
    rows = [int(image) for image in one_per_patient(predictions, seed=1).ids]
    assert (np.bincount(np.array(rows) // 100, minlength=4) > 10).all()  # not always the first


@pytest.mark.parametrize(
    ("options", "message"), [({"methods": ["raps"]}, "methods must be of"), ({"alpha": 1}, "alpha")]
)
def test_bad_options_of_the_report_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conformal_report(sections_of(20), class_names=["a", "b", "c"], **options)
