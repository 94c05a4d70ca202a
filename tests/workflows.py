"""The workflows of the bundles, with settings that make them run in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from movl_monai.errors import user_error

ROOT = Path(__file__).resolve().parents[1]
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
ONLY_TRAINING = {"epochs", "warmup_epochs", "mask_class_names"}
MASK_CLASSES = ["background", "organ", "lesion"]
CONFIGS = {bundle.name: bundle / "configs" for bundle in BUNDLES}
WORKFLOWS = {
    "training": ["train.json"],
    "evaluating": ["train.json", "evaluate.json"],
    "inferring": ["inference.json"],
}


def for_inference(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out the settings that inference configs lack."""
    return {key: value for key, value in settings.items() if key not in ONLY_TRAINING}


def workflow(bundle: str, run_id: str, overlays: Sequence[str] = (), **settings: Any) -> ConfigWorkflow:
    """Make an initialised workflow with the bundle's fast settings; paths among `settings` become strings."""
    own = FAST_OF[bundle] | ({"mask_class_names": MASK_CLASSES} if bundle == "dvpt_segmentation" else {})
    values = {**(for_inference(own) if run_id == "inferring" else own), **settings}
    train, *rest = WORKFLOWS[run_id]
    made = ConfigWorkflow(
        config_file=[str(CONFIGS[bundle] / name) for name in (train, *overlays, *rest)],
        workflow_type="train" if run_id == "training" else "infer",
        logging_file=False,
        run_id=run_id,
        **{key: str(value) if isinstance(value, Path) else value for key, value in values.items()},
    )
    made.initialize()
    return made


def run(bundle: str, run_id: str, overlays: Sequence[str] = (), **settings: Any) -> ConfigWorkflow:
    """Make a workflow, and run it to its end."""
    made = workflow(bundle, run_id, overlays, **settings)
    made.run()
    made.finalize()
    return made


def train(bundle: str, overlays: Sequence[str] = (), **settings: Any) -> tuple[ConfigWorkflow, set[str]]:
    """Train, and return the workflow and the parts of its network that changed."""
    made = workflow(bundle, "training", overlays, **settings)
    network = made.network_def
    before = {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}
    made.run()
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    made.finalize()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}
    return made, changed - {"adapted"}


def user_error_of(bundle: str, run_id: str, overlays: Sequence[str] = (), **settings: Any) -> BaseException:
    """Run a workflow that fails, and return its error for users, which MONAI has wrapped."""
    with pytest.raises(Exception) as caught:
        run(bundle, run_id, overlays, **settings)
    error = user_error(caught.value)
    assert error is not None, f"not an error for users: {caught.value!r}"
    return error


def check_same_logits(exported: Path, run: Path, *, image_size: int = 64) -> None:
    """Fail unless a TorchScript file of MONAI's `ckpt_export` gives the logits of the run's network."""
    from movl_monai.engines import open_run

    image = torch.rand(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = open_run(run).network()(image), torch.jit.load(str(exported))(image)
    assert float(expected.std(dim=0).max()) > 0  # images differ
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def offline(bundle: Path) -> dict[str, Any]:
    """Settings that build the bundle's network as shipped, on the CPU, without downloading weights."""
    return {
        "device": "cpu",
        **({"backbone_weights": None} if "backbone_weights" in FAST_OF.get(bundle.name, FAST) else {}),
    }
