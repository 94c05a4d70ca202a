"""The MONAI Label app: its program predicts as the command does; with MONAI Label, a session over REST."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.golden.old_runs import RUNS, write_images

APP = Path(__file__).resolve().parents[1] / "examples" / "monai_label"
MOVL = Path(sys.executable).parent / "movl-monai"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("label_program", APP / "lib" / "program.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("bundle", ["movl_classification", "dvpt_segmentation"])
def test_the_app_predicts_what_the_run_predicted_when_it_was_made(
    program: ModuleType, tmp_path: Path, bundle: str
) -> None:
    image = write_images(tmp_path / "images") / "0.png"
    recorded = json.loads((RUNS / bundle / "predicted.json").read_text(encoding="utf-8"))["predict model.onnx"][0]
    mask, found = program.Program(str(MOVL)).predict(
        str(RUNS / bundle / "model.onnx"), str(image), task=bundle.partition("_")[2]
    )
    if mask is None:
        scores = {f"probability_{one['label']}": one["score"] for one in found["prediction"]}
        assert scores == pytest.approx({name: float(recorded[name]) for name in scores}, abs=1e-4)
        assert (found["label"], found["answer"]) == (None, recorded["answer"])
    else:
        values = np.asarray(Image.open(mask))
        Path(mask).unlink()
        sizes = {f"pixels_{name}": int((values == number).sum()) for name, number in found["label_names"].items()}
        assert [sizes] == found["results"]
        assert sizes == pytest.approx({name: float(recorded[name]) for name in sizes}, abs=3)


def test_a_missing_program_is_an_error_that_names_the_option(program: ModuleType) -> None:
    with pytest.raises(program.ProgramError, match="--conf movl ENVIRONMENT/bin/movl-monai"):
        program.Program("no-such-program").run("predict")


@pytest.mark.slow
def test_a_session_predicts_labels_and_trains(tmp_path: Path) -> None:
    python = os.environ.get("MOVL_LABEL_PYTHON")
    if not python:
        pytest.skip("MONAI Label needs an environment of its own: `make label-test`")
    store, draw = tmp_path / "store", np.random.default_rng(0)
    store.mkdir()
    disc = np.hypot(*(np.mgrid[:64, :64] - 32)) < 18
    for number in range(48):
        pixels = draw.integers(0, 120, (64, 64)) + 80 * disc * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(store / f"{('normal', 'lesion')[number % 2]}_{number:02d}.png")
    models = [str(RUNS / bundle / "model.onnx") for bundle in ("movl_classification", "dvpt_segmentation")]
    settings = "--image_size 64 --one_image_per_patient true --num_workers 0 --epochs 1"
    conf = {"movl": str(MOVL), "model": ",".join(models), "output": str(tmp_path / "out"), "settings": settings}
    environment = {**os.environ, "MONAI_LABEL_APP_CONF": json.dumps(conf), "PYTHONPATH": ""}
    environment |= {"MONAI_LABEL_APP_DIR": str(APP), "MONAI_LABEL_STUDIES": str(store)}
    words = [python, str(APP.parents[1] / "tests" / "label_session.py")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said = json.loads(ended.stdout.splitlines()[-1])
    kinds = {name: (one["type"], list(one["labels"])) for name, one in said["info"]["models"].items()}
    assert kinds["movl_classification"] == ("classification", ["lesion", "no_lesion"])
    assert kinds["dvpt_segmentation"] == ("segmentation", ["organ", "lesion"])
    assert said["movl_classification"]["abstain"] is True
    assert said["mask"] == "89504e47"  # a PNG
    assert said["untrained"] == 500
    assert said["fit"]["status"] == "DONE", said["fit"]
    assert (tmp_path / "out" / "1" / "fit" / "report.html").is_file()
    assert said["stats"]
    assert [one["label"] for one in said["trained"]["prediction"]] == ["lesion", "normal"]
