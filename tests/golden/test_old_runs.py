"""Runs and exported files that were made before the modules moved still open, and predict what they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.old_runs import BUNDLES, RUNS, answers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_an_old_run_and_its_exported_files_predict_the_same(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RUNS)  # the record names the weights relative to here
    known, found = json.loads((RUNS / bundle / "predicted.json").read_text()), answers(tmp_path, bundle)
    assert found.keys() == known.keys()
    for name, expected in known.items():
        if name.startswith("predict "):
            assert len(found[name]) == len(expected) == 3
            for got, row in zip(found[name], expected, strict=True):
                texts = {key: value for key, value in row.items() if isinstance(value, str)}
                numbers = {key: value for key, value in row.items() if not isinstance(value, str)}
                assert {key: got[key] for key in texts} == texts, name
                for key, number in numbers.items():
                    assert got[key] == pytest.approx(number, abs=2 if key.startswith("pixels_") else 1e-5, rel=1e-4), (
                        key
                    )
        else:
            assert _flat(found[name]) == pytest.approx(_flat(expected), abs=1e-5), name


def _flat(values: object) -> list[float]:
    return [number for part in values for number in _flat(part)] if isinstance(values, list) else [values]  # type: ignore[list-item]
