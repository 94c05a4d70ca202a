"""Tests of flagged predictions, on real evaluators over tiny networks."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.engines import LoadCheckpoint
from movl_monai.errors import MovlError
from movl_monai.evaluation import MarkedPredictionWriter, Predictions, PredictionWriter, StoredOutputs
from movl_monai.evaluation.trust_record import TrustError, TrustRecord, read_trust, trained_state_sha256, write_trust
from movl_monai.metrics.conformal import fit_conformal
from movl_monai.metrics.ood.detection import fit_detector
from movl_monai.networks import save_atomically
from tests.evaluation.test_handler import CLASSES, Images, evaluator, trained_like_network
from tests.tables import read_rows

MARKS = [*(f"calibrated_{name}" for name in CLASSES), "ood_score", "outside", "abstain", "prediction_set"]


def all_outputs(network: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
    images = Images().inner.images.float() / 255
    with torch.inference_mode():
        parts = images.split(5)  # as the evaluator's batches, so that every bit is the same
        features = torch.cat([network.eval().features(part) for part in parts])
        return torch.cat([network(part) for part in parts]).double().numpy(), features.numpy()


def record_of(network: torch.nn.Module, **options: Any) -> TrustRecord:
    """A record fitted on the first images, so that some of the others are out-of-distribution."""
    logits, features = all_outputs(network)
    splits = ["train"] * 8 + ["val"] * 4 + [""] * 10
    labels = np.arange(22) % 2
    predictions = Predictions(ids=[str(index) for index in range(22)], logits=logits, labels=labels, splits=splits)
    stored = StoredOutputs(predictions=predictions, class_names=CLASSES, features=features)
    settings: dict[str, Any] = {
        "temperature": 0.5,
        "conformal": fit_conformal(labels, logits, alpha=0.2),
        "least_confidence": float(np.median(1 / (1 + np.exp(-np.abs(logits[:, 0] - logits[:, 1]))))),
        "detector": fit_detector(stored, target_id_kept=0.5),
    }
    own = trained_state_sha256(network)
    return TrustRecord(checkpoint_sha256=own, class_names=CLASSES, **{**settings, **options})


def run(folder: Path, network: torch.nn.Module, *, trust: Path | None, **options: Any) -> list[dict[str, str]]:
    handler = MarkedPredictionWriter(folder, class_names=CLASSES, network=network, trust=trust)
    evaluator(network, handler, data=Images(labeled=False), **options).run()
    return read_rows(folder / "predictions.csv")


@pytest.mark.parametrize("decollate", [True, False])
def test_marks_are_what_the_record_says_of_logits_and_features_of_the_same_pass(
    tmp_path: Path, decollate: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network = trained_like_network()
    write_trust(tmp_path / "trust.pt", record_of(network))
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        rows = run(tmp_path, network, trust=tmp_path / "trust.pt", decollate=decollate)
    expected = read_trust(tmp_path / "trust.pt", network).apply(*all_outputs(network))
    assert list(rows[0])[-len(MARKS) :] == MARKS
    calibrated = np.array([[float(row[f"calibrated_{name}"] or "nan") for name in CLASSES] for row in rows])
    np.testing.assert_array_equal(calibrated[~expected.abstain], expected.probabilities[~expected.abstain])
    assert np.isnan(calibrated[expected.abstain]).all()
    np.testing.assert_array_equal([float(row["ood_score"]) for row in rows], expected.ood_scores)
    assert [row["outside"] == "yes" for row in rows] == expected.outside.tolist()
    assert {row["outside"] for row in rows} == {"yes", "no"}
    assert [row["answer"] == "No answer: unlike the training images" for row in rows] == expected.outside.tolist()
    assert [row["answer"].startswith("No answer: ") for row in rows] == expected.abstain.tolist()
    assert [row["abstain"] == "yes" for row in rows] == expected.abstain.tolist()
    names = [[name for name, belongs in zip(CLASSES, row, strict=True) if belongs] for row in expected.sets]
    assert [row["prediction_set"].split("|") if row["prediction_set"] else [] for row in rows] == names
    assert f"{expected.outside.sum()} of 22 images are outside what this model was trained on." in caplog.text
    assert f"The model abstains on {expected.abstain.sum()} of 22 images" in caplog.text
    assert not network.head._forward_pre_hooks


def test_the_network_runs_once(tmp_path: Path) -> None:
    network = trained_like_network()
    write_trust(tmp_path / "trust.pt", record_of(network))
    seen: list[int] = []
    network.backbone.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    run(tmp_path, network, trust=tmp_path / "trust.pt")
    assert sum(seen) == 22


@pytest.mark.parametrize(
    ("path", "reason"),
    [(None, "`trust` is null"), ("trust.pt", r"there is no trust.pt beside the checkpoint; an evaluation writes it")],
)
def test_without_a_record_the_file_is_to_the_last_byte_as_before_and_the_log_says_why(
    tmp_path: Path, path: str | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = trained_like_network()
    plain = PredictionWriter(tmp_path, class_names=CLASSES, filename="plain.csv")
    evaluator(network, plain, data=Images(labeled=False)).run()
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        run(tmp_path, network, trust=None if path is None else tmp_path / path)
    assert (tmp_path / "predictions.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    assert f"Predictions are not marked: {reason}" in caplog.text


def test_probabilities_stay_those_of_raw_logits(tmp_path: Path) -> None:
    network = trained_like_network()
    before = run(tmp_path, network, trust=None)
    write_trust(tmp_path / "trust.pt", record_of(network))
    after = run(tmp_path, network, trust=tmp_path / "trust.pt")
    kept = ["id", "predicted", *(f"probability_{name}" for name in CLASSES)]
    assert [[row[name] for name in kept] for row in after] == [[row[name] for name in kept] for row in before]


def test_the_record_is_compared_with_the_checkpoint_that_is_loaded_at_the_start(tmp_path: Path) -> None:
    trained = trained_like_network()
    trained.head.bias.data += 1
    save_atomically(trained.state_dict(), tmp_path / "model.pt")
    write_trust(tmp_path / "trust.pt", record_of(trained))
    network = trained_like_network()
    writer = MarkedPredictionWriter(tmp_path, class_names=CLASSES, network=network, trust=tmp_path / "trust.pt")
    engine = evaluator(network, LoadCheckpoint(tmp_path / "model.pt", network=network), data=Images(labeled=False))
    writer.attach(engine)
    engine.run()
    assert "abstain" in read_rows(tmp_path / "predictions.csv")[0]


def test_the_record_of_another_checkpoint_stops_the_run(tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.pt", record_of(trained_like_network()))
    network = trained_like_network()
    network.head.bias.data += 1
    with pytest.raises(TrustError, match="belongs to the trained state"):
        run(tmp_path, network, trust=tmp_path / "trust.pt")
    assert not (tmp_path / "predictions.csv").exists()


def test_a_record_of_other_classes_stops_the_run(tmp_path: Path) -> None:
    network = trained_like_network()
    record = TrustRecord(checkpoint_sha256=trained_state_sha256(network), class_names=CLASSES[::-1])
    write_trust(tmp_path / "trust.pt", record)
    with pytest.raises(MovlError, match=r"trust record is of the classes \['pneumonia', 'normal'\]"):
        run(tmp_path, network, trust=tmp_path / "trust.pt")


def test_what_a_record_does_not_know_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = trained_like_network()
    unknown = dict.fromkeys(("temperature", "conformal", "least_confidence", "detector"))
    write_trust(tmp_path / "trust.pt", record_of(network, **unknown))
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        rows = run(tmp_path, network, trust=tmp_path / "trust.pt")
    assert "The trust record does not know: calibrated probabilities, images outside, conformal sets" in caplog.text
    assert {tuple(row[name] for name in MARKS) for row in rows} == {("",) * len(MARKS)}
    assert "are outside what" not in caplog.text
