"""Strategies: the order of the stages, the checkpoint of fine-tuning, balanced sampling."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.helpers import QUIET
from tests.workflows import run, train, workflow

pytestmark = QUIET
MOVL = "movl_classification"


def test_the_linear_probe_is_solved_in_the_start_and_is_what_lp_then_vp_starts_from(
    phantom: Path, tmp_path: Path
) -> None:
    probe, solved = train(MOVL, ["strategy_linear_probe.json"], dataset_dir=phantom, output_dir=tmp_path / "lp")
    after, both = train(MOVL, ["strategy_lp_then_vp.json"], dataset_dir=phantom, output_dir=tmp_path / "vp")
    assert (solved, both) == ({"head"}, {"prompt", "head"})
    assert torch.equal(probe.network_def.head.weight, after.network_def.head.weight)


def test_a_fine_tuned_checkpoint_holds_the_backbone_and_evaluates(phantom: Path, tmp_path: Path) -> None:
    overlays, settings = ["strategy_full_finetune.json"], {"dataset_dir": phantom, "output_dir": tmp_path}
    _, parts = train(MOVL, overlays, warmup_epochs=0, **settings)
    assert parts == {"backbone", "head"}
    saved = torch.load(tmp_path / "models/model.pt", weights_only=True)
    assert sum(value.numel() for key, value in saved.items() if key.startswith("backbone.")) > 3_000_000
    run(MOVL, "evaluating", overlays, warmup_epochs=0, **settings)
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6


def test_balanced_sampling_draws_every_class_equally_often(phantom: Path, tmp_path: Path) -> None:
    header, *rows = (phantom / "manifest.csv").read_text(encoding="utf-8").splitlines()
    label, split = (header.split(",").index(name) for name in ("label", "split"))
    lesions = [row for row in rows if row.split(",")[split] == "train" and row.split(",")[label] == "lesion"]
    skewed = tmp_path / "skewed.csv"
    skewed.write_text("\n".join([header, *(row for row in rows if row not in lesions[1:])]) + "\n", encoding="utf-8")
    settings = {"dataset_dir": skewed, "output_dir": tmp_path / "out", "datalist#data_root": str(phantom)}
    made = workflow(MOVL, "training", ["sampling_balanced.json"], **settings)
    sampler = made.parser.get_parsed_content("train#dataloader").sampler
    labels = made.parser.get_parsed_content("train#dataset").labels
    assert labels.bincount().min() == 1
    drawn = torch.cat([labels[torch.tensor(list(sampler))] for _ in range(200)]).float()
    assert abs(drawn.mean() - 0.5) < 0.05
