"""The bundles run: properties, one epoch, evaluation, inference, MONAI's own commands, another working directory."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from movl_monai.cli import main
from movl_monai.errors import CheckpointMismatchError, ConfigError, DataError, MovlError, WeightsError, user_error
from movl_monai.evaluation import read_outputs
from movl_monai.evaluation.trust_file import read_trust
from tests.bundles.conftest import BUNDLES, FAST, FAST_INFERENCE, check_same_logits

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
CLASSIFICATION = next(path for path in BUNDLES if path.name == "movl_classification")
CONFIGS = CLASSIFICATION / "configs"
TRAIN, EVALUATE, INFERENCE = (str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", "inference"))


def _workflow(kind: str, files: str | list[str], **overrides: Any) -> ConfigWorkflow:
    return ConfigWorkflow(config_file=files, workflow_type=kind, logging_file=False, **overrides)


def _run(kind: str, files: str | list[str], run_id: str, **overrides: Any) -> ConfigWorkflow:
    workflow = _workflow(kind, files, run_id=run_id, **overrides)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of one epoch of training and its evaluation."""
    output = tmp_path_factory.mktemp("output")
    _run("train", TRAIN, "training", dataset_dir=str(phantom), output_dir=str(output), **FAST)
    _run("infer", [TRAIN, EVALUATE], "evaluating", dataset_dir=str(phantom), output_dir=str(output), **FAST)
    return output


@pytest.mark.parametrize(
    ("kind", "files"),
    [("train", TRAIN), ("infer", [TRAIN, EVALUATE]), ("infer", INFERENCE)],
    ids=["train", "evaluate", "inference"],
)
def test_all_properties_are_there(kind: str, files: str | list[str], phantom: Path, tmp_path: Path) -> None:
    settings = FAST if kind == "train" or isinstance(files, list) else FAST_INFERENCE
    folder = phantom if files != INFERENCE else phantom / "images"
    workflow = _workflow(kind, files, dataset_dir=str(folder), output_dir=str(tmp_path), **settings)
    workflow.initialize()
    assert workflow.check_properties() == []


def test_one_epoch_trains_the_prompt_and_the_head_and_leaves_the_backbone(phantom: Path, tmp_path: Path) -> None:
    workflow = _workflow("train", TRAIN, dataset_dir=str(phantom), output_dir=str(tmp_path), run_id="training", **FAST)
    workflow.initialize()
    network = workflow.network_def
    before = {name: value.clone() for name, value in (*network.named_parameters(), *network.named_buffers())}
    sha = network.backbone.content_sha256()
    workflow.run()
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}
    assert changed == {"prompt", "head"}
    assert network.backbone.content_sha256() == sha


def test_training_writes_only_below_output_dir_and_a_small_checkpoint(trained: Path) -> None:
    names = {path.relative_to(trained).parts[0] for path in trained.iterdir()}
    assert {"models", "cache", "ingest_report.csv", "evaluation"} <= names
    assert (trained / "models/model.pt").stat().st_size < 500_000
    assert list(CLASSIFICATION.glob("models/*.pt")) == []


def test_evaluation_reports_id_and_every_other_domain(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6
    assert {name: figures["n"] for name, figures in report["ood"].items()} == {"scanner_b": 6}
    assert 0 <= report["id"]["accuracy"] <= 1
    assert report["classes"] == ["lesion", "no_lesion"]
    with (trained / "evaluation/predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    places = Counter((row["domain"], row["split"]) for row in rows)
    assert places == {("id", "train"): 12, ("id", "val"): 6, ("id", "test"): 6, ("scanner_b", "test"): 6}
    right = [
        row for row in rows if (row["domain"], row["split"]) == ("id", "test") and row["predicted"] == row["label"]
    ]
    assert report["id"]["accuracy"] == pytest.approx(len(right) / 6)
    assert (trained / "evaluation/figure.png").stat().st_size > 1000


def test_evaluation_stores_what_a_report_needs_of_every_split(trained: Path) -> None:
    outputs = read_outputs(trained)
    assert {name: len(part) for name, part in outputs.sections().items()} == {
        "id": 6, "ood:scanner_b": 6, "val": 6, "train": 12,
    }  # fmt: skip
    assert outputs.features.shape == (30, 496)  # the means of the last four stages
    assert None not in outputs.predictions.patients


def test_evaluation_of_the_test_split_alone_reads_no_other_image_of_the_domain(
    trained: Path, phantom: Path, tmp_path: Path
) -> None:
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), "evaluation_splits": ["test"], **FAST}
    checkpoint = str(trained / "models/model.pt")
    _run("infer", [TRAIN, EVALUATE], "evaluating", checkpoint=checkpoint, **settings)
    alone, whole = read_outputs(tmp_path), read_outputs(trained)
    assert {name: len(part) for name, part in alone.sections().items()} == {"id": 6, "ood:scanner_b": 6}
    np.testing.assert_allclose(
        alone.sections()["id"].predictions.logits, whole.sections()["id"].predictions.logits, atol=1e-5
    )


