"""The files that bundles share are as `make bundles` writes them."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.workflows import BUNDLES, ROOT

SHARED = ROOT / "bundles" / "_shared"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_bundles", SHARED / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _script()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(make, "SHARED", tmp_path)
    return tmp_path


def test_the_committed_files_are_those_that_make_bundles_writes() -> None:
    changed = [path.relative_to(ROOT).as_posix() for path, _ in make.changed()]
    assert not changed, "edit bundles/_shared and run `make bundles` (bundles/README.md)"


def test_every_config_of_two_bundles_has_one_source() -> None:
    names = Counter(path.name for bundle in BUNDLES for path in (bundle / "configs").glob("*"))
    several = {f"configs/{name}" for name, count in names.items() if count > 1} - {"configs/metadata.json"}
    assert several <= {place for bundle in BUNDLES for place in make.make(bundle.name)}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_no_trace_of_the_sources_is_in_what_is_made(bundle: Path) -> None:
    for place, text in make.make(bundle.name).items():
        if place.endswith(".json"):
            assert not any(mark in text for mark in ('"[', ".json::", "{bundle}")), place


def test_shared_is_no_bundle() -> None:
    assert not (SHARED / "configs").exists()
    assert SHARED not in BUNDLES
    assert sorted(make.BUNDLES) == sorted(path.name for path in BUNDLES)


@pytest.mark.parametrize(
    ("content", "made"),
    [
        ({"a": {"[dvpt]": 1, "[movl]": 2}, "b": 3}, {"a": 1, "b": 3}),
        ({"a": {"[movl]": 1}, "b": 3}, {"b": 3}),
        ({"[dvpt] masks": {"a": 1}, "[movl, segmentation]": {"b": [2]}, "c": {}}, {"a": 1, "b": [2], "c": {}}),
        ({"a": {"[segmentation]": None}}, {"a": None}),
        ({"a": [{"[movl]": 1}, {"[dvpt]": {"b": "{bundle}"}}, 3]}, {"a": [{"b": "dvpt_segmentation"}, 3]}),
        ({"[dvpt]": {"a": {"x": 1, "[movl]": {"y": 2}}}}, {"a": {"x": 1}}),
        ({"a": {"b": "%y.json::c::d"}}, {"a": {"b": [1]}}),
    ],
)
def test_a_source_gives_each_bundle_its_values(sources: Path, content: Any, made: Any) -> None:
    (sources / "x.json").write_text(json.dumps(content))
    (sources / "y.json").write_text('{"c": {"[movl]": {}, "[dvpt]": {"d": [1]}}}')
    assert make.make_config("dvpt_segmentation", "x.json") == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"[dvtp]": {"a": 1}}', r"x.json: .*'dvtp'.* is no bundle, method or task of dvpt_classification"),
        ('{"a": 1, "a": 2}', r"\['a'\] stand twice"),
        ('{"a": {"[dvpt]": 1, "[segmentation]": 2}}', "a: .*are all for dvpt_segmentation"),
        ('{"a": 1, "[dvpt]": {"a": 2}}', r"\['a'\] is set twice for dvpt_segmentation"),
        ('{"a": "%y.json::b::d"}', "dvpt_segmentation has no b::d in y.json"),
    ],
)
def test_errors_name_the_source_and_what_is_wrong(sources: Path, text: str, message: str) -> None:
    (sources / "x.json").write_text(text)
    (sources / "y.json").write_text('{"b": {"c": 1}}')
    with pytest.raises(ValueError, match=message):
        make.make_config("dvpt_segmentation", "x.json")


def test_short_lists_stand_on_one_line() -> None:
    long = [f"${index} is a long expression" for index in range(5)]
    text = make.format_json({"a": [1, 2], "b": {"c": [], "d": [{"e": "ü"}]}, "f": long})
    assert text.startswith('{\n    "a": [1, 2],\n    "b": {\n        "c": [],\n        "d": [\n            {\n')
    assert text.count('\n        "$') == 5
    assert max(map(len, text.splitlines())) < 100
    assert json.loads(text) == {"a": [1, 2], "b": {"c": [], "d": [{"e": "ü"}]}, "f": long}
