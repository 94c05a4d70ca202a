"""Failed files, a full disk, and a killed process: all other files are predicted, and written files are complete."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from movl_monai.data import IdMap
from tests.deploy.conftest import Run, ct_series, gradient, radiograph, two_series, without_decoder
from tests.deploy.test_prediction import CLASSIFIER, SEGMENTER, rows_of
from tests.predict.conftest import ROOT
from tests.predict.test_resume import files_of

pytestmark = pytest.mark.usefixtures("with_sdk")

# the application, killed as no handler can prevent before it gives the n-th DICOM file its name
DIES = """
import os, runpy, signal, sys
left, replace = int(sys.argv[1]), os.replace
def counted(source, target):
    global left
    left -= str(target).endswith(".dcm")
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = counted
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def said(capfd: pytest.CaptureFixture[str]) -> str:
    return " ".join(capfd.readouterr().err.split())


def failed_rows(out: Path) -> dict[str, str]:
    """Return the reasons by row id."""
    return {row["id"]: row["reason"] for row in rows_of(out) if row["status"] == "failed"}


def cut_pixels(path: Path, *, study: str) -> None:
    radiograph(path, gradient(), study=study)
    path.write_bytes(path.read_bytes()[:-2000])


def test_all_predicted_is_0_and_says_nothing(run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    (tmp_path / "in" / "notes.txt").write_text("no image")
    code, out = run(CLASSIFIER)
    assert (code, len(rows_of(out)), failed_rows(out)) == (0, 1, {})
    assert "could not" not in said(capfd)


def test_a_study_with_two_series_has_a_row_and_the_others_are_predicted(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    two_series(tmp_path / "in" / "a")
    radiograph(tmp_path / "in" / "b" / "3.dcm", gradient(), study="other")
    code, out = run(CLASSIFIER)
    ((study, reason),) = failed_rows(out).items()
    assert (code, len(rows_of(out)), reason) == (4, 2, "several_series")
    assert "1 of 2 studies could not be predicted. Each has a row with its reason in predictions.csv." in said(capfd)
    assert IdMap(out / "local" / "id_map.json").path_of(study) == str(tmp_path / "in" / "a")


def test_every_study_and_file_that_fails_is_counted_and_has_a_row(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    radiograph(folder / "fine.dcm", gradient(), study="fine")
    radiograph(folder / "half.dcm", gradient(), study="half")
    cut_pixels(folder / "half_cut.dcm", study="half")
    radiograph(folder / "video.dcm", gradient(), study="video")
    without_decoder(folder / "video.dcm")
    radiograph(folder / "other.dcm", gradient(), study="other", Modality="PT")
    (folder / "empty.dcm").touch()
    code, out = run(CLASSIFIER)
    assert code == 4
    found = failed_rows(out)
    assert sorted(found.values()) == ["empty_file", "no_decoder", "no_image_series", "truncated"]
    assert sum(row["status"] == "ok" for row in rows_of(out)) == 2
    text = said(capfd)
    for sentence in (
        "2 of 4 studies could not be predicted.",
        "1 image of the others could not be predicted.",
        "1 file could not be read.",
    ):
        assert sentence in text
    id_map = IdMap(out / "local" / "id_map.json")
    paths = {reason: Path(id_map.path_of(row)) for row, reason in found.items()}
    names = {"empty_file": "empty.dcm", "no_decoder": "video.dcm", "no_image_series": "in", "truncated": "half_cut.dcm"}
    assert {reason: path.name for reason, path in paths.items()} == names


def test_a_source_that_a_segmentation_cannot_be_derived_from_does_not_stop_the_others(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ct_series(tmp_path / "in" / "a", study="a")
    ct_series(tmp_path / "in" / "b", study="b")
    for path in (tmp_path / "in" / "b").iterdir():
        path.write_bytes(path.read_bytes().replace(b".3680043.", b".0680043."))  # no component may start with 0
    code, out = run(SEGMENTER)
    assert code == 4
    assert "Not written: seg:unfit_source 1, sc:unfit_source 1." in said(capfd)
    assert [row["status"] for row in rows_of(out)] == ["ok", "ok"]
    assert len(list((out / "seg").glob("*.dcm"))) == 1


def test_nothing_that_can_be_predicted_is_2_with_the_reasons(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    two_series(tmp_path / "in" / "a")
    radiograph(tmp_path / "in" / "video.dcm", gradient(), study="video")
    without_decoder(tmp_path / "in" / "video.dcm")
    code, out = run(CLASSIFIER)
    assert code == 2
    text = said(capfd)
    assert "no_decoder" in text
    assert "several_series" in text
    assert not (out / "predictions.csv").exists()


@pytest.fixture
def whole(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of an uninterrupted application; afterwards only the salt of its ids is left."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    for study in "ab":
        radiograph(tmp_path / "in" / f"{study}.dcm", gradient(), study=study)
    code, out = run(CLASSIFIER)
    assert code == 0
    files = files_of(out)
    assert sum(name.endswith(".dcm") for name in files) == 4
    for path in out.iterdir():
        if path.name != "local":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return files


def assert_nothing_half(out: Path, whole: dict[str, bytes]) -> None:
    """Check that every file under its final name equals the final file."""
    there = {name: content for name, content in files_of(out).items() if not Path(name).name.startswith(".")}
    assert {name: content for name, content in there.items() if whole[name] != content} == {}


@pytest.mark.parametrize("number", [1, 3])
def test_killed_in_the_middle_and_run_again_gives_the_same_files(
    number: int,
    whole: dict[str, bytes],
    models: dict[str, Path],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    app = ROOT / "bundles" / CLASSIFIER / "deploy" / "app.py"
    arguments = [str(app), "-i", str(tmp_path / "in"), "-o", str(out), "-m", str(models[f"{CLASSIFIER}.ts"])]
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(number), *arguments], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(out.rglob("*.dcm"))) == number - 1
    assert list(out.rglob(".*.tmp"))
    assert_nothing_half(out, whole | {"local/started": b"1700000000"})
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert run(CLASSIFIER)[0] == 0
    assert files_of(out) == whole


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half(
    written: int,
    whole: dict[str, bytes],
    run: Run,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left, replace = [written], os.replace

    def full(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        replace(*arguments)

    capfd.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        code, out = run(CLASSIFIER)
    text = said(capfd)
    assert (code, "No space left on device" in text) == (2, True), text
    assert "Traceback" not in text
    assert not [name for name in whole if name.endswith(".dcm") and Path(name).stem in text]
    assert not list(out.rglob(".*.tmp"))
    assert_nothing_half(out, whole | {"local/started": b"1700000000"})
    assert run(CLASSIFIER)[0] == 0
    assert files_of(out) == whole


def test_what_an_earlier_kill_left_is_removed_before_anything_else(run: Run, tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    leftovers = [tmp_path / "out" / folder / ".x.dcm-1.tmp" for folder in ("", "sr", "local")]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert run(CLASSIFIER)[0] == 0
    assert not [path for path in leftovers if path.exists()]


def test_reports_say_that_they_are_partial(run: Run, tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "1.dcm", gradient())
    cut_pixels(tmp_path / "in" / "2.dcm", study="study")
    code, out = run(CLASSIFIER)
    assert code == 4
    assert dcmread(next((out / "sr").glob("*.dcm"))).CompletionFlag == "PARTIAL"
