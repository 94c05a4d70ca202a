"""`movl-monai ingest` on a folder of everything, and `movl-monai check` with its exit codes."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom.data
import pytest
from PIL import Image
from pydicom.uid import MRImageStorage

from movl_monai.cli import main
from movl_monai.cli.ingest import EXIT_LEAKAGE, EXIT_UNREADABLE
from movl_monai.ingest.page import render_page
from movl_monai.ingest.records import STATUSES
from tests.browser import assert_fits
from tests.ingest.conftest import MakePng, MakeSlice
from tests.report.once import assert_once, distinct
from tests.tables import read_rows

OPTIONS = ["--workers", "0", "--no_progress", "--image_size", "16"]
SHIPPED = Path(pydicom.data.__file__).parent / "test_files"
SECTIONS = ["findings", "more-findings", "sets", "files", "pictures", "distributions", "intensities", "settings"]


class Page(HTMLParser):
    """Parser of a page: the anchors of its headings, its text, and everything that it would load."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.sources: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.sections += [values["id"] or ""] if tag == "h2" and "id" in values else []
        self.sources += [values[name] or "" for name in ("src", "href") if name in values]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pydicom's files, PNGs, NIfTI and junk, and beside it the output of `ingest`."""
    folder = tmp_path_factory.mktemp("mixed")
    root = folder / "in"
    shutil.copytree(SHIPPED, root / "dicom")
    generator = np.random.default_rng(0)
    for number in range(6):
        (root / "png").mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (30, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"png/{number}.png")
    shutil.copy(root / "png/0.png", root / "png/copy.png")
    nib.save(nib.Nifti1Image(generator.normal(size=(6, 7, 4)), np.eye(4)), root / "v.nii.gz")
    (root / "junk.dcm").write_bytes(generator.bytes(5000))
    (root / "empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("notes")
    (root / "loop").symlink_to(root)
    words = ["ingest", str(root), "--out", str(folder / "out/manifest.csv"), "--no_progress", "--workers", "2"]
    assert main([*words, "--image_size", "32", "--patient_pictures", "48"]) == 0
    return folder


def test_every_file_has_one_status_of_the_table(mixed: Path) -> None:
    report = read_rows(mixed / "out/ingest_report.csv")
    files = [path for path in (mixed / "in").rglob("*") if path.is_file() or path.is_symlink()]
    assert len(report) == len({row["id"] for row in report}) == len(files)
    counts = Counter(row["status"] for row in report)
    assert set(counts) <= set(STATUSES)
    assert counts["ok"] > 80
    assert counts["not_image"] > 50
    assert counts["segmentation"] == 2
    assert counts["linked_folder"] == counts["empty_file"] == 1
    assert not {"unexpected_error", "worker_died"} & set(counts)


def test_the_manifest_has_every_frame_of_every_readable_file(mixed: Path) -> None:
    report = {row["id"]: row for row in read_rows(mixed / "out/ingest_report.csv")}
    manifest = read_rows(mixed / "out/manifest.csv")
    assert len(manifest) == sum(int(row["images"]) for row in report.values())
    assert {row["status"] for row in report.values() if int(row["images"])} <= {"ok", "some_frames_unreadable"}
    assert sum(row["path"].endswith("v.nii.gz") for row in manifest) == 4


def test_the_page_has_its_sections_and_loads_nothing(mixed: Path) -> None:
    content = (mixed / "out/quality.html").read_text(encoding="utf-8")
    page = Page(content)
    assert page.sections == SECTIONS
    assert page.open == []
    assert len(page.sources) > 20
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "http" not in re.sub(r"Content-Security-Policy|http-equiv", "", content)
    assert len(content) < 500_000
    text = " ".join(page.words)
    for word in ("repeated_pixels", "Ultrasound", "JPEG Baseline", "MONOCHROME1", "nifti", "a link to a folder"):
        assert word in text


def test_every_number_of_the_page_stands_once(mixed: Path) -> None:
    numbered = distinct(json.loads((mixed / "out/quality.json").read_text(encoding="utf-8")))
    assert assert_once(numbered, render_page(numbered, [], withheld=0)) > 100


def test_the_page_fits_every_width(mixed: Path, tmp_path: Path) -> None:
    page = (mixed / "out/quality.html").read_text(encoding="utf-8")
    assert Page(page).sections == SECTIONS
    assert_fits(page, tmp_path)


def test_the_summary_names_counts_and_problems(
    tmp_path: Path, make_png: MakePng, capsys: pytest.CaptureFixture[str]
) -> None:
    make_png(tmp_path / "a.png")
    make_png(tmp_path / "b.png")
    assert main(["ingest", str(tmp_path), "--out", str(tmp_path / "m.csv"), *OPTIONS]) == 0
    said = capsys.readouterr().out
    assert "Files: 2 (2 read now, 0 known and unchanged)" in said
    assert "note: repeated_pixels: 2 images in 1 groups." in said
    assert "The images have no labels" in said
    assert str(tmp_path) not in said


def manifest(tmp_path: Path, *lines: str) -> list[str]:
    (tmp_path / "m.csv").write_text("\n".join(["path,label,patient_id,split", *lines]) + "\n")
    return ["check", str(tmp_path / "m.csv"), *OPTIONS]


def test_check_ends_with_0_where_nothing_is_wrong(tmp_path: Path, make_png: MakePng) -> None:
    for number in range(2):
        make_png(tmp_path / f"{number}.png", seed=number)
    assert main(manifest(tmp_path, "0.png,a,p,train", "1.png,b,q,val")) == 0


def test_check_ends_with_3_on_a_patient_in_two_splits(
    tmp_path: Path, make_png: MakePng, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        make_png(tmp_path / f"{number}.png", seed=number)
    assert main(manifest(tmp_path, "0.png,a,Jane Doe,train", "1.png,b,Jane Doe,val")) == EXIT_LEAKAGE == 3
    said = capsys.readouterr().out
    assert "LEAKAGE: patient_in_two_splits: 2 images in 1 groups" in said
    assert "Jane" not in said


def test_check_ends_with_3_on_a_patient_that_only_the_headers_tell(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, patient in enumerate("ppq"):
        make_slice(tmp_path / f"{number}.dcm", patient=patient, seed=number)
    lines = ("0.dcm,a,,train", "1.dcm,b,,val", "2.dcm,b,,train")
    assert main(manifest(tmp_path, *lines)) == 3


def test_check_ends_with_3_on_the_same_pixels_in_two_splits(tmp_path: Path, make_png: MakePng) -> None:
    for number in range(2):
        make_png(tmp_path / f"{number}.png", seed=0)
    words = manifest(tmp_path, "0.png,a,p,train", "1.png,b,q,val")
    assert main(words) == 3
    assert main([*words, "--headers_only"]) == 0


def test_check_ends_with_4_on_too_many_unreadable_files(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "0.png")
    words = manifest(tmp_path, "0.png,a,p,train", "lost.png,b,q,train")
    assert main(words) == EXIT_UNREADABLE == 4
    assert main([*words, "--max_unreadable", "0.5"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "none.csv"], "There is no file or folder 'none.csv'"),
        (["ingest", "none", "--out", "m.csv"], "'none' does not exist"),
        (["ingest", ".", "--out", "m.csv", "--split_fractions", "1,2"], "must be three numbers such as 0.6,0.2,0.2"),
        (["ingest", ".", "--out", "m.csv", "--workers", "-1"], "must be >= 0, got -1"),
        (["ingest", ".", "--out", "m.csv", "--labels", "dicom:PatientName"], "can identify people"),
        (["ingest", ".", "--out", "m.csv", "--salt", "short"], "salt must have 16 or more bytes"),
        (["ingest", ".", "--out", "m.csv", "--ct_windows", "liverr"], "The preprocessing cannot be made"),
        (["check", "m.csv", "--max_unreadable", "2"], r"must be a share in \[0, 1\], got 2"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(
    tmp_path: Path,
    make_png: MakePng,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    make_png(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("path,label\na.png,x\n")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("ingest", "check"):
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert "3 (check) leakage" in " ".join(capsys.readouterr().out.split())


def test_quality_json_is_plain(mixed: Path) -> None:
    quality = json.loads((mixed / "out/quality.json").read_text(encoding="utf-8"))
    assert quality["files"] == sum(quality["statuses"].values())
    assert sum(row["images"] for row in quality["distributions"]["modality"]) == quality["images"]
    for row in quality["intensities"]:
        assert sum(row["histogram"]) == pytest.approx(1, abs=0.01)
        assert row["lowest_mean"] <= row["mean"] <= row["highest_mean"]


def test_dark_images_are_found_and_the_options_named_brighten_them(
    tmp_path: Path, make_slice: MakeSlice, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        levels = np.random.default_rng(number).integers(0, 4095, (40, 40), dtype=np.uint16)
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(levels).save(tmp_path / "in" / f"{number}.png")
        make_slice(tmp_path / "in" / f"{number}.dcm", seed=number, Modality="MR", SOPClassUID=MRImageStorage, size=40)
    command = ["ingest", str(tmp_path / "in"), *OPTIONS, "--out"]
    assert main([*command, str(tmp_path / "dark" / "m.csv")]) == 0
    assert "nearly_black: 6 images" in capsys.readouterr().out
    assert "nearly_black" in (tmp_path / "dark" / "quality.html").read_text()
    assert all("nearly_black" in row["flags"] for row in read_rows(tmp_path / "dark" / "ingest_report.csv"))
    assert main(["check", str(tmp_path / "dark" / "m.csv"), *OPTIONS]) == 0
    assert "nearly_black: 6 images" in capsys.readouterr().out
    bright = ["--voi", "full", "--dicom_range", "percentile", "--value_range", "0,4095"]
    assert main([*command, str(tmp_path / "bright" / "m.csv"), *bright]) == 0
    assert "nearly_black" not in capsys.readouterr().out


def test_check_says_the_splits_of_a_training_or_why_it_would_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("a", "b"):
        for number in range(6):
            path = tmp_path / label / f"p{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("L", (16, 16), 20 * number + ord(label)).save(path)
    assert main(["check", str(tmp_path), *OPTIONS]) == 0
    assert "Training would stop: " in capsys.readouterr().out
    assert main(["check", str(tmp_path), *OPTIONS, "--patient_pattern", r"(?P<patient>p\d)"]) == 0
    assert re.search(r"Training would read:\n.*\nid +train +a +\d", capsys.readouterr().out)
