"""The bundle that segments: properties, what every overlay trains, images and volumes to the end, MONAI's commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from movl_monai.errors import CheckpointMismatchError, ConfigError, DataError, user_error
from movl_monai.readers import read_volume
from tests.bundles.conftest import BUNDLES, FAST_SEGMENTING, check_same_logits, for_inference
from tests.evaluation.masks import write_images, write_volumes
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import segmentation, source_series

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
BUNDLE = next(path for path in BUNDLES if path.name == "dvpt_segmentation")
CONFIGS = BUNDLE / "configs"
TRAIN, EVALUATE, INFERENCE = (str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", "inference"))
NAMES = ["background", "organ", "lesion"]
VIT = {
    "backbone": {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "test_vit",
        "weights": None,
        "image_size": "@image_size",
        "frozen": "@backbone_frozen",
    }
}


def _workflow(kind: str, files: list[str], run_id: str, **settings: Any) -> ConfigWorkflow:
    return ConfigWorkflow(config_file=files, workflow_type=kind, logging_file=False, run_id=run_id, **settings)


def _run(kind: str, files: list[str], run_id: str, **settings: Any) -> ConfigWorkflow:
    workflow = _workflow(kind, files, run_id, **settings)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def _settings(data: Path, output: Path, **overrides: Any) -> dict[str, Any]:
    own = {"dataset_dir": str(data), "output_dir": str(output), "mask_class_names": NAMES}
    return {**own, **FAST_SEGMENTING, **overrides}


def _train(overlays: list[str], data: Path, output: Path, **overrides: Any) -> tuple[ConfigWorkflow, set[str]]:
    files = [TRAIN, *(str(CONFIGS / name) for name in overlays)]
    workflow = _workflow("train", files, "training", **_settings(data, output, **overrides))
    workflow.initialize()
    network = workflow.network_def
    before = {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}
    workflow.run()
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    workflow.finalize()
    return workflow, {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _user_error(data: Path, output: Path, **overrides: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # MONAI wraps; what is below is what counts
        _train([], data, output, **overrides)
    error = user_error(caught.value)
    assert error is not None, f"not an error for users: {caught.value!r}"
    return error


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "patient_name"
    return write_images(root, splits=(("train", 6), ("val", 3), ("test", 4)))


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one epoch of training on images and its evaluation."""
    output = tmp_path_factory.mktemp("output")
    settings = _settings(images, output)
    _run("train", [TRAIN], "training", **settings)
    _run("infer", [TRAIN, EVALUATE], "evaluating", **settings)
    return output


