"""Values converted straight from their bytes are those of pydicom's conversion."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom.data
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from movl_monai.readers.dicom.lean import plain_code, plain_numbers, plain_uid, tag_of


def raw(keyword: str, vr: str | None, value: bytes | None, *, is_little_endian: bool = True) -> Dataset:
    dataset = Dataset()
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value or b""), value, 0, vr is None, is_little_endian)
    return dataset


def test_every_plain_value_of_the_shipped_files_is_that_of_pydicom() -> None:
    compared = {"numbers": 0, "codes": 0, "uids": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(Path(pydicom.data.__file__).parent.rglob("*.dcm")):
            dataset = _header(path)
            if dataset is None:
                continue
            for tag in list(dataset.keys()):
                numbers, code, uid = (read(dataset, tag) for read in (plain_numbers, plain_code, plain_uid))
                if numbers is not None:
                    value = dataset[tag].value
                    assert numbers == [float(part) for part in (value if dataset[tag].VM > 1 else [value])]
                    compared["numbers"] += 1
                if code is not None:
                    assert code == str(dataset[tag].value).strip(" \0").upper()
                    compared["codes"] += 1
                if uid is not None:
                    assert uid == dataset[tag].value
                    compared["uids"] += 1
    assert min(compared.values()) > 300, compared


def _header(path: Path) -> Dataset | None:
    try:
        return dcmread(path, stop_before_pixels=True, force=True)
    except Exception:
        return None


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("DS", b" 1.5\\-2e1 ", [1.5, -20.0]),
        ("DS", b".5\\7.", [0.5, 7.0]),
        ("IS", b" +07 ", [7.0]),
        ("US", b"\x01\x02", [513.0]),
        ("SS", b"\xff\xff\x01\0", [-1.0, 1.0]),
        ("FD", bytes(8), [0.0]),
        (None, b"40", [40.0]),  # the dictionary says DS
        ("DS", b"", None),
        ("DS", b"1\\", None),
        ("DS", b"1_0", None),
        ("DS", b"1e999", None),
        ("DS", b"nan", None),
        ("IS", b"1.0", None),
        ("US", b"\x01", None),
        ("US", b"", None),
        ("UN", b"40", None),
        ("DS", None, None),
    ],
)
def test_only_plain_numbers_are_taken(vr: str | None, value: bytes | None, expected: list[float] | None) -> None:
    assert plain_numbers(raw("WindowCenter", vr, value), tag_of("WindowCenter")) == expected


def test_the_byte_order_of_the_file_counts() -> None:
    assert plain_numbers(raw("Rows", "US", b"\x01\x02", is_little_endian=False), tag_of("Rows")) == [258.0]


@pytest.mark.parametrize(
    ("value", "expected"), [(b"MR ", "MR"), (b"YBR_FULL", "YBR_FULL"), (b"ct", None), (b"A\\B", None), (b"", None)]
)
def test_only_plain_codes_are_taken(value: bytes, expected: str | None) -> None:
    assert plain_code(raw("Modality", "CS", value), tag_of("Modality")) == expected


@pytest.mark.parametrize(("value", "expected"), [(b"1.2\0", "1.2"), (b"1.2 ", None), (b"DOE^JANE", None), (b"", None)])
def test_only_plain_uids_are_taken(value: bytes, expected: str | None) -> None:
    assert plain_uid(raw("SOPClassUID", "UI", value), tag_of("SOPClassUID")) == expected
