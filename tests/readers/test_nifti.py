"""NIfTI slices: orientation against MONAI and by hand, one scale per volume, limits before loading."""

from __future__ import annotations

import gzip
import io
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Orientation

from movl_monai.readers.dicom import Limits
from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.nifti import read_nifti, read_nifti_slice, slice_count
from movl_monai.transforms.windows import HUWindows
from tests.readers.refusals import refused

RNG = np.random.default_rng(0)
DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}
VOLUME = RNG.normal(100, 30, (5, 6, 7)).astype(np.float32)


def nifti(array: np.ndarray, affine: np.ndarray | None = None) -> io.BytesIO:
    return io.BytesIO(nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes())


def oblique(codes: str, angle: float) -> np.ndarray:
    """An affine with the orientation `codes`, tilted by `angle`, with unequal spacing."""
    axes = np.array([DIRECTIONS[code] for code in codes]).T
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ axes @ np.diag([0.7, 0.9, 3.0])
    affine[:3, 3] = [-90, 20, 5]
    return affine


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PIR", "SAL", "ASR"])
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_the_volume_equals_monais_orientation_lps(codes: str, angle: float) -> None:
    affine = oblique(codes, angle)
    volume = read_nifti(nifti(VOLUME, affine))
    tensor = MetaTensor(torch.from_numpy(VOLUME)[None], affine=torch.from_numpy(affine))
    expected = Orientation(axcodes="LPS", labels=None)(tensor)
    assert np.array_equal(volume.values, expected[0].numpy())
    np.testing.assert_allclose(volume.affine, np.diag([-1, -1, 1, 1]) @ expected.affine.numpy(), atol=1e-5)
    assert volume.flags == (() if angle == 0 else ("oblique",))


def test_slices_show_the_patient_as_dicom_does() -> None:
    values = np.zeros((10, 12, 14), dtype=np.float32)  # RAS
    values[-2:], values[:, -2:], values[:, :, -2:] = 1, 2, 3  # patient's right, front, head
    for axis, index, corner in (("axial", 5, "front"), ("coronal", 5, "head"), ("sagittal", 5, "head")):
        image, record = read_nifti_slice(nifti(values), slice_index=index, axis=axis, intensity="minmax")
        level = {"front": 2, "head": 3}[corner] / 3
        np.testing.assert_allclose(image[:, 0, 5], level, atol=1e-6)  # up
        left_of_the_picture = 2 / 3 if axis == "sagittal" else 1 / 3  # front, or the patient's right
        np.testing.assert_allclose(image[:, 6, 0], left_of_the_picture, atol=1e-6)
        assert image[0, -1, -1] == 0
        assert image.shape == (3, record["rows"], record["columns"])


@pytest.mark.parametrize(
    ("axis", "count", "shape"), [("axial", 7, (6, 5)), ("coronal", 6, (7, 5)), ("sagittal", 5, (7, 6))]
)
def test_slice_count_is_along_the_plane_however_the_voxels_are_stored(axis: str, count: int, shape: tuple) -> None:
    for codes in ("RAS", "SAL", "PIR"):
        order = [("RL", "AP", "SI").index(pair) for code in codes for pair in ("RL", "AP", "SI") if code in pair]
        file = nifti(VOLUME.transpose(order), oblique(codes, 0.1))
        assert slice_count(file, axis=axis) == count
        image, record = read_nifti_slice(file, slice_index=count - 1, axis=axis)
        assert image.shape[1:] == shape
        assert record["orientation"] == codes


def test_the_record_says_what_was_done() -> None:
    _, record = read_nifti_slice(nifti(VOLUME, oblique("LPS", 0)), slice_index=3, axis="coronal", intensity="minmax")
    assert record.pop("pixel_spacing") == pytest.approx([3.0, 0.7])
    assert record.pop("slice_spacing") == pytest.approx(0.9)
    assert record.pop("voxel_mm3") == pytest.approx(0.7 * 0.9 * 3)
    assert record.pop("range") == pytest.approx([VOLUME.min(), VOLUME.max()])
    assert record == {
        "format": "nifti",
        "dtype": "float32",
        "orientation": "LPS",
        "volumes": 1,
        "decoder": "nibabel",
        "rows": 7,
        "columns": 5,
        "frames": 6,
        "frame": 3,
        "slice_axis": "coronal",
        "intensity": "minmax",
        "flags": [],
    }


