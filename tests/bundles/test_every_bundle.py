"""Every bundle trains the parts that its overlays name, is built again from its record, and refuses bad settings."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import (
    ConfigWorkflow,
    ckpt_export,
    create_workflow,
    onnx_export,
    verify_metadata,
    verify_net_in_out,
)
from monai.handlers import from_engine
from onnxruntime import InferenceSession

from movl_monai.engines import open_run, unwrap
from movl_monai.errors import CheckpointMismatchError, ConfigError, DataError, MovlError, WeightsError
from movl_monai.networks import load_checkpoint
from tests.helpers import QUIET
from tests.workflows import (
    CONFIGS,
    FAST_OF,
    MASK_CLASSES,
    WORKFLOWS,
    check_same_logits,
    for_inference,
    train,
    user_error_of,
    workflow,
)

pytestmark = QUIET
MOVL, DVPT, SEG = "movl_classification", "dvpt_classification", "dvpt_segmentation"
PARTS = {MOVL: {"prompt", "head"}, DVPT: {"adapter", "head"}, SEG: {"head"}}
CHECKPOINT_BYTES = {MOVL: 500_000, DVPT: 100_000, SEG: 100_000}
SWIN = {
    "backbone": {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "swin_tiny_patch4_window7_224",
        "weights": None,
        "image_size": 64,
        "model_options": {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
        "frozen": True,
    }
}
VIT = {
    "backbone": {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "test_vit",
        "weights": None,
        "image_size": "@image_size",
        "frozen": "@backbone_frozen",
    }
}
bundles = pytest.mark.parametrize("bundle", CONFIGS)
TrainedOf = Callable[[str], Path]


@bundles
@pytest.mark.parametrize("run_id", WORKFLOWS)
def test_all_properties_are_there(bundle: str, run_id: str, data_of: dict[str, Path], tmp_path: Path) -> None:
    folder = data_of[bundle]
    if run_id == "inferring":
        folder = next(path for path in sorted(folder.rglob("images")) if path.is_dir())
    made = workflow(bundle, run_id, dataset_dir=folder, output_dir=tmp_path)
    assert made.check_properties() == []
    assert all(len(getattr(made, name)) for name in made.properties if name.endswith("dataset_data"))


def _check_built_again(made: ConfigWorkflow, output: Path, data: Path) -> None:
    """Fail unless the record builds the network and the preprocessing that were trained."""
    network, again = unwrap(made.network_def), open_run(output)
    network.load_state_dict(load_checkpoint(output / "models/model.pt"))
    files = [path for path in sorted(data.rglob("*.*")) if path.suffix in (".dcm", ".png")][:3]
    images, others = (
        [torch.as_tensor(preprocess({"image": str(path)})["image"]) for path in files]
        for preprocess in (made.train_preprocessing, again.preprocessing())
    )
    assert all(torch.equal(one, other) for one, other in zip(images, others, strict=True))
    batch = torch.stack([image[..., :64, :64] for image in images])
    with torch.no_grad():
        assert torch.equal(again.network()(batch), network.eval()(batch))


@bundles
def test_two_runs_with_one_seed_are_the_same(
    bundle: str, trained_of: TrainedOf, data_of: dict[str, Path], tmp_path: Path
) -> None:
    made, parts = train(bundle, dataset_dir=data_of[bundle], output_dir=tmp_path)
    assert parts == PARTS[bundle]
    assert (tmp_path / "models/model.pt").read_bytes() == (trained_of(bundle) / "models/model.pt").read_bytes()
    loss = from_engine(["loss"], first=True)(made.trainer.state.output)  # as MONAI's trackers find it
    assert torch.as_tensor(loss).ndim == 0
    assert float(loss) > 0
    _check_built_again(made, tmp_path, data_of[bundle])


@pytest.mark.parametrize(
    ("bundle", "overlays", "changed", "overrides"),
    [
        (MOVL, "", "prompt head", {"resize_mode": "pad", "prompt_width": 5}),
        (MOVL, "prompt_random_border", "head", {"seed": 4}),
        (MOVL, "strategy_vp_only", "prompt head", {}),  # of the head, the label mapping alone
        (MOVL, "strategy_joint", "prompt head", {}),
        (MOVL, "strategy_lp_ft", "backbone head", {"warmup_epochs": 0}),
        (MOVL, "strategy_full_finetune data_ct", "backbone head", {"warmup_epochs": 0}),
        (MOVL, "head_query", "head", {}),
        (MOVL, "head_query cache_tokens", "head", {}),
        (MOVL, "layers_last", "prompt head", {}),
        (MOVL, "augment", "prompt head", {}),
        (MOVL, "early_stop", "prompt head", {}),
        (MOVL, "sampling_balanced", "prompt head", {}),
        (DVPT, "", "adapter head", {"prompt_start": "kmeans", "num_prompts": 2, "solve_head_again": True}),
        (DVPT, "", "adapter head", {**SWIN, "num_prompts": 5}),
        (DVPT, "adapter_dvpt_static", "adapter head", {}),
        (DVPT, "adapter_dvpt_as_released", "adapter head", {}),
        (DVPT, "adapter_vpt_shallow", "adapter head", {}),
        (DVPT, "adapter_vpt_deep", "adapter head", {"num_prompts": "$1 + 1"}),
        (DVPT, "adapter_adaptformer", "adapter head", {}),
        (DVPT, "adapter_lora", "adapter head", {}),
        (DVPT, "adapter_ssf", "adapter head", {}),
        (DVPT, "adapter_bitfit", "adapter head", {}),
        (DVPT, "prompt_pad", "prompt adapter head", {"prompt_width": 8}),
        (DVPT, "prompt_pad adapter_lora", "prompt adapter head", {"prompt_width": 8}),
        (DVPT, "prompt_pad augment", "prompt adapter head", {"prompt_width": 8}),
        (DVPT, "strategy_movl", "prompt head", {"prompt_width": 7}),
        (DVPT, "head_query", "head", {"num_queries": 4}),
        (DVPT, "head_query layers_last cache_tokens", "head", {"value_width": 16}),
        (DVPT, "head_query cache_tokens", "head", SWIN),
        (DVPT, "head_query cache_tokens", "head", {}),
        (DVPT, "strategy_linear_probe", "head", {"layers": [5, 2]}),
        (DVPT, "strategy_adapter_from_zero", "adapter head", {}),
        (DVPT, "strategy_full_finetune", "backbone head", {}),
        (DVPT, "layers_last adapter_last_third cache_tokens", "adapter head", {}),
        (DVPT, "adapter_lora adapter_last_third", "adapter head", {"lora_rank": 3}),
        (DVPT, "adapter_lora adapter_last_third cache_tokens", "adapter head", {}),
        (DVPT, "adapter_last_third cache_tokens", "adapter head", {}),
        (DVPT, "layers_last strategy_full_finetune", "backbone head", {}),
        (DVPT, "sampling_balanced", "adapter head", {}),
        (DVPT, "early_stop", "adapter head", {}),
        (SEG, "augment", "head", {}),
        (SEG, "early_stop", "head", {}),
        (SEG, "cache_maps", "head", {}),
        (SEG, "cache_maps", "head", {"cache_limit_mb": 0.001}),
        (SEG, "strategy_full_finetune", "backbone head", {}),
        (SEG, "model_unet", "backbone", {"unet_features": [4] * 6}),
        (SEG, "model_unet data_jpeg_masks", "backbone", {
            "unet_features": [4, 4, 4, 8, 8, 4], "mask_threshold": 1, "mask_class_names": ["background", "foreground"],
        }),
        (SEG, "adapter_dvpt", "adapter head", VIT),
        (SEG, "adapter_dvpt_as_released", "adapter head", VIT),
        (SEG, "adapter_adaptformer", "adapter head", VIT),
        (SEG, "adapter_lora", "adapter head", VIT),
        (SEG, "adapter_vpt_deep", "adapter head", VIT),
        (SEG, "", "head", {"decoder_bottleneck": 4, "decoder_norm": "layer", "class_weights": "balanced"}),
        (SEG, "windows windows_train", "head", {"window": 64, "image_size": 96}),
    ],
)  # fmt: skip
def test_an_overlay_changes_its_parts_and_is_recorded(
    bundle: str, overlays: str, changed: str, overrides: dict[str, Any], data_of: dict[str, Path], tmp_path: Path
) -> None:
    files = [f"{name}.json" for name in overlays.split()]
    made, parts = train(bundle, files, dataset_dir=data_of[bundle], output_dir=tmp_path, **overrides)
    assert parts == set(changed.split())
    assert made.network_def.backbone.frozen is ("backbone" not in parts)
    saved = {name.split(".")[0] for name in torch.load(tmp_path / "models/model.pt", weights_only=True)}
    if overlays == "strategy_vp_only":
        moved = {name for name in made.network_def.head.state_dict() if "source" in name}
        assert not moved, "the source classifier comes with the weights and is not saved"
    elif bundle == SEG:
        assert saved - {"_extra_state"} == parts
    else:
        assert saved >= parts
    _check_built_again(made, tmp_path, data_of[bundle])
    assert open_run(tmp_path).task == ("segmentation" if bundle == SEG else "classification")


@bundles
def test_training_writes_a_small_checkpoint_below_output_dir(bundle: str, trained_of: TrainedOf) -> None:
    trained = trained_of(bundle)
    names = {"models", "ingest_report.csv", "evaluation"} | ({"cache"} if bundle != SEG else set())
    assert names <= {path.name for path in trained.iterdir()}
    assert (trained / "models/model.pt").stat().st_size < CHECKPOINT_BYTES[bundle]
    assert list(CONFIGS[bundle].parent.glob("models/*.pt")) == []


@bundles
def test_no_patient_and_no_path_may_leave_the_site(
    bundle: str, trained_of: TrainedOf, data_of: dict[str, Path]
) -> None:
    planted = [b"PHANTOM", b"Phantom^", str(data_of[bundle]).encode(), b"patient_name"]
    for path in trained_of(bundle).rglob("*"):
        if path.is_file() and "local" not in path.parts:
            content = path.read_bytes()
            assert not [word for word in planted if word in content], path.name


@pytest.mark.parametrize(
    ("bundle", "overlays", "overrides", "kind", "message"),
    [
        (MOVL, [], {"epoch": 1}, ConfigError, "did you mean 'epochs'"),
        (MOVL, [], {"device": "cuda:99"}, ConfigError, "CUDA device"),
        (MOVL, [], {"output_dir": "/proc/nowhere"}, MovlError, "output_dir cannot be written"),
        (MOVL, [], {"dataset_dir": "/nowhere/at/all"}, DataError, "no file or folder"),
        (MOVL, [], {"backbone#weights": "/nowhere/weights.safetensors"}, WeightsError, "weights"),
        (MOVL, [], {"epochs": 0}, ConfigError, "does nothing"),
        (DVPT, [], {"num_prompts": 17}, ConfigError, "num_prompts must be between 1 and 16"),
        (DVPT, [], {"bottleneck": 0}, ConfigError, "bottleneck must be at least 1"),
        (DVPT, [], {"adapted_blocks": [6]}, ConfigError, "numbers from 0 to 5"),
        (DVPT, [], {"layers": [6]}, ConfigError, "must be 'last', 'all' or a list of different numbers from 0 to 5"),
        (DVPT, [], {"backbone_name": "test_resnet"}, ConfigError, "hosts no adapters"),
        (DVPT, [], {"backbone_frozen": False}, ConfigError, "Only a frozen backbone can be prepared"),
        (DVPT, [], {"label_order": "ordinal"}, ConfigError, "the classes must be integers in growing order"),
        (DVPT, ["cache_tokens.json"], {}, ConfigError, "a cached block is frozen out of training"),
        (SEG, [], {"decoder_with": 8}, ConfigError, "did you mean 'decoder_width'"),
        (SEG, [], {"mask_class_names": ["background", "x"]}, DataError, "mask_values"),
        (SEG, [], {"mask_class_names": ["background", "organ", "lesion", "never"]}, DataError, "of the class never"),
        (SEG, [], {"class_weights": [1.0]}, ConfigError, "3 numbers in the order of the classes"),
        (SEG, [], {"image_size": 60, **VIT}, ConfigError, "multiple of patch_size"),
        (SEG, [], {"dataset_dir": "/nowhere/at/all"}, DataError, "no file or folder"),
    ],
)
def test_bad_settings_are_one_clear_error(
    bundle: str,
    overlays: list[str],
    overrides: dict[str, Any],
    kind: type[Exception],
    message: str,
    data_of: dict[str, Path],
    tmp_path: Path,
) -> None:
    settings = {"dataset_dir": data_of[bundle], "output_dir": tmp_path, **overrides}
    error = user_error_of(bundle, "training", overlays, **settings)
    assert isinstance(error, kind)
    assert message in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("bundle", "overrides", "message"),
    [
        (MOVL, {"backbone": {
            "_target_": "movl_monai.backbones.TimmBackbone", "name": "test_efficientnet", "weights": None,
            "image_size": 64, "layers": "@layers",
        }}, "was trained on the frozen weights of 'tf_efficientnet_lite0 (layers=all)'"),
        (DVPT, {"num_prompts": 5}, "num_prompts=10"),
        (SEG, VIT, ""),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_network_is_refused(
    bundle: str,
    overrides: dict[str, Any],
    message: str,
    trained_of: TrainedOf,
    data_of: dict[str, Path],
    tmp_path: Path,
) -> None:
    checkpoint = trained_of(bundle) / "models/model.pt"
    settings = {"dataset_dir": data_of[bundle], "output_dir": tmp_path, **overrides}
    error = user_error_of(bundle, "evaluating", checkpoint=checkpoint, **settings)
    assert isinstance(error, CheckpointMismatchError)
    assert message in str(error)


def monai(folder: Path, *words: str) -> None:
    """Run a command of MONAI in a folder."""
    command = [sys.executable, "-m", "monai.bundle", *words]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.slow
@bundles
def test_monais_own_functions_work_anywhere_without_a_network(
    bundle: str, trained_of: TrainedOf, data_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, folder = trained_of(bundle), CONFIGS[bundle]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was used"))
    meta, inference = str(folder / "metadata.json"), str(folder / "inference.json")
    verify_metadata(meta, filepath=str(folder.parent / "docs/metadata_schema.json"))
    settings = for_inference(FAST_OF[bundle]) | ({"backbone_weights": "random"} if bundle == DVPT else {})
    weights = {name: value for name, value in settings.items() if name.startswith("backbone_")}
    verify_net_in_out("network_def", meta, inference, device="cpu", **weights)

    checkpoint = str(trained / "models/model.pt")
    given = {"config_file": inference, "meta_file": meta, "ckpt_file": checkpoint, "checkpoint": checkpoint, **settings}
    ckpt_export("network_def", "model.ts", **given)
    check_same_logits(Path("model.ts"), trained)
    onnx_export("network_def", "model.onnx", input_shape=[1, 3, 64, 64], **given)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = open_run(trained).network()(image)
    (logits,) = InferenceSession("model.onnx").run(None, {"image": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=0)

    small = FAST_OF[bundle] | weights
    opened = {"bundle_root": str(tmp_path / "root"), "dataset_dir": str(data_of[bundle]), "logging_file": False}
    masks = {"mask_class_names": MASK_CLASSES} if bundle == SEG else {}
    with pytest.warns(UserWarning, match="_target_"):
        made = create_workflow(config_file=str(folder / "train.json"), **opened, **masks, **small)
    assert made.check_properties() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.ts", "root"]


@pytest.mark.slow
def test_training_evaluation_and_inference_work_in_processes(phantom: Path, tmp_path: Path) -> None:
    folder, settings = CONFIGS[MOVL], [f"--{key}={value}" for key, value in FAST_OF[MOVL].items()]
    train_config, evaluate, inference = (str(folder / f"{name}.json") for name in ("train", "evaluate", "inference"))
    common = [f"--dataset_dir={phantom}", f"--output_dir={tmp_path / 'out'}", *settings]
    monai(tmp_path, "run", "training", "--config_file", train_config, *common)
    monai(tmp_path, "run", "evaluating", "--config_file", f"['{train_config}','{evaluate}']", *common)
    assert (tmp_path / "out/evaluation/report.json").is_file()
    words = [f"--dataset_dir={phantom / 'images'}", f"--output_dir={tmp_path / 'inferred'}"]
    words += [f"--checkpoint={tmp_path / 'out/models/model.pt'}"]
    words += [word for word in settings if not word.startswith("--epochs")]
    monai(tmp_path, "run", "inferring", "--config_file", inference, *words)
    assert (tmp_path / "inferred/predictions.csv").is_file()
    assert not (tmp_path / "outputs").exists()
