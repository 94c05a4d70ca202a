from __future__ import annotations

import numpy as np
import pytest
from pydicom import DataElement, Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_modality_lut
from pydicom.tag import Tag

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.lut import LookupTable, read_lut
from tests.readers.dicom.objects import as_file, grey_object, lut_item
from tests.readers.refusals import refused


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
