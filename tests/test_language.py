"""Docstrings are plain: folders that are clean stay clean, the others do not get worse."""

from __future__ import annotations

import pytest

from tests.language import CEILING, CLEAN, Counts, count, count_folders, flaws, is_clean, rest


@pytest.mark.parametrize("folder", CLEAN)
def test_clean_folders_stay_clean(folder: str) -> None:
    assert is_clean(count_folders()[folder]), "\n".join(flaws(folder))


def test_other_folders_do_not_get_worse() -> None:
    counts = rest(count_folders())
    assert counts.openings <= CEILING.openings, counts
    assert counts.what <= CEILING.what, counts
    assert counts.turns <= CEILING.turns, counts


def test_every_flaw_is_counted() -> None:
    counts = Counts(docstrings=1, words=7, openings=1, what=2, turns=1)
    assert count("What it is: likewise, what it was.") == counts


@pytest.mark.parametrize("opening", ["What", "Where", "How", "Whether", "Which"])
def test_an_opening_is_counted_only_as_a_word_at_the_start(opening: str) -> None:
    assert count(f"{opening} it is.").openings == 1
    assert count(f"{opening}ver it is.").openings == 0
    assert count(f"Say {opening.lower()} it is.").openings == 0


def test_a_folder_with_one_what_in_a_thousand_words_is_clean() -> None:
    assert is_clean(count("what " + "word " * 999))
    assert not is_clean(count("what " + "word " * 998))
