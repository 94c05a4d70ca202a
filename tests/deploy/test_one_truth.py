"""Evaluation, `predict` and the MONAI Deploy application agree on the same DICOM files, for every bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from movl_monai.export.exporting import export_run
from movl_monai.predict.run import predict
from tests.deploy.conftest import application
from tests.predict.mask_truth import (
    SEGMENTERS,
    masks_of_files,
    masks_of_segmentations,
    pixel_difference,
    segmented,
    unclear_differences,
)
from tests.predict.truth import CLASSIFIERS, TOLERANCE, differences, judged_classifier, said_by

pytestmark = pytest.mark.usefixtures("with_sdk")


def run_all(run: Path, images: Path, folder: Path, bundle: str, **options: Any) -> dict[str, Path]:
    """Predict with the run, in onnxruntime and in the application; return folders and files by route."""
    from movl_monai.deploy import main

    pytest.importorskip("onnxruntime")
    for form, name in (("onnx", "model.onnx"), ("torchscript", "model.ts")):
        export_run(run, form, output=folder / name, images=[images])  # type: ignore[arg-type]
    predict(run, images, out=folder / "run", num_workers=0, device="cpu", **options)
    predict(folder / "model.onnx", images, out=folder / "onnx", num_workers=0, **options)
    arguments = ["-i", str(images), "-o", str(folder / "application"), "-m", str(folder / "model.ts")]
    assert main(application(bundle), arguments) == 0
    return {route: folder / route for route in ("run", "onnx", "application")}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_images_are_judged_alike(name: str, tmp_path: Path) -> None:
    judged, bundle = judged_classifier(tmp_path / "judged", name), name.partition(",")[0]
    for route, out in run_all(judged.run, judged.images, tmp_path, bundle).items():
        found = differences(said_by(out, judged.images, list(judged.outputs.class_names)), judged)
        assert max(found.values()) <= TOLERANCE, (route, found)


@pytest.mark.parametrize("kind", SEGMENTERS)
def test_series_are_segmented_alike(kind: str, tmp_path: Path) -> None:
    judged = segmented(tmp_path / "judged", kind)
    outputs = ("csv", "nifti", "png", "seg")
    for route, out in run_all(judged.run, judged.images, tmp_path, "dvpt_segmentation", outputs=outputs).items():
        assert unclear_differences(masks_of_segmentations(out, judged.images), judged) < 10, route
        if route != "application":  # which writes no files but DICOM
            assert unclear_differences(masks_of_files(out, judged.images), judged) < 10, route
    for model in (judged.run, tmp_path / "model.onnx", tmp_path / "model.ts"):
        assert pixel_difference(model, judged) <= TOLERANCE
