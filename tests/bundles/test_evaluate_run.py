"""`movl-monai evaluate`: the recorded settings, the report beside the run, and the paired comparison with another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.cli import main
from movl_monai.engines import open_run
from movl_monai.errors import MovlError
from movl_monai.evaluation import read_outputs
from movl_monai.phantom import write_phantom
from movl_monai.report.several_runs import add_comparisons
from tests.evaluation.masks import write_images
from tests.helpers import QUIET
from tests.workflows import run

pytestmark = QUIET
MOVL, SEG = "movl_classification", "dvpt_segmentation"
HERE = ["--num_workers", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(phantom: Path, trained_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two trained runs, `probe` and `joint`."""
    root = tmp_path_factory.mktemp("runs")
    run(MOVL, "training", ["strategy_linear_probe.json"], dataset_dir=phantom, output_dir=root / "probe")
    shutil.copytree(trained_of(MOVL), root / "joint", ignore=shutil.ignore_patterns("evaluation", "trust.pt"))
    return root


def _report(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation/report.json").read_text(encoding="utf-8"))


def test_a_run_is_evaluated_with_its_own_settings_and_against_another(
    runs: Path, phantom: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = ["--dataset_dir", str(phantom)]
    assert main(["evaluate", str(runs / "probe"), *data, *HERE]) == 0
    shutil.copytree(runs / "probe/models", tmp_path / "models")
    run(MOVL, "evaluating", ["strategy_linear_probe.json"], dataset_dir=phantom, output_dir=tmp_path)
    one, other = read_outputs(runs / "probe"), read_outputs(tmp_path)
    for name in ("id", "val", "ood:scanner_b"):
        left, right = (np.sort(outputs.sections()[name].predictions.logits, axis=0) for outputs in (one, other))
        np.testing.assert_allclose(left, right, atol=1e-5)
    assert main(["evaluate", str(runs / "joint"), *data, *HERE, "--against", str(runs / "probe")]) == 0
    assert f"Report: {runs / 'joint/evaluation/report.html'}" in capsys.readouterr().out
    (comparison,) = _report(runs / "joint")["comparisons"]
    figures = comparison["sections"]["id"]["accuracy"]
    assert figures["a"] == pytest.approx(_report(runs / "joint")["id"]["accuracy"])
    assert figures["b"] == pytest.approx(_report(runs / "probe")["id"]["accuracy"])
    assert figures["difference"] == pytest.approx(figures["a"] - figures["b"])


def test_images_of_one_class_alone_are_evaluated_with_the_classes_of_the_run(
    runs: Path, phantom: Path, tmp_path: Path
) -> None:
    classes = open_run(runs / "probe").network().class_names
    root = shutil.copytree(phantom, tmp_path / "data")
    header, *rows = (root / "manifest.csv").read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if f",{classes[1]}," in row]
    assert 0 < len(kept) < len(rows)
    (root / "manifest.csv").write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")
    words = ["evaluate", str(runs / "probe"), "--dataset_dir", str(root), "--output_dir", str(tmp_path / "out")]
    assert main([*words, *HERE]) == 0
    report = _report(tmp_path / "out")
    assert report["classes"] == classes
    section = read_outputs(tmp_path / "out").sections()["id"].predictions
    assert set(section.labels.tolist()) == {1}
    assert report["id"]["accuracy"] == pytest.approx((section.logits.argmax(axis=1) == 1).mean())
    assert report["id"]["balanced_accuracy"] is None


def test_another_data_set_cannot_be_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], phantom: Path
) -> None:
    if not (runs / "probe/evaluation/outputs.npz").is_file():
        assert main(["evaluate", str(runs / "probe"), "--dataset_dir", str(phantom), *HERE]) == 0
    other = tmp_path / "data"
    write_phantom(other, patients=(4, 3, 3, 3), images_per_patient=2, size=64, seed=5)
    words = ["evaluate", str(runs / "joint"), "--dataset_dir", str(other), *HERE, "--output_dir", str(tmp_path / "out")]
    words += ["--allow_patient_overlap", "true"]  # the patients of every phantom are numbered alike
    assert main([*words, "--against", str(runs / "probe")]) == 2
    assert "The runs were evaluated on different images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "NOWHERE"], "names no file or folder"),
        (["--ood_scor", "knn"], "did you mean 'ood_score'"),
        (["--epochs"], "has no value"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_evaluated(
    runs: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    own = ["evaluate", str(runs / "joint"), "--dataset_dir", str(phantom), "--output_dir", str(tmp_path / "out")]
    assert main([*own, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_segmentation_is_compared_case_by_case_whatever_the_salts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data", splits=(("train", 4), ("val", 2), ("test", 3)))
    for name, seed in (("one", 0), ("two", 1)):
        run(SEG, "training", dataset_dir=data, output_dir=tmp_path / name, seed=seed)
    words = ["--dataset_dir", str(data), *HERE]
    assert main(["evaluate", str(tmp_path / "one"), *words]) == 0
    assert main(["evaluate", str(tmp_path / "two"), *words, "--against", str(tmp_path / "one")]) == 0
    reports = [_report(tmp_path / name) for name in ("two", "one")]
    (comparison,) = reports[0]["comparisons"]
    found = comparison["sections"]["id"]["dice"]
    assert [found["a"], found["b"]] == pytest.approx([report["id"]["dice"] for report in reports])
    assert found["difference"] == pytest.approx(found["a"] - found["b"])
    rows = [(tmp_path / name / "evaluation/cases.csv").read_text(encoding="utf-8") for name in ("one", "two")]
    ids = [{line.split(",")[0] for line in text.splitlines()[1:]} for text in rows]
    assert not ids[0] & ids[1], "the salts differ"
    assert "Compared with other runs" in (tmp_path / "two/evaluation/report.html").read_text(encoding="utf-8")
    (tmp_path / "one/local/id_map.json").unlink()
    with pytest.raises(MovlError, match="salted differently"):
        add_comparisons(tmp_path / "two/evaluation", [tmp_path / "one"])


def test_a_folder_without_a_run_and_a_run_without_data_are_refused(
    tmp_path: Path, phantom: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), "--dataset_dir", str(phantom)]) == 2
    assert "no run.json" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(runs / "joint")])
    assert "--dataset_dir" in capsys.readouterr().err
