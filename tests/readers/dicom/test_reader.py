from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from movl_monai.readers.dicom import read_dicom
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import as_file, dcmtk_render, grey_object, lut_item, shipped
from tests.readers.refusals import refused

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
SIGNED = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)


def reason_of(dataset: Dataset, **options: Any) -> str:
    with pytest.raises(MedicalImageError) as caught:
        read_dicom(as_file(dataset), **options)
    return caught.value.reason


@pytest.mark.parametrize(
    ("tags", "low", "high"),
    [
        ({}, -2048, 2047),
        ({"RescaleSlope": 2, "RescaleIntercept": 10}, -4086, 4104),
        ({"RescaleSlope": -1, "RescaleIntercept": 0}, -2047, 2048),
    ],
)
def test_without_a_window_the_range_is_what_bits_sign_and_rescale_allow(
    tags: dict[str, Any], low: float, high: float, tmp_path: Path
) -> None:
    path = as_file(grey_object(SIGNED // 2, bits_stored=12, **tags), tmp_path / "x.dcm")
    image, record = read_dicom(path)
    assert record["voi"] == {"source": "full_range", "low": low, "high": high}
    values = (SIGNED // 2).astype(float) * tags.get("RescaleSlope", 1) + tags.get("RescaleIntercept", 0)
    np.testing.assert_allclose(image[0], (values - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(image, dcmtk_render(path), atol=1.001 / 255)


def test_a_full_range_that_is_hardly_used_is_flagged() -> None:
    dark = RAMP.astype(np.uint16)
    assert "little_of_range_used" in read_dicom(as_file(grey_object(dark)))[1]["flags"]
    assert (
        "little_of_range_used" not in read_dicom(as_file(grey_object(dark, WindowCenter=9, WindowWidth=9)))[1]["flags"]
    )
    assert read_dicom(as_file(grey_object(RAMP)))[1]["flags"] == []


@pytest.mark.parametrize(
    ("voi", "index", "center"), [(0, 0, 100), (1, 1, 30), ("second", 1, 30), (" SECOND ", 1, 30), ("First", 0, 100)]
)
def test_a_window_is_chosen_by_index_or_explanation(voi: int | str, index: int, center: float) -> None:
    dataset = grey_object(RAMP, WindowCenter=[100, 30], WindowWidth=[50, 20])
    dataset.WindowCenterWidthExplanation = ["First", "Second"]
    record = read_dicom(as_file(dataset), voi=voi)[1]
    assert (record["voi"]["index"], record["voi"]["center"]) == (index, center)


def test_tables_come_before_windows_in_the_index_and_are_chosen_by_explanation() -> None:
    tables = [lut_item(range(256), first=0, bits=8, explanation=text) for text in ("NORMAL", "HARDER")]
    dataset = grey_object(RAMP, WindowCenter=5, WindowWidth=5, VOILUTSequence=tables)
    sources = [read_dicom(as_file(dataset), voi=voi)[1]["voi"]["source"] for voi in range(3)]
    assert sources == ["lut", "lut", "window"]
    assert read_dicom(as_file(dataset), voi="harder")[1]["voi"]["index"] == 1


@pytest.mark.parametrize("voi", [1, -1, "none of these"])
def test_a_choice_that_the_file_does_not_offer_is_refused(voi: int | str) -> None:
    assert reason_of(grey_object(RAMP, WindowCenter=5, WindowWidth=5), voi=voi) == "unknown_voi"
    if voi != 1:
        assert reason_of(grey_object(RAMP), voi=voi) == "unknown_voi"


@pytest.mark.parametrize(
    ("center", "width", "function", "flag"),
    [
        (5, 0, None, "invalid:WindowWidth"),
        (5, 0.5, "LINEAR", "invalid:WindowWidth"),
        (5, 0, "LINEAR_EXACT", "invalid:WindowWidth"),
        (5, -1, "SIGMOID", "invalid:WindowWidth"),
        (5, b"wide", None, "invalid:WindowWidth"),
        (5, b"NaN", None, "invalid:WindowWidth"),
        (b"inf", 9, None, "invalid:WindowCenter"),
    ],
)
def test_an_unusable_window_gives_way_to_the_next_else_to_the_full_range(
    center: Any, width: Any, function: str | None, flag: str
) -> None:
    def file(*usable: int) -> Any:
        dataset = grey_object(RAMP, VOILUTFunction=function)
        for tag, first in ((Tag("WindowCenter"), center), (Tag("WindowWidth"), width)):
            text = b"\\".join(
                [first if isinstance(first, bytes) else str(first).encode(), *(b"%d" % n for n in usable)]
            )
            dataset[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True)
        return as_file(dataset)

    image, record = read_dicom(file())
    assert (record["voi"], record["flags"]) == ({"source": "full_range", "low": 0.0, "high": 255.0}, [flag])
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-7)
    for voi in (0, 1):
        record = read_dicom(file(100), voi=voi)[1]
        assert (record["voi"]["index"], record["voi"]["width"], record["flags"]) == (1, 100, [flag])


def test_an_unknown_function_is_taken_as_absent_and_flagged() -> None:
    record = read_dicom(as_file(grey_object(RAMP, WindowCenter=5, WindowWidth=9, VOILUTFunction="CURVED")))[1]
    assert (record["voi"]["function"], record["flags"]) == ("LINEAR", ["invalid:VOILUTFunction"])


def test_empty_items_of_tables_are_passed_over() -> None:
    empty = Dataset()
    empty.LUTDescriptor = empty.LUTData = None
    empty["LUTDescriptor"].VR = empty["LUTData"].VR = "US"
    dataset = grey_object(RAMP, ModalityLUTSequence=[empty], VOILUTSequence=[empty], WindowCenter=9, WindowWidth=9)
    record = read_dicom(as_file(dataset))[1]
    assert (record["voi"]["source"], record["voi"]["index"]) == ("window", 1)
    assert record["flags"] == ["empty:ModalityLUTSequence", "empty:VOILUTSequence"]
    del dataset.WindowCenter, dataset.WindowWidth
    image, record = read_dicom(as_file(dataset))
    assert record["voi"]["source"] == "full_range"
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-7)


def test_full_passes_over_all_windows_of_the_file() -> None:
    dataset = grey_object(RAMP, WindowCenter=5, WindowWidth=5)
    image, record = read_dicom(as_file(dataset), voi="Full")
    assert record["voi"]["source"] == "full_range"
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-7)


def test_functional_groups_that_state_nothing_leave_the_tags_of_the_file() -> None:
    group = Dataset()
    group.FrameVOILUTSequence = group.PixelValueTransformationSequence = [Dataset()]
    tags = {"WindowCenter": 200, "WindowWidth": 100, "RescaleSlope": 2, "RescaleIntercept": -10}
    dataset = grey_object(RAMP, SharedFunctionalGroupsSequence=[group], **tags)
    expected = read_dicom(as_file(grey_object(RAMP, **tags)))[0]
    np.testing.assert_array_equal(read_dicom(as_file(dataset))[0], expected)


@pytest.mark.parametrize("largest", [255, 1023, 4095])
@pytest.mark.parametrize("where", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_wrong_depth_is_scaled_by_its_entries(where: str, largest: int) -> None:
    entries = (np.arange(256) * largest // 255).tolist()
    dataset = grey_object(RAMP, **{where: [lut_item(entries, first=0, bits=16)]})
    image, record = read_dicom(as_file(dataset))
    np.testing.assert_allclose(image[0], np.asarray(entries)[RAMP] / largest, atol=1e-6)
    assert record["flags"] == ["wrong_lut_depth"]


def test_a_window_in_stored_units_is_flagged() -> None:
    stored = (np.arange(4096, dtype=np.uint16)).reshape(64, 64)
    tags = {"RescaleSlope": 0.02, "RescaleIntercept": 0}
    for center, width, expected in ((2000, 4000, ["window_in_stored_units"]), (40, 80, [])):
        window = {"WindowCenter": center, "WindowWidth": width}
        assert read_dicom(as_file(grey_object(stored, bits_stored=12, **tags, **window)))[1]["flags"] == expected


@pytest.mark.parametrize(
    ("air", "bits", "expected"), [(-1000, 16, []), (64536, 16, ["implausible_hu"]), (3096, 12, ["implausible_hu"])]
)
def test_a_ct_whose_negative_values_became_positive_is_flagged(air: int, bits: int, expected: list[str]) -> None:
    stored = np.full((10, 10), 40)
    stored[:3] = air
    stored[9, 9] = 3000  # a filling
    dtype = np.int16 if air < 0 else np.uint16
    tags = {"RescaleSlope": 1, "RescaleIntercept": 0, "sop_class": CTImageStorage, "modality": "CT"}
    assert read_dicom(as_file(grey_object(stored.astype(dtype), bits_stored=bits, **tags)))[1]["flags"] == expected


@pytest.mark.parametrize(("center", "width"), [("", ""), ("", 5), (5, ""), (None, 5)])
def test_an_incomplete_window_is_none(center: Any, width: Any) -> None:
    record = read_dicom(as_file(grey_object(RAMP, WindowCenter=center, WindowWidth=width)))[1]
    assert record["voi"]["source"] == "full_range"
    assert record["flags"]


def test_windows_without_partners_are_left_out_and_flagged() -> None:
    record = read_dicom(as_file(grey_object(RAMP, WindowCenter=[5, 6], WindowWidth=[9])))[1]
    assert (record["voi"]["center"], record["voi"]["width"]) == (5, 9)
    assert "unequal_window_lists" in record["flags"]


@pytest.mark.parametrize(
    ("tags", "source", "flag"),
    [
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, "ct_windows", None),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "HU"}, "ct_windows", None),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024, "RescaleType": "US"}, "ct_windows", "rescale_type_unspecified"),
        ({"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "Z_EFF"}, "window", "ct_not_in_hu"),
        ({}, "window", "ct_not_in_hu"),
    ],
)
def test_ct_windows_are_used_where_the_values_are_hounsfield_units(
    tags: dict[str, Any], source: str, flag: str | None
) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400}
    dataset = grey_object(SIGNED, sop_class=CTImageStorage, modality="CT", **window, **tags)
    record = read_dicom(as_file(dataset))[1]
    assert record["voi"]["source"] == source
    assert flag is None or flag in record["flags"]


