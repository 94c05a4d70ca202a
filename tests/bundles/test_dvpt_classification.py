"""The bundle with adapters: properties, what every overlay trains, evaluation, inference, MONAI's own commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from movl_monai.engines import open_run
from movl_monai.errors import CheckpointMismatchError, ConfigError, user_error
from movl_monai.evaluation import read_outputs
from movl_monai.experiments.compare import read_plan
from movl_monai.export import read_exported
from movl_monai.export.exporting import export_run
from tests.bundles.conftest import BUNDLES, FAST_ADAPTED, check_same_logits, for_inference

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
BUNDLE = next(path for path in BUNDLES if path.name == "dvpt_classification")
CONFIGS = BUNDLE / "configs"
TRAIN, EVALUATE, INFERENCE = (str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", "inference"))
SWIN = {
    "backbone": {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "swin_tiny_patch4_window7_224",
        "weights": None,
        "image_size": 64,
        "model_options": {"embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4},
        "frozen": True,
    }
}


def _workflow(kind: str, files: list[str], run_id: str, **settings: Any) -> ConfigWorkflow:
    return ConfigWorkflow(config_file=files, workflow_type=kind, logging_file=False, run_id=run_id, **settings)


def _run(kind: str, files: list[str], run_id: str, **settings: Any) -> ConfigWorkflow:
    workflow = _workflow(kind, files, run_id, **settings)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def _train(overlays: list[str], phantom: Path, output: Path, **overrides: Any) -> tuple[ConfigWorkflow, set[str]]:
    files = [TRAIN, *(str(CONFIGS / name) for name in overlays)]
    settings = {"dataset_dir": str(phantom), "output_dir": str(output), **FAST_ADAPTED, **overrides}
    workflow = _workflow("train", files, "training", **settings)
    workflow.initialize()
    network = workflow.network_def
    before = {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}
    workflow.run()
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    workflow.finalize()
    return workflow, {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one epoch of training and its evaluation."""
    output = tmp_path_factory.mktemp("output")
    settings = {"dataset_dir": str(phantom), "output_dir": str(output), **FAST_ADAPTED}
    _run("train", [TRAIN], "training", **settings)
    _run("infer", [TRAIN, EVALUATE], "evaluating", **settings)
    return output


@pytest.mark.parametrize(
    ("kind", "files"),
    [("train", [TRAIN]), ("infer", [TRAIN, EVALUATE]), ("infer", [INFERENCE])],
    ids=["train", "evaluate", "inference"],
)
def test_all_properties_are_there(kind: str, files: list[str], phantom: Path, tmp_path: Path) -> None:
    inference = files == [INFERENCE]
    settings = for_inference(FAST_ADAPTED) if inference else FAST_ADAPTED
    folder = phantom / "images" if inference else phantom
    run_id = "training" if kind == "train" else "inferring" if inference else "evaluating"
    workflow = _workflow(kind, files, run_id, dataset_dir=str(folder), output_dir=str(tmp_path), **settings)
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize(
    ("overlays", "changed", "overrides"),
    [
        ([], {"adapter", "head"}, {}),
        ([], {"adapter", "head"}, {"prompt_start": "kmeans", "num_prompts": 2, "solve_head_again": True}),
        (["adapter_dvpt_static.json"], {"adapter", "head"}, {}),
        (["adapter_dvpt_as_released.json"], {"adapter", "head"}, {}),
        (["adapter_vpt_shallow.json"], {"adapter", "head"}, {}),
        (["adapter_vpt_deep.json"], {"adapter", "head"}, {}),
        (["adapter_adaptformer.json"], {"adapter", "head"}, {}),
        (["adapter_lora.json"], {"adapter", "head"}, {}),
        (["adapter_ssf.json"], {"adapter", "head"}, {}),
        (["adapter_bitfit.json"], {"adapter", "head"}, {}),
        (["prompt_pad.json"], {"prompt", "adapter", "head"}, {"prompt_width": 8}),
        (["prompt_pad.json", "adapter_lora.json"], {"prompt", "adapter", "head"}, {"prompt_width": 8}),
        (["prompt_pad.json", "augment.json"], {"prompt", "adapter", "head"}, {"prompt_width": 8}),
        (["strategy_movl.json"], {"prompt", "head"}, {"prompt_width": 8}),
        (["head_query.json"], {"head"}, {"num_queries": 4}),
        (["head_query.json", "layers_last.json", "cache_tokens.json"], {"head"}, {"value_width": 16}),
        (["head_query.json", "cache_tokens.json"], {"head"}, SWIN),
        (["head_query.json", "cache_tokens.json"], {"head"}, {}),
        (["strategy_linear_probe.json"], {"head"}, {}),
        (["strategy_adapter_from_zero.json"], {"adapter", "head"}, {}),
        (["strategy_full_finetune.json"], {"backbone", "head"}, {}),
        (["layers_last.json", "adapter_last_third.json", "cache_tokens.json"], {"adapter", "head"}, {}),
        (["adapter_lora.json", "adapter_last_third.json", "cache_tokens.json"], {"adapter", "head"}, {}),
        (["adapter_last_third.json", "cache_tokens.json"], {"adapter", "head"}, {}),
        (["layers_last.json", "strategy_full_finetune.json"], {"backbone", "head"}, {}),
        (["sampling_balanced.json"], {"adapter", "head"}, {}),
        (["early_stop.json"], {"adapter", "head"}, {}),
        ([], {"adapter", "head"}, {**SWIN, "num_prompts": 5}),
    ],
    ids=lambda value: "+".join(name.removesuffix(".json") for name in value) if isinstance(value, list) else "",
)
def test_an_overlay_changes_exactly_its_parts(
    overlays: list[str], changed: set[str], overrides: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    workflow, parts = _train(overlays, phantom, tmp_path, **overrides)
    assert parts == changed
    saved = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert {name.split(".")[0] for name in saved} - {"_extra_state"} >= changed
    assert workflow.network_def.backbone.frozen is ("backbone" not in changed)


@pytest.mark.parametrize(
    ("overlay", "kind"),
    [
        ("backbone_vit_small_dinov2.json", "sequence"),
        ("backbone_swin_base.json", "map"),
        ("backbone_clip_vit_b16.json", "sequence"),
    ],
)
def test_backbone_overlays_build_networks_that_host_the_adapter(overlay: str, kind: str) -> None:
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_files([INFERENCE, str(CONFIGS / overlay)]))
    parser.update(pairs={"device": "cpu", "backbone_weights": None})
    adapter = parser.get_parsed_content("adapter")
    assert adapter.layout.kind == kind
    assert adapter.share_of_backbone() <= 0.6


