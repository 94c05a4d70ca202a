"""Labels of slides are no images, and images that may show a name are marked, by every reader of headers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    VLPhotographicImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from movl_monai.readers.dicom import read_dicom, scan_header
from tests.readers.dicom.objects import as_file, rgb_object
from tests.readers.refusals import refused

WSI = VLWholeSlideMicroscopyImageStorage


def slide(**tags: Any) -> Any:
    values: dict[str, Any] = {"SOPClassUID": WSI, "Modality": "SM", **tags}
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    return as_file(rgb_object(pixels, **{name: value for name, value in values.items() if value is not None}))


def kind(value: str) -> list[str]:
    return ["ORIGINAL", "PRIMARY", value, "NONE"]


@pytest.mark.parametrize(
    "tags",
    [
        *({"ImageType": kind(value)} for value in ("LABEL", "OVERVIEW", "THUMBNAIL")),
        {"ImageType": ["DERIVED", "PRIMARY", "LABEL"]},
        {"ImageType": kind("VOLUME"), "SpecimenLabelInImage": "YES"},
        {"ImageType": kind("OVERVIEW"), "SpecimenLabelInImage": "NO", "BurnedInAnnotation": "NO"},
        {"ImageType": kind("LABEL"), "Modality": "OT"},
        {"ImageType": kind("LABEL"), "SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": VLPhotographicImageStorage, "Modality": "XC", "SpecimenLabelInImage": "YES"},
    ],
)
def test_what_shows_the_label_of_a_slide_is_no_image(tags: dict[str, Any]) -> None:
    file = slide(**tags)
    assert {scan_header(file, lean=lean).problem for lean in (True, False)} == {"label_image"}
    with refused("label_image", "leave it out"):
        read_dicom(file)


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": kind("VOLUME"), "SpecimenLabelInImage": "NO"},
        {"ImageType": ["ORIGINAL", "PRIMARY"]},
        # the label of labelled blood in perfusion, the overview of a fundus
        {"ImageType": kind("LABEL"), "Modality": "MR", "SOPClassUID": CTImageStorage},
        {"ImageType": kind("OVERVIEW"), "Modality": "OP", "SOPClassUID": VLPhotographicImageStorage},
    ],
)
def test_other_images_are_read(tags: dict[str, Any]) -> None:
    file = slide(**tags)
    assert scan_header(file).problem == ""
    assert read_dicom(file)[0].shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, False),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, True),
        ({"ConversionType": "DF"}, True),
        ({"SOPClassUID": UltrasoundImageStorage, "Modality": "US"}, True),
        ({"SOPClassUID": UltrasoundImageStorage, "Modality": "US", "BurnedInAnnotation": "NO"}, False),
    ],
)
def test_images_that_may_show_a_name_are_marked(tags: dict[str, Any], expected: bool) -> None:
    file = slide(**tags)
    assert scan_header(file).shows_names is read_dicom(file)[1].get("shows_names", False) is expected


@pytest.mark.parametrize(
    ("stated", "told"), [("CT", "CT"), ("M3D", "M3D"), ("", ""), ("DOE", "other"), ("DOE JANE", "")]
)
def test_the_modality_that_is_told_is_of_a_closed_list(stated: str, told: str) -> None:
    file = slide(Modality=stated)
    assert scan_header(file).modality == read_dicom(file)[1]["modality"] == told
