"""Write a radiograph as a Digital X-Ray Image, for presentation (PS3.3 A.26), and a slice as a CT Image (A.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from movl_monai.phantom.scanner import Radiograph, Scanner
from movl_monai.phantom.thorax import CTScanner

__all__ = ["write_ct_slice", "write_dicom"]

_DATE, _TIME = "20240101", "120000"


def write_dicom(path: Path, radiograph: Radiograph, scanner: Scanner, *, seed: int, patient: int, image: int) -> None:
    """Write one file; the same arguments give the same bytes.

    The patients are called PHANTOM-0001 and so on, without a birth date. UIDs come from the arguments.
    QualityControlImage marks the image as a phantom.

    Args:
        path: of the file; its folder exists.
        radiograph: the image.
        scanner: its device.
        seed: of the data set.
        patient: number of the patient, from 1.
        image: number of the patient's image, from 1; every image is a separate study.
    """
    _save(
        path,
        DigitalXRayImageStorageForPresentation,
        _uid(seed, patient, image, "instance"),
        _patient(patient),
        _study_and_series(seed, patient, image),
        _equipment(scanner),
        _acquisition(radiograph, scanner),
        _pixels(radiograph, scanner),
    )


def write_ct_slice(
    path: Path,
    pixels: np.ndarray,
    scanner: CTScanner,
    *,
    seed: int,
    patient: int,
    series: int,
    number: int,
    position: tuple[float, float, float],
    spacing: tuple[float, float],
) -> None:
    """Write one slice; the same arguments give the same bytes.

    All series of a patient are of one study and have one frame of reference.

    Args:
        path: of the file; its folder exists.
        pixels: stored numbers, uint16 (H, W), 12 bits.
        scanner: the device.
        seed: of the data set.
        patient: number of the patient, from 1.
        series: number of the patient's series, from 1.
        number: of the slice, from 1.
        position: of the center of the first pixel, mm, LPS.
        spacing: of the pixels and of the slices, mm.
    """
    module = Dataset()
    module.StudyInstanceUID = _uid(seed, patient, "CT study")
    module.FrameOfReferenceUID = _uid(seed, patient, "CT frame of reference")
    module.SeriesInstanceUID = _uid(seed, patient, series, "CT series")
    module.PositionReferenceIndicator = ""
    module.StudyID, module.SeriesNumber, module.AcquisitionNumber = "1", series, series
    module.StudyDate = module.ContentDate = module.AcquisitionDate = _DATE
    module.StudyTime = module.ContentTime = module.AcquisitionTime = _TIME
    module.ReferringPhysicianName = module.AccessionNumber = ""
    module.Modality = "CT"
    module.SeriesDescription = "Synthetic chest phantom"
    module.BodyPartExamined = "CHEST"
    module.PatientPosition = "HFS"
    module.Manufacturer, module.ManufacturerModelName = "movl_monai", scanner.model
    module.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    module.QualityControlImage = "YES"
    module.BurnedInAnnotation = "NO"
    module.KVP = "120"
    module.InstanceNumber = number
    module.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    module.ImagePositionPatient = [f"{value:.2f}" for value in position]
    module.PixelSpacing = [f"{spacing[0]:.4f}"] * 2
    module.SliceThickness = f"{spacing[1]:.1f}"
    module.SamplesPerPixel, module.PhotometricInterpretation = 1, "MONOCHROME2"
    module.Rows, module.Columns = pixels.shape
    module.BitsAllocated, module.BitsStored, module.HighBit, module.PixelRepresentation = 16, 12, 11, 0
    module.RescaleIntercept, module.RescaleSlope = f"{scanner.intercept:g}", f"{scanner.slope:g}"
    module.RescaleType = "HU"
    module.WindowCenter, module.WindowWidth = map(str, scanner.window)
    module.LossyImageCompression = "00"
    module.PixelData = pixels.astype("<u2").tobytes()
    _save(path, CTImageStorage, _uid(seed, patient, series, number, "CT instance"), _patient(patient), module)


def _save(path: Path, sop_class: UID, instance: UID, *modules: Dataset) -> None:
    dataset = FileDataset(str(path), {}, file_meta=_file_meta(), preamble=b"\0" * 128)
    dataset.InstanceNumber = 1
    for module in modules:
        dataset.update(module)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
    dataset.save_as(path, enforce_file_format=True)


def _uid(*parts: object) -> UID:
    return generate_uid(entropy_srcs=["movl_monai phantom", *(str(part) for part in parts)])


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _file_meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # set here, because pydicom's default would change the bytes with its version
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "MOVL_PHANTOM_1"
    return meta


def _patient(patient: int) -> Dataset:
    module = Dataset()
    module.PatientName = f"Phantom^{patient:04d}"
    module.PatientID = f"PHANTOM-{patient:04d}"
    module.PatientBirthDate = ""
    module.PatientSex = "O"
    return module


def _study_and_series(seed: int, patient: int, image: int) -> Dataset:
    module = Dataset()
    module.StudyInstanceUID = _uid(seed, patient, image, "study")
    module.SeriesInstanceUID = _uid(seed, patient, image, "series")
    module.StudyID = str(image)
    module.SeriesNumber = 1
    module.StudyDate = module.ContentDate = module.AcquisitionDate = _DATE
    module.StudyTime = module.ContentTime = module.AcquisitionTime = _TIME
    module.ReferringPhysicianName = module.AccessionNumber = ""
    module.Modality = "DX"
    module.PresentationIntentType = "FOR PRESENTATION"
    module.SeriesDescription = "Synthetic chest phantom"
    module.BodyPartExamined = "CHEST"
    return module


def _equipment(scanner: Scanner) -> Dataset:
    module = Dataset()
    module.Manufacturer = "movl_monai"
    module.ManufacturerModelName = scanner.model
    module.DetectorType = "SCINTILLATOR"
    return module


def _acquisition(radiograph: Radiograph, scanner: Scanner) -> Dataset:
    module = Dataset()
    module.ImageType = ["ORIGINAL", "PRIMARY"]
    module.QualityControlImage = "YES"
    module.BurnedInAnnotation = "NO"
    module.PatientOrientation = ["L", "F"]
    module.ImageLaterality = "U"
    module.AnatomicRegionSequence = Sequence([_code("51185008", "Chest")])
    module.ViewPosition = "PA"
    module.ViewCodeSequence = Sequence([_code("272479007", "postero-anterior")])
    module.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    module.PositionerType = "NONE"
    module.AcquisitionContextSequence = Sequence([])
    if scanner.collimation:
        top, bottom, left, right = radiograph.field
        module.CollimatorShape = "RECTANGULAR"
        # the edges are the first dark lines, rows and columns counted from 1 (PS3.3 C.8.7.3)
        module.CollimatorUpperHorizontalEdge, module.CollimatorLowerHorizontalEdge = top, bottom + 2
        module.CollimatorLeftVerticalEdge, module.CollimatorRightVerticalEdge = left, right + 2
    return module


def _pixels(radiograph: Radiograph, scanner: Scanner) -> Dataset:
    module = Dataset()
    inverse = scanner.photometric == "MONOCHROME1"
    module.SamplesPerPixel = 1
    module.PhotometricInterpretation = scanner.photometric
    module.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    module.Rows, module.Columns = radiograph.pixels.shape
    module.BitsAllocated, module.BitsStored, module.HighBit = 16, scanner.bits, scanner.bits - 1
    module.PixelRepresentation = 0
    module.PixelIntensityRelationship = "LOG"
    # -1: higher numbers mean less X-ray intensity
    module.PixelIntensityRelationshipSign = 1 if inverse else -1
    module.RescaleIntercept, module.RescaleSlope, module.RescaleType = "0", "1", "US"
    module.LossyImageCompression = "00"
    module.PixelSpacing = module.ImagerPixelSpacing = [f"{radiograph.spacing:.6g}"] * 2
    largest = 2**scanner.bits - 1
    module.WindowCenter, module.WindowWidth = (str(round(share * largest)) for share in scanner.window)
    module.PixelData = radiograph.pixels.astype("<u2").tobytes()
    return module
