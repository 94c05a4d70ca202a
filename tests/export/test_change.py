"""The change by int8 equals that of a written-out loop, and is refused or doubted if too large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from movl_monai.errors import ExportError
from movl_monai.evaluation.trust_record import TrustRecord
from movl_monai.export.change import check_change, describe_change, doubt
from movl_monai.export.exported import ExportedOutput
from movl_monai.export.parity import ImageSample
from tests.export.networks import images

CLASS_NAMES = ("a", "b", "c")


def _fixed(logits: np.ndarray) -> Callable[[np.ndarray], ExportedOutput]:
    # the mean of an image is its number
    return lambda image: ExportedOutput(logits[image.mean(axis=(1, 2, 3)).round().astype(int)], None)


def _numbered(count: int) -> np.ndarray:
    return np.ones((count, 3, 2, 2), dtype=np.float32) * np.arange(count, dtype=np.float32)[:, None, None, None]


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of 21 images, and logits of two models that differ."""
    generator = np.random.default_rng(0)
    before = generator.normal(size=(21, 3)).astype(np.float32)
    after = before + generator.normal(scale=0.8, size=before.shape).astype(np.float32)
    return generator.integers(3, size=21), before, after


def test_the_change_is_that_of_a_written_loop(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, before, after = pair
    sample = ImageSample("val", _numbered(21), labels, available=40, unreadable=2)
    change = describe_change(_fixed(before), _fixed(after), sample)
    right = [[row.argmax() == labels[number] for number, row in enumerate(one)] for one in (before, after)]
    accuracy = change["labeled"]["accuracy"]
    assert accuracy["before"] == pytest.approx(sum(right[0]) / 21)
    assert accuracy["change"] == pytest.approx((sum(right[1]) - sum(right[0])) / 21)
    assert accuracy["change"] != 0
    flips = [int(one) - int(other) for one, other in zip(*right, strict=True)]
    assert change["labeled"]["only_before_right"] == flips.count(1)
    assert change["labeled"]["only_after_right"] == flips.count(-1)
    balanced = change["labeled"]["balanced_accuracy"]
    assert balanced["before"] == pytest.approx(balanced_accuracy_score(labels, before.argmax(1)))
    assert balanced["after"] == pytest.approx(balanced_accuracy_score(labels, after.argmax(1)))
    low, high = balanced["interval"]
    assert low < balanced["change"] < high
    assert change["same_class"] == np.mean(before.argmax(1) == after.argmax(1))
    assert change["max_logit_difference"] == pytest.approx(np.abs(before - after).max())
    one, other = (torch.from_numpy(logits).softmax(1) for logits in (before, after))
    assert change["max_probability_difference"] == pytest.approx(float((one - other).abs().max()), abs=1e-6)
    assert [change[key] for key in ("images", "kind", "available", "unreadable", "marks")] == [21, "val", 40, 2, None]


def test_images_of_one_patient_are_drawn_together(pair: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    labels, before, after = pair
    known = [f"patient {number // 7}" for number in range(21)]
    found = [
        describe_change(_fixed(before), _fixed(after), ImageSample("val", _numbered(21), labels, patients))["labeled"]
        for patients in (None, known)
    ]
    assert [one["resampled"] for one in found] == ["images", "patients"]
    assert found[0]["accuracy"]["interval"] != found[1]["accuracy"]["interval"]


def test_without_labels_and_for_masks_no_accuracy_is_made_up() -> None:
    logits = images(4, size=6).numpy()[:, :2]
    change = describe_change(_fixed(logits), _fixed(logits[:, ::-1]), ImageSample("given", _numbered(4)))
    assert change["labeled"] is None
    assert change["same_class"] == pytest.approx(float(np.mean(logits[:, 0] == logits[:, 1])))
    with pytest.raises(ExportError, match=r"In int8 another class is predicted in a share of 1.000 \(4 given images\)"):
        check_change(change, max_drop=0.02)


def test_a_class_without_images_leaves_the_plain_accuracy_to_judge_by() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 1, 0, 1]]
    change = describe_change(
        _fixed(logits), _fixed(logits[::-1].copy()), ImageSample("val", _numbered(4), np.array([0, 1, 0, 1]))
    )
    assert change["labeled"]["balanced_accuracy"] is None
    with pytest.raises(ExportError, match="the accuracy falls by 1.000"):
        check_change(change, max_drop=0.02)


def test_images_about_which_the_record_changes_its_mind_are_counted() -> None:
    record = TrustRecord(checkpoint_sha256="0" * 64, class_names=CLASS_NAMES, least_confidence=0.6)
    before = np.array([[4, 0, 0], [4, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=np.float32)
    after = np.array([[4, 0, 0], [0, 0, 0], [0, 0, 0], [0, 4, 0]], dtype=np.float32)
    change = describe_change(_fixed(before), _fixed(after), ImageSample("val", _numbered(4)), trust=record)
    assert change["marks"] == {"outside": None, "abstain": {"before": 0.5, "after": 0.5, "changed": 0.5}}


@pytest.mark.parametrize(("low", "said"), [(-0.05, "a fall of the balanced accuracy by 0.050"), (-0.01, "")])
def test_a_fall_that_the_images_cannot_rule_out_is_said(low: float, said: str) -> None:
    figure: dict[str, Any] = {"before": 0.9, "after": 0.9, "change": 0.0, "interval": [low, 0.05]}
    labeled = {"balanced_accuracy": figure, "level": 0.95, "lost_at_most": None, "resampled": "images"}
    change = {"images": 60, "kind": "val", "max_drop": 0.02, "labeled": labeled}
    check_change(change, max_drop=0.02)
    assert said in doubt(change)
    assert bool(doubt(change)) == bool(said)


@pytest.mark.parametrize(("count", "sure"), [(8, False), (400, True)])
def test_no_flip_among_few_images_is_no_certainty(count: int, sure: bool) -> None:
    labels = np.arange(count) % 3
    logits = np.eye(3, dtype=np.float32)[labels]
    same = _fixed(logits)
    change = describe_change(same, same, ImageSample("val", _numbered(count), labels)) | {"max_drop": 0.02}
    assert change["labeled"]["balanced_accuracy"] == {"before": 1.0, "after": 1.0, "change": 0.0, "interval": None}
    assert change["labeled"]["lost_at_most"] == pytest.approx(1 - 0.025 ** (1 / count))
    assert ("none is lost, but a share of" in doubt(change)) != sure