def test_percentiles_are_those_of_the_whole_volume() -> None:
    volume = VOLUME.copy()
    volume[:, :, 3] += 1000
    low, high = np.percentile(volume, (2, 98))
    image, record = read_nifti_slice(nifti(volume, oblique("LPS", 0)), slice_index=0, percentiles=(2, 98))
    expected = np.clip((volume[:, :, 0].T - low) / (high - low), 0, 1)
    np.testing.assert_allclose(image, np.stack([expected] * 3), atol=1e-6)
    assert record["range"] == pytest.approx([low, high])


def test_ct_windows_are_applied_to_rescaled_values() -> None:
    image = nib.Nifti1Image(RNG.integers(0, 3000, (4, 5, 3), dtype=np.int16), oblique("LPS", 0))
    stored = np.asarray(image.dataobj)
    image.header.set_slope_inter(1, -1024)
    content = bytearray(image.to_bytes())
    content[112:120] = struct.pack("<ff", 1, -1024)  # nibabel rescales the values it writes
    content[352:] = stored.tobytes(order="F")
    hu = torch.from_numpy(stored[:, :, 2].T.astype(np.float32) - 1024)[None]
    result, record = read_nifti_slice(
        io.BytesIO(content), slice_index=2, intensity="ct", ct_windows=["lungs", [400, 40], "liver"]
    )
    assert torch.equal(torch.from_numpy(result), HUWindows(["lungs", [400, 40], "liver"])(hu))
    assert record["windows"] == [[1500, -600], [400, 40], [150, 30]]


@pytest.mark.parametrize("intensity", ["percentile", "minmax", "ct"])
def test_nan_is_black_and_infinity_is_the_end_of_the_range(intensity: str) -> None:
    volume = VOLUME.copy()
    volume[0, 0, 0], volume[1, 0, 0], volume[2, 0, 0] = np.nan, np.inf, -np.inf
    image, record = read_nifti_slice(nifti(volume, oblique("LPS", 0)), slice_index=0, intensity=intensity)
    assert image[:, 0, :3].tolist() == [[0, 1, 0]] * 3
    assert record["flags"] == ["non_finite"]
    if intensity == "minmax":
        finite = volume[np.isfinite(volume)]
        assert record["range"] == pytest.approx([finite.min(), finite.max()])


def test_a_volume_of_nan_is_refused() -> None:
    with refused("not_finite", "only NaN"):
        read_nifti_slice(nifti(np.full((3, 3, 1), np.nan, dtype=np.float32)))


def test_constant_and_mostly_background_volumes_are_flagged() -> None:
    image, record = read_nifti_slice(nifti(np.full((3, 3, 1), 7.0)))
    assert (image.max(), record["flags"]) == (0, ["constant"])
    sparse = np.zeros((40, 40, 1))
    sparse[0, 0] = 5
    image, record = read_nifti_slice(nifti(sparse))
    assert (image.max(), record["range"], record["flags"]) == (1, [0, 5], ["percentiles_equal"])


def test_a_single_slice_needs_no_choice_and_two_dimensions_are_one() -> None:
    expected = read_nifti_slice(nifti(VOLUME[:, :, :1]), slice_index=0)[0]
    assert np.array_equal(read_nifti_slice(nifti(VOLUME[:, :, :1]))[0], expected)
    assert np.array_equal(read_nifti_slice(nifti(VOLUME[:, :, 0]))[0], expected)
    assert np.array_equal(read_nifti_slice(nifti(VOLUME[:, :, :1, None, None]))[0], expected)


