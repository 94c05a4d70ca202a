"""Images with an unmistakable word in every identifying tag, name and comment."""

from __future__ import annotations

import copy
import csv
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom import Dataset, FileDataset
from pydicom.datadict import DicomDictionary
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage

from movl_monai.readers.dicom.quiet import quiet
from tests.readers.dicom.objects import as_file, grey_object
from tests.readers.segmentations import segmentation, slice_object

__all__ = ["PATH", "TAG", "TAG_DATE", "TAG_TIME", "TAG_UID", "plant_folder", "plant_odd", "plant_pairs", "plant_series"]

TAG = "ZQXTAG"
"""Starts every word planted inside a file."""

PATH = "ZQXPATH"
"""Starts every name of a folder or file."""

TAG_DATE, TAG_TIME, TAG_UID = "18760413", "134759.774193", "77419377193"
# what identifies is text, dates, times and instance UIDs; codes (CS) and numbers are technical and are read
_TEXT = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "AE", "UR"}
_OTHER = {"DA": TAG_DATE, "DT": f"{TAG_DATE}134759", "TM": TAG_TIME}
# not planted: what says how to read a file, and AS, whose four characters cannot be unmistakable
_TECHNICAL = {"RescaleType", "ModalityLUTType"}
_PLANTED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_SEQUENCES = ("RequestAttributesSequence", "ReferencedStudySequence", "OtherPatientIDsSequence", "SourceImageSequence")


@lru_cache
def _planted_elements() -> list[tuple[int, str, str]]:
    """Return tag, VR and value of all elements of the dictionary that can identify a patient."""
    found = []
    for number, (vr, *_, is_retired, keyword) in DicomDictionary.items():
        group = number >> 16
        if is_retired or not keyword or keyword in _TECHNICAL or group < 8 or group in (0x0028, 0x5200, 0x7FE0):
            continue
        value = f"{TAG}{number:08x}" if vr in _TEXT else _OTHER.get(vr)
        if vr == "UI" and "Class" not in keyword:
            value = f"2.25.{TAG_UID}{len(found)}"
        if value is not None:
            found.append((number, vr, value))
    return found


def plant(dataset: Dataset) -> int:
    """Put a word into every identifying element, also in sequences and private elements; return their number."""
    count = _fill(dataset)
    for keyword in _SEQUENCES:
        item = Dataset()
        count += _fill(item)
        setattr(dataset, keyword, [item])
    block = dataset.private_block(0x0099, f"{TAG} CREATOR", create=True)
    item = Dataset()
    count += _fill(item)
    block.add_new(0x01, "LO", f"{TAG}PRIVATE")
    block.add_new(0x02, "SQ", [item])
    block.add_new(0x03, "UN", f"{TAG}UNKNOWN".encode())
    return count + 3


def _fill(dataset: Dataset) -> int:
    for number, vr, value in _planted_elements():
        dataset.add_new(Tag(number), vr, value)
    return len(_planted_elements())


def planted_object(index: int, *, label: int) -> tuple[FileDataset, int]:
    """A small MR image of a separate patient, bright on the left or right; and the number of words in it."""
    rng = np.random.default_rng(index)
    pixels = rng.integers(0, 200, (48, 48), dtype=np.uint16)
    pixels[:, 24 * label : 24 * label + 24] += 2000
    dataset = grey_object(pixels, sop_class=MRImageStorage, modality="MR", bits_stored=12)
    count = plant(dataset)
    dataset.PatientID = f"{TAG}PATIENT{index}"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(dataset, keyword, f"2.25.{TAG_UID}{index}{len(keyword)}")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.SourceApplicationEntityTitle = f"{TAG}AE"
    dataset.preamble = f"{TAG}PREAMBLE".encode().ljust(128, b"\0")
    return dataset, count + 2


def plant_folder(folder: Path, *, patients: int = 12) -> int:
    """Write images of many patients in two classes, a few in other formats, and broken files.

    Args:
        folder: folder of the files; its own name should hold :data:`PATH`.
        patients: number of DICOM files.

    Returns:
        number of planted words, including names of files and folders.
    """
    rows, count = [], 0
    for index in range(patients):
        label = index % 2
        dataset, words = planted_object(index, label=label)
        path = folder / f"{PATH} DOE {index}" / f"{PATH}-JANE-{index}.dcm"
        path.parent.mkdir(parents=True)
        as_file(dataset, path)
        rows.append({"path": path.relative_to(folder), "label": ("left", "right")[label]})
        count += words + 2
    others = [_png(folder), _jpeg(folder), _nifti(folder)]
    rows += [{"path": path.relative_to(folder), "label": "left"} for path in others[:2]]
    count += 2 * len(others) + _broken_files(folder)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return count


def plant_series(folder: Path, *, slices: int = 3) -> int:
    """Write the slices of a volume of one patient; return the number of words in them."""
    folder.mkdir(parents=True)
    count = 0
    for number in range(slices):
        dataset, words = planted_object(300 + number, label=number % 2)
        for keyword in ("SeriesInstanceUID", "StudyInstanceUID"):
            setattr(dataset, keyword, f"2.25.{TAG_UID}300{len(keyword)}")
        dataset.PatientID = f"{TAG}PATIENT300"
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness, dataset.InstanceNumber = [1, 1], 2, number + 1
        as_file(dataset, folder / f"{PATH}-SLICE-{number}.dcm")
        count += words + 1
    return count


