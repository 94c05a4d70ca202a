"""Prediction of folders: rows with numbers and reasons, and resuming."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.cli import main
from movl_monai.data import IdMap, read_unlabelled
from movl_monai.data.decode import decode
from movl_monai.engines import open_run, prepare_image_batch
from movl_monai.errors import ConfigError, DataError
from movl_monai.evaluation import read_predictions
from movl_monai.predict.run import predict
from tests.readers.dicom.objects import as_file, rgb_object


@pytest.fixture
def images(phantom_files: Path, tmp_path: Path) -> Path:
    """The phantom's files with a truncated file and a file that is not an image."""
    folder = tmp_path / "input"
    shutil.copytree(phantom_files, folder)
    content = next(phantom_files.rglob("*.dcm")).read_bytes()
    (folder / "cut.dcm").write_bytes(content[:-200])
    (folder / "notes.txt").write_text("nothing to predict")
    return folder


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_probabilities_are_those_of_preprocessing_and_network(
    classifier_run: Path, images: Path, tmp_path: Path
) -> None:
    summary = predict(classifier_run, images, out=tmp_path / "out", batch_size=4, num_workers=0, device="cpu")
    assert summary is not None
    assert (summary.predicted, summary.failed) == (6, 1)
    run = open_run(classifier_run)
    network, preprocessing = run.network(), run.preprocessing()
    ids = IdMap(tmp_path / "out" / "local" / "id_map.json")
    for row in rows_of(tmp_path / "out"):
        if row["status"] != "ok":
            continue
        image = torch.from_numpy(decode(ids.item_of(row["id"]), preprocessing).image)
        with torch.inference_mode():
            expected = network(prepare_image_batch({"image": image[None]})[0]).softmax(dim=1)[0]
        found = [float(row[f"probability_{name}"]) for name in run.class_names]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_file_that_cannot_be_read_has_a_row_with_its_reason_and_the_others_go_on(
    classifier_run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(classifier_run), str(images), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu", "--workers", "0", "--batch_size", "3"]) == 4
    reasons = {(row["status"], row["reason"]) for row in rows_of(tmp_path / "out")}
    assert reasons == {("ok", ""), ("failed", "truncated"), ("skipped", "other_file")}
    assert "Predicted 6." in capsys.readouterr().out


def test_an_image_object_without_pixels_is_lost_and_a_report_is_not(
    classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    from pydicom import dcmread
    from pydicom.uid import BasicTextSRStorage

    source = tmp_path / "input"
    shutil.copytree(phantom_files, source)
    header = dcmread(next(phantom_files.rglob("*.dcm")), stop_before_pixels=True)
    header.save_as(source / "cut.dcm")
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    header.save_as(source / "report.dcm")
    summary = predict(classifier_run, source, out=tmp_path / "out", num_workers=0, device="cpu")
    assert summary is not None
    assert (summary.predicted, summary.failed) == (6, 1)
    found = {(row["status"], row["reason"]) for row in rows_of(tmp_path / "out")}
    assert found == {("ok", ""), ("failed", "no_pixels"), ("skipped", "not_image")}


def test_the_label_of_a_slide_is_never_predicted_nor_pictured(
    classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    source = tmp_path / "input"
    source.mkdir()
    shutil.copy(next(phantom_files.rglob("*.dcm")), source / "0.dcm")
    label = rgb_object(np.zeros((8, 8, 3), np.uint8), SpecimenLabelInImage="YES")
    as_file(label, source / "label.dcm")
    summary = predict(
        classifier_run, source, out=tmp_path / "out", outputs=["csv", "png", "sc"], num_workers=0, device="cpu"
    )
    assert summary is not None
    assert (summary.predicted, summary.failed, summary.reasons) == (1, 0, {"label_image": 1})
    assert len(list((tmp_path / "out").glob("*/*.png"))) == 1
    listed = read_unlabelled(source, class_names=["a", "b"])
    assert ([one.reason for one in listed.skipped], len(listed)) == (["label_image"], 1)


def test_the_exit_code_is_0_where_all_that_should_be_is_predicted(
    classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    words = ["predict", str(classifier_run), str(phantom_files), "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu", "--workers", "1", "--outputs", "json"]) == 0
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["class_names"] == ["no_lesion", "lesion"]
    assert len(content["results"]) == 6
    assert "Research use only" in content["use"]
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_the_table_is_one_that_the_evaluation_reads(classifier_run: Path, phantom_files: Path, tmp_path: Path) -> None:
    predict(classifier_run, phantom_files, out=tmp_path / "out", num_workers=0, device="cpu")
    predictions, names = read_predictions(tmp_path / "out" / "predictions.csv")
    assert (len(predictions), names) == (6, ["no_lesion", "lesion"])


def test_a_run_that_stopped_goes_on_and_ends_with_the_same_bytes(
    classifier_run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    settings: dict[str, Any] = {"batch_size": 2, "num_workers": 0, "device": "cpu"}
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    for out in (whole, torn):
        predict(classifier_run, images, out=out, **settings)
        shutil.copy(whole / "local" / "id_map.json", (tmp_path / "id_map.json"))
        (torn / "local").mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "id_map.json", torn / "local")  # the same salt, so the same ids
    journal = torn / "local" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][: len(lines[2]) // 2])  # killed while it wrote the second unit
    for name in ("predictions.csv", "predictions.json"):
        (torn / name).unlink()
    summary = predict(classifier_run, images, out=torn, num_workers=0, device="cpu")
    assert summary is not None
    assert summary.resumed == 2
    for name in ("predictions.csv", "predictions.json", "local/journal.jsonl"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_changed_file_is_predicted_again(classifier_run: Path, images: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 2, "num_workers": 0, "device": "cpu"}
    predict(classifier_run, images, out=tmp_path / "out", **settings)
    good = sorted(images.rglob("*_1.dcm"))[0]
    shutil.copy(good, images / "cut.dcm")
    summary = predict(classifier_run, images, out=tmp_path / "out", **settings)
    assert summary is not None
    assert (summary.predicted, summary.failed) == (7, 0)


def test_predictions_of_another_model_are_not_mixed(classifier_run: Path, phantom_files: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_workers": 0, "device": "cpu"}
    predict(classifier_run, phantom_files, out=tmp_path / "out", **settings)
    with pytest.raises(DataError, match="another model"):
        predict(classifier_run, phantom_files, out=tmp_path / "out", overrides={"voi": 1}, **settings)
    with pytest.raises(ConfigError, match="--batch_size"):
        predict(classifier_run, phantom_files, out=tmp_path / "out", batch_size=5, **settings)


def test_a_folder_without_any_image_is_a_clear_error(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="other_file 1"):
        predict(classifier_run, tmp_path / "input", out=tmp_path / "out", device="cpu")


def test_a_list_gives_names_labels_and_splits_to_the_tables(
    classifier_run: Path, phantom_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(phantom_files, tmp_path / "data")
    files = sorted(data.rglob("*.dcm"))
    labels = ["lesion", "no_lesion", "lesion", "Lesion", "lesion", "no_lesion"]
    splits = ["train", "train", "test", "test", "test", "test"]
    lines = [
        f"{file.relative_to(data)},{label},{split}\n" for file, label, split in zip(files, labels, splits, strict=True)
    ]
    (data / "list.csv").write_text("path,label,split\n" + "".join(lines))
    words = ["predict", str(classifier_run), str(data / "list.csv"), "--num_workers", "0", "--device", "cpu"]
    assert main([*words, "--output_dir", str(tmp_path / "all"), "--paths"]) == 0
    said, rows = capsys.readouterr().out, rows_of(tmp_path / "all")
    assert [row["path"] for row in rows] == [file.relative_to(data).as_posix() for file in files]
    assert [row["label"] for row in rows] == [label if label != "Lesion" else "" for label in labels]
    assert "The list names splits (test 4, train 2)" in said
    assert "1 labels of the list are none of the model's classes" in said
    judged = [row for row, split in zip(rows, splits, strict=True) if split == "test" and row["label"]]
    accuracy = sum(row["label"] == row["predicted"] for row in judged) / len(judged)
    assert f"3 images of the split test: accuracy {accuracy:.3f}" in said
    with (tmp_path / "all" / "confusion.csv").open(newline="") as stream:
        counts = {(row["split"], row["label"]): row for row in csv.DictReader(stream)}
    for (split, label), row in counts.items():
        for name in ("no_lesion", "lesion"):
            wanted = [(one["label"], one["predicted"]) for one, of in zip(rows, splits, strict=True) if of == split]
            assert int(row[f"predicted_{name}"]) == wanted.count((label, name))
    assert main([*words, "--output_dir", str(tmp_path / "part"), "--split", "train"]) == 0
    assert [row["label"] for row in rows_of(tmp_path / "part")] == labels[:2]
    assert "path" not in rows_of(tmp_path / "part")[0]
    assert main([*words, "--output_dir", str(tmp_path / "none"), "--split", "val"]) == 2
    assert "the list has test, train" in " ".join(capsys.readouterr().err.split())


def test_two_series_of_a_study_are_not_guessed_between(
    classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    from pydicom import dcmread

    source = tmp_path / "input"
    source.mkdir()
    first = dcmread(next(phantom_files.rglob("*.dcm")))
    for number in range(3):
        first.SeriesInstanceUID, first.SOPInstanceUID = f"1.2.{min(number, 1)}", f"1.2.3.{number}"
        first.StudyInstanceUID = "1.2.9" if number else "1.2.8"
        first.save_as(source / f"{number}.dcm")
    first.SeriesInstanceUID, first.SOPInstanceUID = "1.2.7", "1.2.3.7"
    first.save_as(source / "7.dcm")
    settings: dict[str, Any] = {"num_workers": 0, "device": "cpu"}
    summary = predict(classifier_run, source, out=tmp_path / "out", series="one", **settings)
    assert summary is not None
    assert (summary.predicted, summary.failed, summary.reasons) == (1, 3, {"several_series": 3})
    summary = predict(classifier_run, source, out=tmp_path / "ct", modalities=["ct"], **settings)
    assert summary is not None
    assert (summary.predicted, summary.reasons) == (0, {"unsupported_modality": 4})


def test_outputs_inside_of_the_input_are_refused(classifier_run: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match="inside of the input"):
        predict(classifier_run, images, out=images / "out")


def test_outputs_of_the_other_task_are_refused(classifier_run: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it has no seg"):
        predict(classifier_run, images, out=tmp_path / "out", outputs=["csv", "seg"], device="cpu")
    with pytest.raises(ConfigError, match="'pdf'"):
        predict(classifier_run, images, out=tmp_path / "out", outputs=["pdf"], device="cpu")


def test_tables_and_logs_name_no_path_and_no_patient(
    classifier_run: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    predict(classifier_run, images, out=tmp_path / "out", num_workers=0, device="cpu")
    text = caplog.text + "".join(path.read_text() for path in (tmp_path / "out").glob("predictions.*"))
    for word in ("PHANTOM", "Phantom", str(images), "cut.dcm", "scanner", "1.2.826.0.1.3680043.8.498"):
        assert word not in text


def test_series_of_slices_are_segmented_as_volumes(test_data: Path, segmenter_run: Path, tmp_path: Path) -> None:
    import nibabel as nib

    source = test_data / "data" / "mr_series_dicom" / "hippocampus_crop"
    flat = tmp_path / "flat"  # the series beside other files, as an archive sends them
    shutil.copytree(source, flat)
    shutil.copy(next((test_data / "data" / "ct_contrast_dicom" / "contrast").iterdir()), flat)
    outputs = ["csv", "nifti", "png"]
    settings: dict[str, Any] = {"num_workers": 0, "device": "cpu", "outputs": outputs, "batch_size": 8}
    summary = predict(segmenter_run, flat, out=tmp_path / "flat_out", **settings)
    alone = predict(segmenter_run, source, out=tmp_path / "out", **settings)
    assert summary is not None
    assert alone is not None
    assert sorted(row["images"] for row in summary.rows) == [1, 32]
    (mask,), (other,) = ((tmp_path / name / "masks").glob("*.nii.gz") for name in ("out", "flat_out"))
    np.testing.assert_array_equal(nib.load(mask).dataobj, nib.load(other).dataobj)
    volume = next(row for row in summary.rows if row["images"] == 32)
    assert volume["pixels_hippocampus"] == int(np.count_nonzero(nib.load(mask).dataobj))