def test_the_checkpoint_is_small_and_outputs_are_below_output_dir(trained: Path) -> None:
    assert {"models", "cache", "ingest_report.csv", "evaluation"} <= {path.name for path in trained.iterdir()}
    assert (trained / "models/model.pt").stat().st_size < 100_000
    assert list(BUNDLE.glob("models/*.pt")) == []


def test_evaluation_reports_id_ood_and_the_adapter(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6
    assert list(report["ood"]) == ["scanner_b"]
    assert report["run"]["adapter"] == "DVPT(num_prompts=10, bottleneck=20, share_every=3, readout=prompts)"
    assert 0 < report["run"]["adapter_percent"] < report["run"]["trainable_percent"]


def test_inference_predicts_unlabelled_files_as_evaluation_did(trained: Path, phantom: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(phantom / "images"), "output_dir": str(tmp_path), **for_inference(FAST_ADAPTED)}
    _run("infer", [INFERENCE], "inferring", checkpoint=str(trained / "models/model.pt"), **settings)
    evaluated = _probabilities(trained, "evaluation/predictions.csv")
    inferred = _probabilities(tmp_path, "predictions.csv")
    assert {path: inferred[path] for path in evaluated} == pytest.approx(evaluated, abs=1e-5)


def _probabilities(folder: Path, file: str) -> dict[str, float]:
    paths = json.loads(Path(folder, "local/id_map.json").read_text())["files"]
    with (folder / file).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {Path(paths[row["id"]]["path"]).as_posix(): float(row["probability_lesion"]) for row in rows}


def test_a_query_head_is_evaluated_scored_and_exported_as_it_predicts(phantom: Path, tmp_path: Path) -> None:
    overlays = ["head_query.json", "cache_tokens.json"]
    workflow, _ = _train(overlays, phantom, tmp_path)
    checkpoint = tmp_path / "models/model.pt"
    state = torch.load(checkpoint, weights_only=True)
    for name in ("head.output", "head.queries"):  # as after a long training
        state[name].normal_(generator=torch.Generator().manual_seed(0))
    torch.save(state, checkpoint)
    overlays = [str(CONFIGS / name) for name in overlays]
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), **FAST_ADAPTED}
    _run("infer", [TRAIN, *overlays, EVALUATE], "evaluating", **settings)
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["run"]["head"] == "QueryHead(num_queries=8, value_width=128)"
    network, outputs = open_run(tmp_path).network(), read_outputs(tmp_path / "evaluation/outputs.npz")
    images = torch.stack([workflow.parser.get_parsed_content("images").images[0]]).float() / 255
    assert outputs.features.shape[1] == 6 * 128, "scores read the features of the backbone"
    inference = tmp_path / "inference"
    settings |= {"dataset_dir": str(phantom / "images"), "output_dir": str(inference)}
    files = [INFERENCE, overlays[0]]
    _run("infer", files, "inferring", checkpoint=str(checkpoint), **for_inference(settings))
    evaluated, inferred = (
        _probabilities(tmp_path, "evaluation/predictions.csv"),
        _probabilities(inference, "predictions.csv"),
    )
    assert {path: inferred[path] for path in evaluated} == pytest.approx(evaluated, abs=1e-5)
    assert len({round(value, 4) for value in evaluated.values()}) > 1
    export_run(tmp_path, "torchscript")
    exported = read_exported(tmp_path / "models/model.ts")
    with torch.no_grad():
        torch.testing.assert_close(torch.as_tensor(exported(images.numpy()).logits), network(images), atol=1e-4, rtol=0)


