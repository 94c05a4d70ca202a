"""Every strategy is an overlay of one bundle: what it trains, what it keeps, and that its checkpoint evaluates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from tests.bundles.conftest import BUNDLES, FAST

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
]
CONFIGS = next(path for path in BUNDLES if path.name == "movl_classification") / "configs"


def _train(overlays: list[str], phantom: Path, output: Path, **overrides: Any) -> tuple[ConfigWorkflow, set[str]]:
    files = [str(CONFIGS / name) for name in ("train.json", *overlays)]
    settings = {"dataset_dir": str(phantom), "output_dir": str(output), **FAST, **overrides}
    workflow = ConfigWorkflow(
        config_file=files, workflow_type="train", logging_file=False, run_id="training", **settings
    )
    workflow.initialize()
    network = workflow.network_def
    before = {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}
    workflow.run()
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    workflow.finalize()
    return workflow, {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}


@pytest.mark.parametrize(
    ("overlays", "changed"),
    [
        (["strategy_linear_probe.json"], {"head"}),
        (["prompt_random_border.json"], {"head"}),
        (["strategy_vp_only.json"], {"prompt", "head"}),  # of the head, the label mapping alone
        (["strategy_lp_then_vp.json"], {"prompt", "head"}),
        ([], {"prompt", "head"}),
        (["strategy_joint.json"], {"prompt", "head"}),
        (["strategy_lp_ft.json"], {"backbone", "head"}),
        (["strategy_full_finetune.json"], {"backbone", "head"}),
        (["head_query.json"], {"head"}),
        (["head_query.json", "cache_tokens.json"], {"head"}),
        (["augment.json"], {"prompt", "head"}),
        (["early_stop.json"], {"prompt", "head"}),
        (["sampling_balanced.json"], {"prompt", "head"}),
    ],
    ids=lambda value: "+".join(value).replace(".json", "") if isinstance(value, list) else "",
)
def test_a_strategy_changes_exactly_its_parts(
    overlays: list[str], changed: set[str], phantom: Path, tmp_path: Path
) -> None:
    overrides = {"warmup_epochs": 0} if "ft.json" in str(overlays) or "finetune" in str(overlays) else {}
    workflow, parts = _train(overlays, phantom, tmp_path, **overrides)
    assert parts == changed
    assert (tmp_path / "models/model.pt").is_file()
    if overlays == ["strategy_vp_only.json"]:
        moved = {name for name in workflow.network_def.head.state_dict() if "source" in name}
        assert not moved, "the source classifier comes with the weights and is not saved"


def test_the_linear_probe_is_solved_in_the_start_and_is_what_lp_then_vp_starts_from(
    phantom: Path, tmp_path: Path
) -> None:
    probe, _ = _train(["strategy_linear_probe.json"], phantom, tmp_path / "lp")
    after, _ = _train(["strategy_lp_then_vp.json"], phantom, tmp_path / "vp")
    assert torch.equal(probe.network_def.head.weight, after.network_def.head.weight)


def test_a_fine_tuned_checkpoint_holds_the_backbone_and_evaluates(phantom: Path, tmp_path: Path) -> None:
    _train(["strategy_full_finetune.json"], phantom, tmp_path, warmup_epochs=0)
    saved = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert sum(value.numel() for key, value in saved.items() if key.startswith("backbone.")) > 3_000_000
    files = [str(CONFIGS / name) for name in ("train.json", "evaluate.json", "strategy_full_finetune.json")]
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), "warmup_epochs": 0, **FAST}
    workflow = ConfigWorkflow(
        config_file=files, workflow_type="infer", logging_file=False, run_id="evaluating", **settings
    )
    workflow.initialize()
    workflow.run()
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6


def test_balanced_sampling_draws_every_class_equally_often(phantom: Path, tmp_path: Path) -> None:
    header, *rows = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    label, split = (header.split(",").index(name) for name in ("label", "split"))
    lesions = [row for row in rows if row.split(",")[split] == "train" and row.split(",")[label] == "lesion"]
    skewed = tmp_path / "skewed.csv"
    skewed.write_text("\n".join([header, *(row for row in rows if row not in lesions[1:])]) + "\n", encoding="utf-8")
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in ("train.json", "sampling_balanced.json")],
        workflow_type="train",
        logging_file=False,
        run_id="training",
        dataset_dir=str(skewed),
        output_dir=str(tmp_path / "out"),
        **{**FAST, "datalist#data_root": str(phantom)},
    )
    workflow.initialize()
    sampler = workflow.parser.get_parsed_content("train#dataloader").sampler
    labels = workflow.parser.get_parsed_content("train#dataset").labels
    assert labels.bincount().min() == 1
    drawn = torch.cat([labels[torch.tensor(list(sampler))] for _ in range(200)]).float()
    assert abs(drawn.mean() - 0.5) < 0.05
