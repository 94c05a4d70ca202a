"""The bundle with adapters: backbones, evaluation, inference, the query head, ordinal labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from movl_monai.engines import open_run
from movl_monai.evaluation import read_outputs
from movl_monai.experiments.compare import read_plan
from movl_monai.export import read_exported
from movl_monai.export.exporting import export_run
from tests.helpers import QUIET
from tests.tables import read_rows
from tests.workflows import CONFIGS, run, train

pytestmark = QUIET
DVPT = "dvpt_classification"


@pytest.fixture(scope="module")
def trained(trained_of: Callable[[str], Path]) -> Path:
    return trained_of(DVPT)


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

    parser = ConfigParser(
        ConfigParser.load_config_files([str(CONFIGS[DVPT] / name) for name in ("inference.json", overlay)])
    )
    parser.update(pairs={"device": "cpu", "backbone_weights": None})
    adapter = parser.get_parsed_content("adapter")
    assert adapter.layout.kind == kind
    assert adapter.share_of_backbone() <= 0.6


def test_evaluation_reports_id_ood_and_the_adapter(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6
    assert list(report["ood"]) == ["scanner_b"]
    assert report["run"]["adapter"] == "DVPT(num_prompts=10, bottleneck=20, share_every=3, readout=prompts)"
    assert 0 < report["run"]["adapter_percent"] < report["run"]["trainable_percent"]


def test_inference_predicts_unlabelled_files_as_evaluation_did(trained: Path, phantom: Path, tmp_path: Path) -> None:
    checkpoint = trained / "models/model.pt"
    run(DVPT, "inferring", dataset_dir=phantom / "images", output_dir=tmp_path, checkpoint=checkpoint)
    evaluated = _probabilities(trained, "evaluation/predictions.csv")
    inferred = _probabilities(tmp_path, "predictions.csv")
    assert {path: inferred[path] for path in evaluated} == pytest.approx(evaluated, abs=1e-5)


def _probabilities(folder: Path, file: str) -> dict[str, float]:
    paths = json.loads(Path(folder, "local/id_map.json").read_text())["files"]
    rows = read_rows(folder / file)
    return {Path(paths[row["id"]]["path"]).as_posix(): float(row["probability_lesion"]) for row in rows}


def test_a_query_head_is_evaluated_scored_and_exported_as_it_predicts(phantom: Path, tmp_path: Path) -> None:
    overlays = ["head_query.json", "cache_tokens.json"]
    workflow, _ = train(DVPT, overlays, dataset_dir=phantom, output_dir=tmp_path)
    checkpoint = tmp_path / "models/model.pt"
    state = torch.load(checkpoint, weights_only=True)
    for name in ("head.output", "head.queries"):  # as after a long training
        state[name].normal_(generator=torch.Generator().manual_seed(0))
    torch.save(state, checkpoint)
    run(DVPT, "evaluating", overlays, dataset_dir=phantom, output_dir=tmp_path)
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["run"]["head"] == "QueryHead(num_queries=8, value_width=128)"
    network, outputs = open_run(tmp_path).network(), read_outputs(tmp_path / "evaluation/outputs.npz")
    images = torch.stack([workflow.parser.get_parsed_content("images").images[0]]).float() / 255
    assert outputs.features.shape[1] == 6 * 128, "scores read the features of the backbone"
    inference = tmp_path / "inference"
    settings = {"dataset_dir": phantom / "images", "output_dir": inference, "checkpoint": checkpoint}
    run(DVPT, "inferring", overlays[:1], **settings)
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


def test_ordinal_labels_select_by_quadratic_kappa(phantom: Path, tmp_path: Path) -> None:
    table = (phantom / "manifest.csv").read_text(encoding="utf-8")
    graded = tmp_path / "graded.csv"
    graded.write_text(
        table.replace("no_lesion", "0").replace(",lesion", ",1").replace("images/", f"{phantom}/images/"),
        encoding="utf-8",
    )
    workflow = run(DVPT, "training", dataset_dir=graded, output_dir=tmp_path / "out", label_order="ordinal")
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    assert evaluator.state.key_metric_name == "val_quadratic_kappa"


def test_the_arms_of_the_comparison_can_be_read_and_each_adapter_has_one() -> None:
    plan = read_plan(CONFIGS[DVPT].parent / "compare.json", bundle=CONFIGS[DVPT].parent)
    assert list(plan.arms) == [
        *("linear_probe", "layer_probe", "ordinal_probe", "lp_then_joint", "dvpt", "dvpt_last", "dvpt_static"),
        *(
            "dvpt_as_released",
            "vpt_deep",
            "adaptformer",
            "lora",
            "lora_last",
            "ssf",
            "bitfit",
            "query_head",
            "full_finetune",
            "unit_max",
            "unit_attention",
        ),
        "ensemble",
    ]
    assert plan.references == ("linear_probe", "full_finetune")
