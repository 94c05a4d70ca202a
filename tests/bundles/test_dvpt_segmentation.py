"""The bundle that segments: backbones, and images, volumes and DICOM series from training to written masks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from movl_monai.errors import DataError
from movl_monai.predict.run import predict
from movl_monai.readers import read_volume
from tests.evaluation.masks import write_volumes
from tests.helpers import QUIET
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import segmentation, source_series
from tests.tables import read_rows
from tests.workflows import CONFIGS, MASK_CLASSES, run, train, user_error_of, workflow

pytestmark = QUIET
SEG = "dvpt_segmentation"


@pytest.fixture(scope="module")
def trained(trained_of: Callable[[str], Path]) -> Path:
    return trained_of(SEG)


@pytest.mark.parametrize(
    "overlay",
    [
        "backbone_vit_small",
        "backbone_swin_tiny",
        "backbone_pvt_v2_b2",
        "backbone_convnext_tiny",
        "backbone_resnet50_v1",
    ],
)
def test_backbone_overlays_build_networks(overlay: str) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser(
        ConfigParser.load_config_files([str(CONFIGS[SEG] / f"{name}.json") for name in ("inference", overlay)])
    )
    random = {"device": "cpu", "backbone_weights": None, "decoder_width": 8}
    parser.update(pairs=random | ({"backbone#weights": None} if "resnet" in overlay else {}))
    network = parser.get_parsed_content("network_def").eval()
    assert len(network.head.in_channels) == 4
    assert network.adapted is not None


def test_evaluation_reports_every_case_without_pictures_of_patients(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    rows = read_rows(trained / "evaluation/cases.csv")
    assert report["task"] == "segmentation"
    assert report["id"]["n"] == len(rows) == 4
    assert report["id"]["dice"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
    assert report["classes"] == MASK_CLASSES
    assert report["run"]["trainable_parameters"] > 0
    assert not list((trained / "evaluation").glob("*.png"))
    assert report["run"]["data"] is None


def test_inferring_writes_what_predict_writes_and_evaluation_judged(trained: Path, pairs: Path, tmp_path: Path) -> None:
    images = shutil.copytree(pairs / "test/images", tmp_path / "images")
    (images / "notes.txt").write_text("nothing")
    first = next(images.glob("*.png"))
    (images / "truncated.png").write_bytes(first.read_bytes()[:-200])
    outputs = ["csv", "json", "nifti", "png"]
    predict(trained, images, out=tmp_path / "a", outputs=outputs, num_workers=0, device="cpu")
    (tmp_path / "b/local").mkdir(parents=True)
    shutil.copy(tmp_path / "a/local/id_map.json", tmp_path / "b/local")  # the same salt, so the same ids
    checkpoint = trained / "models/model.pt"
    run(SEG, "inferring", dataset_dir=images, output_dir=tmp_path / "b", checkpoint=checkpoint)
    names = ["predictions.csv", "local/files.csv", *(f"masks/{path.name}" for path in (tmp_path / "a/masks").iterdir())]
    assert [
        name for name in names if (tmp_path / "a" / name).read_bytes() != (tmp_path / "b" / name).read_bytes()
    ] == []
    one, other = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in "ab")
    assert one.pop("model")["checkpoint_sha256"] == other.pop("model")["checkpoint_sha256"]
    assert one == other
    tmp_path /= "b"
    judged = {row["case"]: row for row in read_rows(trained / "evaluation/cases.csv")}
    paths = {
        folder: json.loads(Path(folder, "local/id_map.json").read_text())["files"] for folder in (trained, tmp_path)
    }
    by_name = {Path(paths[trained][case]["path"]).name: row for case, row in judged.items()}
    rows = [row for row in read_rows(tmp_path / "predictions.csv") if row["status"] == "ok"]
    assert len(rows) == 4
    for row in rows:
        name = Path(paths[tmp_path][row["id"]]["path"]).name
        mask = np.asarray(Image.open(tmp_path / f"masks/{row['id']}.png"))
        truth = np.asarray(Image.open(pairs / "test/masks" / name))
        assert mask.shape == truth.shape
        both, sizes = ((mask == 1) & (truth == 1)).sum(), (mask == 1).sum() + (truth == 1).sum()
        assert float(by_name[name]["dice_organ"]) == pytest.approx(2 * both / sizes, abs=1e-6)


def test_a_resumed_run_ends_as_one_that_was_left_alone(pairs: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": pairs, "epochs": 2}
    run(SEG, "training", output_dir=tmp_path / "whole", **settings)
    halved = workflow(SEG, "training", output_dir=tmp_path / "halved", **settings)
    trainer = halved.parser.get_parsed_content("train#trainer")
    from ignite.engine import Events

    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    halved.run()
    run(SEG, "training", output_dir=tmp_path / "halved", resume=True, **settings)
    one, other = (
        torch.load(tmp_path / name / "models/last.pt", weights_only=True)["network"] for name in ("whole", "halved")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("overlays", [["data_volumes.json"], ["data_volumes.json", "data_neighbors.json"]])
def test_volumes_are_split_by_patient_judged_as_volumes_and_written_onto_their_source(
    overlays: list[str], tmp_path: Path
) -> None:
    data = write_volumes(tmp_path / "data", 5)
    (data / "images/.DS_Store").write_bytes(b"x")
    (data / "images/v4.nii.gz").rename(data / "images/lonely.nii.gz")
    run(SEG, "training", overlays, dataset_dir=data, output_dir=tmp_path / "out")
    report = read_rows(tmp_path / "out/ingest_report.csv")
    reasons = sorted(row["reason"] for row in report if row["reason"])
    assert reasons == ["hidden_file", "image_without_mask", "mask_without_image"]
    run(SEG, "evaluating", overlays, dataset_dir=data, output_dir=tmp_path / "out")
    content = json.loads((tmp_path / "out/evaluation/report.json").read_text())
    assert content["id"]["n_images"] == 4 * content["id"]["n"]
    assert content["id"]["distance_unit"] == "mm"
    checkpoint = tmp_path / "out/models/model.pt"
    run(SEG, "inferring", overlays[1:], dataset_dir=data / "images", output_dir=tmp_path / "new", checkpoint=checkpoint)
    rows = [row for row in read_rows(tmp_path / "new/predictions.csv") if row["status"] == "ok"]
    assert len(rows) == 5
    paths = json.loads((tmp_path / "new/local/id_map.json").read_text())["files"]
    for row in rows:
        mask, source = nib.load(tmp_path / f"new/masks/{row['id']}.nii.gz"), nib.load(paths[row["id"]]["path"])
        assert np.array_equal(mask.affine, source.affine)
        assert mask.shape == source.shape


def test_large_images_are_learned_in_crops_and_predicted_in_windows(pairs: Path, tmp_path: Path) -> None:
    settings = {"output_dir": tmp_path, "image_size": 96, "window": 32}
    _, changed = train(SEG, ["windows.json", "windows_train.json"], dataset_dir=pairs, **settings)
    assert changed == {"head"}
    evaluation = workflow(SEG, "evaluating", ["windows.json"], dataset_dir=pairs, **settings)
    assert evaluation.network_def.backbone.spec.image_size == 32
    assert evaluation.parser.get_parsed_content("dataset").images.shape[2:] == (96, 96)
    evaluation.run()
    assert json.loads((tmp_path / "evaluation/report.json").read_text())["id"]["n"] == 4
    settings |= {"output_dir": tmp_path / "new", "checkpoint": tmp_path / "models/model.pt"}
    run(SEG, "inferring", ["windows.json"], dataset_dir=pairs / "test/images", **settings)
    assert len(read_rows(tmp_path / "new/predictions.csv")) == 4


def test_dicom_series_with_dicom_segmentations_go_the_whole_way(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for case in range(4):
        (data / f"images/case{case}").mkdir(parents=True)
        (data / "masks").mkdir(exist_ok=True)
        sources = source_series(seed=case)
        for number, source in enumerate(sources):
            as_file(source, data / f"images/case{case}/{(3 * number) % 5}.dcm")
        as_file(segmentation(sources), data / f"masks/case{case}.dcm")
    for run_id in ("training", "evaluating"):
        run(SEG, run_id, ["data_volumes.json"], dataset_dir=data, output_dir=tmp_path / "out", image_size=32)
    report = json.loads((tmp_path / "out/evaluation/report.json").read_text())
    assert report["id"]["n_images"] == 5 * report["id"]["n"]
    assert report["id"]["distance_unit"] == "mm"
    assert report["id"]["per_class"]["organ"]["n"] == report["id"]["n"]
    settings = {"output_dir": tmp_path / "new", "image_size": 32, "checkpoint": tmp_path / "out/models/model.pt"}
    run(SEG, "inferring", dataset_dir=data / "images", **settings)
    rows = read_rows(tmp_path / "new/predictions.csv")
    assert len(rows) == 4
    volume = read_volume(data / "images/case0")
    for row in rows:
        mask = nib.load(tmp_path / f"new/masks/{row['id']}.nii.gz")
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ mask.affine, series_affine_of(volume), atol=1e-4)


def series_affine_of(volume: Any) -> np.ndarray:
    """From (column, row, slice) of the files to patient coordinates, which are the stored axes of a series."""
    back = nib.orientations.inv_ornt_aff(volume.source_orientation, volume.values.shape)
    return volume.affine @ back


def test_training_without_masks_says_that_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "bare/images").mkdir(parents=True)
    (tmp_path / "bare/masks").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "bare/images/a.png")
    error = user_error_of(SEG, "training", dataset_dir=tmp_path / "bare", output_dir=tmp_path)
    assert isinstance(error, DataError)
    assert "No image with a mask" in str(error)