@pytest.mark.parametrize(
    ("kind", "files"),
    [("train", [TRAIN]), ("infer", [TRAIN, EVALUATE]), ("infer", [INFERENCE])],
    ids=["train", "evaluate", "inference"],
)
def test_all_properties_are_there(kind: str, files: list[str], images: Path, tmp_path: Path) -> None:
    inference = files == [INFERENCE]
    settings = _settings(images / "test/images" if inference else images, tmp_path)
    if inference:
        settings = for_inference(settings)
        del settings["mask_class_names"]
    run_id = "training" if kind == "train" else "inferring" if inference else "evaluating"
    workflow = _workflow(kind, files, run_id, **settings)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize(
    ("overlays", "changed", "overrides"),
    [
        ([], {"head"}, {}),
        (["augment.json"], {"head"}, {}),
        (["early_stop.json"], {"head"}, {}),
        (["cache_maps.json"], {"head"}, {}),
        (["cache_maps.json"], {"head"}, {"cache_limit_mb": 0.001}),
        (["strategy_full_finetune.json"], {"backbone", "head"}, {}),
        (["model_unet.json"], {"backbone"}, {"unet_features": [4] * 6}),
        (["adapter_dvpt.json"], {"adapter", "head"}, VIT),
        (["adapter_dvpt_as_released.json"], {"adapter", "head"}, VIT),
        (["adapter_adaptformer.json"], {"adapter", "head"}, VIT),
        (["adapter_lora.json"], {"adapter", "head"}, VIT),
        (["adapter_vpt_deep.json"], {"adapter", "head"}, VIT),
        ([], {"head"}, {"decoder_bottleneck": 4, "decoder_norm": "layer", "class_weights": "balanced"}),
    ],
    ids=lambda value: "+".join(name.removesuffix(".json") for name in value) if isinstance(value, list) else "",
)
def test_an_overlay_changes_exactly_its_parts(
    overlays: list[str], changed: set[str], overrides: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    workflow, parts = _train(overlays, images, tmp_path, **overrides)
    assert parts - {"adapted"} == changed
    saved = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert {name.split(".")[0] for name in saved} - {"_extra_state"} == changed
    assert workflow.network_def.backbone.frozen is ("backbone" not in changed)


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

    parser = ConfigParser(ConfigParser.load_config_files([INFERENCE, str(CONFIGS / f"{overlay}.json")]))
    random = {"device": "cpu", "backbone_weights": None, "decoder_width": 8}
    parser.update(pairs=random | ({"backbone#weights": None} if "resnet" in overlay else {}))
    network = parser.get_parsed_content("network_def").eval()
    assert len(network.head.in_channels) == 4
    assert network.adapted is not None


def test_the_checkpoint_is_small_and_outputs_are_below_output_dir(trained: Path) -> None:
    assert {"models", "ingest_report.csv", "evaluation"} <= {path.name for path in trained.iterdir()}
    assert (trained / "models/model.pt").stat().st_size < 100_000
    assert list(BUNDLE.glob("models/*.pt")) == []


def test_evaluation_reports_every_case_with_its_picture(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    rows = _rows(trained / "evaluation/cases.csv")
    assert report["task"] == "segmentation"
    assert report["id"]["n"] == len(rows) == 4
    assert report["id"]["dice"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]))
    assert report["classes"] == NAMES
    assert report["run"]["trainable_parameters"] > 0
    assert (trained / "evaluation/cases.png").stat().st_size > 1000


def test_inference_writes_the_masks_that_evaluation_judged(trained: Path, images: Path, tmp_path: Path) -> None:
    settings = for_inference(_settings(images / "test/images", tmp_path))
    del settings["mask_class_names"]
    _run("infer", [INFERENCE], "inferring", checkpoint=str(trained / "models/model.pt"), **settings)
    judged = {row["case"]: row for row in _rows(trained / "evaluation/cases.csv")}
    paths = {
        folder: json.loads(Path(folder, "local/id_map.json").read_text())["files"] for folder in (trained, tmp_path)
    }
    by_name = {Path(paths[trained][case]["path"]).name: row for case, row in judged.items()}
    rows = _rows(tmp_path / "masks.csv")
    assert len(rows) == 4
    for row in rows:
        name = Path(paths[tmp_path][row["case"]]["path"]).name
        mask = np.asarray(Image.open(tmp_path / row["file"]))
        truth = np.asarray(Image.open(images / "test/masks" / name))
        assert mask.shape == truth.shape
        both, sizes = ((mask == 1) & (truth == 1)).sum(), (mask == 1).sum() + (truth == 1).sum()
        assert float(by_name[name]["dice_organ"]) == pytest.approx(2 * both / sizes, abs=1e-6)


def test_two_runs_with_one_seed_write_the_same_checkpoint(trained: Path, images: Path, tmp_path: Path) -> None:
    _run("train", [TRAIN], "training", **_settings(images, tmp_path))
    assert (tmp_path / "models/model.pt").read_bytes() == (trained / "models/model.pt").read_bytes()


