"""A tiny phantom and two runs trained on it: a linear probe and MoVL on a tiny backbone with random weights."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from movl_monai.cli import main
from movl_monai.phantom import write_phantom

CONFIGS = Path(__file__).resolve().parents[3] / "bundles" / "movl_classification" / "configs"
BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_efficientnet",
    "weights": None,
    "image_size": "@image_size",
}
FAST: dict[str, Any] = {"image_size": 32, "batch_size": 8, "num_workers": 0, "device": "cpu", "backbone": BACKBONE}


def train(folder: Path, dataset: Path, *overlays: str, **settings: Any) -> Path:
    """Train by the command line, as users do."""
    files = [str(CONFIGS / name) for name in ("train.json", *overlays)]
    values = {"dataset_dir": str(dataset), "output_dir": str(folder), **FAST, **settings}
    pairs = [word for name, value in values.items() for word in (f"--{name}", str(value))]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "parsing config_file", UserWarning)  # MONAI's, about files of strangers
        assert main(["run", "training", "--config_file", *files, *pairs]) == 0
    return folder


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 12 + 6 + 12 + 4 images."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(6, 3, 6, 2), images_per_patient=2, size=64)
    return folder


@pytest.fixture(scope="session")
def probe(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output_dir of a linear probe."""
    return train(tmp_path_factory.mktemp("runs") / "probe", phantom, "strategy_linear_probe.json")


@pytest.fixture(scope="session")
def joint(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output_dir of a run that trains a linear probe, then a prompt, then both together."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    return train(folder, phantom, "strategy_joint.json", epochs=2, prompt_width=6, prompt_lr=0.1)


@pytest.fixture
def segmentation(tmp_path: Path) -> Path:
    """A folder with the record of a segmentation; no other file of it is read."""
    record = {
        "format": 1,
        "bundle": None,
        "checkpoint": "model.pt",
        "imports": [],
        "settings": {"network_def": {"_target_": "movl_monai.networks.AdaptedSegmenter"}},
        "training": {},
    }
    (tmp_path / "masks" / "models").mkdir(parents=True)
    (tmp_path / "masks" / "models" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return tmp_path / "masks"
