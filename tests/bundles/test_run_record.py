"""Every bundle keeps with a run what it needs to be built again, whichever overlays it was trained with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from movl_monai.engines import make_record, open_run, unwrap
from movl_monai.networks import load_checkpoint
from movl_monai.runs.overrides import reachable
from tests.bundles.conftest import BUNDLES, FAST, FAST_ADAPTED, FAST_OF, FAST_SEGMENTING, for_inference
from tests.evaluation.masks import write_images

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
ROOT_OF = {path.name: path for path in BUNDLES}
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
    """What the network and the preprocessing depend on, raw."""
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


def _train(bundle: str, overlays: list[str], settings: dict[str, Any]) -> tuple[torch.nn.Module, Any]:
    configs = ROOT_OF[bundle] / "configs"
    workflow = ConfigWorkflow(
        config_file=[str(configs / name) for name in ["train.json", *overlays]],
        workflow_type="train",
        logging_file=False,
        run_id="training",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    network = unwrap(workflow.network_def)
    network.load_state_dict(load_checkpoint(Path(settings["output_dir"]) / "models/model.pt"))
    return network.eval(), workflow.train_preprocessing


def _images(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*.*")) if path.suffix in (".dcm", ".png")][:3]


def _assert_rebuilt(output: Path, network: torch.nn.Module, preprocess: Any, paths: list[str]) -> None:
    run = open_run(output)
    images = [torch.as_tensor(preprocess({"image": path})["image"]) for path in paths]
    again = [torch.as_tensor(run.preprocessing()({"image": path})["image"]) for path in paths]
    assert all(torch.equal(one, other) for one, other in zip(images, again, strict=True))
    batch = torch.stack([image[..., :64, :64] for image in images])
    with torch.no_grad():
        assert torch.equal(run.network()(batch), network(batch))


@pytest.mark.parametrize(
    ("bundle", "overlays", "settings"),
    [
        ("movl_classification", [], {"resize_mode": "pad", "prompt_width": 5}),
        ("movl_classification", ["prompt_random_border.json"], {"seed": 4}),
        ("movl_classification", ["strategy_vp_only.json"], {}),
        ("movl_classification", ["strategy_full_finetune.json", "data_ct.json"], {"warmup_epochs": 0}),
        ("movl_classification", ["layers_last.json"], {}),
        ("dvpt_classification", ["strategy_linear_probe.json"], {"layers": [5, 2]}),
        ("dvpt_classification", ["adapter_lora.json", "adapter_last_third.json"], {"lora_rank": 3}),
        ("dvpt_classification", ["adapter_vpt_deep.json"], {"num_prompts": "$1 + 1"}),
        ("dvpt_classification", ["strategy_movl.json"], {"prompt_width": 7}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_classifier_is_built_again_as_it_was_trained(
    bundle: str, overlays: list[str], settings: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    fast = FAST if bundle == "movl_classification" else FAST_ADAPTED
    own = {**fast, "dataset_dir": str(phantom), "output_dir": str(tmp_path), **settings}
    network, preprocess = _train(bundle, overlays, own)
    _assert_rebuilt(tmp_path, network, preprocess, _images(phantom / "images"))


@pytest.mark.parametrize(
    ("overlays", "settings"),
    [
        ([], {"decoder_norm": "layer"}),
        (["model_unet.json", "data_jpeg_masks.json"], {"unet_features": [4, 4, 4, 8, 8, 4], "mask_threshold": 1}),
        (["windows.json", "windows_train.json"], {"window": 64, "image_size": 96}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_segmenter_is_built_again_as_it_was_trained(
    overlays: list[str], settings: dict[str, Any], tmp_path: Path
) -> None:
    data = write_images(tmp_path / "data", splits=(("train", 4), ("val", 2), ("test", 2)))
    names = {} if "mask_threshold" in settings else {"mask_class_names": ["background", "organ", "lesion"]}
    output = tmp_path / "out"
    own = {"dataset_dir": str(data), "output_dir": str(output), **names, **FAST_SEGMENTING, **settings}
    network, preprocess = _train("dvpt_segmentation", overlays, own)
    _assert_rebuilt(output, network, preprocess, _images(data))
    assert open_run(output).task == "segmentation"


def test_a_run_that_fails_before_training_starts_leaves_the_record_before(phantom: Path, tmp_path: Path) -> None:
    own = {**FAST, "dataset_dir": str(phantom), "output_dir": str(tmp_path)}
    _train("movl_classification", ["strategy_linear_probe.json"], own)
    before = (tmp_path / "models/run.json").read_bytes()
    with pytest.raises(Exception, match="nowhere|dataset_dir"):
        _train("movl_classification", [], {**own, "dataset_dir": str(tmp_path / "nowhere"), "overwrite": True})
    assert (tmp_path / "models/run.json").read_bytes() == before


def test_the_inference_workflow_runs_from_the_record(phantom: Path, tmp_path: Path) -> None:
    own = {**FAST, "dataset_dir": str(phantom), "output_dir": str(tmp_path)}
    _train("movl_classification", ["strategy_linear_probe.json"], own)
    fast = for_inference({name: value for name, value in FAST.items() if name != "prompt_width"})
    parser = open_run(tmp_path).parser("inference", dataset_dir=str(phantom / "images"), **fast)
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("run")
    assert (tmp_path / "inference/predictions.csv").is_file()
