"""Messages about lost files and copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from movl_monai.data import Datalist
from movl_monai.data.checks import check_duplicates, check_unreadable
from movl_monai.data.decode import Decoded
from movl_monai.data.duplicates import Duplicate
from movl_monai.data.entries import SkippedFile
from movl_monai.errors import DataError

OK, BAD = Decoded(), Decoded(reason="truncated")


def empty_list(*reasons: str) -> Datalist:
    skipped = [SkippedFile(Path("/x"), "x", reason) for reason in reasons]
    return Datalist([], class_names=["a", "b"], skipped=skipped)


def test_nothing_lost_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    check_unreadable(empty_list("hidden_file", "other_file", "duplicate_row"), [OK] * 3, 0.0, None)
    check_duplicates([], "error", None)
    assert not caplog.records


def test_the_share_counts_missing_files_and_the_limit_itself_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    check_unreadable(empty_list("missing_file"), [OK] * 18 + [BAD], 0.1, None)
    assert "2 of 20 images could not be read (truncated 1, missing_file 1); set `report`" in caplog.text
    with pytest.raises(DataError, match="2 of 20 .* more than"):
        check_unreadable(empty_list("missing_file"), [OK] * 18 + [BAD], 0.09, None)


def test_copies_in_one_split_are_no_leak(caplog: pytest.LogCaptureFixture) -> None:
    check_duplicates([Duplicate(1, 0, leaks=False, contradicts=False)], "error", None)
    assert not caplog.records
