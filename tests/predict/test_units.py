"""Series, studies and patients: one row and one report each, the network's numbers, key images, resuming."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from movl_monai.deploy.prediction import predict_files, write_outputs
from movl_monai.phantom import write_phantom
from movl_monai.predict.dicom import read_classification_report
from movl_monai.predict.model import Model, UnitOutput, open_model
from movl_monai.predict.run import predict
from movl_monai.predict.tasks import ClassifiedUnits
from tests.deploy.test_app import dciodvfy_errors
from tests.predict.conftest import ROOT, make_run

CLASSES = ["lesion", "no_lesion"]


def unit_run(folder: Path, unit: str, pooling: str = "attention", **settings: Any) -> Path:
    overlay = json.loads((ROOT / f"bundles/movl_classification/configs/unit_{unit}.json").read_text())
    return make_run(folder, "movl_classification", CLASSES, **{**overlay, "pooling": pooling, **settings})


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CT series of three patients; not to be written to."""
    folder = tmp_path_factory.mktemp("volumes")
    write_phantom(folder, kind="volumes", patients=(1, 1, 1, 0), images_per_patient=2, size=64, progress=False)
    return folder / "images"


@pytest.fixture(scope="session")
def study_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unit_run(tmp_path_factory.mktemp("unit"), "study")


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _by_uid(folder: Path, keyword: str) -> dict[str, list[Path]]:
    found: dict[str, list[tuple[str, float, Path]]] = {}
    for path in folder.rglob("*.dcm"):
        header = dcmread(path, stop_before_pixels=True)
        place = (str(header.SeriesInstanceUID), float(header.ImagePositionPatient[2]), path)
        found.setdefault(str(header[keyword].value), []).append(place)
    # series in the order of their folders, slices in the order of their positions
    return {
        uid: [place[2] for place in sorted(part, key=lambda one: (one[2].parent, one[1]))]
        for uid, part in found.items()
    }


def _expected(run: Path, units: dict[str, list[Path]]) -> list[float]:
    model = open_model(run, device="cpu")
    found = []
    for files in units.values():
        image = torch.stack([torch.as_tensor(model.preprocessing({"image": str(file)})["image"]) for file in files])
        with torch.no_grad():
            found.append(float(model.network(image[None].float()).softmax(dim=1)[0, 0]))  # type: ignore[misc]
    return sorted(found)


@pytest.mark.parametrize(
    ("unit", "keyword"), [("series", "SeriesInstanceUID"), ("study", "StudyInstanceUID"), ("patient", "PatientID")]
)
def test_rows_are_the_networks_for_each_unit(unit: str, keyword: str, series: Path, tmp_path: Path) -> None:
    run = unit_run(tmp_path / "run", unit)
    predict(run, series, out=tmp_path / "out", num_workers=0, device="cpu", batch_size=5, progress=False)
    units, rows = _by_uid(series, keyword), _rows(tmp_path / "out")
    assert len(rows) == len(units)
    assert sorted(int(row["instances"]) for row in rows) == sorted(map(len, units.values()))
    found = sorted(float(row["probability_lesion"]) for row in rows)
    np.testing.assert_allclose(found, _expected(run, units), atol=1e-5)
    with (tmp_path / "out" / "local" / "files.csv").open() as stream:
        assert {line["id"] for line in csv.DictReader(stream)} == {row["id"] for row in rows}
    said = (tmp_path / "out" / "predictions.csv").read_text() + (tmp_path / "out" / "predictions.json").read_text()
    assert not any(uid in said for uid in units)


