"""From a folder to the manifest and back: the files, the refusals and the messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from movl_monai.cli import main
from movl_monai.data import read_datalist, read_unlabelled
from movl_monai.data.ids import IdMap
from movl_monai.errors import DataError
from movl_monai.ingest.run import Outcome, Reading, check_manifest, ingest_folder
from tests.ingest.conftest import SMALL, MakePng, MakeSlice
from tests.tables import read_rows

READING = Reading(preprocessing=SMALL, progress=False, patient_pictures=4)


def ingest(root: Path, name: str = "manifest.csv", **options: Any) -> Outcome:
    return ingest_folder(root, out=root / name, reading=options.pop("reading", READING), **options)


def class_folders(root: Path, make_slice: MakeSlice, *, patients: int = 6) -> Path:
    """Two slices of each patient, in two classes."""
    for patient in range(patients):
        for label in ("ill", "well"):
            name = f"{label}/{patient}.dcm"
            make_slice(root / name, patient=f"p{patient}", series=name, seed=2 * patient + (label == "ill"))
    return root


def test_the_manifest_is_read_back_unchanged(tmp_path: Path, make_slice: MakeSlice) -> None:
    root = class_folders(tmp_path, make_slice)
    ingest(root, labels="folders")
    listed = read_rows(root / "manifest.csv")
    datalist = read_datalist(root / "manifest.csv")
    assert len(listed) == len(datalist) == 12
    names = datalist.class_names
    by_id = {item["id"]: item for item in datalist}
    for row in listed:
        item = by_id[row["id"]]
        assert (names[item["label"]], item["patient_id"], item["split"], item["domain"]) == (
            row["label"],
            row["patient_id"],
            row["split"],
            row["domain"],
        )
        assert item["image"] == str(root / row["path"])
    assert {row["split"] for row in listed} == {"train", "val", "test"}


def test_patients_of_the_manifest_are_salted_and_never_divided(tmp_path: Path, make_slice: MakeSlice) -> None:
    root = class_folders(tmp_path, make_slice)
    outcome = ingest(root, labels="folders")
    listed = read_rows(root / "manifest.csv")
    salted = {IdMap(root / "local/id_map.json").patient_id(f"|p{number}") for number in range(6)}
    assert {row["patient_id"] for row in listed} == salted
    assert len({(row["patient_id"], row["split"]) for row in listed}) == 6
    assert not any(finding["level"] == "leak" for finding in outcome.quality["findings"])


def test_equal_folders_get_equal_splits_whatever_the_salt(tmp_path: Path, make_slice: MakeSlice) -> None:
    splits = []
    for name in ("one", "two", "three"):
        root = class_folders(tmp_path / name, make_slice, patients=12)
        ingest(root, labels="folders")
        splits.append({row["path"]: row["split"] for row in read_rows(root / "manifest.csv")})
    assert splits[0] == splits[1] == splits[2]


def test_frames_are_rows_and_volumes_are_columns(tmp_path: Path, make_slice: MakeSlice) -> None:
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(5, 6, 3)), np.eye(4)), tmp_path / "v.nii")
    for number, z in enumerate((4.0, 2.0)):
        make_slice(tmp_path / f"s{number}.dcm", z=z, seed=number)
    ingest(tmp_path)
    listed = read_rows(tmp_path / "manifest.csv")
    assert [(row["path"], row["frame"], row["slice_position"]) for row in listed] == [
        ("s1.dcm", "", "0.0"),
        ("s0.dcm", "", "2.0"),
        ("v.nii", "0", "0.0"),
        ("v.nii", "1", "1.0"),
        ("v.nii", "2", "2.0"),
    ]
    assert len({row["volume"] for row in listed}) == 2
    unlabelled = read_unlabelled(tmp_path / "manifest.csv", class_names=["a", "b"])
    assert {item["id"] for item in unlabelled} == {row["id"] for row in listed}


def test_a_csv_with_labels_carries_masks_splits_and_domains(tmp_path: Path, make_png: MakePng) -> None:
    root = tmp_path / "in"
    for number in range(3):
        make_png(root / f"{number}.png", seed=number)
        make_png(root / f"masks/{number}.png", seed=9)
    lines = ["path,label,mask,patient_id,split,domain"]
    lines += [f"{n}.png,{'ab'[n % 2]},masks/{n}.png,q{n},{('train', 'train', 'test')[n]},id" for n in range(3)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    outcome = ingest(root, labels=str(tmp_path / "labels.csv"), split_fractions=None)
    listed = read_rows(root / "manifest.csv")
    assert [(row["path"], row["mask"], row["split"]) for row in listed] == [
        ("0.png", "masks/0.png", "train"),
        ("1.png", "masks/1.png", "train"),
        ("2.png", "masks/2.png", "test"),
    ]
    assert outcome.quality["statuses"] == {"not_in_list": 3, "ok": 3}
    item = read_datalist(root / "manifest.csv", split_fractions=None)[0]
    assert item["mask"] == str(root / "masks/0.png")


def test_labels_from_a_tag(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number, part in enumerate(("HEAD", "CHEST", None)):
        make_slice(tmp_path / f"{number}.dcm", patient=str(number), seed=number, BodyPartExamined=part)
    outcome = ingest(tmp_path, labels="dicom:BodyPartExamined", split_fractions=None)
    assert [row["label"] for row in read_rows(tmp_path / "manifest.csv")] == ["HEAD", "CHEST"]
    assert outcome.quality["statuses"] == {"ok": 2, "no_label": 1}


def test_a_folder_without_labels_says_so(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    outcome = ingest(tmp_path)
    assert read_rows(tmp_path / "manifest.csv")[0]["label"] == ""
    assert any("have no labels, and no splits were made" in note for note in outcome.notes)


@pytest.mark.parametrize("patient", ["", "ANONYMOUS"])
def test_patients_that_cannot_be_told_apart_are_not_split(tmp_path: Path, make_slice: MakeSlice, patient: str) -> None:
    for number in range(8):
        make_slice(tmp_path / f"{'ab'[number % 2]}/{number}.dcm", patient=patient, seed=number)
    with pytest.raises(DataError, match="8 of 8 is not known .* --patient_pattern, --one_image_per_patient"):
        ingest(tmp_path, labels="folders")
    assert not (tmp_path / "manifest.csv").exists()
    assert {row["status"] for row in read_rows(tmp_path / "ingest_report.csv")} == {"ok"}
    outcome = ingest(tmp_path, labels="folders", one_image_per_patient=True)
    assert (outcome.known, outcome.quality["patients"]) == (8, 8)
    pattern = Reading(preprocessing=SMALL, progress=False, patient_pattern=r"(?P<patient>\d+)\.dcm")
    assert ingest(tmp_path, labels="folders", reading=pattern).quality["patients"] == 8


def test_a_pattern_that_does_not_match_is_an_error(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    with pytest.raises(DataError, match="finds no patient in 1 of 1 images"):
        ingest(tmp_path, reading=Reading(preprocessing=SMALL, progress=False, patient_pattern=r"(?P<patient>\d+)"))


def test_many_values_are_no_classes(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number in range(101):
        make_slice(tmp_path / f"{number}.dcm", size=4, seed=number, SeriesNumber=number)
    headers = Reading(preprocessing=SMALL, progress=False, headers_only=True)
    with pytest.raises(DataError, match="101 different values in 101 images, as identifiers have"):
        ingest(tmp_path, labels="dicom:SeriesNumber", reading=headers)


def test_a_folder_of_junk_is_an_error_and_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("junk")
    with pytest.raises(DataError, match=r"No image was found \(other_file 1\)"):
        ingest(tmp_path)
    assert [row["status"] for row in read_rows(tmp_path / "ingest_report.csv")] == ["other_file"]


@pytest.mark.parametrize(
    ("folder", "out", "message"),
    [
        ("none", "m.csv", "'none' does not exist"),
        ("a.png", "m.csv", "'a.png' is a file, not a folder"),
        (".", "a.png/m.csv", "Nothing can be written to the folder 'a.png'"),
        (".", "sub", "--output 'sub' is a folder"),
    ],
)
def test_places_that_cannot_be_used_are_errors(
    tmp_path: Path, make_png: MakePng, folder: str, out: str, message: str
) -> None:
    make_png(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=message):
        ingest_folder(tmp_path / folder, out=tmp_path / out, reading=READING)


def test_our_own_files_are_not_looked_at(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    assert ingest(tmp_path).quality["files"] == 1
    again = ingest(tmp_path)
    assert (again.quality["files"], again.read, again.known) == (1, 0, 1)
    assert ingest(tmp_path, fresh=True).read == 1


def test_the_same_folder_gives_the_same_files(tmp_path: Path, make_slice: MakeSlice) -> None:
    root = class_folders(tmp_path / "in", make_slice)
    contents = []
    for name in ("one", "two"):
        ingest_folder(root, out=tmp_path / name / "m.csv", labels="folders", reading=READING, salt="0123456789abcdef")
        names = ("m.csv", "ingest_report.csv", "quality.json", "quality.html")
        contents.append([(tmp_path / name / file).read_bytes() for file in names])
    assert contents[0] == contents[1]


def test_paths_outside_of_the_manifests_folder_are_absolute(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "in/a.png")
    outcome = ingest_folder(tmp_path / "in", out=tmp_path / "out/m.csv", reading=READING)
    assert read_rows(tmp_path / "out/m.csv")[0]["path"] == str(tmp_path / "in/a.png")
    assert any("absolute paths" in note for note in outcome.notes)


def test_images_that_may_show_a_name_are_not_pictured(tmp_path: Path, make_slice: MakeSlice) -> None:
    make_slice(tmp_path / "a.dcm", seed=1)
    make_slice(tmp_path / "b.dcm", seed=2, BurnedInAnnotation="YES")
    make_slice(tmp_path / "c.dcm", seed=3, ConversionType="DV")
    make_slice(tmp_path / "d.dcm", seed=4, Modality="US")
    make_slice(tmp_path / "e.dcm", seed=5, Modality="US", BurnedInAnnotation="NO")
    quality = ingest(tmp_path).quality
    shown = {row["path"] for row in read_rows(tmp_path / "manifest.csv") if row["id"] in quality["pictures"]["shown"]}
    assert shown == {"a.dcm", "e.dcm"}
    assert quality["pictures"]["withheld"] == 3
    page = (tmp_path / "quality.html").read_text()
    assert page.count("<img") == 2
    assert "3 images are not shown because they may show a name" in page


def test_headers_only_finds_all_but_the_pixels(tmp_path: Path, make_slice: MakeSlice) -> None:
    for number in range(3):
        make_slice(tmp_path / f"{number}.dcm", z=number, seed=0)
    quality = ingest(tmp_path, reading=Reading(preprocessing=SMALL, progress=False, headers_only=True)).quality
    assert (quality["images"], quality["volumes"], quality["intensities"]) == (3, 1, [])
    assert "repeated_pixels" not in {finding["code"] for finding in quality["findings"]}
    assert "<img" not in (tmp_path / "quality.html").read_text()


PLANTED = ("Zyxwvut", "QQSECRET", "19010119")


def test_nothing_that_identifies_is_written(
    tmp_path: Path, make_slice: MakeSlice, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    for number in range(3):
        path = root / f"Zyxwvut_{number}/QQSECRET.dcm"
        make_slice(
            path,
            patient="QQSECRET",
            series="x",
            z=number,
            seed=number,
            PatientName="Zyxwvut^Jane",
            PatientBirthDate="19010119",
            InstitutionName="QQSECRET",
            ViewPosition="ZYXWVUT",
            ImageType=["ORIGINAL", "QQSECRET"],
            IssuerOfPatientID="Zyxwvut",
            SeriesDescription="QQSECRET",
        )
    (root / "Zyxwvut.dcm").write_bytes(path.read_bytes()[:900])
    (root / "QQSECRET.png").write_bytes(b"\x89PNG\r\n\x1a\nQQSECRET")
    outcome = ingest_folder(root, out=tmp_path / "out/m.csv", reading=READING)
    check_manifest(tmp_path / "out/m.csv", output_dir=tmp_path / "checked", reading=READING)
    written = [path for folder in ("out", "checked") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    assert len(written) == 11
    uids = {row["series"] for row in read_rows(tmp_path / "out/m.csv")}
    assert all(len(uid) == 12 for uid in uids)
    for path in written:
        if path.name in ("m.csv", "id_map.json"):  # the two that hold paths
            continue
        content = path.read_bytes().lower()
        assert not [text for text in PLANTED if text.lower().encode() in content], path.name
    # of the manifest only the paths name anyone
    told = [value for row in read_rows(tmp_path / "out/m.csv") for name, value in row.items() if name != "path"]
    assert not [text for text in PLANTED if text.lower() in " ".join(told).lower()]
    said = "".join(capfd.readouterr()) + caplog.text + repr(outcome.quality)
    assert not [text for text in PLANTED if text.lower() in said.lower()]
    for path in (tmp_path / "out/local/id_map.json", tmp_path / "out/local/ingest_journal.sqlite"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_labels_of_slides_are_neither_listed_nor_pictured(tmp_path: Path, make_slice: MakeSlice) -> None:
    make_slice(tmp_path / "tissue.dcm", Modality="SM")
    make_slice(tmp_path / "label.dcm", Modality="SM", ImageType=["ORIGINAL", "PRIMARY", "LABEL"])
    outcome = ingest_folder(tmp_path, out=tmp_path / "m.csv", reading=READING)
    assert outcome.quality["statuses"] == {"label_image": 1, "ok": 1}
    assert [row["path"] for row in read_rows(tmp_path / "m.csv")] == ["tissue.dcm"]
    assert len(outcome.quality["pictures"]["shown"]) == 1


def test_quality_json_is_the_outcome(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    assert json.loads((ingest(tmp_path).files[-1]).read_text()) == ingest(tmp_path).quality


def test_a_manifest_is_checked_without_writing(tmp_path: Path, make_slice: MakeSlice) -> None:
    root = class_folders(tmp_path, make_slice)
    ingest(root, labels="folders")
    before = sorted(path.name for path in root.rglob("*"))
    outcome = check_manifest(root / "manifest.csv", reading=READING)
    assert sorted(path.name for path in root.rglob("*")) == before
    assert outcome.quality["images"] == 12
    assert outcome.files == []


def test_missing_files_and_frames_of_a_manifest_have_a_status(tmp_path: Path, make_png: MakePng) -> None:
    make_png(tmp_path / "a.png")
    make_png(tmp_path / "b.png")
    (tmp_path / "m.csv").write_text("path,label,frame\na.png,x,\nlost.png,x,\nb.png,y,7\n")
    outcome = check_manifest(tmp_path / "m.csv", reading=READING)
    assert outcome.quality["statuses"] == {"bad_frame": 1, "missing_file": 1, "ok": 1}


def test_a_manifest_without_any_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label\nlost.png,x\n")
    with pytest.raises(DataError, match=r"No image was found \(missing_file 1\)"):
        check_manifest(tmp_path / "m.csv", reading=READING)


def test_a_patient_under_two_spellings_in_two_splits_is_leakage(tmp_path: Path, make_png: MakePng) -> None:
    listed = [("a", "7", "train"), ("b", "007", "test"), ("c", "P8", "train"), ("d", "p8", "train"), ("e", "9", "test")]
    for seed, (name, _, _) in enumerate(listed):
        make_png(tmp_path / f"{name}.png", seed=seed)
    lines = [f"{name}.png,x,{patient},{split}" for name, patient, split in listed]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label,patient_id,split", *lines]))
    arguments = ["check", str(tmp_path / "manifest.csv"), "--workers", "0", "--no_progress"]
    assert main(arguments) == 3
    found = {
        finding["code"]: finding
        for finding in check_manifest(tmp_path / "manifest.csv", reading=READING).quality["findings"]
    }
    assert (found["patient_in_two_splits"]["groups"], found["patient_spellings"]["groups"]) == (1, 2)


def test_ingest_gives_labels_and_patients_one_spelling(tmp_path: Path, make_png: MakePng) -> None:
    lines = [
        f"{n}.png,{('ill', 'ILL', 'well', 'ill', 'well')[n % 5]},{n // 2 if n % 2 else f'0{n // 2}'}" for n in range(30)
    ]
    for n in range(30):
        make_png(tmp_path / f"{n}.png", seed=n)
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,patient_id", *lines]))
    apart = ingest(tmp_path, labels=str(tmp_path / "labels.csv"))
    assert "label_spellings" in {finding["code"] for finding in apart.quality["findings"]}
    merged = ingest(tmp_path, labels=str(tmp_path / "labels.csv"), merge_labels=True)
    codes = {finding["code"] for finding in merged.quality["findings"]}
    assert "patient_spellings" in codes
    assert not codes & {"label_spellings", "patient_in_two_splits"}
    assert {row["label"] for row in merged.quality["sets"]} == {"ill", "well"}
    assert merged.quality["patients"] == 15


def test_dicom_files_without_series_uid_are_read_and_found(tmp_path: Path, make_slice: MakeSlice) -> None:
    class_folders(tmp_path, make_slice)
    for number in range(3):
        make_slice(tmp_path / f"ill/lone{number}.dcm", patient="p0", seed=100 + number, SeriesInstanceUID="")
    outcome = ingest(tmp_path, labels="folders")
    found = {finding["code"]: finding["images"] for finding in outcome.quality["findings"]}
    assert found["no_series_uid"] == 3
    assert len(read_rows(tmp_path / "manifest.csv")) == 15
