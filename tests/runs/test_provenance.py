"""Tests of the facts about a run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

import movl_monai
from movl_monai.engines import Stage
from movl_monai.evaluation import run_info
from movl_monai.evaluation.trust_record import trained_state_sha256
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, tiny_backbone


def test_facts_count_what_the_checkpoint_holds_and_hash_it(tmp_path: Path) -> None:
    backbone = tiny_backbone()
    head = LinearHead(backbone.spec.num_features, 2)
    network = AdaptedClassifier(backbone=backbone, head=head, prompt=PadPrompt(image_size=IMAGE_SIZE, width=4))
    network.requires_grad_(False)  # an evaluation may switch gradients off
    path = tmp_path / "secret name" / "model.pt"
    path.parent.mkdir()
    torch.save(network.state_dict(), path)
    info = run_info(network=network, checkpoint=path, seed=3, strategy=[Stage(epochs=1, lr={"head": 0.1})])
    border = 3 * (IMAGE_SIZE**2 - (IMAGE_SIZE - 8) ** 2)
    assert info["trainable_parameters"] == border + 2 * (backbone.spec.num_features + 1)
    assert info["backbone_parameters"] == sum(part.numel() for part in backbone.parameters())
    assert info["checkpoint_bytes"] == path.stat().st_size
    assert info["checkpoint_file_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info["checkpoint_sha256"] == trained_state_sha256(network)
    assert (info["prompt"], info["head"], info["seed"]) == ("PadPrompt", "LinearHead", 3)
    assert info["backbone"]["name"] == backbone.spec.name
    assert info["strategy"][0]["lr"] == {"head": 0.1}
    assert "secret" not in json.dumps(info)


def test_facts_without_a_network_are_null_and_versions_are_there() -> None:
    info = run_info(facts={"batch_size": 16})
    assert info["prompt"] is None
    assert info["checkpoint_bytes"] is None
    assert info["batch_size"] == 16
    assert info["versions"]["movl_monai"] == movl_monai.__version__
    assert (
        info["versions"]["torch"] == torch.__version__.split("+")[0] or info["versions"]["torch"] == torch.__version__
    )


def test_network_without_a_prompt_has_none() -> None:
    backbone = tiny_backbone()
    network = AdaptedClassifier(backbone=backbone, head=LinearHead(backbone.spec.num_features, 2))
    assert run_info(network=network)["prompt"] is None
