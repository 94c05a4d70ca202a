"""Tests of the count sketch, and of detectors that read one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from movl_monai.errors import MovlError
from movl_monai.evaluation.trust_record import TrustRecord, read_trust, write_trust
from movl_monai.metrics.ood.detection import fit_detector, ood_detection
from movl_monai.metrics.ood.score import WIDEST, FeatureSketch
from movl_monai.networks import trained_state_sha256

from .test_detection import WIDTH, outputs

WIDE = 6000


def test_a_sketch_keeps_inner_products() -> None:
    features = np.random.default_rng(0).normal(size=(40, WIDE))
    sketch = FeatureSketch(num_features=WIDE)(features)
    assert sketch.shape == (40, WIDEST)
    spread = np.abs(sketch @ sketch.T - features @ features.T) / WIDE
    assert spread.max() < 5 * np.sqrt(2 / WIDEST)
    sums = FeatureSketch(num_features=WIDE)(np.eye(WIDE))
    assert (np.abs(sums).sum(axis=1) == 1).all()
    assert 0.45 < (sums.sum(axis=1) > 0).mean() < 0.55
    assert np.abs(sums).sum(axis=0).max() < 20


def test_a_sketch_is_the_same_on_every_machine_and_for_every_batch() -> None:
    # the numbers of trust records that are read later depend on these
    sketch = FeatureSketch(num_features=5, width=16)
    assert [int(row @ np.arange(16)) for row in sketch(np.eye(5))] == [12, -5, 12, -4, 5]
    values = np.random.default_rng(1).normal(size=(9, 5))
    np.testing.assert_array_equal(sketch(values)[4:5], sketch(values[4:5]))


def test_a_sketch_refuses_other_features() -> None:
    with pytest.raises(MovlError, match=r"Expected features \(2, 5\).*got \(2, 4\)"):
        FeatureSketch(num_features=5)(np.ones((2, 4)))


def test_many_features_are_sketched_in_report_and_record(tmp_path: Path) -> None:
    stored = outputs()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDE, WIDTH)))[0].T
    wide = dataclasses.replace(stored, features=stored.features @ turn)
    narrow, entry = (ood_detection(part, scores=["mahalanobis", "knn"], rounds=5) for part in (stored, wide))
    for domain, kinds in narrow["sets"].items():
        for name, figures in kinds["scores"].items():
            assert entry["sets"][domain]["scores"][name]["auroc"] == pytest.approx(figures["auroc"], abs=0.03)
    assert f"a sketch of {WIDEST} sums of the {WIDE} features" in " ".join(entry["notes"])
    assert "sketch" not in " ".join(narrow["notes"])
    detector = fit_detector(wide)
    assert detector.threshold == entry["chosen"]["threshold"]
    sha = trained_state_sha256({})
    record = TrustRecord(checkpoint_sha256=sha, class_names=["no", "yes"], detector=detector)
    size = write_trust(tmp_path / "trust.pt", record)
    assert size < 4 * WIDEST * 2 * (WIDTH + 4) + 20_000
    again = read_trust(tmp_path / "trust.pt", {})
    part = wide.sections()["far:ct"]
    scores, outside = detector(part.predictions.logits, part.features)
    trusted = again.apply(part.predictions.logits, part.features)
    np.testing.assert_array_equal(trusted.ood_scores, scores)
    np.testing.assert_array_equal(trusted.outside, outside)
    assert outside.mean() == entry["sets"]["ct"]["flagged"]
