"""Small made data sets for the tutorials: CT studies as DICOM, and volumes with masks as NIfTI."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

__all__ = ["write_ct_studies", "write_volumes"]


def write_ct_studies(folder: str, *, patients: int = 16, slices: int = 4, size: int = 64) -> Path:
    """Write one CT series for each patient, and `labels.csv`: half of the patients got a contrast agent.

    Args:
        folder: where to write; files of an earlier call are replaced.
        patients: their number, at least 2.
        slices: of each series, 5 mm apart.
        size: rows and columns, of 4 mm.
    """
    root = Path(folder)
    rows = []
    for patient in range(patients):
        label = ("native", "contrast")[patient % 2]
        for position in range(slices):
            path = Path(f"patient_{patient:02d}") / f"{position}.dcm"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            pixels = _body(patient, position, size=size, vessel=250 if label == "contrast" else 45)
            _write_slice(root / path, pixels, patient=patient, position=position)
            rows.append({"path": path.as_posix(), "label": label})
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def _body(patient: int, position: int, *, size: int, vessel: int) -> np.ndarray:
    """An ellipse of soft tissue with two lungs, a spine and a vessel, in HU."""
    random = np.random.default_rng(1000 * patient + position)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    shift = random.normal(0, 0.02, 2)
    image = np.full((size, size), -1000.0)
    parts = [((0, 0), (0.62, 0.85), 40), ((-0.05, -0.42), (0.38, 0.28), -800), ((-0.05, 0.42), (0.38, 0.28), -800)]
    parts += [((0.42, 0), (0.12, 0.12), 400), ((0.05, 0.03), (0.13, 0.11), vessel)]
    for (row, column), (height, width), value in parts:
        image[((y - row - shift[0]) / height) ** 2 + ((x - column - shift[1]) / width) ** 2 < 1] = value
    return image + random.normal(0, 12, image.shape)


def _write_slice(path: Path, pixels: np.ndarray, *, patient: int, position: int) -> None:
    uids = {kind: generate_uid(entropy_srcs=["tutorial", str(patient), kind]) for kind in ("study", "series", "frame")}
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["tutorial", str(patient), str(position)])
    file = FileDataset(str(path), Dataset(), file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID = f"Made^{patient:02d}", f"MADE-{patient:02d}"
    file.PatientBirthDate = file.PatientSex = file.StudyDate = file.StudyTime = file.AccessionNumber = file.StudyID = ""
    file.StudyInstanceUID, file.SeriesInstanceUID = uids["study"], uids["series"]
    file.FrameOfReferenceUID, file.PositionReferenceIndicator = uids["frame"], ""
    file.Modality, file.SeriesNumber, file.InstanceNumber = "CT", 1, position + 1
    file.Manufacturer, file.ReferringPhysicianName = "made", ""
    file.ImageType, file.BurnedInAnnotation = ["ORIGINAL", "PRIMARY", "AXIAL"], "NO"
    file.ImagePositionPatient, file.ImageOrientationPatient = [-128, -128, 5 * position], [1, 0, 0, 0, 1, 0]
    file.PixelSpacing, file.SliceThickness = [256 / pixels.shape[0]] * 2, 5
    file.KVP = file.AcquisitionNumber = None
    file.Rows, file.Columns = pixels.shape
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = -1024, 1, "HU"
    file.PixelData = np.clip(pixels + 1024, 0, 4095).astype("<u2").tobytes()
    file.save_as(path, enforce_file_format=True)


def write_volumes(folder: str, *, volumes: int = 12, size: int = 48, slices: int = 10) -> Path:
    """Write `images/` and `labels/`, each with one NIfTI file for each volume: a bright organ (1) with a lesion (2).

    Args:
        folder: where to write; files of an earlier call are replaced.
        volumes: their number.
        size: columns and rows, of 1 mm.
        slices: of 3 mm.
    """
    root = Path(folder)
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    for number in range(volumes):
        random = np.random.default_rng(number)
        x, y, z = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j, -1 : 1 : slices * 1j]
        middle, lesion = random.uniform(-0.15, 0.15, 2), random.uniform(-0.15, 0.15, 2)
        mask = np.zeros((size, size, slices), dtype=np.uint8)
        mask[((x - middle[0]) / 0.6) ** 2 + ((y - middle[1]) / 0.5) ** 2 + (z / 0.9) ** 2 < 1] = 1
        mask[(x - middle[0] - lesion[0]) ** 2 + (y - middle[1] - lesion[1]) ** 2 + (z / 2) ** 2 < 0.05] = 2
        image = np.array([100, 500, 900])[mask] + random.normal(0, 60, mask.shape)
        for kind, values in (("images", image.astype(np.int16)), ("labels", mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, affine), root / kind / f"case_{number:02d}.nii.gz")
    return root
