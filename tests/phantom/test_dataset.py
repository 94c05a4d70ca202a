"""The phantom data set: repeatable, idempotent, balanced, patient-disjoint, careful with folders."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest

from movl_monai.errors import DataError
from movl_monai.phantom import write_phantom
from movl_monai.phantom.dataset import KINDS, KindName
from movl_monai.phantom.lesions import draw_labels
from tests.tables import read_rows

SMALL = {"patients": (2, 1, 1, 2), "images_per_patient": 2, "size": 64, "progress": False}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / "manifest.csv")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, **SMALL)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_phantom_is_byte_identical_for_the_same_seed_and_other_for_another(tmp_path: Path, kind: KindName) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for folder, seed in ((first, 0), (again, 0), (other, 1)):
        write_phantom(folder, kind=kind, seed=seed, **SMALL | {"patients": (1, 0, 0, 1)})  # type: ignore[arg-type]
    written, changed = digests(first), digests(other)
    assert digests(again) == written
    assert all(changed.get(name) != digest for name, digest in written.items() if name.endswith(".dcm"))


def test_phantom_of_the_first_kind_is_as_it_always_was(phantom: Path) -> None:
    record = json.loads((phantom / "phantom.json").read_text())
    assert record["settings"] == {
        "seed": 0,
        "patients": [2, 1, 1, 2],
        "images_per_patient": 2,
        "size": 64,
        "version": 1,
    }
    text = digests(phantom)
    assert text["manifest.csv"] == "af0d1c14e221e5da3414f383c31b5bea9eb868312324a6c3da3841d8f0c277b2"
    assert text["phantom.json"] == "807bbd5061b50332766d277b792dc759319f019ad87e9f3759306d804984cf67"
    dataset = pydicom.dcmread(phantom / "images" / "scanner_b" / "0005_1.dcm")
    assert dataset.SOPInstanceUID == "1.2.826.0.1.3680043.8.498.11416501502227296578161139256844795044"
    assert dataset.pixel_array.mean() == pytest.approx(11071.6, abs=1)  # the last bit may differ between processors


def test_phantom_keeps_a_complete_folder_untouched(phantom: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
    summary = write_phantom(phantom, **SMALL)  # type: ignore[arg-type]
    assert summary.kept
    assert {path: path.stat().st_mtime_ns for path in phantom.rglob("*")} == before


@pytest.mark.parametrize("damage", ["interrupted", "file missing", "manifest missing"])
def test_phantom_rebuilds_a_partial_folder(tmp_path: Path, damage: str) -> None:
    write_phantom(tmp_path, **SMALL)  # type: ignore[arg-type]
    complete = digests(tmp_path)
    if damage == "interrupted":
        record = json.loads((tmp_path / "phantom.json").read_text())
        (tmp_path / "phantom.json").write_text(json.dumps(record | {"complete": False}))
        (tmp_path / "images" / "scanner_a" / "0001_1.dcm").write_bytes(b"half")
    elif damage == "file missing":
        (tmp_path / "images" / "scanner_a" / "0001_1.dcm").unlink()
    else:
        (tmp_path / "manifest.csv").unlink()
    assert not write_phantom(tmp_path, **SMALL).kept  # type: ignore[arg-type]
    assert digests(tmp_path) == complete


def test_phantom_writes_nothing_into_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty and holds no phantom"):
        write_phantom(tmp_path, **SMALL)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_phantom_of_other_settings_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    write_phantom(tmp_path, **SMALL)  # type: ignore[arg-type]
    write_phantom(tmp_path, kind="findings", overwrite=True, **SMALL)  # type: ignore[arg-type]
    fewer = SMALL | {"patients": (1, 0, 0, 1)}
    with pytest.raises(DataError, match="Name another folder, or pass overwrite"):
        write_phantom(tmp_path, **fewer)  # type: ignore[arg-type]
    assert write_phantom(tmp_path, overwrite=True, **fewer).images == 4  # type: ignore[arg-type]
    assert len(list(tmp_path.rglob("*.dcm"))) == 4
    assert not (tmp_path / "truth.csv").exists()


def test_phantom_manifest_names_every_file_once(phantom: Path) -> None:
    listed = [row["path"] for row in rows(phantom)]
    assert sorted(listed) == sorted(path.relative_to(phantom).as_posix() for path in phantom.rglob("*.dcm"))
    assert list(rows(phantom)[0]) == ["path", "label", "patient_id", "split", "domain"]


def test_phantom_has_no_patient_in_two_splits(phantom: Path) -> None:
    places = defaultdict(set)
    for row in rows(phantom):
        places[row["patient_id"]].add((row["domain"], row["split"]))
    assert {len(found) for found in places.values()} == {1}
    assert {place for found in places.values() for place in found} == {
        ("id", "train"),
        ("id", "val"),
        ("id", "test"),
        ("scanner_b", "test"),
    }


def test_phantom_record_counts_what_the_manifest_lists(phantom: Path) -> None:
    record = json.loads((phantom / "phantom.json").read_text())
    counts: dict[str, int] = defaultdict(int)
    for row in rows(phantom):
        counts[f"{row['domain']}/{row['split']}/{row['label']}"] += 1
    assert record["counts"] == dict(counts)
    assert record["complete"] is True
    assert record["class_names"] == ["no_lesion", "lesion"]


@pytest.mark.parametrize(("patients", "images"), [(60, 4), (30, 4), (7, 2), (4, 3)])
def test_labels_are_balanced(patients: int, images: int) -> None:
    assert draw_labels(patients, images, np.random.default_rng(0)).sum() * 2 == patients * images


def test_labels_depend_on_the_patient_but_not_completely() -> None:
    lesions = draw_labels(60, 4, np.random.default_rng(0)).sum(axis=1)
    assert set(lesions) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "moles"}, "kind must be one of lesion, findings"),
        ({"seed": -1}, "seed >= 0"),
        ({"images_per_patient": 0}, "images_per_patient >= 1"),
        ({"size": 32}, "size >= 64"),
        ({"patients": (0, 0, 0, 0)}, "four numbers >= 0"),
        ({"patients": (1, 1, 1)}, "four numbers >= 0"),
        ({"patients": (1, 1, 1, -1)}, "four numbers >= 0"),
    ],
)
def test_phantom_refuses_impossible_numbers(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_phantom(tmp_path, **options)
    assert not any(tmp_path.iterdir())
