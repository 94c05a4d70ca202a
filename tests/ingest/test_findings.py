"""Each problem is found in its own place, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from movl_monai.ingest.findings import Finding, find_problems
from movl_monai.ingest.journal import Journal
from movl_monai.ingest.listing import ImageRow, add_image, make_images_table
from movl_monai.ingest.records import FileRecord, FrameRecord
from movl_monai.ingest.volumes import FLAGS

IMAGE = {"label": "x", "patient": "p", "split": "train", "domain": "id"}


def problems(*images: dict[str, Any], volume: str = "") -> dict[str, Finding]:
    """Return the findings among made-up images.

    Each image has its own pixels and belongs to patient p, in train, unless its dictionary differs.
    """
    with Journal(None, settings="") as journal:
        make_images_table(journal)
        journal.db.execute("CREATE TEMP TABLE placed (key, frame, volume)")
        journal.db.execute("CREATE TEMP TABLE volumes (volume, slices, flags)")
        for number, changes in enumerate(images):
            values = {**IMAGE, "pixels": f"hash{number}", "mean": 9.0, "modality": "CT", **changes}
            exposure = values.pop("exposure", "")
            frame = FrameRecord(frame=0, pixels=values.pop("pixels"), mean=values.pop("mean"), exposure=exposure)
            row = {name: values.pop(name) for name in ("label", "patient", "split", "domain")}
            journal.put(str(number), FileRecord(frames=[frame], **{"series": "s", **values}))
            add_image(
                journal,
                ImageRow(key=str(number), frame=0, shown=None, id=f"id{number}", header_patient=None, mask=None, **row),
            )
            journal.db.execute("INSERT INTO placed VALUES (?, 0, 'v')", (str(number),))
        journal.db.execute("INSERT INTO volumes VALUES ('v', ?, ?)", (len(images), volume))
        return {finding.code: finding for finding in find_problems(journal, id_domain="id")}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert problems({}, {"patient": "q", "split": "val"}, {"patient": "q", "split": "val"}) == {}


def test_a_patient_in_two_splits_is_leakage() -> None:
    found = problems({}, {"split": "test"}, {"patient": "q"}, {"patient": "r", "split": None})
    assert set(found) == {"patient_in_two_splits"}
    finding = found["patient_in_two_splits"]
    assert (finding.level, finding.images, finding.groups, finding.examples) == ("leak", 2, 1, [["id0", "id1"]])


def test_a_patient_in_another_domain_is_no_leakage() -> None:
    assert problems({}, {"split": "test", "domain": "far"}) == {}


@pytest.mark.parametrize("other", [{"split": "val"}, {"split": "test", "domain": "far"}])
def test_the_same_pixels_elsewhere_are_leakage(other: dict[str, str]) -> None:
    found = problems({"pixels": "h"}, {"pixels": "h", "patient": "q", **other})
    assert found["pixels_in_two_splits"].level == "leak"
    assert found["pixels_of_two_patients"].images == 2


def test_the_same_pixels_in_one_split_or_in_two_foreign_domains_are_none() -> None:
    assert set(problems({"pixels": "h"}, {"pixels": "h"})) == {"repeated_pixels"}
    far = {"pixels": "h", "split": "test"}
    assert set(problems({**far, "domain": "b"}, {**far, "domain": "c"})) == {"repeated_pixels"}


def test_blank_images_are_no_copies() -> None:
    assert set(problems({"pixels": ""}, {"pixels": "", "split": "val", "patient": "q"})) == {"blank"}


def test_headers_alone_say_nothing_of_blank_images() -> None:
    assert problems({"pixels": "", "mean": None}) == {}


def test_contradicting_labels() -> None:
    found = problems({"pixels": "h"}, {"pixels": "h", "label": "y"})
    assert found["pixels_under_two_labels"].level == "warning"
    assert found["patient_under_two_labels"].level == "note"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"patient": None}, "patient_unknown"),
        ({"burned_in": "YES"}, "burned_in"),
        ({"secondary_capture": 1}, "secondary_capture"),
        ({"secondary_capture": 0, "kind": "mosaic"}, "mosaic"),
        ({"exposure": "nearly_black"}, "nearly_black"),
        ({"exposure": "nearly_white"}, "nearly_white"),
        ({"exposure": "few_levels"}, "few_levels"),
        ({"flags": "implausible_hu"}, "implausible_hu"),
        ({"flags": "window_in_stored_units other"}, "window_in_stored_units"),
        ({"flags": "other wrong_lut_depth"}, "wrong_lut_depth"),
    ],
)
def test_single_images_to_look_at(change: dict[str, Any], code: str) -> None:
    found = problems({}, change)
    assert set(found) == {code}
    assert (found[code].images, found[code].examples) == (1, [["id1"]])


def test_two_files_of_one_instance() -> None:
    assert problems({"instance": "i"}, {"instance": "i"}, {"instance": "j"})["repeated_instance"].images == 2


@pytest.mark.parametrize(
    ("column", "values", "code"),
    [
        ("modality", ("CT", "MR"), "mixed_modalities"),
        ("view", ("PA", "LL"), "mixed_views"),
        ("format", ("dicom", "png"), "mixed_formats"),
        ("kind", ("primary", "map"), "mixed_kinds"),
        ("intent", ("FOR PRESENTATION", "FOR PROCESSING"), "mixed_intents"),
    ],
)
def test_mixed_modalities_views_and_formats(column: str, values: tuple[str, str], code: str) -> None:
    found = problems(*({column: value} for value in (values[0], *values)))
    assert set(found) == {code}
    assert f"{values[0]} 2, {values[1]} 1" in found[code].text


def test_a_modality_that_tells_the_label() -> None:
    assert "modality_tells_label" in problems({}, {"modality": "MR", "label": "y", "patient": "q"})
    both = ({}, {"label": "y", "patient": "q"}, {"modality": "MR", "label": "y", "patient": "q"})
    assert "modality_tells_label" not in problems(*both)


@pytest.mark.parametrize("flag", FLAGS)
def test_flagged_volumes_are_found(flag: str) -> None:
    found = problems({}, {}, volume=f"{flag} other")
    assert found[f"volume_{flag}"].examples == [["v"]]
    assert found[f"volume_{flag}"].images == 2


def test_the_worst_comes_first() -> None:
    found = problems({"pixels": "h"}, {"pixels": "h", "split": "val"}, {"burned_in": "YES", "label": "y"})
    levels = [finding.level for finding in found.values()]
    assert levels == sorted(levels, key=["leak", "warning", "note"].index)
    assert len(set(levels)) == 3


def test_a_value_with_a_quote_does_no_harm(tmp_path: Path) -> None:
    assert problems({"patient": "o'hara"}, {"patient": "o'hara", "split": "val"})["patient_in_two_splits"].images == 2


def test_dicom_without_series_uid_is_a_finding() -> None:
    assert "no_series_uid" in problems({"format": "dicom", "series": ""}, {"format": "dicom"})
    assert "no_series_uid" not in problems({"format": "png", "series": ""})
