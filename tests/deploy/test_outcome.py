"""Left-out files are counted, have rows, and decide the exit code; without the SDK."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from movl_monai.data import IdMap
from movl_monai.deploy.prediction import (
    LeftOut,
    NotWrittenError,
    Outcome,
    open_for,
    outcome_of,
    predict_files,
    write_outputs,
)
from tests.deploy.conftest import gradient, radiograph, without_decoder
from tests.deploy.test_prediction import CLASSIFIER, rows_of


def test_nothing_left_out_is_0() -> None:
    outcome = Outcome()
    outcome.found_studies(["1"])
    outcome.leave_out(Path("notes.txt"), "other_file")
    assert (outcome.text, outcome.exit_code, outcome.left_out) == ("", 0, [])


@pytest.mark.parametrize(("files", "message"), [(1, "1 file could not be read."), (2, "2 files could not be read.")])
def test_files_are_counted(files: int, message: str) -> None:
    outcome = Outcome()
    for number in range(files):
        outcome.leave_out(Path(str(number)), "truncated")
    assert (outcome.text, outcome.exit_code) == (message, 4)


def test_outputs_that_are_missing_are_4_too() -> None:
    outcome = Outcome()
    outcome.not_written({"seg:unfit_source": 2})
    outcome.table("predictions.csv")
    assert (outcome.text, outcome.exit_code) == ("Not written: seg:unfit_source 2.", 4)


def test_an_application_without_an_outcome_gets_one_that_nobody_reads() -> None:
    kept = Outcome()
    assert outcome_of(SimpleNamespace(outcome=kept)) is kept
    assert outcome_of(object()) is not outcome_of(object())


def test_what_was_left_out_and_what_failed_are_rows_and_studies(models: dict[str, Path], tmp_path: Path) -> None:
    for study in ("fine", "video"):
        radiograph(tmp_path / "in" / f"{study}.dcm", gradient(), study=study)
    without_decoder(tmp_path / "in" / "video.dcm")
    outcome = Outcome()
    outcome.leave_out(tmp_path / "in" / "other", "several_series", study="1.2.3")
    outcome.leave_out(tmp_path / "in" / "cut.dcm", "truncated")
    model = open_for(models[CLASSIFIER], task="classification")
    files = [tmp_path / "in" / "fine.dcm", tmp_path / "in" / "video.dcm"]
    found = predict_files(model, files, folder=tmp_path / "out", left_out=outcome.left_out, started=7)
    outcome.predicted(found.listed, found.rows)
    outcome.table(*write_outputs(found, ["csv"], folder=tmp_path / "out"))
    assert found.started == 7
    assert sorted(row["reason"] for row in rows_of(tmp_path / "out")) == [
        "",
        "no_decoder",
        "several_series",
        "truncated",
    ]
    assert outcome.text == (
        "2 of 2 studies could not be predicted. 1 file could not be read. "
        "Each has a row with its reason in predictions.csv."
    )
    id_map = IdMap(tmp_path / "out" / "local" / "id_map.json")
    paths = {row["reason"]: id_map.path_of(row["id"]) for row in rows_of(tmp_path / "out")}
    assert paths["several_series"] == str(tmp_path / "in" / "other")
    assert "1.2.3" not in (tmp_path / "out" / "local" / "id_map.json").read_text()


def test_two_studies_in_one_folder_have_two_rows(models: dict[str, Path], tmp_path: Path) -> None:
    radiograph(tmp_path / "1.dcm", gradient())
    left_out = [LeftOut(path=tmp_path, reason="several_series", study=study) for study in ("1.2", "1.3")]
    model = open_for(models[CLASSIFIER], task="classification")
    rows = predict_files(model, [tmp_path / "1.dcm"], folder=tmp_path / "out", left_out=left_out).rows
    assert len({row["id"] for row in rows}) == 3


def test_what_was_written_is_known_where_something_was_not(
    models: dict[str, Path], phantom: Path, tmp_path: Path
) -> None:
    from PIL import Image

    Image.fromarray(gradient()).save(tmp_path / "1.png")
    model = open_for(models[CLASSIFIER], task="classification")
    files = [tmp_path / "1.png", next(iter(sorted(phantom.rglob("*.dcm"))))]
    found = predict_files(model, files, folder=tmp_path / "out")
    with pytest.raises(NotWrittenError, match="sc:not_dicom 1") as caught:
        write_outputs(found, ["sc"], folder=tmp_path / "out")
    assert caught.value.problems == {"sc:not_dicom": 1}
    assert [(tmp_path / "out" / name).is_file() for name in caught.value.files] == [True]
