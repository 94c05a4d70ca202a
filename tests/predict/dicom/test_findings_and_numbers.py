"""Findings and numbers: evaluation, `predict`, exported files, structured reports and rows agree."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from movl_monai.data import IdMap
from movl_monai.evaluation.trust_record import TrustRecord, decode_trust, trust_record, write_trust
from movl_monai.metrics.conformal import ConformalFit
from movl_monai.predict.dicom import read_classification_report
from movl_monai.predict.run import predict
from movl_monai.report.report import report_of_outputs
from movl_monai.report.tasks import MULTILABEL, REGRESSION, task_named
from tests.predict.conftest import ROOT, make_run
from tests.predict.truth import TOLERANCE, Judged, judge_images, spread_logits
from tests.report.findings_data import FINDINGS, finding_outputs, number_outputs

SHA = "0" * 64
TASKS = {"multilabel": FINDINGS, "regression": ["size"]}


def judged_task(folder: Path, name: str) -> Judged:
    """Make a tiny run of a task, and evaluate it with the bundle's workflow on a phantom."""
    from movl_monai.engines import open_run
    from movl_monai.phantom import write_phantom

    names = TASKS[name]
    write_phantom(folder / "data", patients=(6, 12, 3, 3), images_per_patient=2, size=64, progress=False)
    draw = np.random.default_rng(0)
    manifest = folder / "data" / "manifest.csv"
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row.pop("label")
        row |= {name: f"{draw.integers(2)}" if number % 7 else "" for name in names}
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    overlay = json.loads((ROOT / f"bundles/movl_classification/configs/task_{name}.json").read_text())
    run = make_run(folder / "run", "movl_classification", names, prompt_width=4, label_columns=names, **overlay)
    images = folder / "data" / "images"
    opened = open_run(run)
    read = opened.preprocessing()
    spread_logits(opened, [read({"image": str(path)})["image"] for path in sorted(images.rglob("*.dcm"))])
    settings = {"calibration_fraction": 0.5, "target_risk": 0.4, "conformal_alpha": 0.3}
    return judge_images(run, folder / "data", images, folder / "evaluated", **settings)


def rows_by_image(out: Path, judged: Judged) -> list[dict[str, Any]]:
    """Rows of predictions.json in the order of the evaluation's images."""
    ids = IdMap(out / "local" / "id_map.json")
    found = {}
    for row in json.loads((out / "predictions.json").read_text())["results"]:
        item = ids.item_of(row["id"])
        found[Path(item["image"]).resolve().relative_to(judged.images.resolve()).as_posix(), item.get("frame")] = row
    return [found[key] for key in judged.keys]


