"""Every pixel layout of Pillow's formats, by hand; the header checked before decoding; damaged files with a reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.raster import raster_frame_count, read_raster
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)


def saved(image: Image.Image, image_format: str, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer


def png(rows: int, columns: int, *, bits: int, colour_type: int, data: bytes) -> io.BytesIO:
    """A PNG by hand, for layouts that Pillow does not write; `data` has a 0 before each row."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", columns, rows, bits, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunks)


def rgb(levels: np.ndarray) -> np.ndarray:
    channels = np.stack([levels] * 3) if levels.ndim == 2 else levels.transpose(2, 0, 1)
    return channels.astype(np.float32)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_grey_and_colour_levels_are_divided_by_255(image_format: str) -> None:
    for levels in (GREY, COLOURS):
        image, record = read_raster(saved(Image.fromarray(levels), image_format))
        assert np.array_equal(image, rgb(levels) / np.float32(255))
        assert (image.dtype, image.flags.c_contiguous) == (np.float32, True)
        assert record == {
            "format": image_format.lower(),
            "rows": 5,
            "columns": 7,
            "mode": "L" if levels.ndim == 2 else "RGB",
            "bits": 8,
            "frames": 1,
            "frame": 0,
            "decoder": "pillow",
            "flags": [],
        }


@pytest.mark.parametrize(("image_format", "options"), [("JPEG", {}), ("WEBP", {"lossless": True}), ("GIF", {})])
def test_other_formats_equal_what_pillow_decodes(image_format: str, options: dict) -> None:
    file = saved(Image.fromarray(COLOURS), image_format, **options)
    expected = np.asarray(Image.open(file).convert("RGB"))
    assert np.array_equal(read_raster(file)[0], rgb(expected) / np.float32(255))


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_divided_by_65535(image_format: str) -> None:
    image, record = read_raster(saved(Image.fromarray(DEEP), image_format))
    assert np.array_equal(image, rgb(DEEP) / np.float32(65535))
    assert (record["bits"], record["flags"]) == (16, [])


def test_sixteen_bits_that_hold_only_twelve_are_flagged() -> None:
    image, record = read_raster(saved(Image.fromarray(DEEP % 4096), "PNG"))
    assert image.max() < 0.07
    assert record["flags"] == ["dark_16_bit"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_zero_is_white_is_inverted(dtype: type) -> None:
    levels = DEEP.astype(dtype)
    content = saved(Image.fromarray(levels), "TIFF").getvalue()
    black_is_zero, white_is_zero = (struct.pack("<HHII", 262, 3, 1, value) for value in (1, 0))
    assert content.count(black_is_zero) == 1
    image, _ = read_raster(io.BytesIO(content.replace(black_is_zero, white_is_zero)))
    largest = np.iinfo(dtype).max
    assert np.array_equal(image, rgb(largest - levels) / np.float32(largest))


def test_one_bit_images_are_black_and_white() -> None:
    bilevel = Image.fromarray(GREY).convert("1")
    for image_format in ("PNG", "TIFF", "BMP"):
        image, record = read_raster(saved(bilevel, image_format))
        assert np.array_equal(image, rgb(np.asarray(bilevel)))
        assert record["bits"] in (1, 8)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_grey_of_few_bits_covers_the_whole_range(bits: int) -> None:
    levels = np.arange(2**bits, dtype=np.uint8)
    packed = np.packbits(np.unpackbits(levels[:, None], axis=1)[:, -bits:].ravel()).tobytes()
    image, record = read_raster(png(1, 2**bits, bits=bits, colour_type=0, data=b"\0" + packed))
    np.testing.assert_allclose(image[0, 0], levels / (2**bits - 1), atol=1e-7)
    assert record["bits"] == bits


def test_palette_is_applied() -> None:
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    table = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30]], dtype=np.float32)
    result, record = read_raster(saved(image, "PNG"))
    expected = table[np.asarray(image)].transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(result, expected)
    assert record["flags"] == ["palette"]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_transparent_palette_entries_are_composited_on_black(transparency: int | bytes) -> None:
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 200, 30])
    result, record = read_raster(saved(image, "PNG", transparency=transparency))
    alpha = np.array([255, 0, 255 if transparency == 1 else 128])
    table = np.array([[255, 0, 0], [0, 255, 0], [10, 200, 30]]) * alpha[:, None] / 255
    np.testing.assert_allclose(result, table[np.asarray(image)].transpose(2, 0, 1) / 255, atol=0.5 / 255 + 1e-6)
    assert record["flags"] == ["palette", "alpha_on_black"]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_alpha_is_composited_on_black_and_flagged(mode: str, image_format: str) -> None:
    alpha = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    image = Image.fromarray(GREY if mode == "LA" else COLOURS)
    image.putalpha(Image.fromarray(alpha))
    result, record = read_raster(saved(image, image_format))
    expected = rgb(GREY if mode == "LA" else COLOURS) * alpha / 255 / 255
    np.testing.assert_allclose(result, expected, atol=0.5 / 255 + 1e-6)
    assert record["flags"] == ["alpha_on_black"]


