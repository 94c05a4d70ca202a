"""Several findings and numbers: every overlay trains with them, or is refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.handlers import from_engine

from movl_monai.engines import open_run
from movl_monai.phantom import write_phantom
from tests.helpers import QUIET
from tests.workflows import CONFIGS, run, train, user_error_of

pytestmark = QUIET
CLASSIFICATION = ("movl_classification", "dvpt_classification")
TASKS = ("multilabel", "regression")
REFUSED = {
    "strategy_vp_only": "MappedHead|label mapping",
    "head_ordinal": "OrdinalHead",
    "sampling_balanced": "Balanced sampling",
}
LEFT_OUT = {"train", "evaluate", "inference", "metadata", "multi_gpu_train", "data_ct", *REFUSED}
# numbers go through the same prompts and adapters, and differ in heads and strategies
KINDS = ("strategy", "adapter", "prompt", "head", "layers", "augment")
OF_NUMBERS = ("", "head_query", "strategy_linear_probe", "strategy_joint", "strategy_full_finetune")
FAST: dict[str, Any] = {"selection": "best", "interpolate": [], "average_last": 0}
SETTINGS: dict[str, dict[str, Any]] = {
    "strategy_movl": {"prompt_width": 8},
    "prompt_pad": {"prompt_width": 8},
    "strategy_lp_ft": {"warmup_epochs": 0},
    "strategy_full_finetune": {"warmup_epochs": 0},
}


def _overlays(bundle: str, task: str) -> list[str]:
    names = {path.stem for path in CONFIGS[bundle].glob("*.json")} - LEFT_OUT
    found = ["", "cache_tokens", *sorted(name for name in names if name.split("_")[0] in KINDS)]
    return found if task == "multilabel" else [name for name in found if name in OF_NUMBERS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("findings")
    write_phantom(folder, kind="findings", patients=(10, 8, 2, 2), images_per_patient=1, size=64)
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["size"] = "" if number == 1 else f"{100 + 7 * sum(value == '1' for value in row.values())},5"
    with (folder / "numbers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {"multilabel": folder / "manifest.csv", "regression": folder / "numbers.csv"}


def settings_of(task: str, data: dict[str, Path]) -> dict[str, Any]:
    labels = {"label_columns": ["size"]} if task == "regression" else {"allow_missing_classes": True}
    return FAST | labels | {"dataset_dir": data[task]}


@pytest.mark.parametrize(
    ("task", "bundle", "overlay"),
    [(task, bundle, name) for task in TASKS for bundle in CLASSIFICATION for name in _overlays(bundle, task)],
)
def test_every_overlay_trains_with_the_task(
    task: str, bundle: str, overlay: str, data: dict[str, Path], tmp_path: Path
) -> None:
    names = [overlay] if overlay else []
    names = ["head_query", *names] if overlay == "cache_tokens" else names
    made, parts = train(
        bundle,
        [f"{name}.json" for name in (*names, f"task_{task}")],
        **settings_of(task, data) | SETTINGS.get(overlay, {}) | {"output_dir": tmp_path},
    )
    loss = from_engine(["loss"], first=True)(made.trainer.state.output) if made.trainer.state.max_epochs else 0.0
    kept = open_run(tmp_path)
    network = kept.network()
    assert (network.task, kept.task) == (task, task)
    assert "head" in parts
    assert float(loss) >= 0
    images = made.parser.get_parsed_content("images")
    with torch.no_grad():
        logits = network(images.images.float() / 255)
    assert logits.shape == (18, len(kept.class_names))
    assert logits.isfinite().all()
    if task == "regression":
        assert kept.class_names == ["size"]
        assert 80 < float(logits.mean()) < 140


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("overlay", REFUSED)
def test_overlays_for_classes_are_refused(task: str, overlay: str, data: dict[str, Path], tmp_path: Path) -> None:
    for overlays in ([overlay, f"task_{task}"], [f"task_{task}", overlay]):
        error = user_error_of(
            CLASSIFICATION[0],
            "training",
            [f"{name}.json" for name in overlays],
            **settings_of(task, data) | {"output_dir": tmp_path},
        )
        assert re.search(REFUSED[overlay], str(error))


@pytest.mark.parametrize("task", TASKS)
def test_further_training_of_the_solved_head_stays_at_its_optimum(
    task: str, data: dict[str, Path], tmp_path: Path
) -> None:
    overlays = [f"task_{task}.json"]
    settings = settings_of(task, data) | {"output_dir": tmp_path, "prompt": None, "batch_size": 64, "l2": [0.01]}
    strategy = ConfigParser.load_config_file(str(CONFIGS[CLASSIFICATION[0]] / "train.json"))["strategy"]
    strategy[1]["lr"] = {"head": 1e-6}
    made = run(CLASSIFICATION[0], "training", overlays, **settings, strategy=strategy, discrepancy_weight=0)
    gradient = made.network_def.head.weight.grad
    assert gradient is not None
    assert float(gradient.abs().max()) < 1e-5
    assert torch.as_tensor(made.trainer.head_l2).ndim == (1 if task == "multilabel" else 0)


@pytest.fixture(scope="module")
def findings(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a run on several findings, and its report."""
    folder = tmp_path_factory.mktemp("run")
    settings = settings_of("multilabel", data) | {"output_dir": folder}
    run(CLASSIFICATION[0], "training", ["strategy_linear_probe.json", "task_multilabel.json"], **settings)
    return folder, _evaluated(folder, data["multilabel"], folder)


def _evaluated(run_dir: Path, source: Path, folder: Path) -> dict[str, Any]:
    run(
        CLASSIFICATION[0],
        "evaluating",
        ["strategy_linear_probe.json", "task_multilabel.json"],
        **FAST | {"dataset_dir": source, "checkpoint": run_dir / "models/model.pt", "output_dir": folder},
    )
    return json.loads((folder / "evaluation/report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("change", ["order", "more", "lacks"])
def test_other_lists_are_read_with_the_names_of_the_network(
    change: str, findings: tuple[Path, dict[str, Any]], data: dict[str, Path], tmp_path: Path
) -> None:
    run_dir, expected = findings
    with data["multilabel"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    others = [name for name in rows[0] if name not in open_run(run_dir).network().class_names]
    names = [*open_run(run_dir).network().class_names]
    kept = {"order": names[::-1], "more": ["Airway", *names], "lacks": names[1:]}[change]
    source = data["multilabel"].with_name(f"{change}.csv")
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*others, *kept], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | {"Airway": str(number % 2)} for number, row in enumerate(rows))
    got = _evaluated(run_dir, source, tmp_path)
    assert got["classes"] == names
    gone = names[:1] if change == "lacks" else []
    for section in ("val", "id"):
        for name, figures in expected[section]["per_class"].items():
            found = got[section]["per_class"][name]
            assert (found["auroc"] is None) if name in gone else (found == figures), (section, name)
