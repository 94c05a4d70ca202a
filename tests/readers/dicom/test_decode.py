from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate, encapsulate_extended, get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from movl_monai.readers.dicom import read_dicom, stored_values
from tests.readers.dicom.objects import as_file, grey_object, rewritten, rgb_object, shipped
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(70), np.arange(50))


def dcmtk(program: str, *options: str, source: Path, target: Path) -> Path:
    """Compress a file with a program of dcmtk; skips the test with a message where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} (dcmtk) is not installed: there is no file to read")
    subprocess.run([found, *options, str(source), str(target)], check=True, capture_output=True, timeout=60)
    return target


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
def test_native_values_come_back_as_they_were_written(dtype: type) -> None:
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max, (5, 7), dtype=dtype, endpoint=True)
    decoded = stored_values(as_file(grey_object(values)))
    np.testing.assert_array_equal(decoded.values, values)
    assert decoded.decoder == "native"


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_bits_outside_the_stored_ones_do_not_matter(dtype: type, high_bit: int) -> None:
    values = np.array([[0, 1, 2047], [-5, -2048, 77]], dtype=np.int16)
    if dtype == np.uint16:
        values = np.abs(values)
    shift = high_bit - 11
    mask = 0xFFF << shift
    noise = RNG.integers(0, 2**16, values.shape) & ~mask & 0xFFFF
    words = ((values.astype(int) << shift) & mask | noise).astype(np.uint16).view(dtype)
    decoded = stored_values(as_file(grey_object(words, bits_stored=12, HighBit=high_bit)))
    np.testing.assert_array_equal(decoded.values, values)
    assert ("unusual_high_bit" in decoded.flags.codes) == (shift > 0)


@pytest.mark.parametrize("planar", [0, 1])
def test_planes_of_colour_are_interleaved(planar: int) -> None:
    samples = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    dataset = rgb_object(samples, PlanarConfiguration=planar)
    if planar:
        dataset.PixelData = samples.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(stored_values(as_file(dataset)).values, samples)


@pytest.mark.parametrize(
    ("syntax", "dtype", "bits"),
    [
        (syntax, dtype, bits)
        for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless)
        for dtype, bits in ((np.uint8, 8), (np.uint16, 12), (np.int16, 16))
        # pyjpegls writes no signed values; MR_small_jpeg_ls_lossless.dcm has some
        if (syntax, dtype) != (JPEGLSLossless, np.int16)
    ],
)
def test_lossless_codecs_give_back_grey_values(syntax: Any, dtype: type, bits: int) -> None:
    values = SMOOTH.astype(dtype)
    if np.dtype(dtype).kind == "i":
        values -= 50
    dataset = grey_object(values, bits_stored=bits)
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(stored_values(as_file(dataset)).values, values)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.name)
def test_lossless_codecs_give_back_colours(syntax: Any) -> None:
    samples = np.stack([SMOOTH, SMOOTH * 2, 255 - SMOOTH], axis=-1).astype(np.uint8)
    dataset = rgb_object(samples)
    dataset.compress(syntax, generate_instance_uid=False)
    image, _ = read_dicom(as_file(dataset))
    np.testing.assert_allclose(image * 255, samples.transpose(2, 0, 1), atol=1e-4)


@pytest.mark.parametrize("options", [["+e1"], ["+el"]], ids=["first order", "any order"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_jpeg_lossless_gives_back_grey_values(options: list[str], dtype: type, tmp_path: Path) -> None:
    values = (SMOOTH * 3 - (60 if dtype == np.int16 else 0)).astype(dtype)
    source = as_file(grey_object(values), tmp_path / "x.dcm")
    path = dcmtk("dcmcjpeg", *options, source=source, target=tmp_path / "y.dcm")
    decoded = stored_values(path)
    assert decoded.decoder == "SimpleITK"
    np.testing.assert_array_equal(decoded.values, values)


def test_jpeg_extended_of_12_bits_is_close_to_the_original(tmp_path: Path) -> None:
    values = (SMOOTH * 30).astype(np.uint16)
    source = as_file(grey_object(values, bits_stored=12), tmp_path / "x.dcm")
    path = dcmtk("dcmcjpeg", "+ee", source=source, target=tmp_path / "y.dcm")
    decoded = stored_values(path)
    assert decoded.decoder == "SimpleITK"
    assert np.abs(decoded.values.astype(int) - values).max() <= 40
    assert decoded.values.max() > 3000


@pytest.mark.parametrize("bound", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_jpeg_ls_near_lossless_stays_within_its_bound(bound: int, dtype: type, tmp_path: Path) -> None:
    stored = RNG.integers(0, np.iinfo(dtype).max, SMOOTH.shape, dtype=dtype, endpoint=True)
    source = as_file(grey_object(stored), tmp_path / "original.dcm")
    target = dcmtk("dcmcjpls", "+en", "+md", str(bound), source=source, target=tmp_path / "near.dcm")
    decoded = stored_values(target)
    assert decoded.layout.transfer_syntax == "1.2.840.10008.1.2.4.81"
    apart = np.abs(decoded.values.astype(int) - stored)
    assert 0 < apart.max() <= bound


# made with OpenJPH 0.26.3, reversible: no encoder of it is at hand for the tests
HTJ2K_FRAME = bytes.fromhex(
    "ff4fff51002940000000000a0000000c00000000000000000000000a0000000c000000000000000000010f0101ff50000800020000000aff52"
    "000c00020001000504044001ff5c00132088909090909090909090909090888888ff64001700014f70656e4a50482056657220302e32362e33"
    "2eff90000a0000000000780001ff93c000263ff60507740000c0001340001280f6fb03077400f402877400c0001340001300effb000b7400c1"
    "e000223400c0001510000550adb5000230027600165a68e1c04201feb600c0002ba00015a074e9e8e8d2d1fdd82fd7e18b7700ec6c369bfdf4"
    "08462101ecb800ffd9"
)


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=lambda uid: uid.name)
def test_high_throughput_jpeg_2000_gives_back_grey_values(syntax: Any) -> None:
    expected = np.add.outer(np.arange(12) * 7, np.arange(10) * 11).astype(np.uint16) * 17 % 4096
    dataset = grey_object(np.zeros_like(expected))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([HTJ2K_FRAME])
    dataset["PixelData"].VR = "OB"
    decoded = stored_values(as_file(dataset))
    np.testing.assert_array_equal(decoded.values, expected)
    assert decoded.decoder == "pylibjpeg"


@pytest.mark.parametrize(
    ("name", "original", "tolerance"),
    [
        ("693_J2KI.dcm", None, 0),
        ("J2K_pixelrep_mismatch.dcm", None, 0),
        ("JPEGLSNearLossless_08.dcm", None, 0),
        ("JPEGLSNearLossless_16.dcm", None, 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
    ],
)
def test_jpeg_2000_and_jpeg_ls_files_equal_their_originals_or_pydicom(
    name: str, original: str | None, tolerance: float
) -> None:
    expected = pixel_array(shipped(original or name))
    np.testing.assert_allclose(stored_values(shipped(name)).values, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm"])
def test_colour_in_jpeg_2000_and_jpeg_ls_equals_the_uncompressed_twin(name: str) -> None:
    expected, _ = read_dicom(shipped("SC_rgb_rle.dcm"))
    np.testing.assert_allclose(read_dicom(shipped(name))[0], expected, atol=10 / 255)


@pytest.mark.parametrize("name", ["examples_jpeg2k.dcm", "GDCMJ2K_TextGBR.dcm"])
def test_reversible_colour_transforms_are_undone(name: str) -> None:
    expected = dcmread(shipped(name)).pixel_array.transpose(2, 0, 1) / 255
    np.testing.assert_allclose(read_dicom(shipped(name))[0], expected, atol=1e-6)


def encapsulated(dataset: Any, frame: bytes, syntax: Any) -> BytesIO:
    """An object whose pixel data is one compressed frame."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return as_file(dataset)


