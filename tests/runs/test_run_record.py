"""A run opened again from its record: contents, omissions, and the messages if it cannot be opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from movl_monai.engines import KeepRunRecord, make_record, open_run
from movl_monai.errors import CheckpointMismatchError, ConfigError, UntrustedConfigError, WeightsError
from movl_monai.networks import AdaptedClassifier, AdaptedSegmenter
from movl_monai.runs.record_file import FILES, RECORD_FILE
from tests.helpers import IMAGE_SIZE

BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_efficientnet",
    "weights": "@backbone_weights",
    "image_size": "@image_size",
}
NETWORK = {
    "backbone_weights": None,
    "image_size": IMAGE_SIZE,
    "width": 3,
    "backbone": BACKBONE,
    "prompt": {"_target_": "movl_monai.prompts.PadPrompt", "image_size": "@image_size", "width": "$@width + 1"},
    "head": {
        "_target_": "movl_monai.heads.LinearHead",
        "num_features": "$@backbone.spec.num_features",
        "num_classes": "$len(@class_names)",
    },
    "network_def": {
        "_target_": "movl_monai.networks.AdaptedClassifier",
        "backbone": "@backbone",
        "prompt": "@prompt",
        "head": "@head",
        "class_names": "@class_names",
    },
}
RESIZE = {"_target_": "movl_monai.transforms.ResizeImaged", "keys": "image", "image_size": "@image_size"}
INFERENCE = {
    "imports": ["$import movl_monai.networks as networks"],
    "checkpoint": "model.pt",
    "output_dir": "out",
    "class_names": "$networks.checkpoint_class_names(@checkpoint, ['x', 'y'])",
    "preprocessing": RESIZE,
    **NETWORK,
    "width": 1,
    "inferring": ["$(@preprocessing, @output_dir)"],
    "run": "%inferring",
}
TRAIN = {
    "imports": ["$import torch", "$import movl_monai.networks as networks"],
    "dataset_dir": "/data/PATIENT^NAME",
    "ood_dataset_dirs": [],
    "output_dir": "out",
    "checkpoint": "$@output_dir + '/models/model.pt'",
    "device": "cpu",
    "batch_size": 4,
    "split": [0.5, 0.5],
    "class_names": "$@datalist.class_names",
    "datalist": {"_target_": "movl_monai.data.read_datalist", "source": "@dataset_dir", "split_fractions": "@split"},
    **NETWORK,
    "train": {
        "preprocessing": RESIZE,
        "record": {"_target_": "movl_monai.engines.KeepRunRecord", "path": "@checkpoint"},
    },
    "training": ["$@train::record"],
    "run": "%training",
}


def _train(folder: Path, *, record: bool = True, **overrides: Any) -> AdaptedClassifier:
    """Write a bundle named `tiny`, build the network of its training with random values, keep record and checkpoint."""
    configs = folder / "tiny" / "configs"
    configs.mkdir(parents=True)
    for name, content in zip(FILES, ({"version": "1.2.3"}, TRAIN, {"run": []}, INFERENCE), strict=True):
        (configs / name).write_text(json.dumps(content))
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    parser.update({"output_dir": str(folder), "class_names": ["a", "b", "c"], **overrides})
    parser["_config_root_"] = str(configs)
    parser.parse(True)
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        for value in (*network.prompt.parameters(), *network.head.parameters()):
            value.normal_()
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models/model.pt")
    if record:
        parser.get_parsed_content("train#record").write()
    return network.eval()


def _kept(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "models" / RECORD_FILE).read_text(encoding="utf-8"))


@pytest.mark.parametrize("place", ["", "models", "models/model.pt", "models/run.json"])
def test_the_network_of_a_run_is_the_trained_one(tmp_path: Path, place: str) -> None:
    trained = _train(tmp_path, width=6)
    image = torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    run = open_run(tmp_path / place)
    network = run.network()
    assert not network.training
    torch.testing.assert_close(network(image), trained(image), rtol=0, atol=0)
    assert (run.class_names, run.task, run.folder) == (["a", "b", "c"], "classification", tmp_path)
    assert run.preprocessing()({"image": torch.rand(3, 8, 9)})["image"].shape == (3, IMAGE_SIZE, IMAGE_SIZE)


def test_the_record_keeps_expressions_raw_and_says_nothing_of_data_folders(tmp_path: Path) -> None:
    _train(tmp_path, width="$2 * 3", datalist={"source": str(tmp_path / "elsewhere")}, ood_dataset_dirs=["/data/X"])
    record = _kept(tmp_path)
    assert record["settings"]["width"] == "$2 * 3"
    assert record["settings"]["preprocessing"] == RESIZE
    assert set(record["settings"]) == {*NETWORK, "preprocessing"}
    assert record["training"] == {"split": [0.5, 0.5], "class_names": ["a", "b", "c"]}
    files = {name: tmp_path / "tiny/configs" / name for name in FILES}
    assert record["files_sha256"] == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
    }
    assert (record["bundle"], record["bundle_version"], record["checkpoint"]) == ("tiny", "1.2.3", "model.pt")
    own = json.dumps({name: value for name, value in record.items() if name != "files"})
    assert "/data" not in own
    assert str(tmp_path) not in own


def test_the_bundle_around_the_run_is_found_and_a_lost_one_is_replaced_by_the_copies_in_the_record(
    tmp_path: Path,
) -> None:
    trained = _train(tmp_path)
    run = open_run(tmp_path)
    with pytest.raises(ConfigError, match="bundle 'tiny' of this run is not found.*bundle_dir"):
        _ = run.bundle_dir
    image = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    torch.testing.assert_close(run.network()(image), trained(image), rtol=0, atol=0)
    assert open_run(tmp_path, bundle_dir=tmp_path / "tiny").bundle_dir == tmp_path / "tiny"
    (tmp_path / "models").rename(tmp_path / "tiny" / "models")
    assert open_run(tmp_path / "tiny").bundle_dir == tmp_path / "tiny"
    with pytest.raises(ConfigError, match=r"has no configs/metadata.json.*or the folder of a bundle"):
        open_run(tmp_path / "tiny", bundle_dir=tmp_path)


def test_the_evaluation_has_the_split_of_the_training_and_needs_the_data_named(tmp_path: Path) -> None:
    _train(tmp_path, split=[0.8, 0.2])
    config = open_run(tmp_path).parser("evaluate", dataset_dir="D").get()
    assert config["split"] == [0.8, 0.2]
    assert config["train"]["preprocessing"] == RESIZE
    assert (config["dataset_dir"], config["output_dir"]) == ("D", str(tmp_path))
    assert config["checkpoint"] == str(tmp_path / "models/model.pt")
    assert config["imports"] == TRAIN["imports"]


def test_overrides_go_over_the_record_and_a_mistyped_one_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, width=6)
    run = open_run(tmp_path, overrides={"prompt#width": 2})
    assert run.parser("inference", image_size=40).get_parsed_content("prompt").width == 2
    with pytest.raises(ConfigError, match="did you mean 'image_size'"):
        run.parser("inference", image_siz=40)
    with pytest.raises(CheckpointMismatchError, match="image_size"):
        run.network()


def test_a_weights_file_is_found_from_another_folder_and_a_lost_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    from tests.helpers import tiny_backbone

    backbone = tiny_backbone(seed=3)
    monkeypatch.chdir(tmp_path)
    save_file(dict(backbone.encoder.state_dict()), "own.safetensors")
    trained = _train(tmp_path, backbone_weights="own.safetensors")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    image = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    torch.testing.assert_close(open_run(tmp_path).network()(image), trained(image), rtol=0, atol=0)
    (tmp_path / "own.safetensors").rename("moved.safetensors")
    with pytest.raises(WeightsError, match="own.safetensors.*--backbone_weights FILE"):
        open_run(tmp_path).network()
    moved = open_run(tmp_path, overrides={"backbone_weights": "moved.safetensors"})
    torch.testing.assert_close(moved.network()(image), trained(image), rtol=0, atol=0)


def test_a_run_without_a_record_says_which_parts_the_overlays_must_bring(tmp_path: Path) -> None:
    _train(tmp_path, record=False)
    with pytest.raises(ConfigError, match="no run.json.*test_efficientnet.*prompt PadPrompt.*overlays"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read: expected JSON"),
        ("[]", "no record of a run"),
        ('{"format": 99, "versions": {"movl_monai": "7.0"}}', r"format 99, this version of movl_monai reads 1.*7\.0"),
        ('{"format": 1, "bundle": null, "checkpoint": "m", "imports": [], "settings": {}}', "damaged: training"),
        (
            '{"format": 1, "bundle": null, "checkpoint": "m", "imports": [], "settings": {}, "training": {}}',
            "damaged: network_def",
        ),
    ],
)
def test_a_damaged_record_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / RECORD_FILE).write_text(content)
    with pytest.raises(ConfigError, match=message):
        open_run(tmp_path)


def test_a_missing_run_and_a_missing_checkpoint_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no run at"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no run.json"):
        open_run(tmp_path)
    _train(tmp_path)
    (tmp_path / "models/model.pt").unlink()
    with pytest.raises(CheckpointMismatchError, match="no checkpoint"):
        open_run(tmp_path).network()


def test_a_network_that_is_an_object_cannot_be_recorded() -> None:
    with pytest.raises(ConfigError, match="'network_def' holds objects"):
        make_record({"network_def": torch.nn.Identity()}, config_root=None, checkpoint="model.pt")


def test_the_record_is_kept_from_within_a_config_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be built from a bundle config"):
        KeepRunRecord(tmp_path / "model.pt")


def test_the_task_is_that_of_the_network(tmp_path: Path) -> None:
    _train(tmp_path)
    record = _kept(tmp_path)
    record["settings"]["network_def"]["_target_"] = f"{AdaptedSegmenter.__module__}.AdaptedSegmenter"
    (tmp_path / "models" / RECORD_FILE).write_text(json.dumps(record))
    assert open_run(tmp_path).task == "segmentation"


def _plant(path: Path, *, where: str, touched: Path) -> None:
    """Put into a config the code that a hostile one would run."""
    config = json.loads(path.read_text(encoding="utf-8"))
    place = config.get("settings", config)
    if where == "target":
        place["prompt"] = {"_target_": "pathlib.Path.touch", "self": str(touched)}
    elif where == "network":
        place["network_def"] = {**place["network_def"], "_target_": "tests.engines.absent_module.Network"}
    else:
        name = {"expression": "image_size", "workflow": "inferring"}[where]
        place[name] = f"$__import__('pathlib').Path({str(touched)!r}).touch() or {IMAGE_SIZE}"
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("where", ["target", "network", "expression"])
def test_a_record_with_foreign_code_is_refused_and_none_of_it_is_run(tmp_path: Path, where: str) -> None:
    _train(tmp_path)
    _plant(tmp_path / "models" / RECORD_FILE, where=where, touched=tmp_path / "run")
    with pytest.raises(UntrustedConfigError, match=r"outside of the allow-list.*`--trust`"):
        open_run(tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_bundle_around_the_run_with_foreign_code_is_refused(tmp_path: Path) -> None:
    _train(tmp_path)
    _plant(tmp_path / "tiny/configs/inference.json", where="workflow", touched=tmp_path / "run")
    with pytest.raises(UntrustedConfigError, match=r"inference\.json of the bundle"):
        open_run(tmp_path, bundle_dir=tmp_path / "tiny").network()
    assert not (tmp_path / "run").exists()


def test_foreign_code_runs_for_whoever_trusts_it(tmp_path: Path) -> None:
    _train(tmp_path)
    _plant(tmp_path / "models" / RECORD_FILE, where="expression", touched=tmp_path / "run")
    open_run(tmp_path, trust=True).preprocessing()
    assert (tmp_path / "run").exists()
