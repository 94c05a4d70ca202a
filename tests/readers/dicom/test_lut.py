"""."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.data import get_palette_files
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_color_lut, apply_modality_lut
from pydicom.tag import Tag

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.lut import LookupTable, expand_segments, read_lut
from tests.readers.dicom.objects import as_file, grey_object, lut_item
from tests.readers.refusals import refused

SEGMENTED = ("spring", "summer", "fall", "winter")


def read(item: Dataset, *, highest_input: float = 65535) -> tuple[LookupTable, Flags]:
    flags = Flags()
    return read_lut(item, highest_input=highest_input, flags=flags, reason="bad_rescale"), flags


@pytest.mark.parametrize("first", [0, 100, -50])
@pytest.mark.parametrize("vr", ["OW", "US"])
def test_a_table_read_from_a_file_maps_as_pydicom_maps(first: int, vr: str) -> None:
    entries = np.random.default_rng(0).integers(0, 65536, 300)
    dataset = grey_object(np.zeros((2, 2), dtype=np.int16))
    item = lut_item(entries.tolist(), first=first, bits=16)
    item["LUTData"] = DataElement("LUTData", vr, entries.astype("<u2").tobytes() if vr == "OW" else entries.tolist())
    dataset.ModalityLUTSequence = [item]
    stored = dcmread(as_file(dataset))
    values = np.arange(-200, 500, dtype=np.int16)
    table, flags = read(stored.ModalityLUTSequence[0])
    np.testing.assert_array_equal(table(values), apply_modality_lut(values, stored))
    assert (table.first, table.bits, flags.codes) == (first, 16, [])


def test_entries_of_a_big_endian_file_are_swapped() -> None:
    item = lut_item([0, 0, 0], first=0, bits=16)
    tag = Tag("LUTData")
    item[tag] = RawDataElement(tag, "OW", 6, np.array([1, 256, 4095], dtype=">u2").tobytes(), 0, False, False)
    assert read(item)[0].entries.tolist() == [1, 256, 4095]


def test_65536_entries_are_written_as_0() -> None:
    table, _ = read(lut_item(range(65536), first=0, bits=16))
    assert table(np.array([0, 65535])).tolist() == [0, 65535]


def test_8_bit_entries_may_lie_two_to_a_word() -> None:
    item = lut_item(range(256), first=0, bits=8)
    item.LUTData = bytes(range(256))
    assert read(item)[0](np.arange(256)).tolist() == list(range(256))


def test_a_negative_first_input_that_was_read_as_unsigned_is_negative() -> None:
    item = lut_item(range(256), first=65536 - 100, bits=8)
    assert read(item, highest_input=2047)[0].first == -100
    assert read(item, highest_input=65535)[0].first == 65436


def test_entries_beyond_the_stated_depth_widen_it_and_are_flagged() -> None:
    table, flags = read(lut_item([0, 4095], first=0, bits=8))
    assert table.bits == 12
    assert flags.codes == ["wrong_lut_depth"]


def test_fractions_are_rounded_and_inputs_outside_take_the_nearest_entry() -> None:
    table = LookupTable(first=0, entries=np.array([10, 20, 30]), bits=8)
    assert table(np.array([-7.0, 0.4, 0.6, 1.9, 1e9])).tolist() == [10, 10, 20, 30, 30]


@pytest.mark.parametrize("damage", ["few entries", "no data", "no descriptor", "two numbers", "text"])
def test_a_damaged_table_is_refused(damage: str) -> None:
    item = lut_item(range(256), first=0, bits=16)
    if damage == "few entries":
        item.LUTData = bytes(100)
    elif damage == "no data":
        del item.LUTData
    elif damage == "no descriptor":
        del item.LUTDescriptor
    elif damage == "two numbers":
        item.LUTDescriptor = [256, 0]
    else:
        item.LUTDescriptor = None
    with refused("bad_rescale", "export the file again"):
        read(item)


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