def test_opaque_alpha_changes_nothing_and_is_not_flagged() -> None:
    image = Image.fromarray(COLOURS)
    image.putalpha(255)
    result, record = read_raster(saved(image, "PNG"))
    assert np.array_equal(result, rgb(COLOURS) / np.float32(255))
    assert record["flags"] == []


@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb_and_is_flagged(image_format: str) -> None:
    image = Image.new("CMYK", (16, 8), (255, 0, 0, 0))  # pure cyan
    result, record = read_raster(saved(image, image_format))
    np.testing.assert_allclose(result.mean(axis=(1, 2)), [0, 1, 1], atol=0.02)
    assert record["flags"] == ["cmyk"]


@pytest.mark.parametrize(("colour_type", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_png_colours_are_right_to_one_level_and_flagged(colour_type: int, samples: int) -> None:
    values = RNG.integers(0, 65536, (5, 7, samples), dtype=np.uint16)
    if samples in (2, 4):
        values[..., -1] = 65535
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    image, record = read_raster(png(5, 7, bits=16, colour_type=colour_type, data=data))
    expected = values[..., 0] if samples == 2 else values[..., :3]
    np.testing.assert_allclose(image, rgb(expected) / 65535, atol=1 / 255)
    assert (record["bits"], record["flags"]) == (16, ["16_to_8_bits"])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_without_a_declared_range_are_refused_unless_one_is_given(dtype: type) -> None:
    values = np.linspace(-100, 300, 35).reshape(5, 7).astype(dtype)
    file = saved(Image.fromarray(values), "TIFF")
    with refused("unsupported_format", r"does not say what white is; give value_range"):
        read_raster(file)
    image, _ = read_raster(file, value_range=(0, 200))
    np.testing.assert_allclose(image, rgb(np.clip(values / 200, 0, 1)), atol=1e-6)


def test_non_finite_values_become_black_or_white_and_are_flagged() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], dtype=np.float32)
    image, record = read_raster(saved(Image.fromarray(values), "TIFF"), value_range=(0, 1))
    assert image[0].tolist() == [[0, 0, 1, 0.5]]
    assert record["flags"] == ["non_finite_replaced"]
    with refused("not_finite", "only NaN"):
        read_raster(saved(Image.fromarray(values[:, :1]), "TIFF"), value_range=(0, 1))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_rotation_is_applied_and_flagged(image_format: str, orientation: int) -> None:
    levels = np.zeros((16, 32, 3), dtype=np.uint8)
    levels[:8, :16] = 255  # upper left
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, record = read_raster(saved(Image.fromarray(levels), image_format, exif=exif))
    quarter_turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    expected = np.rot90(levels, quarter_turns)
    assert image.shape[1:] == expected.shape[:2] == (record["rows"], record["columns"])
    np.testing.assert_allclose(image, rgb(expected) / 255, atol=0.1)
    assert record["flags"] == ([] if orientation == 1 else ["exif_rotated"])


def test_a_colour_profile_is_ignored() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image, _ = read_raster(saved(Image.fromarray(COLOURS), "PNG", icc_profile=profile))
    assert np.array_equal(image, rgb(COLOURS) / np.float32(255))


@pytest.mark.parametrize("image_format", ["TIFF", "GIF", "WEBP", "PNG"])
def test_pages_are_chosen_by_index_and_never_by_themselves(image_format: str) -> None:
    pages = [Image.new("RGB", (8, 6), (level,) * 3) for level in (0, 85, 255)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    file = saved(pages[0], image_format, save_all=True, append_images=pages[1:], **options)
    assert raster_frame_count(file) == 3
    for index, level in enumerate((0, 85, 255)):
        image, record = read_raster(file, frame=index)
        np.testing.assert_allclose(image, level / 255, atol=1e-6)
        assert (record["frames"], record["frame"]) == (3, index)
    with refused("multi_frame", "got 3 pages; give frame=0 to frame=2"):
        read_raster(file)
    for index in (3, -1):
        with refused("bad_frame", f"from 0 to 2 .* got {index}"):
            read_raster(file, frame=index)


def test_an_image_above_the_limit_is_refused_before_it_is_decoded() -> None:
    # 100 Mpx of zeros, which Pillow would warn about, without the pixel data that decoding would need
    file = png(10_000, 10_000, bits=8, colour_type=0, data=b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            MedicalImageError, match=r"at most 64,000,000 pixels, the header says 10000 x 10000"
        ) as caught:
            read_raster(file)
    assert caught.value.reason == "too_large"


def test_a_webp_that_claims_a_huge_canvas_is_refused_before_it_is_allocated() -> None:
    still = saved(Image.new("RGB", (4, 4)), "WEBP", lossless=True).getvalue()[12:]
    canvas = (16382).to_bytes(3, "little") * 2
    frame = bytes(6) + (3).to_bytes(3, "little") * 2 + bytes(4) + still
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame)) + frame
    with refused("too_large", "decompression bomb"):
        read_raster(io.BytesIO(b"RIFF" + struct.pack("<I", len(body)) + body))