def test_several_slices_need_a_choice_that_exists() -> None:
    with refused("multi_frame", "got 7 axial slices; give frame=0 to frame=6"):
        read_nifti_slice(nifti(VOLUME))
    with refused("bad_frame", "from 0 to 6 .* got 7"):
        read_nifti_slice(nifti(VOLUME), slice_index=7)


@pytest.mark.parametrize("compressed", [False, True])
def test_four_dimensions_are_refused_or_indexed(compressed: bool) -> None:
    volumes = np.stack([VOLUME, 2 * VOLUME], axis=-1)
    file = nifti(volumes, oblique("LPS", 0))
    file = io.BytesIO(gzip.compress(file.getvalue())) if compressed else file
    with refused("bad_dimensions", "got 2 volumes .* volume_index=0 to volume_index=1"):
        read_nifti_slice(file, slice_index=0)
    assert np.array_equal(read_nifti(file, volume_index=1).values, 2 * VOLUME)
    with refused("bad_frame", "volume index from 0 to 1, got 2"):
        read_nifti(file, volume_index=2)


@pytest.mark.parametrize(
    ("array", "reason", "message"),
    [
        (np.zeros((3, 3, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), "rgb_nifti", "got RGB voxels"),
        (np.zeros((3, 3, 2), dtype=np.complex64), "unsupported_format", "got complex64; store the magnitude"),
        (np.zeros((3, 3, 2, 1, 3)), "bad_dimensions", r"got the shape \(3, 3, 2, 1, 3\)"),
        (np.zeros(3), "bad_dimensions", r"got the shape \(3,\)"),
    ],
)
def test_what_is_no_scalar_volume_is_refused(array: np.ndarray, reason: str, message: str) -> None:
    for action in (lambda file: read_nifti_slice(file, slice_index=0), slice_count):
        with refused(reason, message):
            action(nifti(array))


def test_a_pair_and_other_formats_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, np.eye(4)), tmp_path / "pair.hdr")
    with refused("unsupported_format", "got nifti_pair .convert the pair"):
        read_nifti_slice(tmp_path / "pair.hdr", slice_index=0)


@pytest.mark.parametrize(("offset", "zeros"), [(252, 4), (280, 16)])
def test_an_unknown_or_impossible_orientation_is_flagged(offset: int, zeros: int) -> None:
    content = bytearray(nifti(VOLUME).getvalue())
    content[offset : offset + zeros] = bytes(zeros)  # qform_code and sform_code, or srow_x
    _, record = read_nifti_slice(io.BytesIO(content), slice_index=0)
    assert record["flags"] == ["orientation_unknown"]
    assert record["orientation"] == "LAS"


def test_big_endian_nifti2_and_gzip_read_the_same() -> None:
    expected = read_nifti(nifti(VOLUME, oblique("PIR", 0))).values
    big = nib.Nifti1Image(VOLUME, oblique("PIR", 0), nib.Nifti1Header(endianness=">")).to_bytes()
    second = nib.Nifti2Image(VOLUME, oblique("PIR", 0)).to_bytes()
    for content in (big, second, gzip.compress(second)):
        assert np.array_equal(read_nifti(io.BytesIO(content)).values, expected)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kept", [0.9, 0.6])
def test_a_truncated_volume_is_refused(compressed: bool, kept: float) -> None:
    content = nifti(VOLUME).getvalue()
    content = gzip.compress(content) if compressed else content
    with refused("truncated", "Expected"):
        read_nifti_slice(io.BytesIO(content[: int(kept * len(content))]), slice_index=0)


