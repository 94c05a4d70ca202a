"""."""

from __future__ import annotations

import struct
from dataclasses import fields
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from movl_monai.readers.dicom import Limits, read_dicom, read_header
from movl_monai.readers.dicom.limits import HeaderBudget
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, grey_object, shipped
from tests.readers.refusals import refused

MANY = 9000
LIMITS = Limits(header_elements=8000)
UNDEFINED = 0xFFFFFFFF


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_that_allows_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0, got 0"):
        Limits(**{name: 0})


def test_one_frame_has_a_limit_of_its_own() -> None:
    file = as_file(grey_object(np.zeros((2, 4, 4), dtype=np.uint8)))
    assert read_dicom(file, frame=1, limits=Limits(frame_pixels=16))[0].shape == (3, 4, 4)
    with refused("too_large", "15 pixels in one frame"):
        read_dicom(file, frame=1, limits=Limits(frame_pixels=15))


def item(order: str, content: bytes = b"", *, defined: bool = True) -> bytes:
    if defined:
        return struct.pack(f"{order}HHL", 0xFFFE, 0xE000, len(content)) + content
    return (
        item(order, content)[:4]
        + struct.pack("<L", UNDEFINED)
        + content
        + struct.pack(f"{order}HHL", 0xFFFE, 0xE00D, 0)
    )


def sequence(order: str, implicit: bool, items: bytes, *, tag: tuple[int, int], vr: bytes, defined: bool) -> bytes:
    end = b"" if defined else struct.pack(f"{order}HHL", 0xFFFE, 0xE0DD, 0)
    length = len(items) if defined else UNDEFINED
    head = struct.pack(f"{order}HH", *tag) + (b"" if implicit else vr + b"\0\0") + struct.pack(f"{order}L", length)
    return head + items + end


def file_with(element: bytes, syntax: str, order: str) -> BytesIO:
    """A small file with an element in front of SamplesPerPixel."""
    if order == ">":
        whole = shipped("MR_small_bigendian.dcm").read_bytes()
    else:
        dataset = grey_object(np.zeros((4, 4), dtype=np.uint8))
        dataset.file_meta.TransferSyntaxUID = syntax
        whole = as_file(dataset).getvalue()
    start = whole.index(struct.pack(f"{order}HH", 0x0028, 0x0002))
    return BytesIO(whole[:start] + element + whole[start:])


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("defined", [True, False])
@pytest.mark.parametrize("filled", ["empty", "elements", "nested", "unknown"])
def test_too_many_items_are_refused_and_a_few_are_read(filled: str, defined: bool, syntax: str) -> None:
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    implicit = syntax == ImplicitVRLittleEndian

    def file(count: int) -> BytesIO:
        text = (
            struct.pack(f"{order}HH", 8, 0x100)
            + (struct.pack("<L", 2) if implicit else b"SH" + struct.pack(f"{order}H", 2))
            + b"x "
        )
        tag, vr = (0x0008, 0x1140), b"SQ"
        if filled == "elements":
            items = item(order, text * count)
        elif filled == "nested":
            inner = sequence(order, implicit, item(order) * count, tag=(8, 0x1199), vr=b"SQ", defined=defined)
            items = item(order, inner, defined=defined)
        else:
            items = item(order) * count
        if filled == "unknown" and not defined:
            tag, vr = (0x0009, 0x1001), b"UN"  # of undefined length it is a sequence
        return file_with(sequence(order, implicit, items, tag=tag, vr=vr, defined=defined), syntax, order)

    assert read_dicom(file(20), limits=LIMITS)[0].ndim == 3
    with refused("too_large", "header_elements"):
        read_header(file(MANY), limits=LIMITS)


def test_elements_outside_of_sequences_are_counted() -> None:
    element = struct.pack("<HH2sH", 0x0019, 0x1001, b"SH", 0)
    with pytest.raises(MedicalImageError, match="header_elements"):
        read_header(file_with(element * 300, ExplicitVRLittleEndian, "<"), limits=LIMITS)
    assert "Rows" in read_header(file_with(element * 50, ExplicitVRLittleEndian, "<"), limits=LIMITS)


def test_functional_groups_are_counted_one_by_one_in_every_encoding() -> None:
    group = Dataset()
    group.FrameContentSequence, group.PlanePositionSequence = [Dataset()], [Dataset()]
    group.FrameContentSequence[0].StackID = "1"
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 1]
    dataset = grey_object(np.zeros((300, 2, 2), np.uint8), PerFrameFunctionalGroupsSequence=[group] * 300)
    outside = sum(element.tag.group < 0x7FE0 for element in dataset)
    most = 32 * outside + 300 * (8 + 2 * (1 + 8 + 1))
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        dataset.file_meta.TransferSyntaxUID = syntax
        assert len(read_header(as_file(dataset), limits=Limits(header_elements=most))) > 0
        with pytest.raises(MedicalImageError) as caught:
            read_header(as_file(dataset), limits=Limits(header_elements=most - 1))
        assert caught.value.reason == "too_large"


def test_a_file_of_many_empty_items_is_only_stepped_over() -> None:
    file = BytesIO(item("<") * 10_000)
    budget = HeaderBudget(file, Limits(header_elements=5000))
    with pytest.raises(MedicalImageError):
        budget.count(0x00081140, "SQ", UNDEFINED)
    assert (budget.counted <= 5032, file.tell()) == (True, 0)
