"""All ways to segment the same series and images agree, and masks align with their sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.export.exporting import export_run
from movl_monai.export.sealed import SUFFIXES
from movl_monai.predict.model import open_model
from movl_monai.predict.run import predict
from tests.predict.mask_truth import (
    NAMES,
    SEGMENTERS,
    Segmented,
    infer,
    masks_of_files,
    masks_of_segmentations,
    pixel_difference,
    segmented,
    unclear_differences,
)
from tests.predict.truth import TOLERANCE, change_without_adapter

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module", params=list(SEGMENTERS))
def judged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmented:
    """A run of the segmenter with its evaluation."""
    return segmented(tmp_path_factory.mktemp("segmented"), request.param)


def test_the_masks_that_are_compared_show_mistakes_in_order_and_orientation(judged: Segmented) -> None:
    assert set(judged.masks) == {"axial", "sagittal", "film.dcm"}
    for name, mask in judged.masks.items():
        assert mask.shape == judged.truth[name].shape
        assert len(np.unique(mask)) >= 2
        assert judged.unclear[name].mean() < 0.01
        for axis in range(mask.ndim):
            assert (np.flip(mask, axis) != mask).mean() > 0.02
    first, *others = judged.probabilities.values()
    assert all((first - other).abs().max() > 0.01 for other in others)


@pytest.mark.parametrize("judged", ["DVPT"], indirect=True)
def test_dvpt_acts_in_the_network_that_is_compared(judged: Segmented) -> None:
    assert change_without_adapter(judged.run) > 0.01


def test_the_report_judges_the_masks_as_their_sources_lie(judged: Segmented) -> None:
    for (case, name), dice in judged.dice.items():
        found, truth = (masks[case] == NAMES.index(name) for masks in (judged.masks, judged.truth))
        assert dice == pytest.approx(2 * (found & truth).sum() / (found.sum() + truth.sum()), abs=1e-6)
    assert max(judged.dice.values()) > 0.1


def test_the_bundles_own_inference_gives_the_masks_of_its_evaluation(judged: Segmented, tmp_path: Path) -> None:
    infer(judged.run, judged.images, tmp_path)
    assert unclear_differences(masks_of_files(tmp_path, judged.images), judged) == 0


@pytest.mark.parametrize("route", ["run", *SUFFIXES])
def test_predict_gives_the_pixels_and_masks_of_the_evaluation(judged: Segmented, route: Any, tmp_path: Path) -> None:
    model, device = judged.run, "cpu"
    if route != "run":
        model, device = tmp_path / f"model{SUFFIXES[route]}", None
        export_run(judged.run, route, output=model, images=[judged.images])
    assert pixel_difference(model, judged) <= TOLERANCE
    outputs = ("csv", "nifti", "png", "seg")
    predict(model, judged.images, out=tmp_path / "out", outputs=outputs, num_workers=0, batch_size=5, device=device)
    for read in (masks_of_files, masks_of_segmentations):
        assert unclear_differences(read(tmp_path / "out", judged.images), judged) < 10


def test_whatever_changes_the_pixels_makes_another_model(segmenter_run: Path) -> None:
    windows = {"_target_": "monai.inferers.SlidingWindowInferer", "roi_size": [32, 32], "mode": "gaussian"}
    changes: list[dict[str, Any]] = [
        {},
        {"resize_mode": "pad"},
        {"image_inferer": windows},
        {"image_inferer": windows | {"overlap": 0.5}},
        {"image_inferer": windows | {"sigma_scale": 0.3}},
    ]
    models = [open_model(segmenter_run, device="cpu", overrides=change) for change in changes]
    again = open_model(segmenter_run, device="cpu", overrides=changes[-1])
    fingerprints = [model.facts.fingerprint for model in models]
    assert len(set(fingerprints)) == len(changes)
    assert again.facts.fingerprint == fingerprints[-1]
