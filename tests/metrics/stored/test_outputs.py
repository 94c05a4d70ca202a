"""Tests of the stored outputs and of recorded features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.data import IdMap
from movl_monai.errors import MovlError
from movl_monai.evaluation import (
    EvaluationReportHandler,
    NonFiniteLogitsError,
    Predictions,
    StoredOutputs,
    read_outputs,
    write_outputs,
)
from movl_monai.evaluation.feature_tap import FeatureTap
from tests.evaluation.data import random_predictions
from tests.evaluation.test_handler import CLASSES, Images, evaluator, trained_like_network

NAMES = ["a", "b", "c"]


def random_outputs(**options: Any) -> StoredOutputs:
    predictions = random_predictions()
    generator = np.random.default_rng(1)
    settings: dict[str, Any] = {
        "features": generator.normal(size=(len(predictions), 5)).astype(np.float32),
        "groups": {"sex": ["F", "M", ""] * 20, "site": ["Århus"] * 60},
        "far_domains": ["hospital_c"],
    }
    return StoredOutputs(predictions=predictions, class_names=NAMES, **{**settings, **options})


def test_stored_outputs_come_back_to_the_last_bit(tmp_path: Path) -> None:
    outputs = random_outputs()
    write_outputs(tmp_path / "outputs.npz", outputs)
    back = read_outputs(tmp_path / "outputs.npz")
    np.testing.assert_array_equal(back.predictions.logits, outputs.predictions.logits)
    np.testing.assert_array_equal(back.features, outputs.features)
    np.testing.assert_array_equal(back.predictions.labels, outputs.predictions.labels)
    for name in ("ids", "splits", "domains"):
        assert getattr(back.predictions, name) == getattr(outputs.predictions, name)
    assert (back.groups, back.class_names, back.id_domain, back.far_domains) == (
        outputs.groups, NAMES, "id", ["hospital_c"],
    )  # fmt: skip
    assert back.features.dtype == np.float32


def test_patients_come_back_salted_and_nothing_else_of_them_is_in_the_file(tmp_path: Path) -> None:
    outputs = random_outputs()
    write_outputs(tmp_path / "outputs.npz", outputs)
    assert read_outputs(tmp_path / "outputs.npz").predictions.patients == outputs.predictions.patient_ids
    assert "Smith".encode("utf-32-le") not in (tmp_path / "outputs.npz").read_bytes()


def test_patients_that_nothing_salts_are_numbered_so_that_their_images_stay_together(tmp_path: Path) -> None:
    predictions = random_predictions()
    bare = Predictions(ids=predictions.ids, logits=predictions.logits, patients=[*predictions.patients[:-1], None])
    write_outputs(tmp_path / "outputs.npz", StoredOutputs(predictions=bare, class_names=NAMES))
    back = read_outputs(tmp_path).predictions.patients
    assert (back[0], back[1], back[2], back[-1]) == ("patient 1", "patient 1", "patient 2", None)
    assert "Smith".encode("utf-32-le") not in (tmp_path / "outputs.npz").read_bytes()


def test_outputs_without_features_and_groups_come_back_without(tmp_path: Path) -> None:
    write_outputs(tmp_path / "outputs.npz", random_outputs(features=np.empty((0, 0)), groups={}, far_domains=[]))
    back = read_outputs(tmp_path / "outputs.npz")
    assert (back.features.shape, back.has_features, back.groups, back.far_domains) == ((60, 0), False, {}, [])


def test_sections_hold_every_image_once_and_far_images_apart() -> None:
    outputs = random_outputs()
    outputs.predictions.splits[:3] = ["train", "calibration", "calibration"]
    parts = outputs.sections()
    assert list(parts) == ["id", "ood:scanner_b", "val", "calibration", "train", "far:hospital_c"]
    assert sum(map(len, parts.values())) == 60
    rows = [index for index, place in enumerate(outputs.predictions.splits) if place == "val"]
    np.testing.assert_array_equal(parts["val"].features, outputs.features[rows])
    assert parts["val"].groups["sex"] == [outputs.groups["sex"][row] for row in rows]


def test_a_run_and_its_evaluation_folder_mean_the_same_file(tmp_path: Path) -> None:
    write_outputs(tmp_path / "evaluation" / "outputs.npz", random_outputs())
    for place in (tmp_path, tmp_path / "evaluation", tmp_path / "evaluation" / "outputs.npz"):
        assert len(read_outputs(place)) == 60


def test_a_folder_without_outputs_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MovlError, match=r"no stored outputs in .*Evaluate the run again"):
        read_outputs(tmp_path)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    write_outputs(tmp_path / "outputs.npz", random_outputs())
    content = (tmp_path / "outputs.npz").read_bytes()
    for damaged in (content[: len(content) // 2], b"text", content[:-1000] + bytes(1000)):
        (tmp_path / "outputs.npz").write_bytes(damaged)
        with pytest.raises(MovlError, match=r"cannot be read as the outputs.*Evaluate the run again"):
            read_outputs(tmp_path)


def test_another_schema_version_says_to_evaluate_again(tmp_path: Path) -> None:
    write_outputs(tmp_path / "outputs.npz", random_outputs())
    with np.load(tmp_path / "outputs.npz") as archive:
        arrays = {**archive, "schema_version": np.array(7)}
    np.savez(tmp_path / "outputs.npz", **arrays)
    with pytest.raises(MovlError, match=r"schema version 7, this movl_monai reads 1\. Evaluate the run again"):
        read_outputs(tmp_path)


def test_stored_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_outputs(tmp_path / "outputs.npz", random_outputs())
    with np.load(tmp_path / "outputs.npz") as archive:
        arrays = dict(archive)
    arrays["logits"][0, 0] = np.nan
    np.savez(tmp_path / "outputs.npz", **arrays)
    with pytest.raises(NonFiniteLogitsError, match="1 of 60 images are NaN"):
        read_outputs(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": np.zeros((3, 5))}, r"features must be \(60, F\)"),
        ({"groups": {"sex": ["F"]}}, r"each of the 60 images, got \{'sex': 1\}"),
        ({"class_names": NAMES[:2]}, "Expected 3 class names"),
    ],
)
def test_columns_of_other_lengths_are_refused(options: dict[str, Any], message: str) -> None:
    settings = {"predictions": random_predictions(), "class_names": NAMES, **options}
    with pytest.raises(ValueError, match=message):
        StoredOutputs(**settings)


@pytest.mark.parametrize("decollate", [True, False])
def test_an_evaluation_stores_what_the_head_read_and_the_logits_of_the_same_pass(
    tmp_path: Path, decollate: bool
) -> None:
    network = trained_like_network()
    items = [
        {"id": f"{index:012x}", "patient_id": f"p{index // 2}", "groups": {"sex": "FM"[index % 2]}}
        for index in range(22)
    ]
    ids = IdMap(salt="0123456789abcdef")
    handler = EvaluationReportHandler(
        tmp_path, class_names=CLASSES, items=items, id_map=ids, far_domains=["scanner_b"], rounds=5
    )
    evaluator(network, handler, decollate=decollate).run()
    outputs = read_outputs(tmp_path)
    batches = Images().inner.images.split(5)
    with torch.inference_mode():
        features = torch.cat([network.features(part.float() / 255) for part in batches])
        logits = torch.cat([network(part.float() / 255) for part in batches])
    np.testing.assert_array_equal(outputs.features, features.numpy())
    np.testing.assert_array_equal(outputs.predictions.logits, logits.double().numpy())
    assert outputs.groups == {"sex": ["F", "M"] * 11}
    assert outputs.predictions.patients[2] == ids.patient_id("p1")
    assert list(outputs.sections()) == ["id", "val", "far:scanner_b"]
    assert not network.head._forward_pre_hooks


def test_the_tap_refuses_a_network_that_ran_twice_for_one_prediction() -> None:
    network = trained_like_network()
    tap = FeatureTap(network)
    tap.open()
    image = torch.rand(2, 3, 32, 32)
    network(image)
    network(image)
    with pytest.raises(MovlError, match="read 4 feature vectors for 2 predictions"):
        tap.take(2)


def test_the_tap_of_a_network_without_a_head_hears_nothing() -> None:
    tap = FeatureTap(torch.nn.Linear(2, 2))
    tap.open()
    assert tap.take(3).shape == (3, 0)
