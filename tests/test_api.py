"""The Python page: the figures of the commands, arrays like files, and refused inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import movl_monai as mm
from movl_monai.predict.run import predict
from tests.workflows import FAST

BUNDLES = ("movl_classification", "dvpt_classification", "dvpt_segmentation")
Trained = Callable[[str], Path]


def _pictures(folder: Path) -> Path:
    """Four grey pictures and a file that is none."""
    levels = np.random.default_rng(0).integers(0, 256, (4, 40, 52), dtype=np.uint8)
    for number, values in enumerate(levels):
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "notes.png").write_text("no picture")
    return folder


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("id", "files", "format", "flags")}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_python_gives_the_rows_of_the_command(bundle: str, trained_of: Trained, tmp_path: Path) -> None:
    source = _pictures(tmp_path)
    run = mm.open_run(trained_of(bundle), device="cpu")
    found = run.predict(source)
    written = predict(trained_of(bundle), source, out=tmp_path.parent / f"{bundle}_out", num_workers=0, device="cpu")
    assert written is not None
    assert [_comparable(row) for row in found.rows] == [_comparable(row) for row in written.rows]
    assert [Path(path).name for path in found.sources] == ["0.png", "1.png", "2.png", "3.png", "notes.png"]
    assert found.rows[-1]["status"] == "failed"
    arrays = run.predict([np.array(Image.open(source / f"{number}.png")) for number in range(4)])
    assert [row["status"] for row in arrays.rows] == ["ok"] * 4
    if bundle == "dvpt_segmentation":
        assert [mask.shape for mask in arrays.masks if mask is not None] == [(40, 52)] * 4
        assert all(np.array_equal(one, two) for one, two in zip(arrays.masks, found.masks[:4], strict=True))  # type: ignore[arg-type]
        with pytest.raises(mm.ConfigError, match="segmentation"):
            run.explain(source)
        return
    np.testing.assert_allclose(arrays.probabilities, found.probabilities[:4], atol=1e-6)
    assert arrays.answers == found.answers[:4]
    assert found.probabilities.shape == (5, len(run.class_names))
    np.testing.assert_allclose(found.probabilities[:4].sum(axis=1), 1)
    assert np.isnan(found.probabilities[4]).all()
    explained = run.explain(source / "0.png")
    assert [one.predicted for one in explained] == [found.rows[0]["predicted"]]
    assert explained[0].map.min() >= 0
    assert max(map(len, (repr(run), repr(found), repr(explained[0])))) < 120


def test_training_and_evaluation_from_python(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    settings = {name: value for name, value in FAST.items() if name not in ("prompt_width", "epochs")}
    run = mm.train("movl_classification", phantom, out, strategy="linear_probe", **settings)
    assert isinstance(run, mm.OpenRun)
    report = run.evaluate(phantom, num_workers=0, device="cpu")
    assert report["id"]["n"] == 6
    assert report == json.loads((out / "evaluation" / "report.json").read_text(encoding="utf-8"))
    assert run.predict(torch.rand(3, 64, 64)).outside[0] is not None, "the trust record of the evaluation is used"


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 3, 40, 40), np.uint8), r"got \(2, 3, 40, 40\); pass several images as a list"),
        (np.full((40, 40), 300.0), "from 300 to 300; window or rescale"),
        (np.zeros((40, 40), np.int16), "uint8, or floats"),
        (np.full((40, 40), np.nan), "uint8, or floats"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray, words: str, trained_of: Trained) -> None:
    with pytest.raises(mm.MovlError, match=words):
        mm.open_run(trained_of("movl_classification"), device="cpu").predict(array)


def test_a_missing_data_set_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(mm.MovlError, match="dataset_dir must be a folder"):
        mm.train("movl_classification", tmp_path / "none", tmp_path / "out")
