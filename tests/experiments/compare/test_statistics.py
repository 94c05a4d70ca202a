from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, paired_bootstrap, predictions_csv
from movl_monai.experiments.compare import Result, Training, compare_results
from movl_monai.experiments.compare.statistics import _mean_rounds

RNG = np.random.default_rng(0)
COUNT = 40
LABELS = np.arange(COUNT) % 2
PATIENTS = [f"{number // 4:012x}" for number in range(COUNT)]


def _predictions(shift: float, seed: int, *, count: int = COUNT, known_patients: bool = True) -> Predictions:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, 2))
    logits[np.arange(count), LABELS[:count]] += shift
    return Predictions(
        ids=[f"{number:012x}" for number in range(count)],
        logits=logits,
        labels=LABELS[:count],
        splits=["test"] * count,
        domains=["id"] * (count // 2) + ["far"] * (count - count // 2),
        patient_ids=PATIENTS[:count] if known_patients else None,
    )


def _result(folder: Path, arm: str, seed: int, predictions: Predictions, *, draw: int = 0, **training: Any) -> Result:
    path = folder / arm / f"draw_{draw}_seed_{seed}"
    (path / "evaluation").mkdir(parents=True)
    (path / "evaluation/predictions.csv").write_text(predictions_csv(predictions, ["a", "b"]), encoding="utf-8")
    facts = {"values": {}, "figures": {}, "versions": {}, "predictions_sha256": "", "draw": draw}
    return Result(settings="", arm=arm, seed=seed, training=Training(settings="", **training), folder=path, **facts)


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    return [
        _result(tmp_path, arm, seed, _predictions(shift, seed + 10 * index))
        for seed in (0, 1)
        for index, (arm, shift) in enumerate([("plain", 0.5), ("better", 3.0)])
    ]


def _pick(results: list[Result], arm: str, domain: str, **options: Any) -> Any:
    (entry,) = [
        entry
        for entry in compare_results(results, references=["plain"], rounds=200, **options)
        if (entry.arm, entry.domain) == (arm, domain)
    ]
    return entry


def test_figures_are_those_of_scikit_learn_for_every_seed_and_domain(results: list[Result]) -> None:
    for domain, rows in (("id", slice(0, 20)), ("far", slice(20, 40))):
        entry = _pick(results, "better", domain)
        expected = [_predictions(3.0, seed + 10).logits[rows] for seed in (0, 1)]
        labels = LABELS[rows]
        balanced = [balanced_accuracy_score(labels, logits.argmax(axis=1)) for logits in expected]
        auroc = [roc_auc_score(labels, logits[:, 1] - logits[:, 0]) for logits in expected]
        assert entry.values["balanced_accuracy"] == pytest.approx(balanced)
        assert entry.values["auroc"] == pytest.approx(auroc)
        assert entry.mean("auroc") == pytest.approx(np.mean(auroc))
        assert entry.sd("auroc") == pytest.approx(np.std(auroc, ddof=1))


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "auroc"])
def test_with_one_seed_the_difference_is_that_of_paired_bootstrap(metric: Any, results: list[Result]) -> None:
    entry = _pick([result for result in results if result.seed == 0], "better", "id")
    one, other = _predictions(3.0, 10).logits[:20], _predictions(0.5, 0).logits[:20]
    expected = paired_bootstrap(LABELS[:20], one, other, PATIENTS[:20], metric, rounds=200)
    found = entry.differences["plain"][metric]
    assert found.value == pytest.approx(expected["difference"])
    assert found.interval == pytest.approx(expected["interval"])
    assert entry.patients == 5


def test_the_difference_over_seeds_is_the_mean_of_the_seeds_differences(results: list[Result]) -> None:
    entry = _pick(results, "better", "id")
    plain = _pick(results, "plain", "id")
    expected = np.mean(entry.values["auroc"] - plain.values["auroc"])
    assert entry.differences["plain"]["auroc"].value == pytest.approx(expected)
    assert plain.differences == {}


def test_the_same_predictions_differ_by_nothing_and_better_ones_exclude_0(tmp_path: Path) -> None:
    same = [_result(tmp_path, arm, 0, _predictions(0.5, 0)) for arm in ("plain", "copy")]
    found = _pick(same, "copy", "id").differences["plain"]["balanced_accuracy"]
    assert (found.value, found.interval, found.excludes_zero) == (0.0, (0.0, 0.0), False)
    best = [*same, _result(tmp_path, "best", 0, _predictions(9.0, 1))]
    assert _pick(best, "best", "id").differences["plain"]["balanced_accuracy"].excludes_zero


def test_a_failed_run_is_left_out_and_the_pairs_with_it(tmp_path: Path, results: list[Result]) -> None:
    failed = _result(tmp_path, "better", 2, _predictions(3.0, 0), failed="The loss became nan.")
    entry = _pick([*results, failed], "better", "id")
    assert entry.seeds == (0, 1)
    only = [result for result in results if not (result.arm == "better" and result.seed == 1)]
    entry = _pick(only, "better", "id")
    assert entry.seeds == (0,)
    assert entry.sd("accuracy") is None


