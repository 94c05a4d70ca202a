"""Checkpoints hold the trained values and refuse other frozen weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movl_monai.errors import CheckpointMismatchError, ConfigError, MovlError
from movl_monai.heads import LinearHead
from movl_monai.networks import (
    AdaptedClassifier,
    checkpoint_class_names,
    decode_facts,
    load_checkpoint,
    read_facts,
    save_atomically,
)
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone


def _network(
    *, seed: int = 0, frozen: bool = True, width: int = 4, names: list[str] | None = None, prompt: bool = True
) -> AdaptedClassifier:
    backbone = tiny_backbone(seed=seed, frozen=frozen)
    return AdaptedClassifier(
        backbone=backbone,
        prompt=PadPrompt(image_size=IMAGE_SIZE, width=width) if prompt else None,
        head=LinearHead(backbone.spec.num_features, 2),
        class_names=names,
    )


def _perturb(network: AdaptedClassifier) -> AdaptedClassifier:
    with torch.no_grad():
        for part in (network.prompt, network.head):
            for parameter in part.parameters():
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return network


def test_state_dict_holds_no_tensor_of_the_frozen_backbone() -> None:
    network = _network()
    state = network.state_dict()
    assert not [key for key in state if key.startswith("backbone.")]
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained <= set(state)


def test_a_backbone_that_trains_is_saved_whole() -> None:
    network = _network(frozen=False)
    assert set(network.backbone.state_dict(prefix="backbone.")) <= set(network.state_dict())


def test_a_saved_network_predicts_the_same_after_loading(tmp_path: Path) -> None:
    trained, image = _perturb(_network(names=["a", "b"])).eval(), torch.rand(3, 3, IMAGE_SIZE, IMAGE_SIZE)
    save_atomically(trained.state_dict(), tmp_path / "model.pt")
    loaded = _network().eval()
    assert not torch.equal(loaded(image), trained(image))
    loaded.load_state_dict(load_checkpoint(tmp_path / "model.pt"))
    assert torch.equal(loaded(image), trained(image))
    assert loaded.class_names == ["a", "b"]


def test_the_same_state_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_atomically(_network(names=["a", "b"]).state_dict(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_checkpoint_of_other_frozen_weights_is_refused_by_sha256() -> None:
    state = _network(seed=0).state_dict()
    with pytest.raises(CheckpointMismatchError, match="sha256 .* Load the weights that the checkpoint was trained on"):
        _network(seed=1).load_state_dict(state)


def test_a_checkpoint_of_a_frozen_backbone_is_refused_by_a_trained_one() -> None:
    with pytest.raises(CheckpointMismatchError, match="the backbone is frozen .* here it is trained"):
        _network(frozen=False).load_state_dict(_network().state_dict())


def test_a_checkpoint_of_other_classes_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match=r"classes \['a', 'b'\], this network has \['b', 'a'\]"):
        _network(names=["b", "a"]).load_state_dict(_network(names=["a", "b"]).state_dict())


def test_a_checkpoint_of_another_prompt_width_or_kind_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match="has shape .* in the checkpoint"):
        _network(width=3).load_state_dict(_network(width=4).state_dict())
    with pytest.raises(CheckpointMismatchError, match="'prompt': 'Identity'"):
        _network(prompt=False).load_state_dict(_network().state_dict())


def test_a_state_without_a_record_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match="does not say which frozen weights"):
        _network().load_state_dict({"head.weight": torch.zeros(1)})


def test_a_missing_key_of_a_trained_part_is_still_an_error() -> None:
    state = _network().state_dict()
    del state["head.bias"]
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        _network().load_state_dict(state)


def test_reading_a_checkpoint_says_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match="run training with the same output_dir first"):
        load_checkpoint(tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointMismatchError, match="cut off or come from elsewhere"):
        load_checkpoint(tmp_path / "cut.pt")


def test_an_output_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MovlError, match="choose another output_dir"):
        save_atomically({}, tmp_path / "file" / "model.pt")


def test_class_names_come_from_the_checkpoint_or_the_default(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    assert checkpoint_class_names(path, ["x", "y"]) == ["x", "y"]
    save_atomically(_network(names=["a", "b"]).state_dict(), path)
    assert checkpoint_class_names(path, ["x", "y"]) == ["a", "b"]
    assert read_facts(path)["backbone"]["sha256"] == tiny_backbone().content_sha256()


def test_damaged_records_are_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match="cannot be read"):
        decode_facts(torch.tensor([255, 254], dtype=torch.uint8))


def test_a_head_of_another_width_or_number_of_classes_is_refused() -> None:
    backbone = tiny_backbone()
    with pytest.raises(ConfigError, match="The head reads 7 features"):
        AdaptedClassifier(backbone=backbone, head=LinearHead(7, 2))
    with pytest.raises(ConfigError, match="3 class names"):
        AdaptedClassifier(
            backbone=backbone, head=LinearHead(backbone.spec.num_features, 2), class_names=["a", "b", "c"]
        )


def test_the_network_scripts_and_predicts_the_same() -> None:
    network, image = _perturb(_network()).eval(), torch.rand(2, 3, IMAGE_SIZE, IMAGE_SIZE)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image))


def test_a_checkpoint_has_the_usual_permissions_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_bytes(b"")
    save_atomically({"a": torch.zeros(1)}, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "usual"]