def test_a_report_of_each_study_names_its_key_images(study_run: Path, series: Path, tmp_path: Path) -> None:
    predict(
        study_run,
        series,
        out=tmp_path,
        outputs=("csv", "json", "sr", "png"),
        num_workers=0,
        device="cpu",
        progress=False,
    )
    rows, reports = _rows(tmp_path), sorted((tmp_path / "sr").glob("*.dcm"))
    assert len(reports) == len(rows) == len(list((tmp_path / "pictures").glob("*.png")))
    studies = _by_uid(series, "StudyInstanceUID")
    for report in reports:
        assert dciodvfy_errors(report) == []
        (finding,) = read_classification_report(report, CLASSES)
        study = str(dcmread(report).StudyInstanceUID)
        own = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in studies[study]}
        content = report.read_bytes()
        assert finding.sop_instance_uid in own
        assert sum(uid.encode() in content for uid in own) == 3
        assert b"whole study" in content
    probabilities = sorted(read_classification_report(path, CLASSES)[0].probabilities["lesion"] for path in reports)
    np.testing.assert_allclose(probabilities, sorted(float(row["probability_lesion"]) for row in rows), atol=1e-5)


def test_the_applications_write_the_same(study_run: Path, series: Path, tmp_path: Path) -> None:
    model = open_model(study_run, device="cpu")
    predict(model, series, out=tmp_path / "one", num_workers=0, progress=False)
    found = predict_files(model, sorted(series.rglob("*.dcm")), folder=tmp_path / "two")
    files = write_outputs(found, ["csv", "sr"], folder=tmp_path / "two")
    names = ("probability_lesion", "instances", "answer")
    assert sorted([row[name] for name in names] for row in _rows(tmp_path / "one")) == sorted(
        [row[name] for name in names] for row in _rows(tmp_path / "two")
    )
    assert sum(name.startswith("sr/") for name in files) == len(found.rows)


def test_an_interrupted_prediction_ends_with_the_same_files(
    study_run: Path, series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    settings: dict[str, Any] = {
        "outputs": ("csv", "json", "sr", "sc"),
        "num_workers": 0,
        "device": "cpu",
        "progress": False,
    }
    predict(study_run, series, out=tmp_path / "whole", **settings)
    (tmp_path / "cut" / "local").mkdir(parents=True)
    shutil.copy(tmp_path / "whole/local/id_map.json", tmp_path / "cut/local/id_map.json")
    finish, calls = ClassifiedUnits.finish, []

    def interrupted(self: ClassifiedUnits, unit: Any) -> Any:
        calls.append(unit)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return finish(self, unit)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifiedUnits, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(study_run, series, out=tmp_path / "cut", **settings)
    summary = predict(study_run, series, out=tmp_path / "cut", **settings)
    assert summary is not None
    assert summary.resumed > 0

    def files(folder: Path) -> dict[str, bytes]:
        found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        return {name: path.read_bytes() for name, path in found.items() if "journal" not in name}

    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_damaged_images_are_counted_and_unknown_patients_named(series: Path, tmp_path: Path) -> None:
    run = unit_run(tmp_path / "run", "patient", "mean")
    shutil.copytree(series, tmp_path / "in")
    patients = list(_by_uid(tmp_path / "in", "PatientID").values())
    for path in (patients[0][0], *patients[1]):
        path.write_bytes(path.read_bytes()[:-300])
    Image.new("L", (8, 8), 90).save(tmp_path / "in/a.png")
    predict(run, tmp_path / "in", out=tmp_path / "out", num_workers=0, device="cpu", progress=False)
    rows = _rows(tmp_path / "out")
    assert sorted(row["status"] for row in rows) == ["failed", "failed", "ok", "ok"]
    assert [row["unreadable"] for row in rows if row["status"] == "ok" and row["unreadable"]] == ["1"]
    assert {row["reason"] for row in rows if row["status"] == "failed"} == {"truncated", "unknown_patient"}


def test_key_images_are_those_of_the_largest_weight_or_evidence() -> None:
    logits, own = np.array([[0.0, 2.0]]), np.array([[0, 1], [0, 3], [5, 0], [0, 2]], dtype=float)

    def keys(weights: list[float]) -> list[int]:
        return UnitOutput(logits, np.zeros((1, 2)), np.array(weights), own).key_images()

    assert keys([0.1, 0.2, 0.6, 0.1]) == [2, 1, 3]
    assert keys([0.25] * 4) == [1, 3, 0]


def test_a_model_for_images_predicts_no_unit(classifier_run: Path) -> None:
    model: Model = open_model(classifier_run, device="cpu")
    assert model.units is None
    assert model.unit_forward is None