def test_arms_of_different_images_are_refused(tmp_path: Path, results: list[Result]) -> None:
    other = _result(tmp_path, "other", 0, _predictions(1.0, 0, count=38))
    with pytest.raises(MovlError, match="different images"):
        compare_results([*results, other], references=["plain"], rounds=10)


def test_images_without_patients_are_drawn_one_by_one(tmp_path: Path) -> None:
    predictions = [_predictions(shift, 0, known_patients=False) for shift in (0.5, 3.0)]
    found = [_result(tmp_path, arm, 0, part) for arm, part in zip(("plain", "better"), predictions, strict=True)]
    entry = _pick(found, "better", "id")
    expected = paired_bootstrap(
        LABELS[:20], predictions[1].logits[:20], predictions[0].logits[:20], None, "accuracy", rounds=200
    )
    assert entry.patients is None
    assert entry.differences["plain"]["accuracy"].interval == pytest.approx(expected["interval"])


@pytest.mark.parametrize("draws", [2, 3, 8])
def test_the_spread_over_draws_is_that_of_their_mean(draws: int) -> None:
    means = np.random.default_rng(draws).normal(size=draws)
    values = {(draw, seed): np.full(20001, means[draw] + seed) for draw in range(draws) for seed in (0, 1)}
    found = _mean_rounds(values, 0)
    assert found[0] == pytest.approx(means.mean() + 0.5)
    assert found[1:].std() == pytest.approx(means.std(ddof=1) / np.sqrt(draws), rel=0.03)


def test_draws_are_paired_between_arms_and_widen_the_interval_of_one(tmp_path: Path) -> None:
    shifts = {0: 0.2, 1: 2.0, 2: 6.0}
    results = [
        _result(tmp_path, arm, 0, _predictions(shift, 0), draw=draw)
        for arm in ("plain", "copy")
        for draw, shift in shifts.items()
    ]
    entry = _pick(results, "copy", "id")
    alone = _pick([result for result in results if result.draw == 1], "copy", "id")
    assert entry.differences["plain"]["accuracy"].interval == (0.0, 0.0)
    low, high = entry.intervals["accuracy"]
    assert high - low > alone.intervals["accuracy"][1] - alone.intervals["accuracy"][0]
    assert (entry.draws, entry.seeds) == ((0, 1, 2), (0, 0, 0))
    assert entry.sd("accuracy") == pytest.approx(np.std(entry.values["accuracy"], ddof=1))


def test_the_mean_and_the_spread_are_over_draws_of_the_means_over_seeds(tmp_path: Path) -> None:
    runs = [(0, 0, 0.2), (0, 1, 1.0), (1, 0, 4.0)]  # draw 1 has lost a seed
    results = [_result(tmp_path, "plain", seed, _predictions(shift, seed), draw=draw) for draw, seed, shift in runs]
    entry = _pick(results, "plain", "id")
    first, second, third = entry.values["accuracy"]
    by_draw = [(first + second) / 2, third]
    assert entry.mean("accuracy") == pytest.approx(np.mean(by_draw))
    assert entry.sd("accuracy") == pytest.approx(np.std(by_draw, ddof=1))


def test_val_moves_the_threshold_and_is_in_no_figure(tmp_path: Path) -> None:
    tested = _predictions(2.0, 0)
    tested.logits[:, 0] += 3  # all say "a"
    splits = ["val"] * 10 + ["test"] * 10 + ["train"] * 20
    mixed = Predictions(
        ids=tested.ids,
        logits=tested.logits,
        labels=LABELS,
        splits=splits,
        domains=["id"] * 20 + ["far"] * 20,
        patient_ids=PATIENTS,
    )
    found = [_result(tmp_path, "plain", 0, mixed), _result(tmp_path, "old", 0, tested)]
    entry = _pick(found[:1], "plain", "far")
    margin = tested.logits[:, 1] - tested.logits[:, 0]
    cuts = np.sort(margin[:10])
    best = max(balanced_accuracy_score(LABELS[:10], margin[:10] > cut) for cut in cuts - 1e-9)
    assert entry.values["balanced_accuracy"] == pytest.approx(0.5, abs=0.1)
    assert entry.values["balanced_accuracy_moved"] > entry.values["balanced_accuracy"]
    assert best > 0.7
    assert _pick(found[:1], "plain", "id").images == 10
    assert _pick(found[1:], "old", "far").mean("accuracy_moved") is None, "without val there is no moved threshold"


def test_grades_are_compared_by_quadratic_kappa_in_every_domain(tmp_path: Path) -> None:
    runs = [
        _result(tmp_path, arm, 0, _predictions(shift, 3), metric="val_quadratic_kappa")
        for arm, shift in (("plain", 0.5), ("better", 3.0))
    ]
    for domain, rows in (("id", slice(0, 20)), ("far", slice(20, 40))):
        entry = _pick(runs, "better", domain)
        predicted = _predictions(3.0, 3).logits[rows].argmax(axis=1)
        assert entry.main == "quadratic_kappa"
        kappa = cohen_kappa_score(LABELS[rows], predicted, weights="quadratic")
        assert entry.mean("quadratic_kappa") == pytest.approx(kappa)
        assert entry.differences["plain"]["quadratic_kappa"].value > 0
