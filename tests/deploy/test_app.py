"""The applications of the bundles, run by the SDK."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from movl_monai.predict.run import predict
from tests.deploy.conftest import Run, ct_series, gradient, radiograph, two_series
from tests.deploy.test_prediction import CLASSIFIER, SEGMENTER, rows_of
from tests.predict.conftest import ROOT

pytestmark = pytest.mark.usefixtures("with_sdk")


def dciodvfy_errors(path: Path) -> list[str]:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools): validity is not checked")
    done = subprocess.run([program, "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def test_radiographs_give_what_predict_gives(models: dict[str, Path], run: Run, phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(phantom, tmp_path / "in")
    code, out = run(CLASSIFIER)
    assert code == 0
    predict(models[CLASSIFIER], tmp_path / "in", out=tmp_path / "expected", num_workers=0, device="cpu")
    for name in ("probability_lesion", "probability_no_lesion"):
        found = sorted(float(row[name]) for row in rows_of(out))
        expected = sorted(float(row[name]) for row in rows_of(tmp_path / "expected"))
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(found) == len(set(found)) == 4
    for kind in ("sr", "sc"):
        assert len(list((out / kind).glob("*.dcm"))) == 4  # each image is a series of one
    assert dciodvfy_errors(next((out / "sr").glob("*.dcm"))) == []


def test_a_series_of_slices_becomes_one_segmentation(models: dict[str, Path], run: Run, tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    code, out = run(SEGMENTER)
    assert code == 0
    (path,) = (out / "seg").glob("*.dcm")
    predict(models[SEGMENTER], tmp_path / "in", out=tmp_path / "expected", outputs=("seg",), num_workers=0)
    (expected,) = (tmp_path / "expected" / "seg").glob("*.dcm")
    np.testing.assert_array_equal(dcmread(path).pixel_array, dcmread(expected).pixel_array)
    assert list((out / "sc").glob("*.dcm"))


def test_a_localizer_and_other_objects_beside_the_series_are_left_out(run: Run, tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "image.dcm", gradient())
    radiograph(tmp_path / "in" / "plan.dcm", gradient(), series="plan", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    code, out = run(CLASSIFIER)
    assert (code, len(rows_of(out))) == (0, 1)


def other_modality(folder: Path) -> None:
    radiograph(folder / "1.dcm", gradient(), Modality="PT")


def no_dicom(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_series, "several series that could be predicted"),
        (other_modality, "modalities there are: PT"),
        (no_dicom, "no DICOM image in the input folder"),
    ],
)
def test_a_study_without_exactly_one_series_is_a_clear_error(
    make: Callable[[Path], None], message: str, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "in")
    code, out = run(CLASSIFIER)
    said = " ".join(capfd.readouterr().err.split())
    assert (code, message in said) == (2, True), said
    assert not list(out.glob("*.csv"))


def test_a_model_of_another_bundle_and_a_damaged_one_are_clear_errors(
    models: dict[str, Path], run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    assert run(CLASSIFIER, model=models[f"{SEGMENTER}.ts"])[0] == 2
    assert "wanted was classification" in " ".join(capfd.readouterr().err.split())
    damaged = tmp_path / "model.ts"
    damaged.write_bytes(models[f"{CLASSIFIER}.ts"].read_bytes()[:-100])
    assert run(CLASSIFIER, model=damaged)[0] == 2
    assert "model.ts" in capfd.readouterr().err


def test_nothing_that_identifies_is_logged(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    radiograph(tmp_path / "in" / "Doe_Jane.dcm", gradient())
    assert run(CLASSIFIER)[0] == 0
    two_series(tmp_path / "in")
    assert run(CLASSIFIER)[0] == 2
    logging.getLogger("movl_monai.deploy").warning("heard")
    said = "".join(capfd.readouterr())
    uids = {str(dcmread(path).SeriesInstanceUID) for path in (tmp_path / "in").iterdir()}
    assert "heard" in said
    assert not [word for word in ("Doe", "ID4711", "Secret", str(tmp_path), *uids) if word in said]


def test_operators_take_volumes_of_the_sdk_itself(models: dict[str, Path], tmp_path: Path) -> None:
    """Orientation and values are correct after the SDK's own loader and converter."""
    from monai.deploy.core import Fragment
    from monai.deploy.operators import DICOMDataLoaderOperator, DICOMSeriesSelectorOperator
    from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator

    from movl_monai.deploy import ClassificationOperator, SegmentationOperator

    ct_series(tmp_path / "in")
    fragment = Fragment()
    studies = DICOMDataLoaderOperator(fragment, name="loader").load_data_to_studies(tmp_path / "in")
    rules = {"selections": [{"name": "ct", "conditions": {"Modality": "CT"}}]}
    selected = DICOMSeriesSelectorOperator(fragment, name="selector").filter(rules, studies)
    image = DICOMSeriesToVolumeOperator(fragment, name="volume").convert_to_image(selected)
    options: dict[str, Any] = {"output_folder": tmp_path / "out"}
    classify = ClassificationOperator(fragment, model=models[CLASSIFIER], name="classify", **options)
    by_files, by_volume = classify.predict(selected).rows, classify.predict(image).rows
    found, expected = (sorted(row["probabilities"][0] for row in rows) for rows in (by_volume, by_files))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    segment = SegmentationOperator(fragment, model=models[SEGMENTER], name="segment", **options)
    ((one, _),), ((other, _),) = segment.predict(image).cases, segment.predict(selected).cases
    assert np.mean(one.classes != other.classes) < 0.005


def test_the_command_works_from_another_folder(models: dict[str, Path], tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    app = ROOT / "bundles" / "dvpt_classification" / "deploy" / "app.py"
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run(
        [sys.executable, str(app), "-i", "in", "-o", "out", "-m", str(models[f"{CLASSIFIER}.ts"])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "of the bundle movl_classification" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