def test_a_screen_shot_of_a_ct_console_is_not_windowed_in_hounsfield_units() -> None:
    dataset = grey_object(
        RAMP, sop_class=SecondaryCaptureImageStorage, modality="CT", RescaleSlope=1, RescaleIntercept=0
    )
    image, record = read_dicom(as_file(dataset))
    assert record["voi"]["source"] == "full_range"
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-6)


def test_a_wrong_ct_window_is_refused_whatever_the_file() -> None:
    assert reason_of(grey_object(RAMP), ct_windows=["lung"]) == "bad_window"


@pytest.mark.parametrize("sop_class", [XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage])
@pytest.mark.parametrize("relationship", ["LIN", "LOG", "DISP"])
def test_angiography_leaves_out_the_way_back_to_x_ray_intensity_as_dcmtk_does(
    sop_class: Any, relationship: str, tmp_path: Path
) -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 50, "WindowWidth": 100}
    dataset = grey_object(RAMP, sop_class=sop_class, PixelIntensityRelationship=relationship, **tags)
    path = as_file(dataset, tmp_path / "x.dcm")
    image, record = read_dicom(path)
    np.testing.assert_allclose(image[0], np.clip((RAMP - 49.5) / 99 + 0.5, 0, 1), atol=1e-6)
    assert "modality_lut_not_for_display" in record["flags"]
    np.testing.assert_allclose(image, dcmtk_render(path, "+Wi", "1"), atol=1.001 / 255)