def test_a_resumed_run_ends_as_one_that_was_left_alone(images: Path, tmp_path: Path) -> None:
    _run("train", [TRAIN], "training", **_settings(images, tmp_path / "whole", epochs=2))
    workflow = _workflow("train", [TRAIN], "training", **_settings(images, tmp_path / "halved", epochs=2))
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    from ignite.engine import Events

    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda engine: engine.terminate())
    workflow.run()
    _run("train", [TRAIN], "training", **_settings(images, tmp_path / "halved", epochs=2, resume=True))
    one, other = (
        torch.load(tmp_path / name / "models/last.pt", weights_only=True)["network"] for name in ("whole", "halved")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("overlays", [["data_volumes.json"], ["data_volumes.json", "data_neighbors.json"]])
def test_volumes_are_split_by_patient_judged_as_volumes_and_written_onto_their_source(
    overlays: list[str], tmp_path: Path
) -> None:
    data = write_volumes(tmp_path / "data", 5)
    settings = _settings(data, tmp_path / "out")
    (data / "images/.DS_Store").write_bytes(b"x")
    (data / "images/v4.nii.gz").rename(data / "images/lonely.nii.gz")
    _train(overlays, data, tmp_path / "out")
    report = _rows(tmp_path / "out/ingest_report.csv")
    reasons = sorted(row["reason"] for row in report if row["reason"])
    assert reasons == ["hidden_file", "image_without_mask", "mask_without_image"]
    extra = [str(CONFIGS / name) for name in overlays]
    _run("infer", [TRAIN, EVALUATE, *extra], "evaluating", **settings)
    content = json.loads((tmp_path / "out/evaluation/report.json").read_text())
    assert content["id"]["n_images"] == 4 * content["id"]["n"]
    assert content["id"]["distance_unit"] == "mm"
    inference = for_inference(_settings(data / "images", tmp_path / "new"))
    del inference["mask_class_names"]
    overlays = [str(CONFIGS / name) for name in overlays if name == "data_neighbors.json"]
    checkpoint = str(tmp_path / "out/models/model.pt")
    _run("infer", [INFERENCE, *overlays], "inferring", checkpoint=checkpoint, **inference)
    rows = _rows(tmp_path / "new/masks.csv")
    assert len(rows) == 5
    paths = json.loads((tmp_path / "new/local/id_map.json").read_text())["files"]
    for row in rows:
        mask, source = nib.load(tmp_path / "new" / row["file"]), nib.load(paths[row["case"]]["path"])
        assert np.array_equal(mask.affine, source.affine)
        assert mask.shape == source.shape


def test_large_images_are_learned_in_crops_and_predicted_in_windows(images: Path, tmp_path: Path) -> None:
    sizes = {"image_size": 96, "window": 32}
    _, changed = _train(["windows.json", "windows_train.json"], images, tmp_path, **sizes)
    assert changed - {"adapted"} == {"head"}
    windows = str(CONFIGS / "windows.json")
    settings = _settings(images, tmp_path, **sizes)
    workflow = _workflow("infer", [TRAIN, EVALUATE, windows], "evaluating", **settings)
    workflow.initialize()
    assert workflow.network_def.backbone.spec.image_size == 32
    assert workflow.parser.get_parsed_content("dataset").images.shape[2:] == (96, 96)
    workflow.run()
    assert json.loads((tmp_path / "evaluation/report.json").read_text())["id"]["n"] == 4
    inference = for_inference(_settings(images / "test/images", tmp_path / "new", **sizes))
    del inference["mask_class_names"]
    _run("infer", [INFERENCE, windows], "inferring", checkpoint=str(tmp_path / "models/model.pt"), **inference)
    assert len(_rows(tmp_path / "new/masks.csv")) == 4


def test_dicom_series_with_dicom_segmentations_go_the_whole_way(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for case in range(4):
        (data / f"images/case{case}").mkdir(parents=True)
        (data / "masks").mkdir(exist_ok=True)
        sources = source_series(seed=case)
        for number, source in enumerate(sources):
            as_file(source, data / f"images/case{case}/{(3 * number) % 5}.dcm")
        as_file(segmentation(sources), data / f"masks/case{case}.dcm")
    settings = _settings(data, tmp_path / "out", image_size=32)
    volumes = str(CONFIGS / "data_volumes.json")
    _run("train", [TRAIN, volumes], "training", **settings)
    _run("infer", [TRAIN, EVALUATE, volumes], "evaluating", **settings)
    report = json.loads((tmp_path / "out/evaluation/report.json").read_text())
    assert report["id"]["n_images"] == 5 * report["id"]["n"]
    assert report["id"]["distance_unit"] == "mm"
    assert report["id"]["per_class"]["organ"]["n"] == report["id"]["n"]
    inference = for_inference(_settings(data / "images", tmp_path / "new", image_size=32))
    del inference["mask_class_names"]
    _run("infer", [INFERENCE], "inferring", checkpoint=str(tmp_path / "out/models/model.pt"), **inference)
    rows = _rows(tmp_path / "new/masks.csv")
    assert len(rows) == 4
    volume = read_volume(data / "images/case0")
    for row in rows:
        mask = nib.load(tmp_path / "new" / row["file"])
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ mask.affine, series_affine_of(volume), atol=1e-4)


def series_affine_of(volume: Any) -> np.ndarray:
    """From (column, row, slice) of the files to patient coordinates, which are the stored axes of a series."""
    back = nib.orientations.inv_ornt_aff(volume.source_orientation, volume.values.shape)
    return volume.affine @ back


def test_no_path_and_no_name_is_in_what_may_leave_the_site(trained: Path) -> None:
    for path in trained.rglob("*"):
        if path.is_file() and "local" not in path.parts:
            assert b"patient_name" not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        ({"decoder_with": 8}, ConfigError, "did you mean 'decoder_width'"),
        ({"mask_class_names": ["background", "x"]}, DataError, "mask_values"),
        ({"mask_class_names": [*NAMES, "never"]}, DataError, "a pixel of the class never"),
        ({"class_weights": [1.0]}, ConfigError, "3 numbers in the order of the classes"),
        ({"image_size": 60, **VIT}, ConfigError, "multiple of patch_size"),
        ({"dataset_dir": "/nowhere/at/all"}, DataError, "no file or folder"),
    ],
)
def test_bad_settings_and_data_are_one_clear_error(
    overrides: dict[str, Any], kind: type[Exception], message: str, images: Path, tmp_path: Path
) -> None:
    error = _user_error(images, tmp_path, **overrides)
    assert isinstance(error, kind)
    assert message in str(error)


