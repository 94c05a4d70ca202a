from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_palette_files
from pydicom.pixels import apply_color_lut

from movl_monai.readers.dicom.palette import expand_segments
from tests.readers.refusals import refused

SEGMENTED = ("spring", "summer", "fall", "winter")


@pytest.mark.parametrize("name", SEGMENTED)
def test_the_segmented_palettes_that_pydicom_ships_expand_as_pydicom_expands_them(name: str) -> None:
    dataset = dcmread(get_palette_files(f"{name}.dcm")[0])
    expected = apply_color_lut(np.arange(256, dtype=np.uint8), dataset)
    for channel, color in enumerate(("Red", "Green", "Blue")):
        words = np.frombuffer(dataset[f"Segmented{color}PaletteColorLookupTableData"].value, np.uint8)
        np.testing.assert_array_equal(expand_segments(words, count=256, is_16_bit=False), expected[:, channel])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([0, 3, 5, 6, 7], [5, 6, 7]),
        ([0, 1, 5, 1, 2, 9], [5, 7, 9]),
        ([0, 1, 5, 1, 2, 5], [5, 5, 5]),
        ([0, 2, 5, 6, 2, 1, 0, 0], [5, 6, 5, 6]),
        ([0, 2, 5, 6, 1, 2, 10, 2, 2, 0, 0], [5, 6, 8, 10, 5, 6, 8, 10]),
    ],
    ids=["discrete", "linear", "constant", "indirect", "indirect of two"],
)
def test_the_three_kinds_of_segments_of_16_bits(words: list[int], expected: list[int]) -> None:
    result = expand_segments(np.array(words, dtype=np.uint16), count=len(expected), is_16_bit=True)
    assert result.tolist() == expected


def test_an_indirect_segment_of_8_bits_writes_its_offset_in_four_bytes() -> None:
    words = np.array([0, 2, 5, 6, 2, 1, 0, 0, 0, 0], dtype=np.uint8)
    assert expand_segments(words, count=4, is_16_bit=False).tolist() == [5, 6, 5, 6]


@pytest.mark.parametrize(
    "words", [[1, 2, 3], [2, 1, 0, 0], [7, 1, 1], [0, 0, 0], [0, 1, 5, 2, 9, 60000, 0], [0, 1, 5, 2, 1, 6, 0]],
    ids=["linear first", "indirect first", "unknown", "empty", "outside", "to itself"],
)  # fmt: skip
def test_segments_that_cannot_be_expanded_are_refused(words: list[int]) -> None:
    with refused("bad_palette", "cannot be expanded"):
        expand_segments(np.array(words, dtype=np.uint16), count=500, is_16_bit=True)


def test_expansion_stops_at_the_number_of_entries() -> None:
    bomb = np.array([0, 1, 5] + [1, 65535, 9] * 50, dtype=np.uint16)
    assert len(expand_segments(bomb, count=256, is_16_bit=True)) == 256