def jpeg_2000(values: np.ndarray, bits: int) -> bytes:
    """A lossless frame of a depth, signed as the values are."""
    from openjpeg.utils import encode_buffer

    return bytes(
        encode_buffer(
            values.tobytes(),
            *values.shape[::-1],
            samples_per_pixel=1,
            bits_stored=bits,
            is_signed=values.dtype.kind == "i",
            photometric_interpretation=2,
        )
    )


SLOPE = (SMOOTH * 17 - 1000).astype(np.int16)  # -1000 ... 1006


@pytest.mark.parametrize(
    ("coded", "bits", "stored", "signed", "expected", "flags"),
    [
        (SLOPE, 16, 16, 1, SLOPE, []),
        (SLOPE, 16, 16, 0, SLOPE, ["sign_mismatch"]),
        (SLOPE, 13, 16, 0, SLOPE, ["sign_mismatch"]),
        (SLOPE, 12, 12, 0, SLOPE, ["sign_mismatch"]),
        # two's complement in unsigned samples
        ((SLOPE % 4096).astype(np.uint16), 12, 12, 1, SLOPE, ["sign_mismatch"]),
        # with fewer bits than BitsStored they cannot be that
        ((SLOPE % 4096).astype(np.uint16), 12, 16, 1, SLOPE % 4096, ["sign_mismatch"]),
        ((SLOPE + 1000).astype(np.uint16), 12, 16, 0, SLOPE + 1000, []),
        # more bits than BitsStored, in use
        ((SLOPE + 1000).astype(np.uint16), 12, 10, 0, SLOPE + 1000, ["wrong_bits_stored"]),
    ],
)
def test_sign_and_depth_are_those_of_the_compressed_frame(
    coded: np.ndarray, bits: int, stored: int, signed: int, expected: np.ndarray, flags: list[str]
) -> None:
    dataset = grey_object(np.zeros(coded.shape, np.uint16), bits_stored=stored, PixelRepresentation=signed)
    decoded = stored_values(encapsulated(dataset, jpeg_2000(coded, bits), JPEG2000Lossless))
    np.testing.assert_array_equal(decoded.values, expected)
    assert decoded.flags.codes == flags
    low, high = decoded.layout.stored_range
    assert low <= decoded.values.min()
    assert decoded.values.max() <= high


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0\0", b"\xff"])
@pytest.mark.parametrize("behind", [b"", b"\0\0"])
def test_jpeg_ls_with_padding_around_its_end_marker_is_read(padding: bytes, behind: bytes) -> None:
    import jpeg_ls

    values = (SMOOTH * 30).astype(np.uint16)
    frame = bytes(jpeg_ls.encode_array(values))
    end = frame.rindex(b"\xff\xd9")
    padded = frame[:end] + padding + frame[end : end + 2] + behind
    decoded = stored_values(encapsulated(grey_object(values), padded, JPEGLSLossless))
    np.testing.assert_array_equal(decoded.values, values)
    assert set(decoded.flags.codes) <= {"padded_frame"}
    assert ("padded_frame" in decoded.flags.codes) == padding.startswith(b"\0")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossy_values_beyond_the_stored_bits_are_clipped(photometric: str) -> None:
    whole = stored_values(shipped("JPEG-lossy.dcm")).values
    assert whole.max() > 255
    tags = {"BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": photometric}
    decoded = stored_values(as_file(rewritten("JPEG-lossy.dcm", **tags)))
    np.testing.assert_array_equal(decoded.values, whole.clip(0, 255))
    assert "lossy_overshoot" in decoded.flags.codes


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL_422"])
@pytest.mark.parametrize("marker", ["none", "JFIF", "Adobe"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_colours_of_jpeg_follow_its_markers_and_sampling(subsampling: int, marker: str, photometric: str) -> None:
    colours = np.array([[[200, 30, 30], [30, 180, 30]], [[30, 30, 200], [128, 128, 128]]], np.uint8)
    samples = colours.repeat(32, axis=0).repeat(32, axis=1)
    buffer = BytesIO()
    Image.fromarray(samples).save(buffer, "JPEG", quality=95, subsampling=subsampling)
    frame = buffer.getvalue()
    bare = frame[4 + int.from_bytes(frame[4:6], "big") :]
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
    frame = {"none": b"\xff\xd8" + bare, "JFIF": frame, "Adobe": b"\xff\xd8" + adobe + bare}[marker]
    image, record = read_dicom(encapsulated(rgb_object(samples, photometric=photometric), frame, JPEGBaseline8Bit))
    if (subsampling, marker, photometric) == (0, "none", "RGB"):
        return  # nothing contradicts the header
    np.testing.assert_allclose(image[:, 16::32, 16::32] * 255, colours.transpose(2, 0, 1), atol=2)
    flagged = photometric == "RGB" and marker != "Adobe"
    assert record["flags"] == (["color_mismatch"] if flagged else [])


def test_subsampled_colour_that_is_not_is_read_as_it_is_and_flagged() -> None:
    samples = RNG.integers(100, 150, (4, 6, 3), dtype=np.uint8)
    full = read_dicom(as_file(rgb_object(samples, photometric="YBR_FULL")))[0]
    image, record = read_dicom(as_file(rgb_object(samples, photometric="YBR_FULL_422")))
    np.testing.assert_array_equal(image, full)
    assert "not_subsampled" in record["flags"]


def test_data_that_no_decoder_reads_is_refused_with_the_decoders_that_were_tried() -> None:
    content = bytearray(shipped("JPEG2000.dcm").read_bytes())
    start = content.index(b"\xff\x4f\xff\x51")
    content[start + 60 : start + 200] = bytes(140)
    with refused("decode_failed", r"Every decoder failed .*\(pylibjpeg: RuntimeError\).*JPEG 2000"):
        read_dicom(BytesIO(bytes(content)))


def test_plain_data_under_a_compressed_transfer_syntax_is_refused() -> None:
    content = as_file(grey_object(np.zeros((2, 2), dtype=np.uint8))).getvalue()
    wrong = content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert wrong != content
    with refused("bad_header", "needs pixel data in items"):
        read_dicom(BytesIO(wrong))


def test_items_under_a_native_transfer_syntax_are_refused() -> None:
    content = shipped("MR_small_RLE.dcm").read_bytes()
    wrong = content.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0")
    with refused("bad_header", "needs pixel data of a stated length"):
        read_dicom(BytesIO(wrong))


def test_fragments_and_offset_tables_of_any_kind_find_the_frame() -> None:
    dataset = dcmread(shipped("SC_rgb_rle_2frame.dcm"))
    frames = [get_frame(dataset.PixelData, k, number_of_frames=2) for k in range(2)]
    expected = [read_dicom(shipped("SC_rgb_rle_2frame.dcm"), frame=k)[0] for k in range(2)]
    assert not np.array_equal(*expected)
    for has_table, fragments in [(True, 1), (True, 3), (False, 1)]:
        dataset.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=has_table)
        for k in range(2):
            np.testing.assert_array_equal(read_dicom(as_file(dataset), frame=k)[0], expected[k])
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(frames)
    for k in range(2):
        np.testing.assert_array_equal(read_dicom(as_file(dataset), frame=k)[0], expected[k])
