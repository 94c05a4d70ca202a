"""Preprocessing as plain data: references resolved, equal transforms rebuilt, and nothing else ever built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from movl_monai.errors import ConfigError, ExportError
from movl_monai.export.preprocessing import build_preprocessing, literal_config

CONFIG = {
    "class_names": ["a", "b"],
    "image_size": 32,
    "halved": False,
    "preprocessing": {
        "_target_": "monai.transforms.Compose",
        "transforms": [
            {"_target_": "movl_monai.transforms.LoadMedicalImaged", "keys": "image", "ct_windows": "@windows"},
            {"_target_": "movl_monai.transforms.ResizeImaged", "keys": "image", "image_size": "$@image_size // 2"},
            {"_target_": "monai.transforms.Identityd", "keys": "image", "_disabled_": "$not @halved"},
            "@last",
        ],
    },
    "windows": ["lungs"],
    "last": {"_target_": "movl_monai.transforms.QuantizeImaged", "keys": "image"},
}


def _literal() -> Any:
    parser = ConfigParser(CONFIG)
    parser.parse()
    return literal_config(parser, "preprocessing")


def test_references_and_expressions_become_values_and_disabled_transforms_are_left_out() -> None:
    assert _literal() == {
        "_target_": "monai.transforms.Compose",
        "transforms": [
            {"_target_": "movl_monai.transforms.LoadMedicalImaged", "keys": "image", "ct_windows": ["lungs"]},
            {"_target_": "movl_monai.transforms.ResizeImaged", "keys": "image", "image_size": 16},
            {"_target_": "movl_monai.transforms.QuantizeImaged", "keys": "image"},
        ],
    }


def test_what_is_built_does_what_the_config_does(tmp_path: Path) -> None:
    Image.effect_noise((40, 20), 60).save(tmp_path / "a.png")
    item = {"image": str(tmp_path / "a.png")}
    parser = ConfigParser(CONFIG)
    parser.parse()
    expected = parser.get_parsed_content("preprocessing")(dict(item))["image"]
    got = build_preprocessing(_literal())(dict(item))["image"]
    assert got.shape == (3, 16, 16)
    assert torch.equal(torch.as_tensor(got), torch.as_tensor(expected))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "movl_monai.transforms.os.system",
        "monai.transforms.io.array.os.system",
        "movl_monai.transforms.sniff_format",
        "builtins.eval",
        "monai.transforms.NoSuchThing",
        None,
        7,
    ],
)
def test_a_file_cannot_ask_for_other_code(target: Any) -> None:
    config = {"_target_": "monai.transforms.Compose", "transforms": [{"_target_": target, "command": "true"}]}
    with pytest.raises(ExportError, match="expected transforms of movl_monai.transforms and monai.transforms alone"):
        build_preprocessing(config)


def test_expressions_in_a_file_stay_text() -> None:
    config = {
        "_target_": "monai.transforms.Compose",
        "transforms": [{"_target_": "monai.transforms.Identityd", "keys": "$__import__('os').abort()"}],
    }
    assert build_preprocessing(config).transforms[0].keys == ("$__import__('os').abort()",)


def test_what_is_no_chain_of_transforms_is_refused() -> None:
    with pytest.raises(ExportError, match="is not a Compose of transforms"):
        build_preprocessing({"transforms": []})


def test_a_setting_that_is_no_plain_value_is_named() -> None:
    parser = ConfigParser({"a": {"size": "$object()"}})
    parser.parse()
    with pytest.raises(ConfigError, match="The setting a::size is a object, which an exported file cannot carry"):
        literal_config(parser, "a")
