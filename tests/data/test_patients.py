"""Patients from the path, or one per file."""

from __future__ import annotations

from pathlib import Path

import pytest

from movl_monai.data.columns import assign_patients_by_pattern, one_patient_each, warn_if_unknown
from movl_monai.data.entries import Entry
from movl_monai.errors import DataError


def listed(*keys: str) -> list[Entry]:
    return [Entry(Path("/") / key, key, label="a", domain="id") for key in keys]


def test_the_pattern_is_searched_in_the_relative_path() -> None:
    entries = listed("a/IM-0012-0001.png", "b/IM-0012-0002.png", "b/IM-7-1.png")
    assign_patients_by_pattern(entries, r"IM-(?P<patient>\d+)-", required=True)
    assert [entry.patient for entry in entries] == ["0012", "0012", "7"]


def test_a_patient_of_the_list_wins_over_the_pattern() -> None:
    entries = listed("a/1.png")
    entries[0].patient = "listed"
    assign_patients_by_pattern(entries, "(?P<patient>.)", required=True)
    assert entries[0].patient == "listed"


def test_paths_without_match_are_counted_and_not_named() -> None:
    with pytest.raises(DataError, match="finds no patient in 2 of 3 paths") as caught:
        assign_patients_by_pattern(listed("a/1.png", "jane.png", "x.png"), r"(?P<patient>\d+)", required=True)
    assert "jane" not in str(caught.value)


def test_paths_without_match_stay_unknown_where_patients_are_not_needed() -> None:
    entries = listed("x.png")
    assign_patients_by_pattern(entries, r"(?P<patient>\d+)", required=False)
    assert entries[0].patient is None


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "is not a regular expression"), (r"(\d+)", r"must have a group \(\?P<patient>")]
)
def test_a_pattern_that_cannot_work_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        assign_patients_by_pattern(listed("1.png"), pattern, required=True)


def test_one_patient_each_keeps_frames_together() -> None:
    entries = listed("a.dcm", "a.dcm", "b.dcm")
    one_patient_each(entries)
    assert entries[0].patient == entries[1].patient != entries[2].patient


def test_unknown_patients_in_given_splits_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    entries = listed("a", "b", "c")
    entries[0].split, entries[1].split, entries[2].split = "train", "train", "test"
    warn_if_unknown(entries)
    assert len(caplog.records) == 1
    assert "patient of 3 of 3 images is not known" in caplog.text


def test_unknown_patients_in_one_split_are_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    warn_if_unknown(listed("a", "b"))
    assert not caplog.records
