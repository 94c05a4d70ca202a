"""The bundle of MoVL: its report, its predictions, and the outputs that it stores."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from movl_monai.cli import main
from movl_monai.errors import CheckpointMismatchError
from movl_monai.evaluation import read_outputs
from movl_monai.evaluation.trust_record import read_trust
from tests.helpers import QUIET
from tests.tables import read_rows
from tests.workflows import CONFIGS, run, user_error_of

pytestmark = QUIET
MOVL = "movl_classification"


@pytest.fixture(scope="module")
def trained(trained_of: Callable[[str], Path]) -> Path:
    return trained_of(MOVL)


def test_evaluation_reports_id_and_every_other_domain(trained: Path) -> None:
    report = json.loads((trained / "evaluation/report.json").read_text(encoding="utf-8"))
    assert report["id"]["n"] == 6
    assert {name: figures["n"] for name, figures in report["ood"].items()} == {"scanner_b": 6}
    assert 0 <= report["id"]["accuracy"] <= 1
    assert report["classes"] == ["lesion", "no_lesion"]
    rows = read_rows(trained / "evaluation/predictions.csv")
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
    settings = {"dataset_dir": phantom, "output_dir": tmp_path, "evaluation_splits": ["test"]}
    run(MOVL, "evaluating", checkpoint=trained / "models/model.pt", **settings)
    alone, whole = read_outputs(tmp_path), read_outputs(trained)
    assert {name: len(part) for name, part in alone.sections().items()} == {"id": 6, "ood:scanner_b": 6}
    np.testing.assert_allclose(
        alone.sections()["id"].predictions.logits, whole.sections()["id"].predictions.logits, atol=1e-5
    )


def test_calibration_groups_and_far_images_come_from_the_settings(phantom: Path, tmp_path: Path) -> None:
    rows = read_rows(phantom / "manifest.csv")
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
    settings = {"dataset_dir": tmp_path / "manifest.csv", "output_dir": tmp_path, "group_columns": ["sex"]}
    settings |= {"far_dataset_dirs": {"black": str(tmp_path / "black.png")}}
    for run_id in ("training", "evaluating"):
        run(MOVL, run_id, **settings)
    parts = read_outputs(tmp_path).sections()
    assert list(parts) == ["id", "ood:scanner_b", "val", "calibration", "train", "far:black"]
    assert len(parts["calibration"]) + len(parts["train"]) == 12
    assert set(parts["id"].groups["sex"]) == {"F", "M"}
    report = json.loads((tmp_path / "evaluation/report.json").read_text(encoding="utf-8"))
    assert list(report["ood"]) == ["scanner_b"]


def test_inference_predicts_and_marks_unlabelled_files_as_evaluation_did(
    trained: Path, phantom: Path, tmp_path: Path
) -> None:
    checkpoint = trained / "models/model.pt"
    run(MOVL, "inferring", dataset_dir=phantom / "images", output_dir=tmp_path, checkpoint=checkpoint)
    paths = {
        key: json.loads(Path(folder, "local/id_map.json").read_text())["files"]
        for key, folder in (("eval", trained), ("infer", tmp_path))
    }

    def by_path(key: str, file: Path) -> dict[str, dict[str, str]]:
        return {Path(paths[key][row["id"]]["path"]).as_posix(): row for row in read_rows(file)}

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


def test_evaluation_without_training_says_to_train_first(phantom: Path, tmp_path: Path) -> None:
    error = user_error_of(MOVL, "evaluating", dataset_dir=phantom, output_dir=tmp_path)
    assert isinstance(error, CheckpointMismatchError)
    assert "run training with the same output_dir first" in str(error)


def test_the_command_shows_one_paragraph_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--dataset_dir", str(tmp_path / "empty"), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["run", "training", "--config_file", str(CONFIGS[MOVL] / "train.json"), *arguments]) == 2
    err = capsys.readouterr().err
    assert "movl-monai: " in err
    assert "Traceback" not in err.split("movl-monai: ")[-1]