def test_two_runs_with_one_seed_write_the_same_checkpoint(trained: Path, phantom: Path, tmp_path: Path) -> None:
    _run("train", [TRAIN], "training", dataset_dir=str(phantom), output_dir=str(tmp_path), **FAST_ADAPTED)
    assert (tmp_path / "models/model.pt").read_bytes() == (trained / "models/model.pt").read_bytes()


def test_ordinal_labels_select_by_quadratic_kappa_and_must_be_integers(phantom: Path, tmp_path: Path) -> None:
    table = (phantom / "manifest.csv").read_text(encoding="utf-8")
    graded = tmp_path / "graded.csv"
    graded.write_text(
        table.replace("no_lesion", "0").replace(",lesion", ",1").replace("images/", f"{phantom}/images/"),
        encoding="utf-8",
    )
    workflow, _ = _train([], graded, tmp_path / "out", label_order="ordinal")
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    assert evaluator.state.key_metric_name == "val_quadratic_kappa"
    with pytest.raises(Exception) as caught:
        _train([], phantom, tmp_path / "other", label_order="ordinal")
    error = user_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "the classes must be integers in growing order" in str(error)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_prompts": 17}, "num_prompts must be between 1 and 16"),
        ({"bottleneck": 0}, "bottleneck must be at least 1"),
        ({"adapted_blocks": [6]}, "numbers from 0 to 5"),
        ({"layers": [6]}, "layers must be 'last', 'all' or a list of different numbers from 0 to 5"),
        ({"backbone_name": "test_resnet"}, "hosts no adapters"),
        ({"backbone_frozen": False}, "Only a frozen backbone can be prepared"),
    ],
)
def test_bad_settings_are_one_clear_error(
    overrides: dict[str, Any], message: str, phantom: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception) as caught:  # MONAI wraps; what is below is what counts
        _train([], phantom, tmp_path, **overrides)
    error = user_error(caught.value)
    assert isinstance(error, ConfigError), caught.value
    assert message in str(error)


def test_cached_tokens_in_front_of_the_first_block_are_refused(phantom: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception) as caught:
        _train(["cache_tokens.json"], phantom, tmp_path)
    error = user_error(caught.value)
    assert isinstance(error, ConfigError)
    assert "a cached block is frozen out of training" in str(error)


def test_a_checkpoint_of_another_adapter_is_refused(trained: Path, phantom: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), **FAST_ADAPTED, "num_prompts": 5}
    with pytest.raises(Exception) as caught:
        _run(
            "infer",
            [TRAIN, EVALUATE],
            "evaluating",
            checkpoint=str(trained / "models/model.pt"),
            **settings,
        )
    error = user_error(caught.value)
    assert isinstance(error, CheckpointMismatchError)
    assert "num_prompts=10" in str(error)


def test_the_arms_of_the_comparison_can_be_read_and_each_adapter_has_one() -> None:
    plan = read_plan(BUNDLE / "compare.json", bundle=BUNDLE)
    assert list(plan.arms) == [
        *("linear_probe", "layer_probe", "lp_then_joint", "dvpt", "dvpt_last", "dvpt_static", "dvpt_as_released"),
        *("vpt_deep", "adaptformer", "lora", "lora_last", "ssf", "bitfit", "query_head", "full_finetune", "ensemble"),
    ]
    assert plan.references == ("linear_probe", "full_finetune")


def _tiny_overlay(settings: dict[str, Any], folder: Path) -> str:
    """Move the backbone's settings to a file: on the command line of MONAI a null counts as not given."""
    settings.pop("backbone_weights")
    path = folder / "tiny.json"
    path.write_text(json.dumps({"backbone_name": settings.pop("backbone_name"), "backbone_weights": None}))
    return str(path)


@pytest.mark.slow
def test_monais_own_commands_verify_and_export_the_network_from_another_folder(trained: Path, tmp_path: Path) -> None:
    meta, tiny = str(CONFIGS / "metadata.json"), _tiny_overlay(dict(FAST_ADAPTED), tmp_path)

    def monai(*words: str) -> None:
        command = [sys.executable, "-m", "monai.bundle", *words]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]

    shared = ["--meta_file", meta, "--config_file", str([INFERENCE, tiny])]
    monai("verify_net_in_out", "network_def", "--device", "cpu", *shared)
    exported, checkpoint = tmp_path / "model.ts", str(trained / "models/model.pt")
    words = ["--filepath", str(exported), "--ckpt_file", checkpoint, "--checkpoint", checkpoint, "--image_size=64"]
    monai("ckpt_export", "network_def", *words, *shared)
    check_same_logits(exported, trained)
    assert not (tmp_path / "outputs").exists()