@quiet()
def plant_pairs(folder: Path, *, cases: int = 6, slices: int = 3) -> None:
    """Write series and DICOM segmentations that name their sources twice, so that highdicom warns and quotes UIDs.

    They are in `images/<case>/` and `masks/<case>.dcm`.
    """
    for case in range(cases):
        mask = np.zeros((slices, 32, 32), np.uint8)
        mask[1:, 8:20, 8:20] = 1
        noise = np.random.default_rng(case).integers(900, 1100, mask.shape) + 400 * mask.astype(int)
        uids = {name: f"2.25.{TAG_UID}5{case}{number}" for number, name in enumerate(_PLANTED_UIDS)}
        series = [slice_object(plane, (0, 0, 3 * k), **uids, InstanceNumber=k + 1) for k, plane in enumerate(noise)]
        for k, one in enumerate(series):
            one.PatientID, one.PatientName = f"{TAG}CASE{case}", f"{TAG}^NAME"
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"2.25.{TAG_UID}6{case}{k}"
        seg = segmentation(series, mask, labels=("Lesion",))
        seg.ReferencedSeriesSequence.append(copy.deepcopy(seg.ReferencedSeriesSequence[0]))
        seg.ContentCreatorName = seg.SegmentSequence[0].SegmentDescription = f"{TAG}" * 20
        names = [folder / "images" / f"{PATH}{case}" / f"{k}.dcm" for k in range(slices)]
        for one, path in zip([*series, seg], [*names, folder / "masks" / f"{PATH}{case}.dcm"], strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            as_file(one, path)


@quiet()
def plant_odd(folder: Path) -> int:
    """Write images with values that violate the standard, which readers tend to quote; return their number."""
    folder.mkdir(parents=True)
    odd: dict[str, dict[str, object]] = {
        "LONG": {"PatientName": f"{TAG}^" * 60, "AccessionNumber": f"{TAG}" * 20, "StudyID": f"{TAG}" * 20},
        "DATES": {"StudyDate": f"{TAG_DATE}9", "PatientBirthDate": f"{TAG}BORN", "StudyTime": f"{TAG}TIME"},
        "CHARSET": {"SpecificCharacterSet": f"{TAG}CS", "StudyDescription": f"{TAG} Jörg"},
        "SEX": {"PatientSex": f"{TAG}SEX", "Laterality": f"{TAG}SIDE", "PatientOrientation": f"{TAG}WAY"},
        "NUMBERS": {"SeriesNumber": 7, "PixelSpacing": [1, 1]},
        "UID": {"SOPInstanceUID": f"2.25.0{TAG_UID}1", "StudyInstanceUID": f"2.25.0{TAG_UID}2"},
    }
    for number, (name, tags) in enumerate(odd.items()):
        dataset, _ = planted_object(400 + number, label=0)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / f"{PATH}-{name}.dcm", implicit_vr=False, little_endian=True)
    # numbers that are none cannot be set, so they are written over what was
    path = folder / f"{PATH}-NUMBERS.dcm"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"IS\x02\x007 ", b"IS\x02\x00Z ", 1))
    return len(odd)


def _png(folder: Path) -> Path:
    info = PngInfo()
    info.add_text(f"{TAG}KEY", f"{TAG}PNGTEXT", zip=True)
    path = folder / f"{PATH}-PNG.png"
    Image.fromarray(np.random.default_rng(7).integers(0, 255, (48, 48), dtype=np.uint8)).save(path, pnginfo=info)
    return path


def _jpeg(folder: Path) -> Path:
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = f"{TAG}EXIF", f"{TAG}ARTIST"
    path = folder / f"{PATH}-JPEG.jpg"
    pixels = np.random.default_rng(8).integers(0, 255, (48, 48), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, comment=f"{TAG}COMMENT")
    return path


def _nifti(folder: Path) -> Path:
    image = nib.Nifti1Image(np.random.default_rng(9).integers(0, 999, (8, 8, 3)).astype(np.int16), np.eye(4))
    image.header["descrip"], image.header["db_name"] = f"{TAG}NIFTI".encode(), f"{TAG}DB".encode()
    path = folder / f"{PATH}-NIFTI.nii.gz"
    nib.save(image, path)
    return path


def _broken_files(folder: Path) -> int:
    """Write files that fail at many steps of reading; return the number of words in them."""
    whole = as_file(planted_object(100, label=0)[0]).getvalue()
    (folder / f"{PATH}-CUT.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / f"{PATH}-SHORT.dcm").write_bytes(whole[:-100])
    (folder / f"{PATH}-JUNK.dcm").write_bytes(f"{TAG}JUNK".encode() * 99)
    (folder / f"{PATH}-EMPTY.dcm").touch()
    (folder / f"{PATH}-PNG-CUT.png").write_bytes((folder / f"{PATH}-PNG.png").read_bytes()[:300])
    (folder / f"{PATH}-LINK.dcm").symlink_to(f"/nowhere/{PATH}")
    damage = {
        "SYNTAX": {"TransferSyntaxUID": f"1.2.{TAG_UID}"},
        "PHOTOMETRIC": {"PhotometricInterpretation": f"{TAG}PI"},
        "FUNCTION": {"WindowCenter": 1, "WindowWidth": 1, "VOILUTFunction": f"{TAG}VOI"},
        "ROWS": {"Rows": None},
        "MODALITY": {"Modality": f"{TAG}MOD", "WindowWidth": 0, "WindowCenter": 0},
    }
    for name, tags in damage.items():
        dataset, _ = planted_object(200, label=0)
        for keyword, value in tags.items():
            target = dataset.file_meta if keyword == "TransferSyntaxUID" else dataset
            if value is None:
                delattr(target, keyword)
            else:
                setattr(target, keyword, value)
        dataset.save_as(folder / f"{PATH}-{name}.dcm", implicit_vr=False, little_endian=True)
    return 11 + 8 * len(_planted_elements())
