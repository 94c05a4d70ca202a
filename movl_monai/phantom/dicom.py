"""Write a radiograph as a Digital X-Ray Image, for presentation (PS3.3 A.26)."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from movl_monai.phantom.scanner import Radiograph, Scanner

__all__ = ["write_dicom"]

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
    dataset = FileDataset(str(path), {}, file_meta=_file_meta(), preamble=b"\0" * 128)
    dataset.file_meta.MediaStorageSOPInstanceUID = _uid(seed, patient, image, "instance")
    for module in (
        _patient(patient),
        _study_and_series(seed, patient, image),
        _equipment(scanner),
        _acquisition(radiograph, scanner),
        _pixels(radiograph, scanner),
    ):
        dataset.update(module)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = 1
    dataset.save_as(path, enforce_file_format=True)


def _uid(*parts: object) -> UID:
    return generate_uid(entropy_srcs=["movl_monai phantom", *(str(part) for part in parts)])


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _file_meta() -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
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
