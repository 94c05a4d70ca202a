"""Every report shows pictures of patients only where `patient_pictures` asks for them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from movl_monai.cli.main import parsers
from movl_monai.evaluation import EvaluationReportHandler, SegmentationReportHandler
from movl_monai.ingest.run import Reading

BUNDLES = sorted((Path(__file__).resolve().parents[2] / "bundles").glob("*/configs/evaluate.json"))
HANDLERS: dict[Any, tuple[str, ...]] = {
    EvaluationReportHandler: ("attention_images", "explanation_images"),
    SegmentationReportHandler: ("pictures",),
    Reading: ("patient_pictures",),
}


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.parents[1].name)
def test_one_option_decides_over_all_pictures_of_a_bundle(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    assert config["patient_pictures"] == 0
    report = next(one for one in config["handlers"] if one["_target_"].endswith("ReportHandler"))
    arguments = [name for names in HANDLERS.values() for name in names if name in report]
    assert arguments
    for name in arguments:
        assert "@patient_pictures" in config[report[name].removeprefix("@")]


@pytest.mark.parametrize("reader", HANDLERS)
def test_nothing_is_shown_by_default(reader: Any) -> None:
    found = inspect.signature(reader).parameters
    assert not any(found[name].default for name in HANDLERS[reader])


@pytest.mark.parametrize("command", ["ingest folder --output m.csv", "check m.csv"])
def test_pages_of_folders_take_the_same_option(command: str) -> None:
    name, *words = command.split()
    parser = parsers()[1][name]
    assert parser.parse_args(words).patient_pictures == 0
    assert parser.parse_args([*words, "--patient_pictures", "4"]).patient_pictures == 4