def test_calibration_groups_and_far_images_come_from_the_settings(phantom: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader((phantom / "manifest.csv").open(encoding="utf-8", newline="")))
    trained_on = sorted({row["patient_id"] for row in rows if (row["domain"], row["split"]) == ("id", "train")})
    for number, row in enumerate(rows):
        row |= {"path": str(phantom / row["path"]), "sex": "FM"[number % 2]}
        if row["patient_id"] in trained_on[:2]:
            row["split"] = "calibration"
    with (tmp_path / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(tmp_path / "black.png")
    settings = {"dataset_dir": str(tmp_path / "manifest.csv"), "output_dir": str(tmp_path), **FAST}
    settings |= {"group_columns": ["sex"], "far_dataset_dirs": {"black": str(tmp_path / "black.png")}}
    _run("train", TRAIN, "training", **settings)
    _run("infer", [TRAIN, EVALUATE], "evaluating", **settings)
    parts = read_outputs(tmp_path).sections()
    assert list(parts) == ["id", "ood:scanner_b", "val", "calibration", "train", "far:black"]
    assert len(parts["calibration"]) + len(parts["train"]) == 12
    assert set(parts["id"].groups["sex"]) == {"F", "M"}
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert list(report["ood"]) == ["scanner_b"]


def test_inference_predicts_and_marks_unlabelled_files_as_evaluation_did(
    trained: Path, phantom: Path, tmp_path: Path
) -> None:
    _run(
        "infer",
        INFERENCE,
        "inferring",
        dataset_dir=str(phantom / "images"),
        output_dir=str(tmp_path),
        checkpoint=str(trained / "models/model.pt"),
        **FAST_INFERENCE,
    )
    paths = {
        key: json.loads(Path(folder, "local/id_map.json").read_text())["files"]
        for key, folder in (("eval", trained), ("infer", tmp_path))
    }

    def by_path(key: str, file: Path) -> dict[str, dict[str, str]]:
        with file.open(encoding="utf-8", newline="") as stream:
            return {Path(paths[key][row["id"]]["path"]).as_posix(): row for row in csv.DictReader(stream)}

    evaluated = by_path("eval", trained / "evaluation/predictions.csv")
    inferred = by_path("infer", tmp_path / "predictions.csv")
    assert len(inferred) == 30
    for path, row in evaluated.items():
        assert float(inferred[path]["probability_lesion"]) == pytest.approx(float(row["probability_lesion"]), abs=1e-5)

    outputs = read_outputs(trained)
    record = read_trust(trained / "models/trust.pt", trained / "models/model.pt")
    trusted = record.apply(outputs.predictions.logits, outputs.features)
    names = {row["id"]: path for path, row in evaluated.items()}
    for image, score in zip(outputs.predictions.ids, trusted.ood_scores, strict=True):
        row = inferred[names[image]]
        assert float(row["ood_score"]) == pytest.approx(score, rel=1e-3)
        # the threshold is the score of a val image, so batches of another size may put that image beyond it
        assert row["outside"] == ("yes" if float(row["ood_score"]) > record.detector.threshold else "no")
        assert row["answer"].startswith("No answer: ") == (row["abstain"] == "yes") == (not row["calibrated_lesion"])


def test_two_runs_with_one_seed_write_the_same_checkpoint(trained: Path, phantom: Path, tmp_path: Path) -> None:
    _run("train", TRAIN, "training", dataset_dir=str(phantom), output_dir=str(tmp_path), **FAST)
    assert (tmp_path / "models/model.pt").read_bytes() == (trained / "models/model.pt").read_bytes()


def test_no_patient_and_no_path_is_in_what_may_leave_the_site(trained: Path, phantom: Path) -> None:
    planted = [b"PHANTOM", b"Phantom^", str(phantom).encode()]
    for path in trained.rglob("*"):
        if path.is_file() and "local" not in path.parts:
            content = path.read_bytes()
            assert not [word for word in planted if word in content], path.name


def _error(kind: str, files: str | list[str], run_id: str, **overrides: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # MONAI wraps; what is below is what counts
        _run(kind, files, run_id, **overrides)
    error = user_error(caught.value)
    assert error is not None, f"not an error for users: {caught.value!r}"
    return error


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        ({"epoch": 1}, ConfigError, "did you mean 'epochs'"),
        ({"device": "cuda:99"}, ConfigError, "CUDA device"),
        ({"output_dir": "/proc/nowhere"}, MovlError, "output_dir cannot be written"),
        ({"dataset_dir": "/nowhere/at/all"}, DataError, "no file or folder"),
        ({"backbone#weights": "/nowhere/weights.safetensors"}, WeightsError, "weights"),
        ({"epochs": 0}, ConfigError, "does nothing"),
    ],
)
def test_bad_settings_are_one_clear_error(
    overrides: dict[str, Any], kind: type[Exception], message: str, phantom: Path, tmp_path: Path
) -> None:
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), **FAST, **overrides}
    error = _error("train", TRAIN, "training", **settings)
    assert isinstance(error, kind)
    assert message in str(error)
    assert "\n" not in str(error)


