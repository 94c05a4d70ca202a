"""Predictions of the operators, without the SDK."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

import movl_monai.deploy
from movl_monai.deploy.prediction import (
    NotWrittenError,
    OperatorError,
    clean_errors,
    find_model,
    open_for,
    predict_files,
    write_outputs,
)
from movl_monai.deploy.sdk import model_for_volumes, write_volume
from movl_monai.errors import ConfigError, DataError, ExportError
from movl_monai.predict.run import predict
from tests.deploy.conftest import ct_series, gradient, radiograph

CLASSIFIER, SEGMENTER = "movl_classification", "dvpt_segmentation"


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_without_the_sdk_the_error_names_the_extra_and_what_to_use_instead() -> None:
    if importlib.util.find_spec("monai.deploy") is not None:
        pytest.skip("the SDK is in this environment")
    with pytest.raises(ConfigError, match=r"movl-monai\[deploy\].*movl-monai predict"):
        _ = movl_monai.deploy.ClassificationOperator
    with pytest.raises(ImportError):
        from movl_monai.deploy import main  # noqa: F401


def test_chosen_files_give_the_rows_and_reports_of_predict(
    models: dict[str, Path], phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    predict(models[f"{CLASSIFIER}.ts"], phantom, out=tmp_path / "expected", outputs=("csv", "sr", "sc"), num_workers=0)
    model = open_for(models[f"{CLASSIFIER}.ts"], task="classification", bundle=CLASSIFIER)
    files = sorted(phantom.rglob("*.dcm"))
    found = predict_files(model, files, folder=tmp_path / "found")
    write_outputs(found, ["csv"], folder=tmp_path / "found")
    for kind in ("sr", "sc"):
        write_outputs(found, [kind], folder=tmp_path / "found")
        names = {path.name: path.read_bytes() for path in (tmp_path / "expected" / kind).iterdir()}
        assert names == {path.name: path.read_bytes() for path in (tmp_path / "found" / kind).iterdir()}
        assert names

    def values(rows: list[dict[str, str]]) -> np.ndarray:
        return np.sort([float(row["probability_lesion"]) for row in rows])

    np.testing.assert_allclose(values(rows_of(tmp_path / "found")), values(rows_of(tmp_path / "expected")), atol=1e-4)


def test_a_damaged_image_is_a_row_and_none_at_all_is_an_error_with_the_reason(
    models: dict[str, Path], tmp_path: Path
) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    radiograph(tmp_path / "in" / "2.dcm", gradient())
    content = (tmp_path / "in" / "2.dcm").read_bytes()
    (tmp_path / "in" / "2.dcm").write_bytes(content[:-2000])
    model = open_for(models[CLASSIFIER], task="classification")
    found = predict_files(model, sorted((tmp_path / "in").iterdir()), folder=tmp_path / "out")
    assert sorted(row["status"] for row in found.rows) == ["failed", "ok"]
    (report,) = write_outputs(found, ["sr"], folder=tmp_path / "out")
    assert dcmread(tmp_path / "out" / report).CompletionFlag == "PARTIAL"
    with pytest.raises(DataError, match="None of the 1 files of the series could be predicted: 1 x .*pixel"):
        predict_files(model, [tmp_path / "in" / "2.dcm"], folder=tmp_path / "out")


def test_a_transfer_syntax_without_decoder_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    radiograph(tmp_path / "1.dcm", gradient())
    video = dcmread(tmp_path / "1.dcm")
    from pydicom.encaps import encapsulate

    video.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    video.PixelData = encapsulate([b"\0" * 64])
    video["PixelData"].is_undefined_length = True
    video.save_as(tmp_path / "1.dcm")
    with pytest.raises(DataError, match="no_decoder.*MPEG2"):
        predict_files(
            open_for(models[CLASSIFIER], task="classification"), [tmp_path / "1.dcm"], folder=tmp_path / "out"
        )


def test_models_that_do_not_fit_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    exported = models[f"{CLASSIFIER}.ts"]
    with pytest.raises(ConfigError, match="is for classification, wanted was segmentation"):
        open_for(exported, task="segmentation")
    with pytest.raises(ConfigError, match="of the bundle movl_classification, this application is for dvpt_class"):
        open_for(exported, task="classification", bundle="dvpt_classification")
    content = bytearray(exported.read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "model.ts").write_bytes(content)
    with pytest.raises(ExportError):
        open_for(tmp_path, task="classification")


def test_a_model_folder_must_hold_one_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 0"):
        find_model(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").touch()
    assert find_model(tmp_path) == tmp_path / "model" / "model.onnx"
    (tmp_path / "other.ts").touch()
    with pytest.raises(ConfigError, match="found 2"):
        find_model(tmp_path)


def sdk_volume(folder: Path, **facts: Any) -> Any:
    """A volume as the SDK's DICOMSeriesToVolumeOperator makes it from a series, with the error in its affine."""
    slices = sorted((dcmread(path) for path in folder.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    values = np.stack([one.pixel_array + one.RescaleIntercept for one in slices])
    first, rows = slices[0], float(slices[0].PixelSpacing[0])
    x, y, z = (float(value) for value in first.ImagePositionPatient)
    columns = float(first.PixelSpacing[1])
    affine = np.array([[-rows, 0, 0, -x], [0, -columns, 0, -y], [0, 0, 2.0, z], [0, 0, 0, 1]])
    known = {"modality": "CT", "affine": affine, "row_pixel_spacing": rows, "col_pixel_spacing": columns} | facts
    return SimpleNamespace(asnumpy=lambda: values, metadata=lambda: known)


@pytest.mark.parametrize("bundle", [CLASSIFIER, SEGMENTER])
def test_a_volume_of_the_sdk_becomes_the_images_of_its_files(
    bundle: str, models: dict[str, Path], tmp_path: Path
) -> None:
    ct_series(tmp_path / "in")
    write_volume(sdk_volume(tmp_path / "in"), tmp_path / "volume.nii")
    model = open_for(models[bundle], task="classification" if bundle == CLASSIFIER else "segmentation")
    as_volume = model_for_volumes(model).preprocessing
    files = sorted((tmp_path / "in").iterdir(), key=lambda path: dcmread(path).ImagePositionPatient[2])
    for frame, file in enumerate(files):
        found = np.asarray(as_volume({"image": str(tmp_path / "volume.nii"), "frame": frame})["image"])
        expected = np.asarray(model.preprocessing({"image": str(file)})["image"])
        # what lies between two steps of 1/255 may be rounded the other way
        np.testing.assert_allclose(found, expected, atol=1.01 / 255)
        assert min(np.abs(expected - np.flip(expected, axis)).max() for axis in (1, 2)) > 0.3


@pytest.mark.parametrize("bundle", [CLASSIFIER, SEGMENTER])
def test_a_volume_of_the_sdk_gives_the_numbers_of_its_files(
    bundle: str, models: dict[str, Path], tmp_path: Path
) -> None:
    ct_series(tmp_path / "in")
    task: Any = "classification" if bundle == CLASSIFIER else "segmentation"
    model = open_for(models[bundle], task=task)
    expected = predict_files(model, sorted((tmp_path / "in").iterdir()), folder=tmp_path / "out")
    write_volume(sdk_volume(tmp_path / "in"), tmp_path / "volume.nii")
    found = predict_files(model_for_volumes(model), [tmp_path / "volume.nii"], folder=tmp_path / "out")
    if task == "classification":

        def values(rows: list[dict[str, Any]]) -> np.ndarray:
            return np.sort([row["probabilities"][0] for row in rows])

        assert len(found.rows) == 3
        np.testing.assert_allclose(values(found.rows), values(expected.rows), atol=1e-4)
        assert np.ptp(values(found.rows)) > 1e-4  # slices differ
    else:
        ((one, _),), ((other, _),) = found.cases, expected.cases
        # a step of 1/255 that is rounded the other way may change single pixels
        assert np.mean(one.classes != other.classes) < 0.005
        for case in (one, other):
            pixels, amounts = (case.classes == 1).sum(), case.amounts(model.class_names)
            assert amounts["ml_hippocampus"] == pytest.approx(pixels * 0.8 * 0.5 * 2 / 1000, abs=1e-6)
            assert pixels > 0
        with pytest.raises(DataError, match="not_dicom"):
            write_outputs(found, ["seg"], folder=tmp_path / "out")


@pytest.mark.parametrize(("move", "flags"), [(11.0, ["gap", "variable_spacing"]), (6.0, [])])
def test_irregular_series_have_the_millilitres_of_predict(
    models: dict[str, Path], tmp_path: Path, move: float, flags: list[str]
) -> None:
    ct_series(tmp_path / "in", count=4)
    last = tmp_path / "in" / "series1.dcm"
    moved = dcmread(last)
    moved.ImagePositionPatient = [-10, -20, move]
    moved.save_as(last)
    model = open_for(models[f"{SEGMENTER}.ts"], task="segmentation")
    found = predict_files(model, sorted((tmp_path / "in").iterdir()), folder=tmp_path / "found")
    ((case, row),) = found.cases
    expected = predict(models[f"{SEGMENTER}.ts"], tmp_path / "in", out=tmp_path / "expected", num_workers=0)
    assert expected is not None
    assert row["ml_hippocampus"] == expected.rows[0]["ml_hippocampus"]
    assert row.get("flags", []) == expected.rows[0].get("flags", []) == flags
    # four slices of 2 mm, whether or not some are missing between them
    assert row["ml_hippocampus"] == pytest.approx((case.classes == 1).sum() * 0.8 * 0.5 * 2 / 1000, abs=1e-6)
    if flags:
        with pytest.raises(NotWrittenError, match="nifti:irregular_spacing 1.*take seg") as problem:
            write_outputs(found, ["nifti", "seg", "sc"], folder=tmp_path / "found")
        assert {name.partition("/")[0] for name in problem.value.files} == {"seg", "sc"}
    else:
        assert write_outputs(found, ["nifti"], folder=tmp_path / "found")


@pytest.mark.parametrize(
    ("first", "is_refused"), [(2.0, False), (2.01, False), (2.1, True), (1.2, True), (None, False)]
)
def test_a_volume_with_unequal_distances_is_refused(first: float | None, is_refused: bool, tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    volume = sdk_volume(tmp_path / "in", depth_pixel_spacing=first)
    with pytest.raises(DataError, match="equal distances.*study_selected_series_list") if is_refused else nullcontext():
        write_volume(volume, tmp_path / "volume.nii")
    assert (tmp_path / "volume.nii").exists() != is_refused


@pytest.mark.parametrize("facts", [{"modality": "MR"}, {"modality": None}, {"affine": None}])
def test_a_volume_that_has_lost_what_is_needed_is_refused(facts: dict[str, Any], tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    with pytest.raises(DataError, match="study_selected_series_list"):
        write_volume(sdk_volume(tmp_path / "in", **facts), tmp_path / "volume.nii")
    assert not (tmp_path / "volume.nii").exists()


def test_calibration_marks_and_abstention_are_in_the_rows(models: dict[str, Path], tmp_path: Path) -> None:
    class Trust:
        """A record that flags every image as out-of-distribution."""

        def apply(self, logits: np.ndarray, features: np.ndarray | None) -> Any:
            assert features is not None
            count, classes = logits.shape
            return SimpleNamespace(
                probabilities=np.full((count, classes), 1 / classes),
                ood_scores=np.ones(count),
                outside=np.ones(count, dtype=bool),
                abstain=np.ones(count, dtype=bool),
                sets=np.ones((count, classes), dtype=bool),
            )

    radiograph(tmp_path / "in" / "1.dcm", gradient())
    model = dataclasses.replace(open_for(models[CLASSIFIER], task="classification"), trust=Trust())
    (row,) = predict_files(model, [tmp_path / "in" / "1.dcm"], folder=tmp_path / "out").rows
    assert row["predicted"] in model.class_names
    assert (row["calibrated"], row["outside"], row["abstain"]) == (None, True, True)
    assert row["answer"] == "No answer: unlike the training images"
    assert row["prediction_set"] == model.class_names


def test_errors_of_other_kinds_lose_their_text_and_keep_their_kind(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="^Could not write: No such file or directory.$"), clean_errors("write"):
        (tmp_path / "Doe" / "Jane").write_text("")
    with pytest.raises(DataError, match="said on purpose"), clean_errors("write"):
        raise DataError("said on purpose")
