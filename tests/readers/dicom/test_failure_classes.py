"""Known failures of readers of medical images, F01 to F24 and F32 to F34: each gives the right result here."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, examples
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ImplicitVRLittleEndian,
    ParametricMapStorage,
)

from movl_monai.readers.dicom import modality_values, read_dicom, read_geometry, stored_values
from movl_monai.readers.errors import MedicalImageError
from tests.readers.dicom.objects import (
    as_file,
    dcmtk_render,
    grey_object,
    lut_item,
    rewritten,
    rgb_object,
    shipped,
)
from tests.readers.refusals import refused

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP_RAMP = (np.arange(4096, dtype=np.uint16)).reshape(64, 64)


def near_dcmtk(image: np.ndarray, path: Path, *options: str) -> None:
    np.testing.assert_allclose(image, dcmtk_render(path, *options), atol=1.001 / 255)


# F01


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("slope", [1, -2])
def test_f01_monochrome1_is_inverted_after_the_window(signed: bool, slope: float, tmp_path: Path) -> None:
    stored = DEEP_RAMP.astype(np.int16) - 2048 if signed else DEEP_RAMP
    tags = {"RescaleSlope": slope, "RescaleIntercept": 100, "WindowCenter": 400, "WindowWidth": 1500}
    path = as_file(grey_object(stored, bits_stored=12, photometric="MONOCHROME1", **tags), tmp_path / "x.dcm")
    image, _ = read_dicom(path)
    values = stored.astype(float) * slope + 100
    expected = 1 - np.clip((values - 399.5) / 1499 + 0.5, 0, 1)
    np.testing.assert_allclose(image[0], expected, atol=1e-6)
    near_dcmtk(image, path, "+Wi", "1")


def test_f01_monochrome1_without_a_window_is_inverted_over_the_full_range_not_over_its_own() -> None:
    image, _ = read_dicom(as_file(grey_object(RAMP // 4, photometric="MONOCHROME1")))
    np.testing.assert_allclose(image[0], 1 - (RAMP // 4) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "conflict"),
    [
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME1", "IDENTITY", False, True),
        ("MONOCHROME2", "INVERSE", True, True),
        ("MONOCHROME1", "", True, False),
        ("MONOCHROME1", "LIN OD", True, False),
    ],
)
def test_f01_presentation_lut_shape_takes_precedence(
    photometric: str, shape: str, inverted: bool, conflict: bool
) -> None:
    image, record = read_dicom(as_file(grey_object(RAMP, photometric=photometric, PresentationLUTShape=shape)))
    expected = 1 - RAMP / 255 if inverted else RAMP / 255
    np.testing.assert_allclose(image[0], expected, atol=1e-6)
    assert ("polarity_conflict" in record["flags"]) == conflict


# F02


def test_f02_a_multi_frame_file_is_one_sample_per_frame_with_rows_as_rows() -> None:
    frames = np.stack([np.full((3, 5), 10 * k, dtype=np.uint8) + np.arange(5, dtype=np.uint8) for k in range(4)])
    file = as_file(grey_object(frames))
    for k in range(4):
        image, record = read_dicom(file, frame=k)
        np.testing.assert_allclose(image[0], frames[k] / 255, atol=1e-6)
        assert (record["frames"], record["frame"]) == (4, k)


def test_f02_a_multi_frame_file_without_a_frame_is_refused_with_its_count() -> None:
    with refused("multi_frame", r"has 4 frames; choose one with frame=0\.\.\.3"):
        read_dicom(as_file(grey_object(np.zeros((4, 2, 2), dtype=np.uint8))))


@pytest.mark.parametrize("frame", [-1, 4])
def test_f02_a_frame_that_does_not_exist_is_refused(frame: int) -> None:
    with refused("bad_frame", rf"frame must be in 0\.\.\.3, got {frame}"):
        read_dicom(as_file(grey_object(np.zeros((4, 2, 2), dtype=np.uint8))), frame=frame)


def test_f02_frames_of_a_compressed_colour_file_equal_those_of_pydicom() -> None:
    path = shipped("examples_ybr_color.dcm")
    for frame in (0, 17, 29):
        image, record = read_dicom(path, frame=frame)
        assert record["frames"] == 30
        expected = pixel_array(path, index=frame).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(image, expected, atol=0.51 / 255)


# F03


def enhanced_ct(stored: np.ndarray) -> Dataset:
    """Two frames: the intercept is shared, the second frame has its own, and each has its position."""
    dataset = grey_object(stored, sop_class=EnhancedCTImageStorage, modality="CT", RescaleSlope=7, RescaleIntercept=7)
    shared, per_frame = Dataset(), []
    shared.PixelValueTransformationSequence = [rescale(1, -1024)]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.5, 0.75]
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    for k in range(len(stored)):
        item = Dataset()
        item.PlanePositionSequence = [Dataset()]
        item.PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3 + k]
        per_frame.append(item)
    per_frame[1].PixelValueTransformationSequence = [rescale(2, -2000)]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = per_frame
    return dataset


def rescale(slope: float, intercept: float) -> Dataset:
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = slope, intercept, "HU"
    return item


def test_f03_functional_groups_win_for_rescale_and_geometry() -> None:
    stored = np.stack([DEEP_RAMP, DEEP_RAMP])
    file = as_file(enhanced_ct(stored))
    for frame, (slope, intercept) in enumerate([(1, -1024), (2, -2000)]):
        decoded = stored_values(file, frame=frame)
        np.testing.assert_array_equal(modality_values(decoded).values, DEEP_RAMP.astype(float) * slope + intercept)
        geometry = read_geometry(decoded.header, frame=frame)
        assert geometry.position == (1, 2, 3 + frame)
        assert geometry.orientation == (1, 0, 0, 0, 1, 0)
        assert geometry.spacing == (0.5, 0.75)
        image, record = read_dicom(file, frame=frame, ct_windows=["abdomen"])
        hu = DEEP_RAMP * float(slope) + intercept
        np.testing.assert_allclose(image[2], np.clip((hu - 49.5) / 399 + 0.5, 0, 1), atol=1e-5)
        assert record["pixel_spacing"] == [0.5, 0.75]


def test_f03_a_window_of_the_frame_wins_over_that_of_the_file() -> None:
    dataset = grey_object(np.stack([RAMP, RAMP]), WindowCenter=10, WindowWidth=5)
    items = [Dataset(), Dataset()]
    for item, center in zip(items, (50, 150), strict=True):
        item.FrameVOILUTSequence = [Dataset()]
        item.FrameVOILUTSequence[0].WindowCenter = center
        item.FrameVOILUTSequence[0].WindowWidth = 40
    dataset.PerFrameFunctionalGroupsSequence = items
    assert read_dicom(as_file(dataset), frame=0)[1]["voi"]["center"] == 50
    assert read_dicom(as_file(dataset), frame=1)[1]["voi"]["center"] == 150


# F04


def palette(dataset: Dataset, tables: np.ndarray, *, first: int = 0, bits: int = 16) -> Dataset:
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for color, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        setattr(dataset, f"{color}PaletteColorLookupTableDescriptor", [len(table) % 2**16, first, bits])
        dataset[f"{color}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(dataset, f"{color}PaletteColorLookupTableData", table.tobytes())
    return dataset


@pytest.mark.parametrize("indices", [RAMP, RAMP.astype(np.uint16)], ids=["8-bit", "16-bit"])
def test_f04_a_16_bit_palette_is_shifted_to_8_bits_so_that_65280_is_white(indices: np.ndarray, tmp_path: Path) -> None:
    ramp = np.arange(256, dtype="<u2")
    tables = np.stack([ramp << 8, (255 - ramp) << 8, (ramp // 2) << 8]).astype("<u2")
    path = as_file(palette(grey_object(indices), tables), tmp_path / "x.dcm")
    image, record = read_dicom(path)
    np.testing.assert_allclose(image, np.stack([RAMP, 255 - RAMP, RAMP // 2]) / 255, atol=1e-6)
    assert record["voi"] == {"source": "none"}
    near_dcmtk(image, path)


def test_f04_the_palette_of_a_shipped_file_gives_its_colours() -> None:
    dataset = examples.palette_color
    image, _ = read_dicom(shipped("examples_palette.dcm"))
    red = np.frombuffer(dataset.RedPaletteColorLookupTableData, "<u2")[dataset.pixel_array] >> 8
    np.testing.assert_allclose(image[0], red / 255, atol=1e-6)


# F05, F06


def test_f05_the_modality_lut_is_applied(tmp_path: Path) -> None:
    entries = (np.arange(256) ** 2).tolist()
    dataset = grey_object(RAMP, ModalityLUTSequence=[lut_item(entries, first=0, bits=16)])
    dataset.ModalityLUTSequence[0].ModalityLUTType = "US"
    path = as_file(dataset, tmp_path / "x.dcm")
    image, record = read_dicom(path)
    np.testing.assert_allclose(image[0], RAMP.astype(float) ** 2 / 65535, atol=1e-6)
    assert record["voi"] == {"source": "full_range", "low": 0.0, "high": 65535.0}
    near_dcmtk(image, path)


def test_f06_the_voi_lut_comes_before_the_window(tmp_path: Path) -> None:
    entries = [255 - k for k in range(200)]
    dataset = grey_object(RAMP, WindowCenter=100, WindowWidth=50, VOILUTSequence=[lut_item(entries, first=20, bits=8)])
    path = as_file(dataset, tmp_path / "x.dcm")
    image, record = read_dicom(path)
    np.testing.assert_allclose(image[0], (255 - np.clip(RAMP.astype(int) - 20, 0, 199)) / 255, atol=1e-6)
    assert record["voi"] == {"source": "lut", "entries": 200, "first": 20, "bits": 8, "index": 0}
    near_dcmtk(image, path, "+Wl", "1")
    window, record = read_dicom(path, voi=1)
    assert record["voi"] == {"source": "window", "center": 100, "width": 50, "function": "LINEAR", "index": 1}
    near_dcmtk(window, path, "+Wi", "1")


@pytest.mark.parametrize("function", ["LINEAR", "SIGMOID"])
def test_f06_windows_of_both_functions_look_as_dcmtk_renders_them(function: str, tmp_path: Path) -> None:
    tags = {"WindowCenter": 1500, "WindowWidth": 800, "VOILUTFunction": function}
    path = as_file(grey_object(DEEP_RAMP, bits_stored=12, **tags), tmp_path / "x.dcm")
    image, record = read_dicom(path)
    assert record["voi"]["function"] == function
    near_dcmtk(image, path, "+Wi", "1")


def test_f06_a_ct_ignores_the_windows_of_the_file(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 0, "WindowWidth": 1}
    dataset = grey_object(DEEP_RAMP, bits_stored=12, sop_class=CTImageStorage, modality="CT", **tags)
    path = as_file(dataset, tmp_path / "x.dcm")
    image, record = read_dicom(path, ct_windows=["lungs", [350, 50], "spine_bone"])
    for channel, (width, level) in zip(image, [(1500, -600), (350, 50), (1800, 400)], strict=True):
        near_dcmtk(np.stack([channel] * 3), path, "+Ww", str(level), str(width))
    assert record["voi"] == {"source": "ct_windows", "windows": [[1500, -600], [350, 50], [1800, 400]]}


# F07


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("value", "limit", "padded"), [(-2000, None, [-2000]), (-2000, -1990, range(-2000, -1989)), (5, -5, range(-5, 6))]
)
def test_f07_padding_is_found_in_the_stored_values_and_is_black(
    photometric: str, value: int, limit: int | None, padded: Any
) -> None:
    stored = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1024, "PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
    dataset = grey_object(stored, photometric=photometric, WindowCenter=-3000, WindowWidth=9000, **tags)
    dataset["PixelPaddingValue"].VR = "SS"
    image, _ = read_dicom(as_file(dataset))
    mask = np.isin(stored, list(padded))
    assert (image[:, mask] == 0).all()
    assert (image[0][~mask] > 0).any()
    frame = modality_values(stored_values(as_file(dataset)))
    np.testing.assert_array_equal(frame.padding, mask)
    np.testing.assert_array_equal(frame.values, stored.astype(float) * 2 - 1024)


def test_f07_a_padding_value_written_with_the_wrong_sign_still_matches() -> None:
    dataset = grey_object(np.array([[-2000, 0], [5, 7]], dtype=np.int16), PixelPaddingValue=63536)
    dataset["PixelPaddingValue"].VR = "US"
    padding = modality_values(stored_values(as_file(dataset))).padding
    assert padding is not None
    assert padding.tolist() == [[True, False], [False, False]]


# F08, F09, F10


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16), (np.uint16, 12), (np.uint32, 32)])
def test_f08_f09_rgb_of_any_depth_is_scaled_by_its_bits_and_has_channels_first(dtype: type, bits: int) -> None:
    samples = np.random.default_rng(0).integers(0, 2**bits, (5, 7, 3)).astype(dtype)
    image, record = read_dicom(as_file(rgb_object(samples, bits_stored=bits)))
    assert image.shape == (3, 5, 7)
    np.testing.assert_allclose(image, samples.transpose(2, 0, 1) / (2.0**bits - 1), atol=1e-6)
    assert record["bits_stored"] == bits


@pytest.mark.parametrize("name", ["SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit.dcm"])
def test_f08_deep_rgb_files_look_as_their_8_bit_twin(name: str) -> None:
    expected, _ = read_dicom(shipped("SC_rgb_rle.dcm"))
    np.testing.assert_allclose(read_dicom(shipped(name))[0], expected, atol=1 / 255)


def test_f10_grey_is_repeated_to_three_equal_channels_in_reading_order() -> None:
    image, _ = read_dicom(as_file(grey_object(np.arange(6, dtype=np.uint8).reshape(2, 3))))
    assert image.shape == (3, 2, 3)
    for channel in image:
        np.testing.assert_allclose(channel * 255, [[0, 1, 2], [3, 4, 5]], atol=1e-4)


# F11, F12, F13, F14


def test_f11_a_data_set_without_preamble_and_meta_information_is_read_as_implicit_little_endian() -> None:
    dataset = grey_object(RAMP)
    target = io.BytesIO()
    bare = Dataset()
    bare.update(dataset)
    bare.save_as(target, implicit_vr=True, little_endian=True)
    assert target.getvalue()[128:132] != b"DICM"
    image, record = read_dicom(target)
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-6)
    assert record["transfer_syntax"] == ImplicitVRLittleEndian
    assert "no_transfer_syntax" in record["flags"]


def test_f11_meta_information_without_a_preamble_is_read() -> None:
    file = as_file(grey_object(RAMP))
    image, record = read_dicom(io.BytesIO(file.getvalue()[132:]))
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-6)
    assert record["transfer_syntax"] == "1.2.840.10008.1.2.1"


@pytest.mark.parametrize("content", [b"\x02\x00 text that begins so", b"\x08\x00" * 50, b"II*\0" * 50, b"\0" * 500])
def test_f11_bytes_that_only_begin_like_a_data_set_are_not_forced(content: bytes) -> None:
    with refused("unsupported_format", "Expected a DICOM file"):
        read_dicom(io.BytesIO(content))


def test_f12_without_a_decoder_the_error_names_the_transfer_syntax_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("movl_monai.readers.dicom.decode.DECODERS", dict.fromkeys(["1.2.840.10008.1.2.5"], ()))
    with refused("no_decoder", r"1\.2\.840\.10008\.1\.2\.5 \(RLE Lossless\).*pip install "):
        read_dicom(shipped("MR_small_RLE.dcm"))


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_f13_jpeg_extended_with_12_bits_is_read_as_simpleitk_reads_it(name: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(shipped(name))))[0]
    decoded = stored_values(shipped(name))
    np.testing.assert_array_equal(decoded.values, expected)
    assert decoded.decoder == "SimpleITK"
    assert expected.max() > 255


def test_f13_a_monochrome1_jpeg_with_12_bits_is_inverted_once() -> None:
    dataset = rewritten("JPGExtended.dcm")
    plain, _ = read_dicom(as_file(dataset))
    dataset.PhotometricInterpretation = "MONOCHROME1"
    np.testing.assert_allclose(read_dicom(as_file(dataset))[0], 1 - plain, atol=1e-6)


@pytest.mark.parametrize(
    ("syntax", "kind"),
    [
        ("1.2.840.10008.1.2.4.92", "compressed in a way"),  # JPEG 2000 Part 2 Multi-component
        ("1.2.840.10008.1.2.4.94", "compressed in a way"),  # JPIP Referenced
        ("1.2.840.10008.1.2.4.112", "compressed in a way"),  # JPEG XL
        ("1.2.840.10008.1.2.4.100", "a video"),
        ("1.2.840.10008.1.2.4.102", "a video"),
        ("1.2.840.10008.1.2.4.108", "a video"),
    ],
)
def test_f14_transfer_syntaxes_that_nothing_reads_are_named(syntax: str, kind: str) -> None:
    dataset = grey_object(RAMP, PixelData=encapsulate([RAMP.tobytes()]))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=True, force_encoding=True)
    with refused("no_decoder", rf"No decoder reads .* {syntax}.*the file is {kind}"):
        read_dicom(file)


def test_f14_f15_segmentations_are_labels_not_images() -> None:
    for name in ("liver_1frame.dcm", "liver_expb_1frame.dcm"):
        with refused("segmentation", r"label mask \(Segmentation Storage\).*LoadSegmentation"):
            read_dicom(shipped(name))


def test_f15_one_bit_images_that_are_no_segmentations_are_black_and_white() -> None:
    bits = np.random.default_rng(0).integers(0, 2, (2, 5, 7)).astype(np.uint8)
    dataset = grey_object(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    dataset.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes() + b"\0"
    for frame in range(2):
        image, _ = read_dicom(as_file(dataset), frame=frame)
        np.testing.assert_array_equal(image[1], bits[frame])


# F16


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_f16_float_pixel_data_is_read_over_its_own_range(keyword: str, dtype: str) -> None:
    values = np.array([[-1.5, 0.0, 2.5], [np.nan, 1.0, -99.0]], dtype=dtype)
    dataset = grey_object(np.zeros((2, 3), dtype=np.uint16), sop_class=ParametricMapStorage, PixelData=None)
    for tag in ("BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, tag)
    dataset.BitsAllocated = 32 if keyword == "FloatPixelData" else 64
    setattr(dataset, keyword, values.tobytes())
    setattr(dataset, keyword.replace("Data", "PaddingValue"), -99.0)
    image, record = read_dicom(as_file(dataset))
    np.testing.assert_allclose(image[0], [[0, 0.375, 1], [0, 0.625, 0]], atol=1e-6)
    assert record["voi"] == {"source": "full_range", "low": -1.5, "high": 2.5}
    assert {"range_from_data", "non_finite_pixels"} <= set(record["flags"])


def test_f16_float_pixel_data_without_a_finite_value_is_refused() -> None:
    dataset = grey_object(np.zeros((2, 2), dtype=np.uint16), PixelData=None, BitsAllocated=32)
    dataset.FloatPixelData = np.full((2, 2), np.nan, dtype="<f4").tobytes()
    with refused("not_finite", "no pixel is finite"):
        read_dicom(as_file(dataset))


# F17, F18


@pytest.mark.parametrize("missing", [1, 2, 100])
def test_f17_pixel_data_shorter_than_the_header_says_is_refused(missing: int) -> None:
    content = as_file(grey_object(DEEP_RAMP)).getvalue()
    with refused("truncated", f"says 8192 bytes of pixel data, there are {8192 - missing}"):
        read_dicom(io.BytesIO(content[:-missing]))


def test_f17_a_stated_length_shorter_than_the_header_says_is_refused() -> None:
    dataset = grey_object(DEEP_RAMP, Rows=65)
    with pytest.raises(MedicalImageError, match="says 8320 bytes of pixel data, there are 8192"):
        read_dicom(as_file(dataset))


def test_f17_compressed_data_that_ends_within_an_item_is_refused() -> None:
    content = shipped("MR_small_RLE.dcm").read_bytes()
    with refused("truncated", "ends early or is damaged"):
        read_dicom(io.BytesIO(content[:-1000]))


@pytest.mark.parametrize(
    ("big", "little"),
    [
        ("rtdose_expb.dcm", "rtdose.dcm"),
        ("rtdose_expb_1frame.dcm", "rtdose_1frame.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_f18_big_endian_values_equal_little_endian_values(big: str, little: str) -> None:
    frame = 3 if "rtdose" in big and "1frame" not in big else 0
    values = stored_values(shipped(big), frame=frame).values
    np.testing.assert_array_equal(values, stored_values(shipped(little), frame=frame).values)
    assert values.max() > 0


# F19 to F22


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("value", ["", None], ids=["empty", "missing"])
def test_f19_an_empty_or_missing_half_of_the_rescale_pair_takes_its_default(keyword: str, value: str | None) -> None:
    tags: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -1000, keyword: value}
    stored = stored_values(as_file(grey_object(DEEP_RAMP, **tags)))
    slope, intercept = (1, -1000) if keyword == "RescaleSlope" else (2, 0)
    np.testing.assert_array_equal(modality_values(stored).values, DEEP_RAMP.astype(float) * slope + intercept)
    assert f"{'empty' if value == '' else 'inferred'}:{keyword}" in stored.flags.codes


def test_f20_a_slope_of_0_is_refused() -> None:
    with refused("bad_rescale", "RescaleSlope must not be 0"):
        read_dicom(as_file(grey_object(RAMP, RescaleSlope=0, RescaleIntercept=5)))


def test_f21_an_empty_spacing_and_orientation_are_unknown_and_flagged() -> None:
    dataset = rewritten("MR_small.dcm", PixelSpacing=None, ImageOrientationPatient=None)
    expected, _ = read_dicom(shipped("MR_small.dcm"))
    dataset.PixelSpacing = dataset.ImageOrientationPatient = ""
    image, record = read_dicom(as_file(dataset))
    np.testing.assert_array_equal(image, expected)
    assert record["pixel_spacing"] is None
    assert {"empty:PixelSpacing", "empty:ImageOrientationPatient"} <= set(record["flags"])


@pytest.mark.parametrize(
    "keyword", ["PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation", "BitsStored", "HighBit"]
)
def test_f22_a_missing_pixel_tag_is_inferred_and_flagged(keyword: str) -> None:
    image, record = read_dicom(as_file(grey_object(RAMP, **{keyword: None})))
    np.testing.assert_allclose(image[0], RAMP / 255, atol=1e-6)
    assert f"inferred:{keyword}" in record["flags"]


def test_f22_three_samples_without_a_photometric_interpretation_are_rgb() -> None:
    samples = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image, record = read_dicom(as_file(rgb_object(samples, PhotometricInterpretation=None)))
    np.testing.assert_allclose(image, samples.transpose(2, 0, 1) / 255, atol=1e-6)
    assert "inferred:PhotometricInterpretation" in record["flags"]


@pytest.mark.parametrize("keyword", ["Rows", "Columns"])
def test_f22_a_missing_tag_that_cannot_be_inferred_is_named(keyword: str) -> None:
    with refused("missing_tag", f"{keyword} is missing or empty"):
        read_dicom(as_file(grey_object(RAMP, **{keyword: None})))


# F23, F24


@pytest.mark.parametrize(
    ("name", "sop_class"),
    [
        ("test-SR.dcm", "Comprehensive SR Storage"),
        ("rtstruct.dcm", "RT Structure Set Storage"),
        ("rtplan.dcm", "RT Plan Storage"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform Storage"),
        ("DICOMDIR", "Media Storage Directory Storage"),
    ],
)
def test_f23_objects_without_pixel_data_are_no_images_and_are_named(name: str, sop_class: str) -> None:
    with refused("not_image", rf"without pixel data \(.*{sop_class}\)"):
        read_dicom(shipped(name))


def test_f24_the_bytes_decide_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(shipped("MR_small.dcm").read_bytes())
    np.testing.assert_array_equal(read_dicom(path)[0], read_dicom(shipped("MR_small.dcm"))[0])


# F32, F33, F34

SECRET = "GEHEIM^PATIENT"


def secret_object(**tags: Any) -> Dataset:
    """An object with a secret in every text that identifies someone, and in texts that should identify nobody."""
    dataset = grey_object(DEEP_RAMP, WindowCenter=[100, 300], WindowWidth=[200, 400], **tags)
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "SeriesDescription"):
        setattr(dataset, keyword, SECRET)
    dataset.PatientBirthDate = "19700101"
    dataset.StudyInstanceUID = "1.2.3.4.5.6.7"
    dataset.WindowCenterWidthExplanation = [SECRET, "OTHER"]
    return dataset


def test_f32_the_record_holds_no_patient_data_not_even_where_a_code_is_expected() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom says that this is no valid code
        dataset = secret_object(Modality=SECRET)
    _, record = read_dicom(as_file(dataset))
    assert set(record) == {
        "modality", "sop_class", "rows", "columns", "photometric", "bits_stored", "transfer_syntax", "decoder", "voi",
        "frames", "frame", "pixel_spacing", "flags", "shows_names",
    }  # fmt: skip
    text = repr(record)
    assert "GEHEIM" not in text
    assert "1970" not in text
    assert "1.2.3.4.5" not in text
    assert record["modality"] == ""


@pytest.mark.parametrize(
    "broken",
    [
        {"RescaleSlope": 0},
        {"Rows": 9999},
        {"PhotometricInterpretation": SECRET},
        {"SOPClassUID": "1.2.3.4.5.6.7", "PixelData": None},
        {"BitsStored": 99},
    ],
    ids=str,
)
def test_f33_errors_name_no_file_no_patient_and_no_private_uid(broken: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "GEHEIM"
    folder.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = as_file(secret_object(**broken), folder / "GEHEIM.dcm")
    with pytest.raises(MedicalImageError) as caught:
        read_dicom(path)
    error: BaseException | None = caught.value
    while error is not None:
        assert "GEHEIM" not in str(error)
        assert "1.2.3.4.5" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_f33_a_missing_file_is_not_named(tmp_path: Path) -> None:
    with pytest.raises(MedicalImageError, match="No such file") as caught:
        read_dicom(tmp_path / "GEHEIM.dcm")
    assert "GEHEIM" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_f33_values_of_the_file_reach_neither_warnings_nor_logs(
    caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = as_file(secret_object(ImagerPixelSpacing=["1", "1"])).getvalue()
    broken = content.replace(b"1\\1 ", b"GEHE")
    assert broken != content
    caplog.set_level(logging.DEBUG)
    _, record = read_dicom(io.BytesIO(broken))
    assert "invalid:ImagerPixelSpacing" in record["flags"]
    assert not caplog.records
    assert not recwarn.list


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("MR_small.dcm", "native"),
        ("MR_small_RLE.dcm", "pylibjpeg"),
        ("MR_small_jp2klossless.dcm", "pylibjpeg"),
        ("MR_small_jpeg_ls_lossless.dcm", "pyjpegls"),
        ("SC_rgb_jpeg_gdcm.dcm", "SimpleITK"),
        ("SC_rgb_jpeg_dcmtk.dcm", "pillow"),
    ],
)
def test_f34_the_decoder_is_the_first_of_a_fixed_order_and_is_recorded(name: str, decoder: str) -> None:
    assert read_dicom(shipped(name))[1]["decoder"] == decoder


def test_f34_the_gpl_plugin_and_pillow_for_jpeg_2000_are_never_asked() -> None:
    from movl_monai.readers.dicom.decode import DECODERS

    for syntax, names in DECODERS.items():
        if "JPEG 2000" in syntax.name:
            assert "pillow" not in names
        if "JPEG 2000" not in syntax.name and "JPEG2000" not in syntax.name and "RLE" not in syntax.name:
            assert "pylibjpeg" not in names