def test_evaluation_without_training_and_with_another_backbone_says_what_to_do(
    trained: Path, phantom: Path, tmp_path: Path
) -> None:
    settings = {"dataset_dir": str(phantom), "output_dir": str(tmp_path), **FAST}
    error = _error("infer", [TRAIN, EVALUATE], "evaluating", **settings)
    assert isinstance(error, CheckpointMismatchError)
    assert "run training with the same output_dir first" in str(error)
    other = {
        "_target_": "movl_monai.backbones.TimmBackbone",
        "name": "test_efficientnet",
        "weights": None,
        "image_size": 64,
        "layers": "@layers",
    }
    checkpoint = str(trained / "models/model.pt")
    error = _error("infer", [TRAIN, EVALUATE], "evaluating", **settings, checkpoint=checkpoint, backbone=other)
    assert isinstance(error, CheckpointMismatchError)
    assert "was trained on the frozen weights of 'tf_efficientnet_lite0 (layers=all)'" in str(error)


def test_the_command_shows_one_paragraph_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--dataset_dir", str(tmp_path / "empty"), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["run", "training", "--config_file", TRAIN, *arguments]) == 2
    err = capsys.readouterr().err
    assert "movl-monai: " in err
    assert "Traceback" not in err.split("movl-monai: ")[-1]


@pytest.mark.slow
def test_training_evaluation_and_inference_work_in_processes_from_another_folder(phantom: Path, tmp_path: Path) -> None:
    settings = [f"--{key}={value}" for key, value in FAST.items()]
    common = [f"--dataset_dir={phantom}", f"--output_dir={tmp_path / 'out'}", *settings]

    def monai(*words: str) -> None:
        command = [sys.executable, "-m", "monai.bundle", *words]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]

    monai("run", "training", "--config_file", TRAIN, *common)
    monai("run", "evaluating", "--config_file", f"['{TRAIN}','{EVALUATE}']", *common)
    assert (tmp_path / "out/evaluation/report.json").is_file()
    shared = [word for word in settings if not word.startswith("--epochs")]
    checkpoint = tmp_path / "out/models/model.pt"
    inference = [
        f"--dataset_dir={phantom / 'images'}",
        f"--output_dir={tmp_path / 'inferred'}",
        f"--checkpoint={checkpoint}",
    ]
    monai("run", "inferring", "--config_file", INFERENCE, *inference, *shared)
    assert (tmp_path / "inferred/predictions.csv").is_file()
    meta = str(CONFIGS / "metadata.json")
    monai("verify_net_in_out", "network_def", "--meta_file", meta, "--config_file", INFERENCE, "--device", "cpu")
    exported = tmp_path / "model.ts"
    export = [
        "--filepath",
        str(exported),
        "--ckpt_file",
        str(checkpoint),
        "--meta_file",
        meta,
        "--config_file",
        INFERENCE,
    ]
    monai("ckpt_export", "network_def", *export, f"--checkpoint={checkpoint}", "--image_size=64", "--prompt_width=8")
    check_same_logits(exported, tmp_path / "out")
    schema = tmp_path / "schema.json"
    schema.write_text((Path(__file__).parent / "metadata_schema.json").read_text(encoding="utf-8"), encoding="utf-8")
    monai("verify_metadata", "--meta_file", meta, "--filepath", str(schema))
    assert not (tmp_path / "outputs").exists()
