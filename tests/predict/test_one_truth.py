"""The same images give the same numbers and marks wherever they are predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.export.exporting import export_run
from movl_monai.export.sealed import SUFFIXES
from movl_monai.predict.run import predict
from tests.predict.truth import (
    CLASSIFIERS,
    TOLERANCE,
    Judged,
    change_without_gates,
    differences,
    judged_classifier,
    said_by,
)

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=list(CLASSIFIERS))
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """A run of a classifier with its evaluation."""
    return judged_classifier(tmp_path_factory.mktemp("judged"), request.param)


def test_what_is_compared_differs_between_images_and_has_marks_of_both_kinds(judged: Judged) -> None:
    expected = judged.expected
    count = len(expected.keys)
    assert (count, len(set(expected.predicted))) == (48, 2)
    assert np.diff(np.sort(expected.probabilities[:, 0])).min() > 1e-5
    assert np.ptp(expected.probabilities[:, 0]) > 0.5
    trusted: Any = expected.trusted
    for marks in (trusted.outside, trusted.abstain, trusted.sets):
        assert set(np.unique(marks)) == {False, True}
    assert np.abs(trusted.probabilities - expected.probabilities).max() > 0.01
    assert np.mean(judged.clear) > 0.9


@pytest.mark.parametrize("judged", ["dvpt_classification"], indirect=True)
def test_dvpt_acts_in_the_network_that_is_compared(judged: Judged) -> None:
    assert change_without_gates(judged.run) > 0.01


@pytest.mark.parametrize("route", ["run", *SUFFIXES])
def test_predict_says_of_every_image_what_the_evaluation_said(judged: Judged, route: Any, tmp_path: Path) -> None:
    model, device = judged.run, "cpu"
    if route != "run":
        model, device = tmp_path / f"model{SUFFIXES[route]}", None
        export_run(judged.run, route, output=model, images=[judged.images])
    predict(model, judged.images, out=tmp_path / "out", num_workers=0, batch_size=5, device=device)
    found = said_by(tmp_path / "out", judged.images, list(judged.outputs.class_names))
    assert max(differences(found, judged).values()) <= TOLERANCE


def test_the_shares_of_images_outside_are_those_of_the_report(judged: Judged, tmp_path: Path) -> None:
    predict(judged.run, judged.images, out=tmp_path, num_workers=0, device="cpu")
    found = said_by(tmp_path, judged.images, list(judged.outputs.class_names))
    detection = judged.report["ood_detection"]
    elsewhere = np.array([name.startswith("scanner_b/") for name, _ in found.keys])
    test = {judged.keys[row] for row, split in enumerate(judged.outputs.predictions.splits) if split == "test"}
    inside = np.array([key in test for key in found.keys]) & ~elsewhere
    outside: Any = found.trusted.outside
    assert outside[inside].mean() == detection["id_flagged"]
    assert outside[elsewhere].mean() == detection["sets"]["scanner_b"]["flagged"]


def test_without_the_trust_record_nothing_is_marked(judged: Judged, tmp_path: Path) -> None:
    summary = predict(judged.run, judged.images, out=tmp_path, num_workers=0, device="cpu", overrides={"trust": None})
    assert summary is not None
    assert {row["calibrated"] for row in summary.rows} == {row["outside"] for row in summary.rows} == {None}
