"""Real images: a chest X-ray wrapped as DX, CT, an MR series."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from movl_monai.deploy.prediction import open_for, predict_files, write_outputs
from movl_monai.predict.run import predict
from tests.deploy.conftest import application, radiograph
from tests.deploy.test_app import dciodvfy_errors
from tests.deploy.test_prediction import CLASSIFIER, SEGMENTER, rows_of


def chest(test_data: Path) -> Path:
    return sorted((test_data / "data" / "cxr_pneumonia" / "id" / "test").rglob("*.jpeg"))[0]


def test_a_chest_radiograph_gives_as_dx_what_it_gives_as_jpeg(
    test_data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    source = chest(test_data)
    radiograph(tmp_path / "in" / "1.dcm", np.asarray(Image.open(source).convert("L")))
    model = open_for(models[f"{CLASSIFIER}.ts"], task="classification")
    (expected,) = predict_files(model, [source], folder=tmp_path / "out").rows
    found = predict_files(model, [tmp_path / "in" / "1.dcm"], folder=tmp_path / "out")
    np.testing.assert_allclose(found.rows[0]["probabilities"], expected["probabilities"], atol=1e-4)
    files = write_outputs(found, ["sr", "sc"], folder=tmp_path / "out")
    assert len(files) == 2
    assert [error for name in files for error in dciodvfy_errors(tmp_path / "out" / name)] == []


@pytest.mark.usefixtures("with_sdk")
@pytest.mark.parametrize(
    ("bundle", "folder", "kind"),
    [(CLASSIFIER, "ct_contrast_dicom/no_contrast", "sr"), (SEGMENTER, "mr_series_dicom/hippocampus_crop", "seg")],
)
def test_the_application_gives_what_predict_gives(
    bundle: str, folder: str, kind: str, test_data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    from movl_monai.deploy import main

    (tmp_path / "in").mkdir()
    for path in sorted((test_data / "data" / folder).rglob("*.dcm"))[: 40 if kind == "seg" else 3]:
        shutil.copyfile(path, tmp_path / "in" / path.name)
    out, expected = tmp_path / "out", tmp_path / "expected"
    model = models[f"{bundle}.ts"]
    arguments = ["-i", str(tmp_path / "in"), "-o", str(out), "-m", str(model)]
    assert main(application(bundle), arguments) == 0
    options: dict[str, Any] = {"outputs": ("csv", kind), "num_workers": 0}
    predict(model, tmp_path / "in", out=expected, **options)
    numbers = ["probability_lesion"] if kind == "sr" else ["pixels_hippocampus", "ml_hippocampus"]
    for name in numbers:
        np.testing.assert_allclose(
            sorted(float(row[name]) for row in rows_of(out)),
            sorted(float(row[name]) for row in rows_of(expected)),
            atol=1e-4,
        )
    made = sorted((out / kind).glob("*.dcm"))
    assert [path.name for path in made] == [path.name for path in sorted((expected / kind).glob("*.dcm"))]
    assert [error for path in made for error in dciodvfy_errors(path)] == []
