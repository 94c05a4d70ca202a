"""No frame is read without a choice by the user."""

from __future__ import annotations

import pytest

from movl_monai.readers.frames import choose_frame
from tests.readers.refusals import refused


def test_one_frame_needs_no_choice_and_a_choice_is_kept() -> None:
    assert choose_frame(None, 1, "page") == 0
    assert [choose_frame(index, 3, "page") for index in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(("frame", "reason"), [(None, "multi_frame"), (3, "bad_frame"), (-1, "bad_frame")])
def test_no_choice_and_a_choice_that_does_not_exist_are_refused(frame: int | None, reason: str) -> None:
    with refused(reason, "3 page|0 to 2"):
        choose_frame(frame, 3, "page")
