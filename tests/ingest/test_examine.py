"""One file to its record: header, frames, pixels, and a status for each kind of fault."""

from __future__ import annotations

import hashlib
import os
import pkgutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from movl_monai.data.duplicates import find_duplicates
from movl_monai.data.ids import Salter
from movl_monai.ingest.examine import Examine, Known, Task
from movl_monai.ingest.records import FileRecord
from tests.ingest.conftest import SALT, SMALL, MakePng, MakeSlice, read_folder
from tests.readers.dicom.objects import as_file, grey_object, shipped


def examine(path: Path, *, known: Known | None = None, pixels: bool = True, **options: Any) -> FileRecord | None:
    transform = SMALL.build() if pixels else None
    return Examine(root=path.parent, salter=Salter(SALT), transform=transform, **options)(Task("key", str(path), known))


def record(path: Path, **options: Any) -> FileRecord:
    found = examine(path, **options)
    assert found is not None
    return found


def known_of(found: FileRecord) -> Known:
    return Known(found.size, found.modified, found.digest, found.covered)


def test_what_a_slice_says_is_kept_and_whom_it_names_is_salted(tmp_path: Path, make_slice: MakeSlice) -> None:
    path = make_slice(tmp_path / "a.dcm", z=7.0, patient="Jane", BurnedInAnnotation="YES", BodyPartExamined="HEAD")
    found = record(path, label="BodyPartExamined")
    assert (found.status, found.format, found.modality, found.rows, found.bits) == ("ok", "dicom", "CT", 12, 16)
    assert (found.burned_in, found.label, found.sop_class) == ("YES", "HEAD", "CT Image Storage")
    assert found.patient == Salter(SALT).short("patient", "|Jane")
    (frame,) = found.frames
    assert (frame.z, frame.row_spacing) == (7.0, 1.0)
    assert "Jane" not in repr(found)


def test_the_pixel_hash_is_that_of_the_images_that_training_compares(tmp_path: Path, make_png: MakePng) -> None:
    first, copy, other = (
        make_png(tmp_path / "a.png"),
        make_png(tmp_path / "b.png"),
        make_png(tmp_path / "c.png", seed=1),
    )
    hashes = [record(path).frames[0].pixels for path in (first, copy, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    image = (SMALL.build()({"image": str(first)})["image"] * 255).round().to(torch.uint8)
    assert hashes[0] == hashlib.blake2b(image.numpy().tobytes(), digest_size=16).hexdigest()
    assert find_duplicates(
        image[None].repeat(2, 1, 1, 1), [{"domain": "id", "split": "", "label": 0}] * 2, id_domain="id"
    )


def test_an_image_of_one_value_has_no_hash(tmp_path: Path) -> None:
    Image.new("L", (9, 9), 40).save(tmp_path / "a.png")
    (frame,) = record(tmp_path / "a.png").frames
    assert (frame.pixels, frame.mean, frame.deviation) == ("", 40.0, 0.0)


def test_mean_deviation_and_histogram_are_those_of_what_the_model_sees(tmp_path: Path) -> None:
    pixels = np.repeat(np.array([[0, 255]], np.uint8), 8, axis=1).repeat(16, axis=0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = record(tmp_path / "a.png")
    assert found.frames[0].mean == pytest.approx(127.5, abs=0.1)
    assert found.frames[0].deviation == pytest.approx(127.5, abs=0.1)
    shares = [int(share) for share in found.histogram.split()]
    assert (len(shares), shares[0], shares[-1]) == (32, 500, 500)


def test_every_slice_and_frame_and_page_is_read(tmp_path: Path) -> None:
    volume = nib.Nifti1Image(np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32), np.diag([1, 2, 3, 1]))
    nib.save(volume, tmp_path / "v.nii")
    found = record(tmp_path / "v.nii")
    assert [frame.frame for frame in found.frames] == [0, 1, 2]
    assert len({frame.pixels for frame in found.frames}) == 3
    assert (found.rows, found.columns, found.thickness) == (6, 5, 3.0)
    assert len(record(shipped("eCT_Supplemental.dcm")).frames) == 2
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 9)]
    pages[0].save(tmp_path / "p.tiff", save_all=True, append_images=pages[1:])
    assert len(record(tmp_path / "p.tiff").frames) == 2


def test_of_a_film_without_functional_groups_no_frame_has_a_position() -> None:
    found = record(shipped("rtdose.dcm"), pixels=False)
    assert len(found.frames) == 15
    assert all(frame.z is None for frame in found.frames)


