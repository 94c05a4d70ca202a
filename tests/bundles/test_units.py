"""Both classification bundles by patient: training, evaluation and inference count patients."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from movl_monai.engines import open_run
from movl_monai.metrics.stored.outputs import read_outputs
from tests.units import write_units
from tests.workflows import run, train

POOLINGS = {"movl_classification": "attention", "dvpt_classification": "noisy_or"}
bundles = pytest.mark.parametrize("bundle", POOLINGS)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_units(tmp_path_factory.mktemp("data") / "DOE_study")


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, set[str]]]:
    @cache
    def make(bundle: str) -> tuple[Path, set[str]]:
        output = tmp_path_factory.mktemp(bundle)
        settings = {"dataset_dir": data, "output_dir": output, "pooling": POOLINGS[bundle]}
        _, changed = train(bundle, ["unit_patient.json"], **settings)
        run(bundle, "evaluating", ["unit_patient.json"], **settings)
        return output, changed

    return make


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@bundles
def test_figures_and_rows_are_of_patients(bundle: str, trained: Callable[[str], tuple[Path, set[str]]]) -> None:
    output, changed = trained(bundle)
    assert changed == {"pooling", "head"}
    report = json.loads((output / "evaluation" / "report.json").read_text())
    assert (report["id"]["n"], report["id"]["n_patients"], report["ood"]["scanner_b"]["n"]) == (6, 6, 4)
    assert report["run"]["unit"] == "patient"
    assert len(_rows(output / "evaluation" / "predictions.csv")) == 24
    assert "6 patients of 6 patients" in (output / "evaluation" / "report.html").read_text()
    written = "".join(path.read_text(errors="ignore") for path in (output / "evaluation").rglob("*") if path.is_file())
    assert "DOE" not in written


@bundles
def test_the_table_of_instances_explains_each_patient(
    bundle: str, trained: Callable[[str], tuple[Path, set[str]]]
) -> None:
    output, _ = trained(bundle)
    rows = _rows(output / "evaluation" / "instances.csv")
    weights: dict[str, list[float]] = {}
    for row in rows:
        weights.setdefault(row["unit"], []).append(float(row["weight"]))
    assert len(rows) == sum(1 + number % 3 for number in range(1, 25))
    np.testing.assert_allclose([sum(part) for part in weights.values()], 1, atol=1e-6)
    assert set(weights) == {row["id"] for row in _rows(output / "evaluation" / "predictions.csv")}
    assert (output / "evaluation" / "instance_weights.png").is_file()


@bundles
def test_a_run_opens_and_its_inference_gives_the_same_rows(
    bundle: str, data: Path, trained: Callable[[str], tuple[Path, set[str]]], tmp_path: Path
) -> None:
    output, _ = trained(bundle)
    checkpoint = output / "models" / "model.pt"
    assert open_run(output).network().unit["unit"] == "patient"  # type: ignore[union-attr, index]
    settings = {
        "dataset_dir": data / "manifest.csv",
        "output_dir": tmp_path,
        "checkpoint": checkpoint,
        "pooling": POOLINGS[bundle],
    }
    run(bundle, "inferring", ["unit_patient.json"], **settings)
    rows = [row for row in _rows(tmp_path / "predictions.csv") if row["status"] == "ok"]
    assert len(rows) == 24
    assert sorted({row["instances"] for row in rows}) == ["1", "2", "3"]
    known = read_outputs(output).predictions
    stated = np.exp(known.logits) / np.exp(known.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        sorted(float(row["probability_present"]) for row in rows), sorted(stated[:, 1]), atol=1e-5
    )
