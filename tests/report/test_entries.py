"""Tests of the schema made from the types of a report: accepted and refused files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from movl_monai.report.entries import Report
from movl_monai.report.report import report_of_outputs
from movl_monai.report.schema import report_schema
from tests.evaluation.outputs_data import stored_outputs

SCHEMA = report_schema()
Change = Callable[[dict[str, Any]], Any]


@cache
def _report() -> str:
    comparison = {"name": "other", "strategy": None, "sections": {}, "notes": []}
    return json.dumps({**report_of_outputs(stored_outputs()), "comparisons": [comparison], "files": {}})


def _problems(change: Change) -> list[str]:
    report = json.loads(_report())
    change(report)
    errors = list(Draft202012Validator(SCHEMA).iter_errors(report))
    # inside of an entry that may be null
    return [found.json_path for error in errors if (found := best_match([error])) is not None]


def test_schema_is_sound_and_names_every_entry() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(Report.__annotations__)
    assert {ref.rpartition("/")[2] for ref in _references(SCHEMA)} == set(SCHEMA["$defs"])


def _references(schema: Any) -> Iterator[str]:
    parts = schema.items() if isinstance(schema, Mapping) else enumerate(schema if isinstance(schema, list) else ())
    for key, part in parts:
        if key == "$ref":
            yield part
        else:
            yield from _references(part)


def test_schema_is_printed_as_a_file() -> None:
    command = [sys.executable, "-m", "movl_monai.report.schema"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        lambda report: None,
        lambda report: report.update(id=None, new_entry=1),
        lambda report: report["id"].update(auroc=None, n_patients=None),
        lambda report: report["id"]["intervals"].update(error_rate=None),
        lambda report: report["calibration"]["sections"]["id"].pop("change", None),
        lambda report: report["ood_detection"].update(n_id="of an earlier version"),
        lambda report: report["model_card"].update(model="of an earlier version"),
        lambda report: report["groups"].update(age={}),
    ],
)
def test_schema_accepts(change: Change) -> None:
    assert _problems(change) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda report: report.update(schema_version=1), "$.schema_version"),
        (lambda report: report.pop("files"), "$"),
        (lambda report: report["id"].pop("ece"), "$.id"),
        (lambda report: report["id"].update(accuracy=1.2), "$.id.accuracy"),
        (lambda report: report["id"].update(n_patients=0), "$.id.n_patients"),
        (lambda report: report["id"]["intervals"].update(auroc=[0.1, 0.2, 0.3]), "$.id.intervals.auroc"),
        (lambda report: report["id"]["confusion_matrix"][0].__setitem__(0, -1), "$.id.confusion_matrix[0][0]"),
        (lambda report: report["calibration"].update(temperature=0), "$.calibration.temperature"),
        (lambda report: report["comparisons"][0].pop("strategy"), "$.comparisons[0]"),
        (lambda report: report["groups"].pop("notes"), "$.groups"),
        (lambda report: report["groups"]["sex"]["id"]["F"].update(small=1), "$.groups.sex.id.F.small"),
        (lambda report: report.update(classes=["one"]), "$.classes"),
        (lambda report: report["model_card"].pop("data"), "$.model_card"),
    ],
)
def test_schema_refuses(change: Change, place: str) -> None:
    assert _problems(change) == [place]
