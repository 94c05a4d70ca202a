from __future__ import annotations

import math

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from movl_monai.readers.dicom.flags import Flags
from movl_monai.readers.dicom.tags import code_string, functional_group, integer, number, numbers, uid, values


def raw(keyword: str, vr: str, value: bytes) -> Dataset:
    """A data set with one value as it lies in a file, unconverted."""
    dataset = Dataset()
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("vr", "value", "expected", "flags"),
    [
        ("DS", b"1.5\\2 ", [1.5, 2.0], []),
        ("DS", b"", [], ["empty:WindowCenter"]),
        ("DS", b"abc", [], ["invalid:WindowCenter"]),
        ("DS", b"1\\abc", [], ["invalid:WindowCenter"]),
        ("DS", b"nan", [], ["invalid:WindowCenter"]),
        ("DS", b"1e999", [], ["invalid:WindowCenter"]),
        ("FD", b"\0\0\0", [], ["invalid:WindowCenter"]),
        ("ZZ", b"12", [], ["invalid:WindowCenter"]),
        ("LO", b"7", [7.0], []),
    ],
)
def test_numbers_are_finite_or_absent_and_flagged(
    vr: str, value: bytes, expected: list[float], flags: list[str]
) -> None:
    found = Flags()
    assert numbers(raw("WindowCenter", vr, value), "WindowCenter", found) == expected
    assert found.codes == flags


def test_a_missing_tag_is_absent_and_not_flagged() -> None:
    flags = Flags()
    assert values(Dataset(), "WindowCenter", flags) == []
    assert number(Dataset(), "WindowCenter", flags) is None
    assert flags.codes == []


@pytest.mark.parametrize(("value", "expected"), [(b"3 ", 3), (b"3.0", 3), (b"3.5", None), (b"", None), (b"x", None)])
def test_an_integer_is_whole_or_absent(value: bytes, expected: int | None) -> None:
    assert integer(raw("InstanceNumber", "DS", value), "InstanceNumber", Flags()) == expected


@pytest.mark.parametrize(("value", "expected"), [(b"ct ", "CT"), (b"CT\0", "CT"), (b"", ""), (b"A\\B", "A")])
def test_a_code_is_stripped_and_upper_case(value: bytes, expected: str) -> None:
    assert code_string(raw("Modality", "CS", value), "Modality") == expected


def test_a_damaged_uid_is_empty() -> None:
    assert uid(raw("SOPClassUID", "QQ", b"1.2"), "SOPClassUID") == ""
    assert uid(raw("SOPClassUID", "UI", b"1.2\0"), "SOPClassUID") == "1.2"


@pytest.mark.parametrize(("frame", "expected"), [(0, 1.0), (1, 2.0), (2, 9.0), (99, 9.0)])
def test_the_group_of_a_frame_is_its_own_or_the_shared_one(frame: int, expected: float) -> None:
    def group(slope: float | None) -> Dataset:
        item = Dataset()
        if slope is not None:
            item.PixelValueTransformationSequence = [Dataset()]
            item.PixelValueTransformationSequence[0].RescaleSlope = slope
        return item

    header = Dataset()
    header.PerFrameFunctionalGroupsSequence = [group(1), group(2), group(None)]
    header.SharedFunctionalGroupsSequence = [group(9)]
    found = functional_group(header, "PixelValueTransformationSequence", frame)
    assert found is not None
    assert found.RescaleSlope == expected
    assert functional_group(header, "PixelMeasuresSequence", frame) is None


def test_values_set_by_a_program_are_checked_like_those_of_a_file() -> None:
    dataset = Dataset()
    dataset.add_new("SelectorFDValue", "FD", math.inf)
    assert numbers(dataset, "SelectorFDValue", Flags()) == []