def test_other_x_rays_apply_their_rescaling(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 50, "WindowWidth": 100}
    dataset = grey_object(RAMP, sop_class=DigitalXRayImageStorageForPresentation, **tags)
    path = as_file(dataset, tmp_path / "x.dcm")
    np.testing.assert_allclose(read_dicom(path)[0], dcmtk_render(path, "+Wi", "1"), atol=1.001 / 255)


def test_padding_alone_is_a_black_image_and_flagged() -> None:
    image, record = read_dicom(as_file(grey_object(np.full((2, 2), 9, dtype=np.uint8), PixelPaddingValue=9)))
    assert image.max() == 0
    assert "padding_only" in record["flags"]


def test_the_record_can_be_written_as_json_and_says_what_was_done() -> None:
    _, record = read_dicom(shipped("MR_small.dcm"))
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "modality": "MR",
        "sop_class": "MR Image Storage",
        "rows": 64,
        "columns": 64,
        "photometric": "MONOCHROME2",
        "bits_stored": 16,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "decoder": "native",
        "voi": {"source": "window", "center": 600.0, "width": 1600.0, "function": "LINEAR", "index": 0},
        "frames": 1,
        "frame": 0,
        "pixel_spacing": [0.3125, 0.3125],
        "flags": [],
    }


def test_path_string_and_file_object_give_the_same_and_the_file_object_stays_open(tmp_path: Path) -> None:
    path = as_file(grey_object(RAMP), tmp_path / "x.dcm")
    expected, _ = read_dicom(path)
    np.testing.assert_array_equal(read_dicom(str(path))[0], expected)
    with path.open("rb") as file:
        file.seek(77)
        np.testing.assert_array_equal(read_dicom(file)[0], expected)
        assert not file.closed


def test_the_same_values_in_eight_encodings_give_the_same_image() -> None:
    expected, _ = read_dicom(shipped("MR_small.dcm"))
    others = ("implicit", "bigendian", "expb", "padded", "RLE", "jp2klossless", "jpeg_ls_lossless")
    for name in others:
        np.testing.assert_array_equal(read_dicom(shipped(f"MR_small_{name}.dcm"))[0], expected)


def test_colours_painted_over_a_grey_image_are_left_out_and_flagged() -> None:
    record = read_dicom(as_file(grey_object(RAMP, PixelPresentation="COLOR")))[1]
    assert record["flags"] == ["supplemental_palette_ignored"]


@pytest.mark.parametrize("bits", [12, 24, 64])
def test_values_of_other_sizes_are_refused_with_what_is_allowed(bits: int) -> None:
    dataset = grey_object(np.zeros((2, 2), dtype=np.uint16), BitsAllocated=bits, BitsStored=12, HighBit=11)
    with refused("bad_header", f"BitsAllocated must be 1, 8, 16 or 32 .* got {bits} and 12"):
        read_dicom(as_file(dataset))