def test_evaluation_without_masks_and_with_another_backbone_says_what_to_do(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    settings = _settings(images, tmp_path, checkpoint=str(trained / "models/model.pt"), **VIT)
    with pytest.raises(Exception) as caught:
        _run("infer", [TRAIN, EVALUATE], "evaluating", **settings)
    assert isinstance(user_error(caught.value), CheckpointMismatchError)
    (tmp_path / "bare/images").mkdir(parents=True)
    (tmp_path / "bare/masks").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "bare/images/a.png")
    error = _user_error(tmp_path / "bare", tmp_path)
    assert isinstance(error, DataError)
    assert "No image with a mask" in str(error)


@pytest.mark.slow
def test_monais_own_commands_verify_and_export_the_network_from_another_folder(trained: Path, tmp_path: Path) -> None:
    meta = str(CONFIGS / "metadata.json")

    def monai(*words: str) -> None:
        command = [sys.executable, "-m", "monai.bundle", *words]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]

    shared = ["--meta_file", meta, "--config_file", INFERENCE]
    monai("verify_net_in_out", "network_def", "--device", "cpu", *shared)
    exported, checkpoint = tmp_path / "model.ts", str(trained / "models/model.pt")
    words = ["--filepath", str(exported), "--ckpt_file", checkpoint, "--checkpoint", checkpoint]
    monai("ckpt_export", "network_def", *words, "--image_size=64", "--decoder_width=16", *shared)
    check_same_logits(exported, trained)
    assert not (tmp_path / "outputs").exists()