def assert_alike(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Check that numbers agree to 1e-4, and calls and flags unless a value is as close to its threshold."""
    assert len(rows) == len(expected)
    differing = 0
    for one, other in zip(rows, expected, strict=True):
        for name, value in other.items():
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(number, float) for number in numbers):
                found = np.array(one[name], dtype=float)
                np.testing.assert_allclose(found, np.array(value, dtype=float), rtol=TOLERANCE, atol=TOLERANCE)
            elif name != "answer":
                differing += one[name] != value
    assert differing <= 0.02 * len(rows) * len(expected[0])


@pytest.mark.parametrize("name", TASKS)
def test_every_route_gives_the_rows_of_the_evaluation(
    name: str, tmp_path: Path, dciodvfy: Callable[[Path], list[str]]
) -> None:
    from movl_monai.export.exporting import export_run

    judged, task = judged_task(tmp_path / "judged", name), task_named(name)
    assert judged.report["task"] == name
    names = TASKS[name]
    logits = judged.outputs.predictions.logits
    expected = task.answers(logits, judged.outputs.features, class_names=names, trust=judged.record)
    assert {row["outside"] for row in expected} == {True, False}
    export_run(judged.run, "torchscript", output=tmp_path / "model.ts", images=[judged.images])
    routes: dict[str, Any] = {"run": judged.run, "exported": tmp_path / "model.ts"}
    for route, model in routes.items():
        predict(model, judged.images, out=tmp_path / route, outputs=("csv", "json", "sr", "sc", "png"), num_workers=0)
        assert_alike(rows_by_image(tmp_path / route, judged), expected)
    rows = rows_by_image(tmp_path / "run", judged)
    reports = sorted((tmp_path / "run" / "sr").glob("*.dcm"))
    assert [error for path in reports[:2] for error in dciodvfy(path)] == []
    said = {one.sop_instance_uid: one for path in reports for one in read_classification_report(path, names)}
    assert len(said) == len(expected)
    with (tmp_path / "run" / "predictions.csv").open(newline="") as stream:
        columns = csv.DictReader(stream).fieldnames or []
    if name == "multilabel":
        assert {f"{kind}_{one}" for kind in ("probability", "positive", "prediction_set") for one in names} <= {
            *columns
        }
        calls = [tuple(one.presence.values()) for one in said.values()]
        assert sorted(calls, key=str) == sorted((tuple(row["positive"]) for row in rows), key=str)
    else:
        numbers = sorted(one.number[1] for one in said.values() if one.number)
        np.testing.assert_allclose(numbers, sorted(row["value"] for row in rows), atol=1e-3)


@pytest.fixture
def record() -> TrustRecord:
    """A record of two findings: the first answers except near its threshold of 0.2, the second has no threshold."""
    sets = ConformalFit(method="lac", alpha=0.1, per_class=False, thresholds=np.array([0.8, 0.8]), n=50)
    sides = ["negative", "positive"]
    known = TrustRecord(
        checkpoint_sha256=SHA,
        class_names=sides,
        temperature=2.0,
        threshold=0.2,
        least_confidence=0.6,
        conformal=sets,
    )
    silent = TrustRecord(checkpoint_sha256=SHA, class_names=sides)
    return TrustRecord(
        checkpoint_sha256=SHA, class_names=["Effusion", "Mass"], findings=[known, silent], task="multilabel"
    )


def test_rows_of_findings_follow_the_record(record: TrustRecord) -> None:
    shift = np.log(0.2 / 0.8)
    logits = np.array([[shift + 1, 3.0], [shift - 1, 3.0], [shift + 0.1, 3.0]])
    rows = MULTILABEL.answers(logits, None, class_names=record.class_names, trust=record)
    assert [row["positive"] for row in rows] == [[True, None], [False, None], [None, None]]
    assert [row["answer"] for row in rows] == [
        "Effusion; no answer for Mass",
        "No other finding; no answer for Mass",
        "No answer: not sure enough",
    ]
    assert [row["abstain"] for row in rows] == [False, False, True]
    assert rows[0]["calibrated"] == [pytest.approx(expit((shift + 1) / 2)), None]
    assert rows[0]["prediction_sets"] == ["both", None]
    plain = MULTILABEL.answers(np.array([[1.0, -1.0], [-1.0, -1.0]]), None, class_names=record.class_names)
    assert [(row["answer"], row["abstain"]) for row in plain] == [("Effusion", None), ("No finding", None)]


def test_a_record_of_findings_survives_writing(record: TrustRecord, tmp_path: Path) -> None:
    write_trust(tmp_path / "trust.pt", record)
    again = decode_trust((tmp_path / "trust.pt").read_bytes(), SHA)
    assert again.gaps == record.gaps
    assert "calibrated probabilities (Mass)" in again.gaps
    logits = np.random.default_rng(0).normal(size=(20, 2)) * 3
    rows = [MULTILABEL.answers(logits, None, class_names=["Effusion", "Mass"], trust=one) for one in (record, again)]
    assert rows[0] == rows[1]


def test_records_hold_what_the_reports_chose() -> None:
    outputs = finding_outputs()
    report = report_of_outputs(outputs)
    made = trust_record(outputs, report, checkpoint_sha256=SHA)
    for name, part in zip(FINDINGS, made.findings, strict=True):
        entry: Any = report["findings"][name]  # type: ignore[typeddict-item]
        assert part.threshold == entry["threshold"]["threshold"]
        assert part.temperature == entry["calibration"]["temperature"]
        assert part.least_confidence == entry["abstention"]["threshold"]
    numbers = number_outputs()
    record = trust_record(numbers, report_of_outputs(numbers), checkpoint_sha256=SHA)
    row = REGRESSION.answers(np.array([[50.0]]), numbers.features[:1], class_names=["age"], trust=record)[0]
    assert row["interval_high"] - row["value"] == pytest.approx(record.half_width)
    assert REGRESSION.answers(np.array([[50.0]]), numbers.features[:1] + 99, class_names=["age"], trust=record)[0][
        "answer"
    ].startswith("No answer: unlike")