def test_the_limit_is_on_every_page() -> None:
    file = saved(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (40, 40))])
    assert read_raster(file, frame=0, max_pixels=100)[0].shape == (3, 4, 4)
    with pytest.raises(MedicalImageError, match="at most 100 pixels"):
        read_raster(file, frame=1, max_pixels=100)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"])
def test_a_truncated_file_is_an_error_with_a_reason_at_every_length(image_format: str) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = saved(Image.fromarray(noise), image_format).getvalue()
    reasons = set()
    for part in (0.02, 0.3, 0.6, 0.9):
        with pytest.raises(MedicalImageError, match="Expected") as caught:
            read_raster(io.BytesIO(content[: int(part * len(content))]))
        reasons.add(caught.value.reason)
    assert reasons <= {"truncated", "bad_header", "decode_failed"}
    assert reasons & {"truncated", "decode_failed"}


def test_damaged_bytes_never_raise_anything_else() -> None:
    for image_format in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
        content = bytearray(saved(Image.fromarray(COLOURS), image_format).getvalue())
        for _ in range(60):
            damaged = content.copy()
            for position in RNG.integers(12, len(content), 4):
                damaged[position] = RNG.integers(256)
            try:
                image, _ = read_raster(io.BytesIO(damaged), max_pixels=10**6)
            except MedicalImageError:
                continue
            assert image.shape[0] == 3
            assert 0 <= image.min() <= image.max() <= 1


def test_other_formats_are_refused() -> None:
    with refused("unsupported_format", r"Expected one of png.* got unknown"):
        read_raster(io.BytesIO(b"name,label"))


def test_read_raster_leaves_a_file_object_open() -> None:
    file = saved(Image.fromarray(GREY), "PNG")
    read_raster(file)
    assert not file.closed


def test_real_radiographs_equal_pillows_pixels(test_data: Path) -> None:
    paths = sorted((test_data / "data/cxr_pneumonia").rglob("*.jpeg"))[::400]
    assert paths
    for path in paths:
        image, _ = read_raster(path)
        expected = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / np.float32(255)
        assert np.array_equal(image, expected.transpose(2, 0, 1))


PLANES = RNG.integers(0, 65536, (3, 40, 24), dtype=np.uint16)


@pytest.mark.parametrize("layout", [{}, {"rowsperstrip": 8}, {"tile": (16, 16)}, {"bigtiff": True}], ids=str)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bands", [3, 4])
def test_colours_of_tiff_are_those_that_tifffile_reads(
    bands: int, dtype: type, compression: str | None, order: str, planar: str, layout: dict
) -> None:
    if layout.get("bigtiff"):
        order = "<"  # the other one is refused
    opaque = np.full((1, 40, 24), 65535, np.uint16)
    planes = np.concatenate([PLANES, opaque])[:bands]
    planes = planes if dtype == np.uint16 else (planes >> 8).astype(np.uint8)
    file = io.BytesIO()
    samples = planes if planar == "separate" else planes.transpose(1, 2, 0)
    extra = {"extrasamples": ["unassalpha"]} if bands == 4 else {}
    tifffile.imwrite(
        file,
        samples,
        photometric="rgb",
        planarconfig=planar,
        byteorder=order,
        compression=compression,
        **layout,
        **extra,
    )
    image, record = read_raster(file)
    file.seek(0)
    expected = tifffile.imread(file)
    expected = (expected if planar == "separate" else expected.transpose(2, 0, 1))[:3] / np.iinfo(dtype).max
    np.testing.assert_allclose(image, expected, atol=1 / 255)
    by_tifffile = (planar, dtype, compression) == ("separate", np.uint16, None)
    assert record["decoder"] == ("tifffile" if by_tifffile else "pillow")


def planes_file() -> io.BytesIO:
    file = io.BytesIO()
    tags = [(274, 3, 1, 6, True)]
    tifffile.imwrite(file, PLANES, photometric="rgb", planarconfig="separate", extratags=tags, metadata=None)
    return file


def test_deep_planes_are_turned_as_their_tag_says() -> None:
    image, record = read_raster(planes_file())
    upright = np.rot90(PLANES >> 8, k=-1, axes=(1, 2)).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(image, upright)
    assert record["flags"] == ["16_to_8_bits", "exif_rotated"]


def test_deep_planes_that_end_early_are_refused() -> None:
    with pytest.raises(MedicalImageError) as caught:
        read_raster(io.BytesIO(planes_file().getvalue()[:-1000]))
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_signed_levels_need_the_range_that_is_shown(dtype: type) -> None:
    levels = (np.arange(35).reshape(5, 7) * 7 - 120).astype(dtype)
    file = io.BytesIO()
    tifffile.imwrite(file, levels)
    with refused("unsupported_format", "value_range"):
        read_raster(file)
    image, _ = read_raster(file, value_range=(-100, 100))
    np.testing.assert_allclose(image[0], ((levels.astype(float) + 100) / 200).clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_the_range_that_is_given_holds_for_sixteen_bits(image_format: str) -> None:
    image, record = read_raster(saved(Image.fromarray(DEEP % 4096), image_format), value_range=(0, 4095))
    np.testing.assert_allclose(image, rgb(DEEP % 4096) / 4095, atol=1e-6)
    assert record["flags"] == []
