"""Runs as training leaves them, made without training from the bundles' configs and a tiny backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from movl_monai.engines import make_record
from movl_monai.files import to_json
from movl_monai.phantom import write_phantom

ROOT = Path(__file__).resolve().parents[2]
SIZE = 32
BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_efficientnet",
    "weights": None,
    "image_size": "@image_size",
    "frozen": "@backbone_frozen",
}


def make_run(folder: Path, bundle: str, class_names: list[str], **overrides: Any) -> Path:
    """Write checkpoint and record of a run with random trained parts."""
    configs = ROOT / "bundles" / bundle / "configs"
    parser = ConfigParser()
    parser.read_config(str(configs / "train.json"))
    parser.read_meta(str(configs / "metadata.json"))
    parser.update({"image_size": SIZE, "backbone": BACKBONE, "class_names": class_names, **overrides})
    parser.update({"output_dir": str(folder), "device": "cpu"})
    parser.parse(True)
    network = parser.get_parsed_content("network_def")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and not name.startswith("backbone."):
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    (folder / "models").mkdir(parents=True)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    record = make_record(parser.get(), config_root=configs, checkpoint="model.pt")
    (folder / "models" / "run.json").write_text(to_json(record), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def classifier_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    return make_run(folder, "movl_classification", ["no_lesion", "lesion"], prompt_width=4)


@pytest.fixture(scope="session")
def segmenter_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    return make_run(folder, "dvpt_segmentation", ["background", "hippocampus"], decoder_width=16)


@pytest.fixture(scope="session")
def phantom_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four radiographs of scanner A and two of scanner B, DICOM."""
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(0, 0, 2, 1), images_per_patient=2, size=64)
    return folder / "images"
