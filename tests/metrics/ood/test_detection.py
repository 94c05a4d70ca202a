"""Tests of OOD detection in a report, on stored outputs with a known answer, and on real images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs
from movl_monai.metrics.ood.detection import DEFAULT_SCORE, SCORES, fit_detector, fit_ood_score, ood_detection
from movl_monai.metrics.ood.score import OODFitError

WIDTH = 12
WEIGHT = np.random.default_rng(7).normal(size=(WIDTH, 2))


def outputs(
    *,
    sizes: dict[tuple[str, str], int] | None = None,
    shifts: dict[str, float] | None = None,
    seed: int = 0,
    **options: Any,
) -> StoredOutputs:
    """Gaussian features for every section, shifted by standard deviations in other domains, and linear logits."""
    sizes = sizes or {
        ("id", "train"): 200,
        ("id", "val"): 100,
        ("id", "test"): 150,
        ("site", "test"): 80,
        ("ct", ""): 60,
    }
    shifts = {"site": 0.5, "ct": 6.0} if shifts is None else shifts
    generator = np.random.default_rng(seed)
    places = [place for place, count in sizes.items() for _ in range(count)]
    labels = np.arange(len(places)) % 2
    features = generator.normal(size=(len(places), WIDTH))
    features[:, 0] += 2 * labels
    features[:, 1] += [shifts.get(domain, 0.0) for domain, _ in places]
    known = [-1 if domain == "ct" else label for (domain, _), label in zip(places, labels, strict=True)]
    predictions = Predictions(
        ids=[f"{index:012x}" for index in range(len(places))],
        logits=features @ WEIGHT,
        labels=known,
        domains=[domain for domain, _ in places],
        splits=[split for _, split in places],
        patients=[f"p{index // 2}" for index in range(len(places))],
    )
    settings: dict[str, Any] = {"features": features, "far_domains": ["ct"], **options}
    return StoredOutputs(predictions=predictions, class_names=["no", "yes"], **settings)


def test_the_entry_says_what_was_fitted_where_and_holds_every_score_of_every_domain() -> None:
    entry = ood_detection(outputs(), rounds=20)
    assert entry["fitted_on"] == {"split": "train", "n": 200}
    assert entry["threshold_from"] == {"split": "val", "n": 100, "target_id_kept": 0.95}
    assert entry["chosen"]["score"] == DEFAULT_SCORE
    assert {name: (found["kind"], found["n"]) for name, found in entry["sets"].items()} == {
        "site": ("near", 80),
        "ct": ("far", 60),
    }
    for found in entry["sets"].values():
        assert list(found["scores"]) == list(SCORES)
        for figures in found["scores"].values():
            assert figures["auroc_interval"][0] <= figures["auroc"] <= figures["auroc_interval"][1]
    assert entry["sets"]["ct"]["share_outside"] == 60 / 210
    json.dumps(entry, allow_nan=False)  # it goes into report.json


@pytest.mark.parametrize("name", list(SCORES))
def test_figures_are_those_of_the_fitted_score_on_test_images_against_others(name: str) -> None:
    stored = outputs()
    parts = stored.sections()
    score = fit_ood_score(stored, name)
    inside, outside = (score(parts[key].predictions.logits, parts[key].features) for key in ("id", "far:ct"))
    expected = roc_auc_score(np.repeat([0, 1], [150, 60]), np.concatenate([inside, outside]))
    entry = ood_detection(stored, scores=[name], rounds=5)
    assert entry["sets"]["ct"]["scores"][name]["auroc"] == pytest.approx(expected, abs=1e-9)


def test_distances_see_images_that_are_far_and_hardly_those_that_are_near() -> None:
    entry = ood_detection(outputs(), rounds=5)
    auroc = {name: found["scores"]["mahalanobis"]["auroc"] for name, found in entry["sets"].items()}
    assert auroc["ct"] > 0.9
    assert 0.4 < auroc["site"] < 0.7
    assert entry["sets"]["ct"]["flagged"] > 0.7


def test_the_threshold_keeps_95_percent_of_val_and_as_many_of_new_images_within_binomial_error() -> None:
    sizes = {("id", "train"): 400, ("id", "val"): 2000, ("id", "test"): 4000}
    stored = outputs(sizes=sizes)
    detector = fit_detector(stored)
    val, test = (stored.sections()[name] for name in ("val", "id"))
    kept = 1 - detector(val.predictions.logits, val.features)[1].mean()
    assert 0.95 <= kept < 0.95 + 1 / 2000
    entry = ood_detection(stored, rounds=5)
    # the share of test flagged differs from 5 % by the drawing of val and of test
    assert entry["id_flagged"] == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 * (1 / 2000 + 1 / 4000)))
    assert entry["id_flagged"] == detector(test.predictions.logits, test.features)[1].mean()


@pytest.mark.parametrize(("count", "kept"), [(20, 19), (19, 19), (40, 38), (41, 39), (1, 1)])
def test_the_threshold_keeps_no_more_images_than_asked_for(count: int, kept: int) -> None:
    stored = outputs(sizes={("id", "train"): 30, ("id", "val"): count})
    val = stored.sections()["val"]
    assert (~fit_detector(stored)(val.predictions.logits, val.features)[1]).sum() == kept


def surprises(**options: Any) -> list[str]:
    sizes = {("id", "train"): 60, ("id", "val"): 40, ("id", "test"): 60}
    entry = ood_detection(outputs(sizes=sizes, **options), scores=["mahalanobis"], rounds=1)
    return [note for note in entry["notes"] if "Test and val images differ" in note]


def test_more_marks_on_test_images_than_chance_gives_are_told() -> None:
    assert [surprises(seed=seed) for seed in range(20)] == [[]] * 20
    stored = outputs()
    rows = np.array([place == "test" for place in stored.predictions.splits]) & (
        np.array(stored.predictions.domains) == "id"
    )
    stored.features[rows] *= 1.6
    note = next(note for note in ood_detection(stored, rounds=1)["notes"] if "Test and val images differ" in note)
    assert "where the threshold aims at 5.0%" in note


def test_the_law_of_marks_on_exchangeable_images_is_beta_binomial() -> None:
    generator = np.random.default_rng(0)
    val, test = generator.normal(size=(4000, 40)), generator.normal(size=(4000, 60))
    beyond = (test > np.sort(val, axis=1)[:, [37]]).sum(axis=1)  # 38 of 40 are kept
    for count in (1, 3, 6, 10):
        expected = stats.betabinom.sf(count - 1, 60, 3, 38)
        assert np.mean(beyond >= count) == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize("name", list(SCORES))
def test_no_test_image_and_no_image_outside_moves_score_or_threshold(name: str) -> None:
    sizes = {("id", "train"): 60, ("id", "val"): 40}
    alone = fit_detector(outputs(sizes=sizes), score=name)
    together = outputs(sizes={**sizes, ("id", "test"): 50, ("site", "test"): 30, ("site", "train"): 9, ("ct", ""): 9})
    beside = fit_detector(together, score=name)
    assert beside.threshold == alone.threshold
    for key, value in alone.score.state().items():
        np.testing.assert_array_equal(beside.score.state()[key], value)


def test_the_order_of_images_changes_nothing() -> None:
    stored = outputs()
    order = np.random.default_rng(0).permutation(len(stored))
    one, two = (ood_detection(part, scores=["msp"], rounds=20) for part in (stored, stored.take(order)))
    for name in ("site", "ct"):
        for key, value in one["sets"][name]["scores"]["mahalanobis"].items():
            np.testing.assert_allclose(two["sets"][name]["scores"]["mahalanobis"][key], value, atol=1e-9)


def test_without_outputs_of_train_only_scores_of_logits_are_left_and_the_entry_says_so() -> None:
    entry = ood_detection(outputs(sizes={("id", "val"): 30, ("id", "test"): 30, ("ct", ""): 20}), rounds=5)
    scores = entry["sets"]["ct"]["scores"]
    assert [name for name, figures in scores.items() if figures is not None] == ["msp", "max_logit", "energy"]
    assert (entry["chosen"], entry["id_flagged"], entry["sets"]["ct"]["flagged"]) == (None, None, None)
    assert entry["fitted_on"]["n"] == 0
    note = next(note for note in entry["notes"] if note.startswith("No mahalanobis, relative_mahalanobis, knn, vim"))
    assert "no outputs of training images; evaluate 'train' too" in note
    assert any("No image is marked as outside, as mahalanobis has no threshold" in note for note in entry["notes"])


def test_a_score_of_logits_can_be_chosen_without_train_and_features() -> None:
    stored = outputs(sizes={("id", "val"): 30, ("id", "test"): 30, ("ct", ""): 20}, features=np.empty((0, 0)))
    entry = ood_detection(stored, score="energy", scores=["energy"], rounds=5)
    assert entry["chosen"]["score"] == "energy"
    assert fit_detector(stored, score="energy").fitted_on == {"split": "train", "n": 0}


def test_without_features_the_entry_says_so() -> None:
    entry = ood_detection(outputs(features=np.empty((0, 0))), rounds=5)
    assert any("The stored outputs hold no features" in note for note in entry["notes"])


def test_without_val_nothing_is_marked() -> None:
    stored = outputs(sizes={("id", "train"): 30, ("id", "test"): 30, ("ct", ""): 20})
    entry = ood_detection(stored, rounds=5)
    assert entry["chosen"] is None
    assert entry["sets"]["ct"]["scores"]["mahalanobis"]["auroc"] > 0.9
    assert any("no outputs of val images, from which the threshold comes" in note for note in entry["notes"])


def test_a_threshold_from_few_images_is_called_rough() -> None:
    entry = ood_detection(outputs(sizes={("id", "train"): 30, ("id", "val"): 12, ("id", "test"): 9}), rounds=5)
    assert any("from 12 val images; it is rough" in note for note in entry["notes"])
    assert any("no images of other domains" in note for note in entry["notes"])


def test_without_test_images_there_is_nothing_to_compare_with_but_images_are_marked() -> None:
    entry = ood_detection(outputs(sizes={("id", "train"): 90, ("id", "val"): 40, ("ct", ""): 20}), rounds=5)
    assert set(entry["sets"]["ct"]["scores"].values()) == {None}
    assert entry["sets"]["ct"]["flagged"] > 0.7
    assert any("no in-distribution test images" in note for note in entry["notes"])


def test_a_domain_of_one_patient_gets_no_silent_certainty() -> None:
    stored = outputs(sizes={("id", "train"): 60, ("id", "val"): 40, ("id", "test"): 1, ("ct", ""): 1})
    stored.predictions.patients[-2:] = ["one", "one"]
    entry = ood_detection(stored, rounds=5)
    figures = entry["sets"]["ct"]["scores"]["mahalanobis"]
    assert (figures["auroc_interval"], figures["fpr95_interval"]) == (None, None)
    assert any(note.startswith("ct: No intervals: resampling needs two or more patients") for note in entry["notes"])


def test_features_that_are_not_finite_are_refused() -> None:
    stored = outputs()
    stored.features[5, 3] = np.nan
    with pytest.raises(MovlError, match="features of 1 of 200 images are NaN"):
        ood_detection(stored, rounds=5)


def test_constant_features_leave_scores_of_logits() -> None:
    stored = outputs()
    stored.features[:] = 0.3
    entry = ood_detection(stored, rounds=5)
    assert entry["sets"]["ct"]["scores"]["knn"] is None
    assert entry["sets"]["ct"]["scores"]["msp"] is not None
    assert any("All features are the same in every training image" in note for note in entry["notes"])


def test_an_unknown_score_or_target_is_refused() -> None:
    with pytest.raises(ValueError, match="ood_score must be one of msp, .*, got 'odin'"):
        ood_detection(outputs(), score="odin")
    with pytest.raises(ValueError, match=r"target_id_kept must be in \(0, 1\], got 95"):
        fit_detector(outputs(), target_id_kept=95)


def test_a_detector_without_val_says_what_to_evaluate() -> None:
    with pytest.raises(OODFitError, match="no outputs of val images"):
        fit_detector(outputs(sizes={("id", "train"): 30}))


def real_features(names: list[Path]) -> np.ndarray:
    from movl_monai.backbones import TimmBackbone, embedded_efficientnet_lite0
    from movl_monai.transforms import LoadMedicalImage, ResizeImage

    weights = embedded_efficientnet_lite0()
    backbone = TimmBackbone("tf_efficientnet_lite0", weights=weights, image_size=96).eval()
    load, resize = LoadMedicalImage(), ResizeImage(96, mode="stretch")
    images = torch.stack([torch.as_tensor(np.asarray(resize(load(name)))) for name in names])
    with torch.inference_mode():
        return torch.cat([backbone(part) for part in images.split(16)]).numpy()


def test_endoscopy_is_told_from_chest_x_rays_by_scores_of_features(test_data: Path) -> None:
    chest = sorted((test_data / "data" / "cxr_pneumonia" / "id").rglob("*.jp*g"))
    assert len(chest) >= 90
    generator = np.random.default_rng(0)
    chest = [chest[index] for index in generator.permutation(len(chest))[:90]]
    polyps = sorted((test_data / "data" / "kvasir_seg" / "test" / "images").iterdir())[:20]
    features = real_features([*chest, *polyps])
    places = [("id", "train")] * 40 + [("id", "val")] * 25 + [("id", "test")] * 25 + [("kvasir", "")] * 20
    predictions = Predictions(
        ids=[str(index) for index in range(len(features))],
        logits=features @ (generator.normal(size=(features.shape[1], 1)) * [1, -1]),
        labels=[int(path.parent.name == "pneumonia") for path in chest] + [-1] * 20,
        domains=[domain for domain, _ in places],
        splits=[split for _, split in places],
    )
    stored = StoredOutputs(
        predictions=predictions, class_names=["normal", "pneumonia"], features=features, far_domains=["kvasir"]
    )
    entry = ood_detection(stored, rounds=50)
    # relative Mahalanobis looks in one direction only with two classes
    for name in ("mahalanobis", "knn", "vim", "residual"):
        figures = entry["sets"]["kvasir"]["scores"][name]
        assert figures["auroc"] > 0.95, name
        assert figures["auroc_interval"][0] > 0.9, name
    assert entry["sets"]["kvasir"]["flagged"] > 0.9
    assert entry["id_flagged"] < 0.4
