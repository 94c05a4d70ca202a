"""A run keeps all that is needed to build it again, with every overlay of every bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from movl_monai.engines import make_record, open_run
from movl_monai.runs.overrides import reachable
from tests.helpers import QUIET
from tests.workflows import BUNDLES, FAST, FAST_OF, for_inference, run, user_error_of

pytestmark = QUIET
MOVL = "movl_classification"
OWN_FILES = {"metadata.json", "train.json", "evaluate.json", "inference.json"}
# of the data or of the machine, which inference and evaluation define for themselves
OWN_IDS = {"class_names", "datalist", "device", "dataset_dir", "output_dir", "batch_size"}


def _configurations() -> list[Any]:
    rows = []
    for bundle in BUNDLES:
        names = sorted(path.name for path in (bundle / "configs").glob("*.json") if path.name not in OWN_FILES)
        rows += [pytest.param(bundle, [], id=bundle.name)]
        rows += [pytest.param(bundle, [name], id=f"{bundle.name}-{name}") for name in names]
    return rows


def _network_and_preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    """Return the raw configuration that the network and the preprocessing depend on."""
    own = {name: value for name, value in config.items() if name not in OWN_IDS}
    own["preprocessing"] = config["preprocessing"] if "preprocessing" in config else config["train"]["preprocessing"]
    return {name: own[name] for name in reachable(own, ["network_def", "preprocessing", "image_inferer"])}


@pytest.mark.parametrize(("bundle", "overlays"), _configurations())
def test_inference_and_evaluation_of_the_record_define_what_training_did(
    bundle: Path, overlays: list[str], tmp_path: Path
) -> None:
    configs = bundle / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / name) for name in ["train.json", *overlays]])
    parser.update({**FAST_OF[bundle.name], "resize_mode": "pad", "seed": 7, "num_workers": 3})
    record = make_record(parser.get(), config_root=configs, checkpoint="model.pt")
    (tmp_path / "run.json").write_text(json.dumps(record))
    trained = _network_and_preprocessing(parser.get())
    run = open_run(tmp_path)
    assert run.bundle_dir == bundle
    for workflow in ("inference", "evaluate"):
        config = run.parser(workflow).get()
        assert _network_and_preprocessing(config) == trained
        assert {"device", "num_workers", "batch_size"}.isdisjoint(record["settings"] | record["training"])
        for name in ("split_fractions", "strategy", "id_domain"):
            assert workflow == "inference" or config[name] == parser.get(name)
        assert parser.get("train#preprocessing") == config.get("preprocessing")


@pytest.fixture(scope="module")
def probe(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a linear probe."""
    output = tmp_path_factory.mktemp("probe")
    run(MOVL, "training", ["strategy_linear_probe.json"], dataset_dir=phantom, output_dir=output)
    return output


def test_a_run_that_fails_before_training_leaves_the_record_before(probe: Path, tmp_path: Path) -> None:
    before = (probe / "models/run.json").read_bytes()
    settings = {"dataset_dir": tmp_path / "nowhere", "output_dir": probe, "overwrite": True}
    assert "no file or folder" in str(user_error_of(MOVL, "training", **settings))
    assert (probe / "models/run.json").read_bytes() == before


def test_the_inference_workflow_runs_from_the_record(probe: Path, phantom: Path) -> None:
    fast = for_inference({name: value for name, value in FAST.items() if name != "prompt_width"})
    parser = open_run(probe).parser("inference", dataset_dir=str(phantom / "images"), **fast)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    assert (probe / "inference/predictions.csv").is_file()
