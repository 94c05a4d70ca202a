"""An exception in any step for one file becomes that file's row, and all other files are predicted."""

from __future__ import annotations

import csv
import dataclasses
import errno
import io
import pkgutil
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.uid import CTImageStorage, generate_uid

from movl_monai.deploy.prediction import NotWrittenError, predict_files, write_outputs
from movl_monai.evaluation.rows import recordable, results_csv
from movl_monai.predict.model import Model, open_model
from movl_monai.predict.run import Summary, predict
from tests.readers.dicom.objects import as_file, grey_object

SECRET = "DOE^JANE"
ENDING = [MemoryError(), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
# the function that raises, and the reason in the row of the file
LISTING = ["movl_monai.predict.listing.sniff_format", "movl_monai.predict.listing.scan_header"]
LISTING += ["movl_monai.predict.listing.problem_of", "movl_monai.data.series.SeriesScan.of"]
DECODING = ["movl_monai.transforms.load.read_dicom", "movl_monai.data.decode.to_uint8"]
CLASSIFYING = ["movl_monai.predict.tasks.image_rows", "movl_monai.report.classification_task.answer_of"]
CLASSIFYING += ["movl_monai.predict.model._NetworkForward.__call__", "movl_monai.predict.tasks.Computer.__call__"]
SEGMENTING = ["movl_monai.predict.tasks.pixel_classes", "movl_monai.evaluation.collect.resize_back"]
SEGMENTING += ["movl_monai.predict.tasks.Computer.__call__"]
IN_BATCHES = {*CLASSIFYING, *SEGMENTING}
COUNTING = ["movl_monai.evaluation.rows.case_amounts", "movl_monai.predict.tasks.SegmentedImages._row"]
DERIVING = ["movl_monai.predict.job.headers_of", "movl_monai.predict.outputs._DicomOutput.save"]
DERIVING += ["movl_monai.predict.dicom.as_bytes", "movl_monai.predict.dicom.capture.prepared"]
DERIVING += ["movl_monai.predict.dicom.capture.SCImage", "movl_monai.predict.dicom.capture.finish"]
DRAWING = ["movl_monai.predict.job.Job.image", "movl_monai.predict.outputs.PngPictures.draw"]
REPORTING = ["movl_monai.predict.dicom.classification_report", "movl_monai.predict.outputs._finding"]
REPORTING += ["movl_monai.predict.dicom.check_source", "movl_monai.predict.dicom.draw_text"]
MASKING = ["movl_monai.predict.dicom.segmentation_object", "movl_monai.predict.job.stored_frames"]
MASKING += ["movl_monai.evaluation.mask_files.MaskFiles.write_image", "movl_monai.predict.dicom.draw_classes"]


@pytest.fixture(scope="module")
def classifier(classifier_run: Path) -> Model:
    return open_model(classifier_run, device="cpu")


@pytest.fixture(scope="module")
def segmenter(segmenter_run: Path) -> Model:
    return open_model(segmenter_run, device="cpu")


@pytest.fixture(scope="module")
def images(phantom_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, path in enumerate(sorted(phantom_files.rglob("*.dcm"))[:3]):
        shutil.copy(path, folder / f"{number}.dcm")
    return folder


def fail_once(monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException) -> None:
    """Let a function raise for the first image: at its first call, and again if the batch is retried image by image."""
    owner_name, _, attribute = step.rpartition(".")
    owner: Any = pkgutil.resolve_name(owner_name)
    original = getattr(owner, attribute)
    left = [2 if step in IN_BATCHES else 1]

    def replacement(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, replacement)


def run(model: Model, images: Path, out: Path, outputs: str) -> Summary:
    settings: dict[str, Any] = {"num_workers": 0, "progress": False, "batch_size": 2}
    summary = predict(model, images, out=out, outputs=outputs.split(","), **settings)
    assert summary is not None
    return summary


def check_one_fails(summary: Summary, out: Path, *, count: int) -> None:
    """Check that exactly one row reports a failure, and that no written file holds the message."""
    assert len(summary.rows) == count
    failing = [row for row in summary.rows if row["status"] == "failed" or row.get("not_written")]
    assert len(failing) == 1
    assert all(row["status"] == "ok" for row in summary.rows if row not in failing)
    assert summary.failed or summary.not_written
    assert not [path for path in out.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("step", LISTING + DECODING + CLASSIFYING + DERIVING + DRAWING + REPORTING)
def test_an_error_in_any_step_of_classification_costs_one_file(
    classifier: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fail_once(monkeypatch, step, IndexError(SECRET))
    check_one_fails(run(classifier, images, tmp_path / "out", "csv,json,sr,sc,png"), tmp_path / "out", count=3)


@pytest.mark.parametrize("step", LISTING + DECODING + SEGMENTING + COUNTING + DERIVING + DRAWING + MASKING)
def test_an_error_in_any_step_of_segmentation_costs_one_file(
    segmenter: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fail_once(monkeypatch, step, IndexError(SECRET))
    check_one_fails(run(segmenter, images, tmp_path / "out", "csv,json,seg,sc,png"), tmp_path / "out", count=3)


@pytest.mark.parametrize("error", ENDING, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["movl_monai.predict.listing.scan_header", *CLASSIFYING[:1], *DERIVING[:2]])
def test_errors_of_the_machine_still_end_the_run(
    classifier: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    fail_once(monkeypatch, step, error)
    with pytest.raises(type(error)):
        run(classifier, images, tmp_path / "out", "csv,sr,sc")


def test_an_image_whose_logits_are_not_finite_costs_itself(classifier: Model, images: Path, tmp_path: Path) -> None:
    first: list[torch.Tensor] = []

    def forward(batch: torch.Tensor) -> Any:
        first[:] = first or [batch[0]]
        logits, features = classifier.forward(batch)
        logits = logits.clone()
        logits[[bool((one == first[0]).all()) for one in batch]] = float("nan")
        return logits, features

    summary = run(dataclasses.replace(classifier, forward=forward), images, tmp_path / "out", "csv")
    check_one_fails(summary, tmp_path / "out", count=3)
    assert summary.reasons == {"not_finite_logits": 1}


def test_a_row_that_no_table_or_journal_can_hold_costs_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": name, "status": "ok", "reason": "", "probabilities": [0.5, 0.5]} for name in ("0a", "0b", "0c")]
    rows[1]["probabilities"] = [float("nan"), 0.5]
    assert [recordable(row)["status"] for row in rows] == ["ok", "failed", "ok"]
    rows[1]["probabilities"] = [0.5]  # of fewer classes than there are
    table = list(csv.DictReader(io.StringIO(results_csv(rows, ["no", "yes"]))))
    assert [(row["status"], row["reason"]) for row in table][1:] == [("failed", "unexpected_error"), ("ok", "")]


def ct_series(folder: Path, count: int, **last: Any) -> None:
    """Slices of one series; tags of the last one may differ."""
    folder.mkdir(parents=True)
    uids = {name: generate_uid() for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for number in range(count):
        tags: dict[str, Any] = {
            "ImagePositionPatient": [0, 0, 2 * number],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        }
        tags |= {"PixelSpacing": [1, 1], "SliceThickness": 2, "RescaleSlope": 1, "RescaleIntercept": -1024}
        pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32) + number
        tags |= uids | {"SOPInstanceUID": generate_uid()} | (last if number == count - 1 else {})
        as_file(grey_object(pixels, sop_class=CTImageStorage, modality="CT", **tags), folder / f"{number}.dcm")


@pytest.mark.parametrize(
    "last",
    [
        {"ImagePositionPatient": [5, 0, 0]},
        {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 0.99999, 0.00447]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"PixelSpacing": [1.001, 1]},
    ],
    ids=["shifted in the plane", "tilted by a little", "no orientation", "other spacing"],
)
def test_a_pair_of_slices_that_is_no_volume_leaves_the_others(
    segmenter: Model, tmp_path: Path, last: dict[str, Any]
) -> None:
    ct_series(tmp_path / "in/pair", 2, **last)
    ct_series(tmp_path / "in/good", 3)
    summary = run(segmenter, tmp_path / "in", tmp_path / "out", "csv,seg,sc")
    assert any(row["status"] == "ok" and row["images"] == 3 and "not_written" not in row for row in summary.rows)
    assert len(summary.rows) in (2, 3)


def stray_item(content: bytes) -> bytes:
    place = content.index(b"\x28\x00\x02\x00US")  # SamplesPerPixel
    return content[:place] + b"\xfe\xff\x00\xe0\x00\x00\x00\x00" + content[place:]


def no_class(content: bytes) -> bytes:
    dataset = dcmread(io.BytesIO(content))
    del dataset.SOPClassUID
    stream = io.BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


@pytest.mark.parametrize("damage", [stray_item, no_class])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_damaged_header_costs_the_objects_of_its_file(
    classifier: Model, segmenter: Model, images: Path, tmp_path: Path, damage: Callable[[bytes], bytes], task: str
) -> None:
    shutil.copytree(images, tmp_path / "in")
    (tmp_path / "in/1.dcm").write_bytes(damage((images / "1.dcm").read_bytes()))
    model, outputs = (classifier, "csv,sr,sc") if task == "classification" else (segmenter, "csv,seg,sc")
    summary = run(model, tmp_path / "in", tmp_path / "out", outputs)
    check_one_fails(summary, tmp_path / "out", count=3)
    assert set(summary.not_written) == {f"{name}:unfit_source" for name in outputs.split(",")[1:]}


@pytest.mark.parametrize("step", LISTING[1:] + DECODING + CLASSIFYING)
def test_an_application_loses_one_file_too(
    classifier: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fail_once(monkeypatch, step, IndexError(SECRET))
    found = predict_files(classifier, sorted(images.iterdir()), folder=tmp_path, batch_size=2)
    assert sorted(row["status"] for row in found.rows) == ["failed", "ok", "ok"]


@pytest.mark.parametrize("step", DERIVING + REPORTING)
def test_an_application_writes_what_can_be_written(
    classifier: Model, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    found = predict_files(classifier, sorted(images.iterdir()), folder=tmp_path)
    fail_once(monkeypatch, step, IndexError(SECRET))
    with pytest.raises(NotWrittenError) as problem:
        write_outputs(found, ["sr", "sc"], folder=tmp_path)
    assert sum(problem.value.problems.values()) == 1
    assert len(problem.value.files) >= 4
    assert write_outputs(found, ["csv"], folder=tmp_path) == ["predictions.csv"]
