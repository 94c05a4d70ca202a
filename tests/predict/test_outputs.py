"""Outputs other than tables agree with the tables and align with their source."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from movl_monai.engines import open_run
from movl_monai.errors import ConfigError, DataError, UnwritableError
from movl_monai.evaluation.trust_record import TrustRecord, trained_state_sha256, write_trust
from movl_monai.files import write_atomically
from movl_monai.predict.dicom import read_classification_report
from movl_monai.predict.loader import Item
from movl_monai.predict.outputs import OUTPUTS, Output
from movl_monai.predict.run import predict
from movl_monai.predict.tasks import SegmentedCase
from movl_monai.readers import read_segmentation_volume, read_volume

NAMES = ["no_lesion", "lesion"]
SETTINGS: dict[str, Any] = {"num_workers": 0, "device": "cpu", "progress": False}


def written(out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (out / "local" / "outputs.csv").read_text().splitlines()[1:]:
        name, _, file = line.partition(",")
        found.setdefault(name, []).append(file)
    return found


def test_a_report_says_what_the_row_says_with_the_marks_of_the_trust_record(
    classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(classifier_run, run)
    digest = trained_state_sha256(open_run(run).network())
    record = TrustRecord(checkpoint_sha256=digest, class_names=NAMES, temperature=0.5, least_confidence=0.5603)
    write_trust(run / "models" / "trust.pt", record)
    summary = predict(run, phantom_files, out=tmp_path / "out", outputs=["json", "sr", "png"], **SETTINGS)
    assert summary is not None
    rows = json.loads((tmp_path / "out" / "predictions.json").read_text())["results"]
    assert {row["abstain"] for row in rows} == {True, False}
    files = written(tmp_path / "out")
    for row in rows:
        report, picture = (next(f for f in files[row["id"]] if f.startswith(kind)) for kind in ("sr", "pictures"))
        (finding,) = read_classification_report(tmp_path / "out" / report, NAMES)
        shown = row["probabilities"] if row["abstain"] else row["calibrated"]
        assert list(finding.probabilities.values()) == pytest.approx(shown, abs=1e-12)
        assert (finding.calibrated, finding.predicted) == (not row["abstain"], row["predicted"])
        assert row["calibrated"] is None or not row["abstain"]
        assert (finding.abstained, finding.outside) == (row["abstain"], None)
        assert Path(report).name == f"{dcmread(tmp_path / 'out' / report).SOPInstanceUID}.dcm"
        with Image.open(tmp_path / "out" / picture) as image:
            assert image.width >= 384


@pytest.mark.parametrize("axis", ["axial", "coronal"])
def test_a_segmentation_lies_on_the_series_whatever_plane_the_model_works_in(
    test_data: Path, segmenter_run: Path, tmp_path: Path, axis: str
) -> None:
    source = test_data / "data" / "mr_series_dicom" / "hippocampus_crop"
    outputs = ["csv", "seg", "nifti", "sc"]
    summary = predict(
        segmenter_run, source, out=tmp_path, outputs=outputs, overrides={"slice_axis": axis}, batch_size=16, **SETTINGS
    )
    assert summary is not None
    ((segmentation,), (mask,)) = (list(tmp_path.glob(pattern)) for pattern in ("seg/*.dcm", "masks/*.nii.gz"))
    read = read_segmentation_volume(segmentation, read_volume(source))
    stored = np.asarray(nib.load(mask).dataobj)  # of a series: columns, rows, slices
    assert np.count_nonzero(stored) > 0
    np.testing.assert_array_equal(read.values, stored)
    instances = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in source.iterdir()}
    shown = [dcmread(path) for path in (tmp_path / "sc").glob("*.dcm")]
    assert {str(one.SourceImageSequence[0].ReferencedSOPInstanceUID) for one in shown} <= instances
    assert len(shown) == np.count_nonzero(stored.any(axis=(0, 1)))


def test_what_cannot_be_written_for_a_source_is_said_in_its_row(classifier_run: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    Image.new("L", (40, 30), 100).save(tmp_path / "input" / "a.png")
    summary = predict(classifier_run, tmp_path / "input", out=tmp_path / "out", outputs=["csv", "sr", "sc"], **SETTINGS)
    assert summary is not None
    assert summary.rows[0]["not_written"] == ["sc:not_dicom", "sr:not_dicom"]
    assert summary.not_written == {"sc:not_dicom": 1, "sr:not_dicom": 1}
    assert "Not written" in summary.text()


def test_a_report_of_a_series_with_an_unreadable_image_is_partial(
    classifier_run: Path, test_data: Path, tmp_path: Path
) -> None:
    source = tmp_path / "input"
    source.mkdir()
    for path in sorted((test_data / "data" / "mr_series_dicom" / "hippocampus_crop").iterdir())[:3]:
        shutil.copy(path, source)
    damaged = sorted(source.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    summary = predict(classifier_run, source, out=tmp_path / "out", outputs=["csv", "sr"], **SETTINGS)
    assert summary is not None
    assert (summary.predicted, summary.reasons) == (2, {"truncated": 1})
    (report,) = (tmp_path / "out" / "sr").glob("*.dcm")
    assert dcmread(report).CompletionFlag == "PARTIAL"
    assert len(read_classification_report(report, NAMES)) == 2


@pytest.mark.parametrize("run", ["classifier_run", "segmenter_run"])
def test_no_picture_is_drawn_of_an_image_that_may_show_a_name(
    run: str, phantom_files: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    first, second = sorted(phantom_files.rglob("*.dcm"))[:2]
    (tmp_path / "input").mkdir()
    shutil.copy(first, tmp_path / "input" / "plain.dcm")
    burned = dcmread(second)
    burned.BurnedInAnnotation = "YES"
    burned.save_as(tmp_path / "input" / "burned.dcm")
    outputs = ["csv", "png", "sc"]
    summary = predict(
        request.getfixturevalue(run), tmp_path / "input", out=tmp_path / "out", outputs=outputs, **SETTINGS
    )
    assert summary is not None
    assert summary.not_written == {"png:shows_names": 1}
    (picture,) = (tmp_path / "out" / "pictures").glob("*.png")
    (plain,) = (row["id"] for row in summary.rows if not row.get("not_written"))
    assert picture.stem == plain
    captures = [dcmread(path) for path in (tmp_path / "out" / "sc").glob("*.dcm")]
    assert sorted(one.BurnedInAnnotation for one in captures) == ["NO", "YES"]


class TextFiles(Output):
    """A format of one's own: a text for each image or case, and one of all."""

    name, folders = "text", ("text",)

    def classified(self, item: Item, row: dict[str, Any]) -> list[str]:
        return self._write(item["id"], row["predicted"])

    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> list[str]:
        return self._write(case.id, str(np.count_nonzero(case.classes)))

    def table(self, rows: Sequence[dict[str, Any]]) -> tuple[str, bytes]:
        return "text/all.txt", "".join(f"{row['id']} {row.get('not_written')}\n" for row in rows).encode()

    def _write(self, name: str, text: str) -> list[str]:
        if len(list((self.job.folder / "text").glob("*.txt"))) == 2:
            raise UnwritableError("two_are_enough")
        write_atomically(self.job.folder / "text" / f"{name}.txt", text.encode())
        return [f"text/{name}.txt"]