@pytest.mark.parametrize(
    ("content", "name", "status"),
    [
        (b"", "a.dcm", "empty_file"),
        (b"hello", "a.dcm", "unsupported_format"),
        (b"hello", "notes.txt", "other_file"),
        (bytes(128) + b"DICM", "a.dcm", "truncated"),
        (b"\x89PNG\r\n\x1a\n damaged", "a.png", "truncated"),
    ],
)
def test_what_is_no_image_has_a_status(tmp_path: Path, content: bytes, name: str, status: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert record(tmp_path / name).status == status


def test_a_dicom_file_called_like_a_text_is_read(tmp_path: Path, make_slice: MakeSlice) -> None:
    assert record(make_slice(tmp_path / "readme.txt")).status == "ok"


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("reportsi.dcm", "not_image", "Basic Text SR Storage"),
        ("liver_1frame.dcm", "segmentation", "Segmentation Storage"),
        ("rtplan.dcm", "not_image", "RT Plan Storage"),
    ],
)
def test_objects_that_are_no_images_are_named_by_their_class(name: str, status: str, detail: str) -> None:
    found = record(shipped(name))
    assert (found.status, found.detail) == (status, detail)


def test_codes_that_are_not_of_the_standard_are_not_repeated(tmp_path: Path) -> None:
    planted = {"ViewPosition": "DOE JANE", "Laterality": "DOE", "BurnedInAnnotation": "JANE", "Modality": "DOE"}
    path = tmp_path / "a.dcm"
    as_file(grey_object(np.arange(4, dtype=np.uint8).reshape(2, 2), **planted), path)
    found = record(path)
    assert (found.view, found.laterality, found.burned_in, found.modality) == ("other",) * 4
    assert "DOE" not in repr(found)
    assert "JANE" not in repr(found)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, make_png: MakePng) -> None:
    path = make_png(tmp_path / "a.png")
    assert examine(path, known=known_of(record(path))) is None


@pytest.mark.parametrize("pixels", [True, False])
def test_a_file_with_other_content_of_the_same_size_and_time_is_read_again(
    tmp_path: Path, make_slice: MakeSlice, pixels: bool
) -> None:
    path = make_slice(tmp_path / "a.dcm", patient="p1")
    first = record(path, pixels=pixels)
    make_slice(path, patient="p2")
    os.utime(path, ns=(first.modified, first.modified))
    second = examine(path, known=known_of(first), pixels=pixels)
    assert second is not None
    assert (second.size, second.modified) == (first.size, first.modified)
    assert second.patient != first.patient


def test_headers_alone_are_enough_for_all_but_the_pixels(tmp_path: Path, make_slice: MakeSlice) -> None:
    path = make_slice(tmp_path / "a.dcm")
    whole, header = record(path), record(path, pixels=False)
    assert 0 < header.covered < whole.covered == path.stat().st_size
    assert (header.patient, header.series, header.frames[0].z) == (whole.patient, whole.series, whole.frames[0].z)
    assert header.frames[0].pixels == header.histogram == ""


@pytest.mark.parametrize(
    "step",
    ["file_problem", "os.stat", "sniff_format", "scan_header", "_fill_in", "_digest", "decode", "_fill_in_pixels"],
)
def test_an_error_in_any_step_is_the_status_of_the_file(
    tmp_path: Path, make_slice: MakeSlice, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise IndexError("DOE^JANE")

    path = make_slice(tmp_path / "a.dcm", z=7.0)
    examine = Examine(root=tmp_path, salter=Salter(SALT), transform=SMALL.build())
    monkeypatch.setattr(pkgutil.resolve_name("movl_monai.ingest.examine"), *_named(step, fail))
    found = examine(Task("key", str(path), None))
    assert found is not None
    assert (found.status, found.detail, found.frames) == ("unexpected_error", "IndexError", [])


def _named(step: str, fail: Any) -> tuple[str, Any]:
    return ("os", SimpleNamespace(stat=fail)) if step == "os.stat" else (step, fail)


@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], "primary"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        (["ORIGINAL", "PRIMARY", "M", "ND", "NORM", "MOSAIC"], "mosaic"),
        (["DERIVED", "SECONDARY", "MPR"], "reformatted"),
        (["DERIVED", "PRIMARY", "PROJECTION IMAGE", "M"], "projection"),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"], "map"),
        (["DERIVED", "SECONDARY", "SUBTRACTION"], "subtraction"),
        (["DERIVED", "SECONDARY"], "derived"),
        (["DERIVED", "PRIMARY", "POST_PROCESSED"], "primary"),
    ],
)
def test_the_kind_of_image_is_told_by_its_type(
    tmp_path: Path, make_slice: MakeSlice, image_type: list[str], kind: str
) -> None:
    make_slice(tmp_path / "a.dcm", ImageType=image_type, PresentationIntentType="FOR PROCESSING")
    with read_folder(tmp_path, pixels=False) as journal:
        assert journal.db.execute("SELECT kind, intent FROM files").fetchall() == [(kind, "FOR PROCESSING")]
