"""Rules for bundles and overlays, which are found by walking `bundles/`, so that new ones are tested at once."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from monai.bundle import ConfigParser

from movl_monai.engines import unreferenced_ids
from tests.workflows import BUNDLES, FAST, FAST_OF, ROOT, for_inference, offline

WORKFLOWS = {
    "train": (["train.json"], "training"),
    "evaluate": (["train.json", "evaluate.json"], "evaluating"),
    "inference": (["inference.json"], "inferring"),
}
OWN_FILES = {"metadata.json", "train.json", "evaluate.json", "inference.json"}
RESULTS = ROOT / "results" / "README.md"

bundles = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def _load(bundle: Path, *names: str) -> dict[str, Any]:
    return ConfigParser.load_config_files([str(bundle / "configs" / name) for name in names])


def _raw(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads((bundle / "configs" / name).read_text(encoding="utf-8"))


def _overlays(bundle: Path) -> list[str]:
    return sorted(path.name for path in (bundle / "configs").glob("*.json") if path.name not in OWN_FILES)


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    if isinstance(config, dict):
        yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _nodes(value)


def _target(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _merged(bundle: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow, (files, _) in WORKFLOWS.items():
        yield workflow, _load(bundle, *files)
        for overlay in _overlays(bundle):
            roots = {key.split("#")[0] for key in _raw(bundle, overlay) if "#" in key}
            if roots <= set(_load(bundle, *files)):  # one that changes parts of training does not fit inference
                yield f"{workflow} + {overlay}", _load(bundle, *files, overlay)


@bundles
def test_a_bundle_has_the_files_that_monai_expects(bundle: Path) -> None:
    wanted = ["LICENSE", "models", "configs/logging.conf"]
    wanted += [f"docs/{name}" for name in ("README.md", "data_license.txt", "metadata_schema.json")]
    missing = [
        name for name in [*wanted, *(f"configs/{name}" for name in sorted(OWN_FILES))] if not (bundle / name).exists()
    ]
    assert not missing


@bundles
def test_no_python_is_inside_a_bundle(bundle: Path) -> None:
    assert [path for path in bundle.rglob("*.py") if "deploy" not in path.parts] == []


@bundles
def test_metadata_fits_the_schema_and_its_changelog_has_the_version(bundle: Path) -> None:
    metadata = _load(bundle, "metadata.json")
    jsonschema.validate(metadata, json.loads((bundle / "docs/metadata_schema.json").read_text(encoding="utf-8")))
    assert metadata["version"] in metadata["changelog"]
    assert metadata["schema"].startswith("https://")
    assert "movl-monai" in metadata["required_packages_version"]
    assert metadata["network_data_format"]["outputs"]["pred"]["type"] == "logits"
    measured = RESULTS.read_text(encoding="utf-8")
    assert all(f"{value:.3f}" in measured for value in metadata["eval_metrics"].values())


@bundles
def test_the_page_has_the_sections_of_the_model_zoo(bundle: Path) -> None:
    page = (bundle / "docs/README.md").read_text(encoding="utf-8")
    wanted = ("## Data", "### Preprocessing", "## Training configuration", "### Input", "### Output", "## Performance")
    wanted = ("## Model overview", *wanted, "## Commands", "## References", "## License")
    places = [page.find(f"\n{title}\n") for title in wanted]
    assert places == sorted(places)
    assert places[0] > 0
    performance = page.partition("## Performance")[2].partition("\n## ")[0]
    assert ("Not measured" in performance) == (not _load(bundle, "metadata.json")["eval_metrics"])


@bundles
def test_every_target_imports_and_its_arguments_bind(bundle: Path) -> None:
    for name, config in _merged(bundle):
        for node in _nodes(config):
            if "_target_" not in node:
                continue
            assert "." in node["_target_"], f"{name}: write the dotted path of {node['_target_']}"
            keywords = {key: None for key in node if not (key.startswith("_") and key.endswith("_"))}
            try:
                inspect.signature(_target(node["_target_"])).bind(**keywords)
            except TypeError as error:
                pytest.fail(f"{name}: {node['_target_']}: {error}")


@bundles
def test_every_top_level_id_is_read_by_something(bundle: Path) -> None:
    for name, config in _merged(bundle):
        if "+" in name:  # an overlay for another workflow may bring ids that this one does not read
            continue
        assert unreferenced_ids(config) == [], name


@bundles
def test_every_id_of_an_overlay_is_read_by_training(bundle: Path) -> None:
    for overlay in _overlays(bundle):
        unread = set(unreferenced_ids(_load(bundle, "train.json", overlay)))
        assert not unread & set(_raw(bundle, overlay)), f"{overlay}: {unread}"


@bundles
def test_overlays_are_flat_and_hold_only_what_differs(bundle: Path) -> None:
    train = _load(bundle, "train.json")
    for overlay in _overlays(bundle):
        same = [key for key, value in _raw(bundle, overlay).items() if train.get(key) == value]
        assert not same, f"{overlay} repeats {same} of train.json"


@bundles
def test_training_and_inference_agree_on_the_network_and_the_preprocessing(bundle: Path) -> None:
    train, inference = _load(bundle, "train.json"), _load(bundle, "inference.json")
    assert inference["network_def"] == train["network_def"]
    assert inference["preprocessing"] == train["train"]["preprocessing"]
    shared = re.findall(r"@(\w+)", json.dumps([inference["network_def"], inference["preprocessing"]]))
    for name in set(shared) - {"class_names", "task"}:  # inference asks the checkpoint
        assert inference[name] == train[name], f"'{name}' differs between train.json and inference.json"


@bundles
def test_every_backbone_can_be_frozen_or_fine_tuned_from_the_config(bundle: Path) -> None:
    for name in ("train.json", "inference.json", *(n for n in _overlays(bundle) if n.startswith("backbone_"))):
        if "backbone" in _raw(bundle, name):  # an overlay may change the name and the weights only
            assert _raw(bundle, name)["backbone"]["frozen"] == "@backbone_frozen", name


@bundles
def test_run_ids_are_there_under_both_names(bundle: Path) -> None:
    for files, run_id in WORKFLOWS.values():
        config = _load(bundle, *files)
        assert config["run"] == f"%{run_id}"
        assert isinstance(config[run_id], list)


@bundles
def test_network_input_and_output_are_as_the_metadata_says(bundle: Path) -> None:
    parser = ConfigParser(_load(bundle, "inference.json"))
    parser.update(pairs=offline(bundle))
    network = parser.get_parsed_content("network_def").eval()
    formats = _load(bundle, "metadata.json")["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    low, high = image["value_range"]
    with torch.no_grad():
        logits = network(low + (high - low) * torch.rand(2, image["num_channels"], *image["spatial_shape"]))
    assert logits.shape[1] == pred["num_channels"]
    assert str(logits.dtype) == f"torch.{pred['dtype']}"
    assert pred["value_range"] == [], "logits have no range"


@bundles
def test_preprocessing_gives_what_the_metadata_says(bundle: Path, phantom: Path) -> None:
    parser = ConfigParser(_load(bundle, "inference.json"))
    preprocess = parser.get_parsed_content("preprocessing")
    declared = _load(bundle, "metadata.json")["network_data_format"]["inputs"]["image"]
    for path in sorted((phantom / "images").rglob("*.dcm"))[::7]:
        image = preprocess({"image": str(path)})["image"]
        assert tuple(image.shape) == (declared["num_channels"], *declared["spatial_shape"])
        assert str(image.dtype) == f"torch.{declared['dtype']}"
        assert declared["value_range"][0] <= image.min()
        assert image.max() <= declared["value_range"][1]
        assert image.max() > image.min()


def test_the_fast_settings_are_ids_of_the_configs() -> None:
    for bundle in BUNDLES:
        assert set(for_inference(FAST_OF.get(bundle.name, FAST))) <= set(_load(bundle, "inference.json"))
        assert set(FAST_OF.get(bundle.name, FAST)) <= set(_load(bundle, "train.json"))
