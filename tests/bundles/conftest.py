"""A tiny phantom, and the bundles with settings that make them run in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))

# small images and one epoch; everything else is as shipped
FAST = {"image_size": 64, "prompt_width": 8, "epochs": 1, "batch_size": 8, "num_workers": 0, "device": "cpu"}
FAST_INFERENCE = {key: value for key, value in FAST.items() if key != "epochs"}

# the settings of the bundle with adapters: a tiny ViT with random weights, because its own come from a hub
FAST_ADAPTED = {key: value for key, value in FAST.items() if key != "prompt_width"} | {
    "backbone_name": "test_vit",
    "backbone_weights": None,
    "warmup_epochs": 0,
}
FAST_SEGMENTING = {key: value for key, value in FAST.items() if key != "prompt_width"} | {
    "decoder_width": 16,
    "batch_size": 4,
    "warmup_epochs": 0,
}
FAST_OF = {
    "movl_classification": FAST,
    "dvpt_classification": FAST_ADAPTED,
    "dvpt_segmentation": FAST_SEGMENTING,
}
ONLY_TRAINING = {"epochs", "warmup_epochs"}


def for_inference(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out what inference configs do not have."""
    return {key: value for key, value in settings.items() if key not in ONLY_TRAINING}


def check_same_logits(exported: Path, run: Path, *, image_size: int = 64) -> None:
    """Fail unless a TorchScript file of MONAI's `ckpt_export` computes what the run's network does."""
    from movl_monai.engines import open_run

    image = torch.rand(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = open_run(run).network()(image), torch.jit.load(str(exported))(image)
    assert float(expected.std(dim=0).max()) > 0  # images differ
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def offline(bundle: Path) -> dict[str, Any]:
    """What builds the bundle's network as shipped, on the CPU, without downloading weights."""
    return {
        "device": "cpu",
        **({"backbone_weights": None} if "backbone_weights" in FAST_OF.get(bundle.name, FAST) else {}),
    }


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 12 + 6 + 6 + 6 images."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(6, 3, 3, 3), images_per_patient=2, size=64)
    return folder
