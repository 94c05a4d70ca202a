"""DICOM segmentations against highdicom's own reading, and every kind of mask that does not belong to its image."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from movl_monai.readers import (
    Limits,
    MedicalImageError,
    choose_slices,
    read_dicom,
    read_dicom_volume,
    read_nifti,
    read_segmentation,
    read_segmentation_volume,
    slices_to_volume,
    take_slice,
)
from tests.readers.dicom.objects import compressed, deflate, run_lengths, shipped
from tests.readers.refusals import refused
from tests.readers.segmentations import (
    AXIAL,
    LABELS,
    fractions,
    segmentation,
    slice_object,
    source_series,
    written,
)

SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)
OBLIQUE = (0.8, 0.6, 0, -0.6, 0.8, 0)
UPSIDE_DOWN = (-1, 0, 0, 0, -1, 0)
NATIVE = "1.2.840.10008.1.2.1"

KINDS = [
    ("BINARY", NATIVE),
    ("BINARY", JPEG2000Lossless),
    ("FRACTIONAL", NATIVE),
    ("FRACTIONAL", RLELossless),
    ("FRACTIONAL", JPEGLSLossless),
    ("FRACTIONAL", JPEG2000Lossless),
    ("LABELMAP", NATIVE),
    ("LABELMAP", RLELossless),
    ("LABELMAP", JPEGLSLossless),
    ("LABELMAP", JPEG2000Lossless),
]


def by_highdicom(file: BytesIO) -> Any:
    file.seek(0)
    return hd.seg.segread(file)


@pytest.mark.parametrize(("kind", "syntax"), KINDS)
def test_the_mask_of_every_image_is_that_of_highdicom(kind: str, syntax: str) -> None:
    scale = 4 if syntax == JPEG2000Lossless else 1  # highdicom compresses no smaller images with that
    sources = source_series(scale=scale)
    labels = LABELS.repeat(scale, axis=1).repeat(scale, axis=2)
    pixels = fractions().repeat(scale, axis=1).repeat(scale, axis=2) if kind == "FRACTIONAL" else labels
    file = written(segmentation(sources, pixels, kind=kind, syntax=syntax))
    channels = {"as_channels": True, "threshold": None}
    expected = by_highdicom(file).get_pixels_by_source_instance(
        [source.SOPInstanceUID for source in sources], assert_missing_frames_are_empty=True
    )
    for k, source in enumerate(sources):
        mask, record = read_segmentation(file, written(source), **channels)
        assert mask.dtype == np.float32
        np.testing.assert_allclose(mask, expected[k].transpose(2, 0, 1), atol=1e-6)
        assert record["segmentation_type"] == kind
        assert record["matched_by"] == "geometry"
        assert record["transfer_syntax"] == syntax
        assert ("no_segment_in_plane" in record["flags"]) == (not labels[k].any())
        assert (record["frames"] > 0) == bool(labels[k].any())
        if kind != "FRACTIONAL":
            numbers, _ = read_segmentation(file, written(source))
            assert numbers.dtype == np.uint8
            np.testing.assert_array_equal(numbers[0], labels[k])


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE, UPSIDE_DOWN])
@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_the_volume_lies_on_that_of_the_source_series_and_equals_highdicoms(
    orientation: Sequence[float], kind: str
) -> None:
    sources = source_series(orientation)
    file = written(segmentation(sources, kind=kind))
    volume = read_dicom_volume([written(source) for source in sources])
    mask = read_segmentation_volume(file, volume)
    assert mask.values.shape == volume.values.shape
    np.testing.assert_array_equal(mask.affine, volume.affine)
    assert mask.flags == ()

    theirs = by_highdicom(file).get_volume(combine_segments=True)
    occupied = np.argwhere(theirs.array)
    places = occupied @ theirs.affine[:3, :3].T + theirs.affine[:3, 3]
    ours = np.rint((places - volume.affine[:3, 3]) @ np.linalg.inv(volume.affine[:3, :3]).T).astype(int)
    np.testing.assert_array_equal(mask.values[tuple(ours.T)], theirs.array[tuple(occupied.T)])
    assert np.count_nonzero(mask.values) == len(occupied) == np.count_nonzero(LABELS)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE, UPSIDE_DOWN])
def test_image_and_mask_pairs_are_the_same_from_files_and_from_volumes(orientation: Sequence[float]) -> None:
    sources = source_series(orientation)
    file = written(segmentation(sources))
    volume = read_dicom_volume([written(source) for source in sources])
    mask = read_segmentation_volume(file, volume)
    axis = {AXIAL: "axial", SAGITTAL: "sagittal", CORONAL: "coronal"}.get(tuple(orientation), "axial")
    chosen = choose_slices(volume, axis=axis, mask=mask.values)
    assert len(chosen) == 2
    pairs = {take_slice(volume.values, index, axis).tobytes(): take_slice(mask.values, index, axis) for index in chosen}
    for k in (1, 2):
        pixels = sources[k].pixel_array.astype(np.float32) - 1024
        if orientation == UPSIDE_DOWN:
            pixels, alone = pixels[::-1, ::-1], read_segmentation(file, written(sources[k]))[0][0][::-1, ::-1]
        else:
            alone = read_segmentation(file, written(sources[k]))[0][0]
        np.testing.assert_array_equal(pairs[np.ascontiguousarray(pixels).tobytes()], alone)


def turned_twin(source: Dataset, flip: tuple[int, int], transpose: bool) -> Dataset:
    """The same slice in the same place, stored with its rows, columns or both the other way round."""
    pixels, position = source.pixel_array, np.array(source.ImagePositionPatient, dtype=float)
    along_row, along_column = np.array(source.ImageOrientationPatient).reshape(2, 3).astype(float)
    spacing = [float(value) for value in source.PixelSpacing]
    if flip[0] < 0:
        position = position + along_column * spacing[0] * (pixels.shape[0] - 1)
        along_column = -along_column
    if flip[1] < 0:
        position = position + along_row * spacing[1] * (pixels.shape[1] - 1)
        along_row = -along_row
    pixels = pixels[:: flip[0], :: flip[1]]
    if transpose:
        pixels, along_row, along_column, spacing = pixels.T, along_column, along_row, spacing[::-1]
    return slice_object(pixels, position, (*along_row, *along_column), PixelSpacing=spacing)


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("transpose", [False, True])
def test_a_mask_stored_in_another_orientation_is_turned_onto_the_image(flip: tuple[int, int], transpose: bool) -> None:
    sources = source_series(OBLIQUE)
    twins = [turned_twin(source, flip, transpose) for source in sources]
    turned = LABELS[:, :: flip[0], :: flip[1]]
    file = written(segmentation(twins, turned.transpose(0, 2, 1) if transpose else turned))
    for k in (1, 2):
        np.testing.assert_array_equal(read_segmentation(file, written(sources[k]))[0][0], LABELS[k])
    volume = read_dicom_volume([written(source) for source in sources])
    expected = read_segmentation_volume(written(segmentation(sources)), volume)
    np.testing.assert_array_equal(read_segmentation_volume(file, volume).values, expected.values)


def test_fractions_are_the_stored_values_over_the_largest_and_the_threshold_belongs_to_the_segment() -> None:
    sources, values = source_series(), fractions()
    file = written(segmentation(sources, values, kind="FRACTIONAL"))
    mask, record = read_segmentation(file, written(sources[1]), as_channels=True, threshold=None)
    np.testing.assert_allclose(mask, values[1].transpose(2, 0, 1), atol=1e-6)
    assert (record["fractional_type"], record["threshold"]) == ("PROBABILITY", None)
    level = float(np.median(values[1][values[1] > 0]))
    mask, record = read_segmentation(file, written(sources[1]), as_channels=True, threshold=level)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, values[1].transpose(2, 0, 1) >= np.float32(level))
    assert record["threshold"] == level


def test_a_volume_of_its_own_spans_the_frames_and_fills_the_planes_between() -> None:
    sources = source_series()
    labels = LABELS.copy()
    labels[4] = labels[1]
    volume = read_segmentation_volume(written(segmentation(sources, labels)))
    np.testing.assert_array_equal(volume.values, labels[1:].transpose(2, 1, 0))
    np.testing.assert_allclose(volume.affine[:3, 3], [-10, 20, 33])
    assert volume.spacing == pytest.approx((0.75, 0.5, 3))
    sparse = segmentation(sources, np.stack([labels[1], *labels[[0, 0, 0]], labels[1]]))
    assert read_segmentation_volume(written(sparse)).spacing == pytest.approx((0.75, 0.5, 3))
    for item in sparse.SharedFunctionalGroupsSequence:
        del item.PixelMeasuresSequence[0].SpacingBetweenSlices
    assert read_segmentation_volume(written(sparse)).spacing == pytest.approx((0.75, 0.5, 12))
    alone = segmentation(sources[:1], np.ones_like(LABELS[:1]))
    alone.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 2.5
    volume = read_segmentation_volume(written(alone))
    assert volume.values.shape == (10, 12, 1)
    assert volume.spacing == pytest.approx((0.75, 0.5, 2.5))


def test_a_nifti_volume_of_the_same_patient_takes_the_mask_too() -> None:
    sources = source_series(CORONAL)
    volume = read_dicom_volume([written(source) for source in sources])
    planes = {k: take_slice(volume.values, k, "coronal") for k in range(5)}
    nifti = read_nifti(BytesIO(slices_to_volume(planes, volume, axis="coronal").to_bytes()))
    file = written(segmentation(sources))
    np.testing.assert_array_equal(
        read_segmentation_volume(file, nifti).values, read_segmentation_volume(file, volume).values
    )


def test_frames_outside_a_smaller_volume_are_flagged_and_a_volume_elsewhere_is_refused() -> None:
    sources = source_series()
    files = [written(source) for source in sources]
    file = written(segmentation(sources))
    part = read_segmentation_volume(file, read_dicom_volume(files[2:]))
    assert part.flags == ("frames_outside_volume",)
    np.testing.assert_array_equal(part.values, LABELS[2:].transpose(2, 1, 0))
    with refused("mask_mismatch", "all 4 lie outside"):
        read_segmentation_volume(file, read_dicom_volume(files[3:]))
    shifted = source_series()
    for source in shifted:
        source.ImagePositionPatient[2] += 1
    with pytest.raises(MedicalImageError, match="frame 0 lies between them"):
        read_segmentation_volume(file, read_dicom_volume([written(source) for source in shifted]))


# which segments


def test_segments_are_chosen_by_number_and_label_and_keep_their_numbers() -> None:
    sources = source_series()
    file, image = written(segmentation(sources)), written(sources[1])
    for chosen in ([2], ["lesion "]):
        mask, record = read_segmentation(file, image, segments=chosen)
        np.testing.assert_array_equal(mask[0], np.where(LABELS[1] == 2, 2, 0))
        assert record["segments"] == [2]
    mask, _ = read_segmentation(file, image, segments=["Lesion", 1], as_channels=True)
    np.testing.assert_array_equal(mask, np.stack([LABELS[1] == 2, LABELS[1] == 1]))
    volume = read_segmentation_volume(file, segments=[1])
    assert np.unique(volume.values).tolist() == [0, 1]


@pytest.mark.parametrize("wanted", [3, 0, "Spleen"])
def test_a_segment_that_is_not_there_is_refused(wanted: int | str) -> None:
    sources = source_series()
    with refused("unknown_segment", r"numbers \(1, 2\) or labels .* got") as caught:
        read_segmentation(written(segmentation(sources)), written(sources[1]), segments=[wanted])
    assert "Liver" not in str(caught.value)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_overlapping_segments_are_refused_as_one_map_and_read_as_channels(kind: str) -> None:
    sources = source_series()
    both = np.zeros((*LABELS.shape, 2), dtype=np.uint8 if kind == "BINARY" else np.float32)
    both[1, 2:6, 2:6, 0] = 1
    both[1, 5:9, 5:9, 1] = 1
    file, image = written(segmentation(sources, both, kind=kind)), written(sources[1])
    with refused("overlapping_segments", "Segment 2 shares 1 pixels .*as_channels=True"):
        read_segmentation(file, image)
    with pytest.raises(MedicalImageError, match="shares 1 pixels"):
        read_segmentation_volume(file)
    np.testing.assert_array_equal(read_segmentation(file, image, as_channels=True)[0], both[1].transpose(2, 0, 1))


def test_numbers_above_255_need_and_get_more_bits() -> None:
    sources = source_series()
    labels = LABELS.astype(np.uint16) * 150
    names = [f"s{number}" for number in range(1, 301)]
    file = written(segmentation(sources, labels, kind="LABELMAP", labels=names))
    mask, _ = read_segmentation(file, written(sources[1]))
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask[0], labels[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": None}, "set as_channels=True"),
        ({"threshold": 0.0}, r"in \(0, 1\], got 0.0"),
        ({"threshold": 1.5}, r"in \(0, 1\], got 1.5"),
    ],
)
def test_thresholds_that_make_no_mask_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_segmentation(BytesIO(b"-"), **options)


# which image


def test_an_image_of_another_place_orientation_or_space_is_refused() -> None:
    sources = source_series()
    labels = LABELS.copy()
    labels[3] = 1  # so that there are planes on both sides
    file = written(segmentation(sources, labels))
    plane = np.zeros((12, 10))
    for odd_one, message in [
        (slice_object(plane, (-10, 20, 34.5)), "lies between its planes"),
        (slice_object(plane, (-10, 20, 33), SAGITTAL), "another orientation, spacing or place"),
        (slice_object(plane, (-10, 20, 33), OBLIQUE), "another orientation, spacing or place"),
        (slice_object(plane, (-10.3, 20, 33)), "another orientation, spacing or place"),
        (slice_object(plane, (-10, 20, 33), PixelSpacing=[0.6, 0.75]), "another orientation, spacing or place"),
        (slice_object(plane, (-10, 20, 33), FrameOfReferenceUID="1.2.3"), "different frames of reference"),
        (slice_object(plane[:4, :4], (-10, 20, 33)), "goes beyond it"),
    ]:
        with refused("mask_mismatch", message) as caught:
            read_segmentation(file, written(odd_one))
        assert "1.2.3" not in str(caught.value)


def test_an_image_beside_the_frames_in_the_same_space_has_an_empty_mask_that_is_flagged() -> None:
    sources = source_series()
    file = written(segmentation(sources))
    for position in ((-10, 20, 30), (-10, 20, 300), (-10, 20, 30.7)):
        mask, record = read_segmentation(file, written(slice_object(np.zeros((12, 10)), position)))
        assert not mask.any()
        assert record["flags"] == ["no_segment_in_plane"]


def test_a_larger_image_of_the_same_grid_holds_the_mask_where_it_lies() -> None:
    sources = source_series()
    image = slice_object(np.zeros((20, 20)), (-10 - 3 * 0.75, 20 - 5 * 0.5, 33))
    mask, _ = read_segmentation(written(segmentation(sources)), written(image))
    np.testing.assert_array_equal(mask[0, 5:17, 3:13], LABELS[1])
    assert np.count_nonzero(mask) == np.count_nonzero(LABELS[1])


def test_without_a_frame_of_reference_the_same_place_is_not_enough() -> None:
    sources = source_series()
    file = written(segmentation(sources))
    mask, _ = read_segmentation(file, written(sources[1]))
    assert mask.any()
    stranger = slice_object(np.zeros((12, 10)), (-10, 20, 33), FrameOfReferenceUID=None)
    with refused("mask_mismatch", "does not refer to the image"):
        read_segmentation(file, written(stranger))


def test_of_frames_at_one_place_only_those_of_the_images_own_time_are_used() -> None:
    early, late = source_series(), source_series()
    dataset = segmentation(early[1:3], LABELS[1:3], kind="LABELMAP")
    groups = dataset.PerFrameFunctionalGroupsSequence
    first, second = sorted(groups, key=lambda item: item.PlanePositionSequence[0].ImagePositionPatient[2])
    second.PlanePositionSequence = first.PlanePositionSequence
    second.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = late[1].SOPInstanceUID
    file = written(dataset)
    np.testing.assert_array_equal(read_segmentation(file, written(early[1]))[0][0], LABELS[1])
    np.testing.assert_array_equal(read_segmentation(file, written(late[1]))[0][0], LABELS[2])


def photographs(count: int = 3) -> list[Dataset]:
    """Images without a place in the patient."""
    nowhere = dict.fromkeys(["ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"])
    return [slice_object(np.zeros((12, 10)), (0, 0, 0), **nowhere) for _ in range(count)]


def segmented_photographs(
    images: Sequence[Dataset], labels: np.ndarray, numbers: Sequence[int | None] | None = None
) -> Dataset:
    """A segmentation without places, whose frames refer to (the frames of) images; highdicom writes none of several."""
    dataset = segmentation(source_series()[: len(labels)], labels, kind="LABELMAP")
    groups = dataset.PerFrameFunctionalGroupsSequence
    in_order = sorted(groups, key=lambda item: item.PlanePositionSequence[0].ImagePositionPatient[2])
    for group, image, number in zip(in_order, images, numbers or [None] * len(labels), strict=False):
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        reference.ReferencedSOPInstanceUID = image.SOPInstanceUID
        if number is not None:
            reference.ReferencedFrameNumber = number
    for listed, image in zip(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence, images, strict=False):
        listed.ReferencedSOPInstanceUID = image.SOPInstanceUID
    del dataset.FrameOfReferenceUID, dataset.DimensionIndexSequence
    for group in (*dataset.SharedFunctionalGroupsSequence, *groups):
        for keyword in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            if keyword in group:
                delattr(group, keyword)
    return dataset


def test_images_without_a_place_are_found_by_reference() -> None:
    images = photographs()
    file = written(segmented_photographs(images, LABELS[1:3]))
    for k in (0, 1):
        mask, record = read_segmentation(file, written(images[k]))
        np.testing.assert_array_equal(mask[0], LABELS[1 + k])
        assert record["matched_by"] == "reference"
    with refused("mask_mismatch", "does not refer to the image"):
        read_segmentation(file, written(images[2]))
    with refused("missing_tag", "one lacks them; read it image by image"):
        read_segmentation_volume(file)
    images[0].Rows, images[0].Columns = 10, 12
    with pytest.raises(MedicalImageError, match="the image has 10 x 12 pixels, it has 12 x 10"):
        read_segmentation(file, written(images[0]))


def test_a_listed_image_without_a_frame_has_an_empty_mask() -> None:
    images = photographs()
    dataset = segmented_photographs(images, LABELS[1:3])
    listed = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    listed[1].ReferencedSOPInstanceUID = images[2].SOPInstanceUID
    mask, record = read_segmentation(written(dataset), written(images[2]))
    assert not mask.any()
    assert record["flags"] == ["nonconforming:DimensionIndexSequence", "no_segment_in_plane"]


def test_frames_of_a_multi_frame_image_are_told_apart_by_their_numbers() -> None:
    image = photographs(1)[0]
    image.NumberOfFrames = 3
    image.PixelData = image.PixelData * 3
    labels = np.stack([LABELS[1], LABELS[2], LABELS[1].T.repeat(2, axis=0)[:12].repeat(2, axis=1)[:, :10]])
    file = written(segmented_photographs([image] * 3, labels, numbers := (2, 3, 1)))
    for number, expected in zip(numbers, labels, strict=True):
        mask, _ = read_segmentation(file, written(image), image_frame=number - 1)
        np.testing.assert_array_equal(mask[0], expected)
    with refused("multi_frame", "got 3 frames"):
        read_segmentation(file, written(image))
    unclear = written(segmented_photographs([image] * 3, labels))
    with pytest.raises(MedicalImageError, match="nothing says to which slice or frame"):
        read_segmentation(unclear, written(image), image_frame=0)


def test_without_an_image_only_a_single_plane_is_read() -> None:
    sources = source_series()
    mask, record = read_segmentation(written(segmentation(sources[1:2], LABELS[1:2])))
    np.testing.assert_array_equal(mask[0], LABELS[1])
    assert record["matched_by"] == "single_plane"
    with refused("multi_frame", "4 frames in several planes; give the image"):
        read_segmentation(written(segmentation(sources)))


# encodings that highdicom does not read, and damage


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_deflated_frames_are_inflated_to_what_they_were(kind: str) -> None:
    sources = source_series()
    dataset = segmentation(sources, kind=kind)
    file = compressed(dataset, [deflate(frame) for frame in native_frames(dataset)], "1.2.840.10008.1.2.8.1")
    for k in (1, 2):
        mask, record = read_segmentation(file, written(sources[k]))
        np.testing.assert_array_equal(mask[0], LABELS[k])
        assert record["decoder"] == "zlib"


def test_run_lengths_of_single_bits_are_read() -> None:
    sources = source_series()
    dataset = segmentation(sources)
    encoded = [run_lengths(np.frombuffer(frame, dtype=np.uint8)) for frame in native_frames(dataset)]
    file = compressed(dataset, encoded, RLELossless)
    for k in (1, 2):
        np.testing.assert_array_equal(read_segmentation(file, written(sources[k]))[0][0], LABELS[k])


def test_big_endian_equals_little_endian() -> None:
    little, _ = read_segmentation(shipped("liver_1frame.dcm"))
    big, _ = read_segmentation(shipped("liver_expb_1frame.dcm"))
    np.testing.assert_array_equal(big, little)
    expected = hd.seg.segread(shipped("liver_1frame.dcm")).get_volume(combine_segments=True).array
    np.testing.assert_array_equal(little, expected)
    assert little.any()


@pytest.mark.parametrize("damage", ["longer", "shorter", "garbage"])
def test_a_deflated_frame_of_another_size_is_refused_without_inflating_it_all(damage: str) -> None:
    dataset = segmentation(source_series())
    frames = native_frames(dataset)
    bad = {
        "longer": deflate(bytes(50 * 2**20)),
        "shorter": deflate(frames[0][:-2]),
        "garbage": b"\xff" * 20,
    }[damage]
    file = compressed(dataset, [bad] * len(frames), "1.2.840.10008.1.2.8.1")
    with refused("decode_failed", "Every decoder failed"):
        read_segmentation_volume(file)


def test_other_objects_too_large_and_damaged_ones_are_refused() -> None:
    for path in (shipped("CT_small.dcm"), shipped("rtstruct.dcm")):
        with refused("not_segmentation", "read images with LoadMedicalImage"):
            read_segmentation(path)
    sources = source_series()
    file = written(segmentation(sources))
    with refused("too_large", "At most 99 values"):
        read_segmentation(file, limits=Limits(values=99))
    labels = LABELS.copy()
    labels[4] = 1
    file = written(segmentation(sources, labels))  # 5 frames that span 4 planes
    assert read_segmentation_volume(file, limits=Limits(values=600)).values.shape == (10, 12, 4)
    for group in dataset_groups(far := plain(file)):
        group.PlanePositionSequence[0].ImagePositionPatient[2] *= 10
    with refused("too_large", "the segmentation spans 10 x 12 x"):
        read_segmentation_volume(written(far), limits=Limits(values=600))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: delattr(found, "SegmentSequence"), "bad_header"),
        (lambda found: delattr(found, "PixelData"), "not_image"),
        (lambda found: setattr(found, "SegmentationType", "GEHEIM"), "bad_header"),
        (lambda found: setattr(found, "NumberOfFrames", 400), "bad_header"),
        (lambda found: delattr(found, "PerFrameFunctionalGroupsSequence"), "bad_header"),
        (lambda found: setattr(found, "PixelData", found.PixelData[:-4]), "truncated"),
        (lambda found: wrong_segment(found), "bad_header"),
    ],
)
def test_damaged_segmentations_are_refused_with_a_reason(change: Any, reason: str) -> None:
    sources = source_series()
    file = written(segmentation(sources))
    changed = plain(file)
    change(changed)
    with refused(reason, r"\.$") as caught:
        read_segmentation_volume(written(changed))
    assert "GEHEIM" not in str(caught.value)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_damaged_bytes_never_raise_anything_else_and_reach_no_warning(kind: str) -> None:
    sources = source_series()
    pixels = fractions() if kind == "FRACTIONAL" else LABELS
    content = written(segmentation(sources, pixels, kind=kind)).getvalue()
    image, volume = written(sources[1]), read_dicom_volume([written(source) for source in sources])
    generator = np.random.default_rng(0)
    for _ in range(30):
        damaged = bytearray(content)
        for position in generator.integers(132, len(content), 8):
            damaged[position] = generator.integers(256)
        file = BytesIO(bytes(damaged))
        for read in (
            lambda: read_segmentation(file, image, as_channels=True)[0],  # noqa: B023 - called in the loop
            lambda: read_segmentation_volume(file, volume).values,  # noqa: B023
        ):
            try:
                assert read().max() <= 255
            except MedicalImageError:
                continue


def test_records_and_messages_hold_no_labels_and_no_identifiers() -> None:
    sources = source_series(PatientID="GEHEIM")
    dataset = segmentation(sources, labels=("GEHEIM", "Lesion"))
    dataset.SeriesDescription = "GEHEIM"
    file = written(dataset)
    _, record = read_segmentation(file, written(sources[1]))
    assert "GEHEIM" not in repr(record)
    assert str(sources[1].SOPInstanceUID) not in repr(record)
    assert set(record) == {
        "format", "segmentation_type", "fractional_type", "segments", "threshold", "transfer_syntax", "decoder",
        "flags", "rows", "columns", "frames", "matched_by",
    }  # fmt: skip


def test_a_segmentation_is_no_image_and_the_message_says_what_reads_it() -> None:
    for kind in ("BINARY", "LABELMAP"):
        with refused("segmentation", "label mask .* read it with LoadSegmentation"):
            read_dicom(written(segmentation(source_series(), kind=kind)), frame=0)


def plain(file: BytesIO) -> Dataset:
    """The object without highdicom's class, which keeps a copy of the written content."""
    file.seek(0)
    return dcmread(file)


def dataset_groups(dataset: Dataset) -> Any:
    return dataset.PerFrameFunctionalGroupsSequence


def native_frames(dataset: Dataset) -> list[bytes]:
    """The frames of a segmentation, each with its bits packed by itself."""
    stored = dataset.pixel_array
    if dataset.BitsAllocated == 1:
        return [np.packbits(frame.ravel(), bitorder="little").tobytes() for frame in stored]
    return [frame.tobytes() for frame in stored]


def wrong_segment(dataset: Dataset) -> None:
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 77
