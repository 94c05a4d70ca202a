"""The model sees the same through `ingest` as through a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from movl_monai.ingest.examine import Preprocessing
from tests.ingest.conftest import MakePng, MakeSlice

CONFIG = Path(__file__).resolve().parents[2] / "bundles/movl_classification/configs/inference.json"


def test_the_defaults_give_what_the_bundle_gives(tmp_path: Path, make_png: MakePng, make_slice: MakeSlice) -> None:
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    bundle = parser.get_parsed_content("preprocessing")
    for path in (make_png(tmp_path / "a.png", size=50), make_slice(tmp_path / "a.dcm", size=40)):
        ours = Preprocessing().build()({"image": str(path)})["image"]
        assert torch.equal(ours, bundle({"image": str(path)})["image"])


def test_the_settings_have_the_names_and_defaults_of_the_bundle() -> None:
    masks = CONFIG.parents[2] / "dvpt_segmentation/configs/inference.json"
    config = {name: value for file in (masks, CONFIG) for name, value in json.loads(file.read_text()).items()}
    assert Preprocessing().describe() == {name: config[name] for name in Preprocessing().describe()}


def test_unknown_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="liverr"):
        Preprocessing(ct_windows=("liverr",)).build()
