"""Write a small series and DICOM segmentations of it, with highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.readers.dicom.objects import as_file, grey_object

__all__ = ["AXIAL", "LABELS", "SPACE", "fractions", "segmentation", "slice_object", "source_series", "written"]

AXIAL = (1, 0, 0, 0, 1, 0)
SPACE = UID("1.2.826.0.1.3680043.8.498.1")
ROWS, COLUMNS = 12, 10

LABELS = np.zeros((5, ROWS, COLUMNS), dtype=np.uint8)
"""Segment numbers (slices, rows, columns), without any symmetry; the first, fourth and last slice are empty."""
LABELS[1, 2:7, 1:4] = 1
LABELS[1, 8, 5:9] = 2
LABELS[2, 0, 9] = 2
LABELS[2, 10:, :2] = 1


def slice_object(
    pixels: np.ndarray, position: Sequence[float], orientation: Sequence[float] = AXIAL, **tags: Any
) -> FileDataset:
    """A CT slice that highdicom takes as a source."""
    dataset = grey_object(pixels.astype(np.uint16), sop_class=CTImageStorage, modality="CT", bits_stored=12)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(f"{SPACE}.1"), UID(f"{SPACE}.2")
    dataset.FrameOfReferenceUID = SPACE
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = list(position), list(orientation)
    dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.75], 3
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "", "", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "", "", "", ""
    dataset.ReferringPhysicianName, dataset.InstanceNumber, dataset.SeriesNumber = "", 1, 1
    for keyword, value in tags.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def source_series(
    orientation: Sequence[float] = AXIAL, *, scale: int = 1, seed: int = 0, **tags: Any
) -> list[FileDataset]:
    """Five slices of noise, 3 mm apart, from the first along the normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    noise = np.random.default_rng(seed).integers(0, 4096, (5, scale * ROWS, scale * COLUMNS))
    origin = np.array([-10.0, 20.0, 30.0])
    return [slice_object(plane, origin + 3 * k * normal, orientation, **tags) for k, plane in enumerate(noise)]


def fractions() -> np.ndarray:
    """Values in [0, 1] of two segments, (slices, rows, columns, 2), in steps of 1/255."""
    stored = np.random.default_rng(1).integers(0, 256, (*LABELS.shape, 2))
    return np.where(LABELS[..., None] > 0, stored, 0).astype(np.float32) / np.float32(255)


def segmentation(
    sources: Sequence[Dataset],
    pixels: np.ndarray = LABELS,
    *,
    kind: str = "BINARY",
    syntax: str = ExplicitVRLittleEndian,
    labels: Sequence[str] = ("Liver", "Lesion"),
    **options: Any,
) -> Dataset:
    """A segmentation of a series; pixels are segment numbers (S, H, W), or (S, H, W, segments)."""
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, label in enumerate(labels, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues(kind),
            segment_descriptions=descriptions,
            series_instance_uid=generate_uid(),
            series_number=2,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="none",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
            transfer_syntax_uid=UID(syntax),
            **options,
        )


def written(dataset: Dataset) -> BytesIO:
    """The object as a file in memory."""
    return as_file(dataset)