@pytest.mark.parametrize("run", ["classifier_run", "segmenter_run"])
def test_an_output_is_added_by_its_class_alone(
    run: str, phantom_files: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "out": tmp_path, "outputs": ["csv", "text"]}
    with pytest.raises(ConfigError, match="must be of csv, json, .*, got 'text'"):
        predict(request.getfixturevalue(run), phantom_files, **settings)
    monkeypatch.setitem(OUTPUTS, TextFiles.name, TextFiles)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / ".left.tmp").touch()
    summary = predict(request.getfixturevalue(run), phantom_files, **settings)
    assert summary is not None
    assert summary.not_written == {"text:two_are_enough": 4}
    results = csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines())
    answers = {row["id"]: row.get("predicted") or row["pixels_hippocampus"] for row in results}
    listed = {name: (tmp_path / file).read_text() for name, (file,) in written(tmp_path).items()}
    assert len(listed) == 2
    assert listed == {name: answers[name] for name in listed}
    assert {path.stem for path in (tmp_path / "text").iterdir()} == {*listed, "all"}
    assert (tmp_path / "text" / "all.txt").read_text().count("['text:two_are_enough']") == 4
    resumed = predict(request.getfixturevalue(run), phantom_files, **settings)
    assert resumed is not None
    assert (resumed.resumed, resumed.not_written) == (6, summary.not_written)
    with pytest.raises(DataError, match="another outputs"):
        predict(request.getfixturevalue(run), phantom_files, **{**settings, "outputs": ["csv"]})
