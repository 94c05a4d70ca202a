"""The same images give the same probabilities wherever they are predicted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from movl_monai.engines import open_run, prepare_image_batch
from movl_monai.phantom import write_phantom
from movl_monai.predict.run import predict

pytest.importorskip("onnxruntime")


def probabilities(out: Path, names: list[str]) -> np.ndarray:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return np.array([[float(row[f"probability_{name}"]) for name in names] for row in rows if row["status"] == "ok"])


def test_evaluation_the_run_and_the_exported_file_agree(classifier_run: Path, tmp_path: Path) -> None:
    from movl_monai.export.exporting import export_run

    data = tmp_path / "phantom"
    write_phantom(data, patients=(1, 1, 2, 1), images_per_patient=2, size=64)
    run = open_run(classifier_run)
    parser = run.parser("evaluate", dataset_dir=str(data), output_dir=str(tmp_path / "evaluated"), num_workers=0)
    dataset = parser.get_parsed_content("dataset")
    network = run.network()
    with torch.inference_mode():
        logits = network(prepare_image_batch({"image": dataset.images})[0])
    order = np.argsort([item["image"] for item in dataset.data])  # as a folder is listed
    evaluated = logits.softmax(dim=1).numpy()[order]

    exported = tmp_path / "model.onnx"
    export_run(classifier_run, "onnx", output=exported, images=[data / "images"])
    for name, model in (("run", classifier_run), ("exported", exported)):
        predict(
            model, data / "images", out=tmp_path / name, num_workers=0, device=None if name == "exported" else "cpu"
        )
        found = probabilities(tmp_path / name, run.class_names)
        assert len(found) == 10
        np.testing.assert_allclose(found, evaluated, atol=1e-4)
    assert len(np.unique(evaluated[:, 0])) > 5  # images differ, so that their order counts