@pytest.mark.parametrize("cuts", [[0], [0, 0, 0, 100], [1, 2, 100, 349], list(range(0, 900, 100))], ids=str)
def test_all_members_of_gzip_are_read_however_short(cuts: list[int], tmp_path: Path) -> None:
    content = nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5)).getvalue()
    ends = [*cuts, len(content)]
    members = [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    path = tmp_path / "x.nii.gz"
    path.write_bytes(b"".join(gzip.compress(member) for member in [*members, b""]) + bytes(512))
    expected = read_nifti(io.BytesIO(content))
    np.testing.assert_array_equal(read_nifti(path).values, expected.values)


def test_a_gzip_bomb_is_refused_from_its_header() -> None:
    header = bytearray(nifti(np.zeros((1, 1, 1), dtype=np.uint8)).getvalue()[:352])
    struct.pack_into("<hhh", header, 42, 1024, 1024, 256)  # 256 MiB
    started = time.perf_counter()
    with refused("too_large", "at most 536,870,912 bytes and 200 : 1"):
        read_nifti(io.BytesIO(gzip.compress(bytes(header) + bytes(2**20))))
    with pytest.raises(MedicalImageError, match="and 2 : 1"):
        read_nifti(io.BytesIO(gzip.compress(bytes(header) + bytes(2**20))), limits=Limits(inflation_ratio=2))
    assert time.perf_counter() - started < 2


def test_a_label_map_of_mostly_zeros_is_no_bomb() -> None:
    labels = np.zeros((512, 512, 90), dtype=np.uint8)
    labels[200:210, 200:210, 40] = 1
    content = gzip.compress(nifti(labels).getvalue())
    assert labels.nbytes > 500 * len(content)
    assert read_nifti(io.BytesIO(content)).values.sum() == 100


def test_a_small_volume_of_zeros_is_no_bomb() -> None:
    content = gzip.compress(nifti(np.zeros((50, 50, 20), dtype=np.int16)).getvalue())
    assert read_nifti(io.BytesIO(content)).values.shape == (50, 50, 20)


@pytest.mark.parametrize("compressed", [False, True])
def test_impossible_dimensions_are_refused_before_anything_is_allocated(compressed: bool) -> None:
    header = bytearray(nifti(np.zeros((1, 1, 1), dtype=np.uint8)).getvalue())
    struct.pack_into("<hhh", header, 42, 32767, 32767, 32767)
    content = gzip.compress(bytes(header)) if compressed else bytes(header)
    for action in (read_nifti, slice_count):
        with refused("too_large", "at most 268,435,456 voxels"):
            action(io.BytesIO(content))


@pytest.mark.parametrize(
    ("offset", "format_", "value"), [(40, "<h", 9), (42, "<h", -3), (70, "<h", 12345), (108, "<f", np.nan)]
)
def test_a_damaged_header_is_refused(offset: int, format_: str, value: float) -> None:
    content = bytearray(nifti(VOLUME).getvalue())
    struct.pack_into(format_, content, offset, value)
    with refused("bad_header", "Expected"):
        read_nifti(io.BytesIO(content))


def test_damaged_bytes_never_raise_anything_else() -> None:
    original = nifti(VOLUME).getvalue()
    for _ in range(200):
        content = bytearray(original)
        for position in RNG.integers(4, 344, 4):
            content[position] = RNG.integers(256)
        try:
            volume = read_nifti(io.BytesIO(content), limits=Limits(values=10**6))
        except MedicalImageError:
            continue
        assert volume.values.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axis": "up"}, "axis must be one of axial, coronal, sagittal, got 'up'"),
        ({"intensity": "z"}, "intensity must be one of percentile, minmax, ct, got 'z'"),
        ({"percentiles": (50, 50)}, r"0 <= lower < upper <= 100, got \(50, 50\)"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_nifti_slice(nifti(VOLUME), slice_index=0, **options)


def test_real_slices_equal_nibabel_by_hand(test_data: Path) -> None:
    paths = sorted((test_data / "data/hippocampus_nifti/images").glob("hippocampus_*.nii.gz"))[:3]
    assert paths
    for path in paths:
        canonical = nib.as_closest_canonical(nib.load(path)).get_fdata()  # RAS
        low, high = np.percentile(canonical, (0.5, 99.5))
        assert slice_count(path) == canonical.shape[2]
        for index in (0, canonical.shape[2] // 2):
            expected = np.clip((canonical[::-1, ::-1, index].T - low) / (high - low), 0, 1)
            np.testing.assert_allclose(read_nifti_slice(path, slice_index=index)[0][0], expected, atol=1e-6)
