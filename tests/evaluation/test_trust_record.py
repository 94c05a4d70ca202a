"""Tests of the trust record: its judgement, its file, and its checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.evaluation import NonFiniteLogitsError
from movl_monai.evaluation.trust_record import (
    TrustError,
    TrustRecord,
    read_trust,
    trained_state_sha256,
    trust_record,
    write_trust,
)
from movl_monai.heads import LinearHead
from movl_monai.metrics.calibration import calibration_report
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.conformal import conformal_report
from movl_monai.metrics.ood.detection import SCORES, fit_detector, ood_detection
from movl_monai.metrics.operating_points import operating_points_report
from movl_monai.metrics.selective import abstention_report
from movl_monai.networks import AdaptedClassifier, decode_facts, encode_facts, save_atomically
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone
from tests.metrics.ood.test_detection import outputs

SIZES = {("id", "train"): 60, ("id", "val"): 60, ("id", "calibration"): 60, ("id", "test"): 40, ("ct", ""): 20}


def network(*, seed: int = 3) -> AdaptedClassifier:
    head = LinearHead(tiny_backbone().spec.num_features, 2, init="uniform", seed=seed)
    return AdaptedClassifier(
        backbone=tiny_backbone(), head=head, prompt=PadPrompt(image_size=IMAGE_SIZE, width=4), class_names=["no", "yes"]
    )


def entries(stored: Any, score: str = "mahalanobis") -> dict[str, Any]:
    """A report as the evaluation makes it."""
    parts = {name: stored.sections()[name].predictions for name in ("id", "val", "calibration")}
    return {
        "calibration": calibration_report(parts, rounds=5),
        "operating_points": operating_points_report(parts, class_names=stored.class_names, rounds=5),
        "ood_detection": ood_detection(stored, score=score, scores=[score], rounds=5),
        "conformal": conformal_report(parts, class_names=stored.class_names),
        "abstention": abstention_report(parts, target_risk=0.1, rounds=5),
    }


def full_record(score: str = "mahalanobis", conformal: str = "lac") -> TrustRecord:
    stored = outputs(sizes=SIZES)
    own = trained_state_sha256(network())
    return trust_record(stored, entries(stored, score), checkpoint_sha256=own, conformal=conformal)


def test_a_record_says_what_the_report_fitted() -> None:
    stored = outputs(sizes=SIZES)
    report = entries(stored)
    record = trust_record(stored, report, checkpoint_sha256="0" * 64)
    part = stored.sections()["far:ct"]
    trusted = record.apply(part.predictions.logits, part.features)
    temperature = report["calibration"]["temperature"]
    np.testing.assert_array_equal(trusted.probabilities, softmax(part.predictions.logits / temperature))
    scores, outside = fit_detector(stored)(part.predictions.logits, part.features)
    np.testing.assert_array_equal(trusted.ood_scores, scores)
    np.testing.assert_array_equal(trusted.outside, outside)
    assert outside.mean() == report["ood_detection"]["sets"]["ct"]["flagged"]
    assert record.detector.threshold == report["ood_detection"]["chosen"]["threshold"]
    largest = report["conformal"]["methods"]["lac"]["thresholds"]["yes"]
    np.testing.assert_array_equal(trusted.sets, 1 - softmax(part.predictions.logits) <= largest)
    unsure = softmax(part.predictions.logits).max(axis=1) < report["abstention"]["threshold"]
    np.testing.assert_array_equal(trusted.abstain, outside | unsure)
    assert [point["threshold"] for point in record.operating_points] == [
        point["threshold"] for point in report["operating_points"]["points"]
    ]
    assert record.gaps == []


def test_an_empty_report_gives_a_record_that_knows_nothing_and_says_so() -> None:
    record = trust_record(outputs(sizes=SIZES), {}, checkpoint_sha256="0" * 64)
    trusted = record.apply([[1.0, 0.0]])
    assert set(vars(trusted).values()) == {None}
    assert len(record.gaps) == 4


def test_images_that_are_outside_or_unsure_are_not_answered() -> None:
    logits = np.array([[0.1, 0.0], [5.0, 0.0]])
    options = {"checkpoint_sha256": "0" * 64, "class_names": ["no", "yes"]}
    assert TrustRecord(**options, least_confidence=0.9).apply(logits).abstain.tolist() == [True, False]
    detector = fit_detector(outputs(sizes=SIZES), score="energy")
    sure_but_outside = TrustRecord(**options, detector=detector).apply(np.array([[-50.0, -99.0], [99.0, 0.0]]))
    assert sure_but_outside.abstain.tolist() == [True, False]


def test_a_class_with_too_few_calibration_images_stays_in_every_set(tmp_path: Path) -> None:
    stored = outputs(sizes=SIZES)
    report = entries(stored)
    report["conformal"]["methods"]["lac_per_class"]["thresholds"]["yes"] = None
    record = trust_record(stored, report, checkpoint_sha256=trained_state_sha256(network()), conformal="lac_per_class")
    write_trust(tmp_path / "trust.pt", record)
    back = read_trust(tmp_path / "trust.pt", network())
    assert back.conformal.short == (1,)
    assert back.apply([[9.0, 0.0]], stored.features[:1]).sets.tolist() == [[True, True]]


@pytest.mark.parametrize("score", list(SCORES))
def test_a_record_comes_back_and_says_the_same_to_the_last_bit(tmp_path: Path, score: str) -> None:
    record = full_record(score)
    write_trust(tmp_path / "trust.pt", record)
    back = read_trust(tmp_path / "trust.pt", network())
    part = outputs(sizes=SIZES, seed=1)
    before, after = (one.apply(part.predictions.logits, part.features) for one in (record, back))
    for name, value in vars(before).items():
        np.testing.assert_array_equal(getattr(after, name), value)
    assert after.outside.any()
    assert not after.outside.all()
    assert (back.operating_points, back.facts, back.class_names) == (
        record.operating_points, record.facts, record.class_names,
    )  # fmt: skip
    assert back.facts["ood_detection"]["threshold_from"] == {"split": "val", "n": 60, "target_id_kept": 0.95}


def test_the_file_holds_tensors_only_is_small_and_the_log_says_how_large(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        size = write_trust(tmp_path / "trust.pt", full_record())
    assert torch.load(tmp_path / "trust.pt", weights_only=True).keys() == {"facts", "arrays", "digest"}
    assert size == (tmp_path / "trust.pt").stat().st_size < 20_000
    assert f"Trust record: trust.pt, {size / 1e3:.0f} kB, with mahalanobis." in caplog.text


@pytest.mark.parametrize(("count", "largest"), [(240, 1.3e6), (1400, 6.7e6)])
def test_mahalanobis_on_1280_features_has_the_size_that_is_announced(count: int, largest: float) -> None:
    features = np.random.default_rng(0).normal(size=(count, 1280))
    labels = np.arange(count) % 2
    score = SCORES["mahalanobis"].fit(logits=np.zeros((count, 2)), features=features, labels=labels)
    assert 0.9 * largest < score.nbytes < largest


def test_no_path_patient_or_image_id_is_in_the_file(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.pt", full_record())
    content = (tmp_path / "trust.pt").read_bytes()
    assert b"p1" not in content
    assert b"000000000001" not in content
    assert str(tmp_path).encode() not in content


def test_a_network_its_state_and_its_checkpoint_have_one_hash_and_any_change_another(tmp_path: Path) -> None:
    one = network()
    save_atomically(one.state_dict(), tmp_path / "model.pt")
    save_atomically({"network": one.state_dict(), "trainer": {}}, tmp_path / "resume.pt")
    own = trained_state_sha256(one)
    loaded = network(seed=5)
    loaded.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    wrapped = torch.nn.Module()
    wrapped.module = one
    for same in (one.state_dict(), tmp_path / "model.pt", tmp_path / "resume.pt", loaded, wrapped):
        assert trained_state_sha256(same) == own
    loaded.head.bias.data[0] += 1e-6
    assert trained_state_sha256(loaded) != own


def test_the_record_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.pt", full_record())
    with pytest.raises(TrustError, match=r"belongs to the trained state .* trained again, or .*Evaluate the run again"):
        read_trust(tmp_path / "trust.pt", network(seed=4))


def test_a_missing_record_says_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match=r"There is no trust record trust.pt .*Evaluate the run again"):
        read_trust(tmp_path / "trust.pt", network())


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.pt", full_record())
    content = torch.load(tmp_path / "trust.pt", weights_only=True)
    content["facts"] = encode_facts({**decode_facts(content["facts"]), "format": 2})
    torch.save(content, tmp_path / "trust.pt")
    with pytest.raises(TrustError, match="has format 2, this movl_monai reads 1"):
        read_trust(tmp_path / "trust.pt", network())


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.pt"
    write_trust(path, full_record())
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2], content[:-100]):
        path.write_bytes(damaged)
        with pytest.raises(TrustError, match=r"is no trust record that can be read.*Evaluate the run again"):
            read_trust(path, network())


def test_a_changed_threshold_or_array_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trust.pt"
    write_trust(path, full_record())
    content = torch.load(path, weights_only=True)
    facts = decode_facts(content["facts"])
    facts["ood"]["threshold"] = 1e9
    changed = {name: value.clone() for name, value in content["arrays"].items()}
    changed["means"][0, 0] += 1
    for damaged in ({**content, "facts": encode_facts(facts)}, {**content, "arrays": changed}, {"facts": 1}):
        torch.save(damaged, path)
        with pytest.raises(TrustError, match="is no trust record that can be read"):
            read_trust(path, network())


def test_other_classes_and_values_that_are_not_finite_are_refused() -> None:
    record = full_record()
    with pytest.raises(ValueError, match=r"logits must be \(N, 2\), got \(1, 3\)"):
        record.apply([[0.0, 1.0, 2.0]])
    with pytest.raises(NonFiniteLogitsError, match="1 of 1 images are NaN"):
        record.apply([[np.nan, 1.0]])


def test_sets_that_are_drawn_anew_each_time_are_not_kept() -> None:
    stored = outputs(sizes=SIZES)
    with pytest.raises(ValueError, match="conformal must be one of lac, aps, .*got 'aps_randomised'"):
        trust_record(stored, {}, checkpoint_sha256="0" * 64, conformal="aps_randomised")
