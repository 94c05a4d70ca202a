"""Reading of one DICOM slice: ours relative to MONAI's readers, pydicom and SimpleITK, in CPU time."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
from pydicom import Dataset, FileDataset, dcmread
from pydicom import Sequence as Items
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from movl_monai.data.workers import map_in_workers
from movl_monai.ingest.journal import HEADERS_TOGETHER
from movl_monai.readers import MedicalImageError
from movl_monai.readers.dicom import scan_header
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.transforms import LoadMedicalImage

from .clock import Timing, compare, interleave, peak_memory
from .settings import BenchSettings

__all__ = [
    "COMPRESSED",
    "compare_readers",
    "compressed_slice",
    "native_slice",
    "readers_of",
    "run_compressed",
    "run_native",
    "run_scan",
    "scan_with_pydicom",
    "shipped_files",
    "write_scan_files",
]


Reader = Callable[[Path], object]


def run_native(settings: BenchSettings) -> dict[str, float]:
    """Compare reading an uncompressed slice: ``dicom_native_vs_monai``, ``..._vs_pydicom``, ``..._vs_simpleitk``."""
    return compare_readers("dicom_native", native_slice(settings.slice_size), settings)


def run_compressed(settings: BenchSettings) -> dict[str, float]:
    """Compare reading compressed slices: ``dicom_jpeg_lossless_vs_monai`` and so on, for every codec."""
    figures: dict[str, float] = {}
    for codec in COMPRESSED:
        figures |= compare_readers(f"dicom_{codec}", compressed_slice(codec, settings.slice_size), settings)
    return figures


def readers_of(path: Path) -> dict[str, Reader]:
    """Return the readers that can read a file, by name; print those that are not installed or fail.

    Ours goes from the file to the image: float32 (3, H, W) in [0, 1], windowed, with its technical record. The others
    do less: MONAI's ``LoadImage`` returns a tensor of values, pydicom and SimpleITK an array.
    """
    # MONAI's readers first, see _itk_is_there
    readers: dict[str, Reader] = {**_monai_readers(), "ours": LoadMedicalImage(), "pydicom": _read_with_pydicom}
    readers |= {"simpleitk": _read_with_simpleitk}
    return {name: reader for name, reader in readers.items() if _reads(name, reader, path)}


def compare_readers(name: str, dataset: FileDataset, settings: BenchSettings) -> dict[str, float]:
    """Write a slice to a file and let every reader read it, in turn; the times are CPU seconds per slice.

    Args:
        name: prefix of the keys.
        dataset: the slice.
        settings: rounds, and reads per round.

    Returns:
        Keys of :func:`~benchmarks.compare` for each other reader; MONAI's is the faster of its readers, and
        ``{name}_monai_readers`` is the number of its available readers.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.dcm"
        dataset.save_as(path, enforce_file_format=True)
        readers = readers_of(path)
        actions = {who: partial(_read_again, reader, path, settings.slice_reads) for who, reader in readers.items()}
        timings = interleave(
            actions,
            rounds=settings.rounds,
            warmup=settings.warmup,
            device=settings.device,
            clock=time.process_time,
        )
        memory = {who: peak_memory(partial(reader, path), device=settings.device) for who, reader in readers.items()}
    per_slice = {
        who: Timing(tuple(seconds / settings.slice_reads for seconds in timing.seconds))
        for who, timing in timings.items()
    }
    monai = sorted((who for who in readers if who.startswith("monai")), key=lambda who: per_slice[who].median)
    others = {"monai": monai[0]} if monai else {}
    others |= {who: who for who in ("pydicom", "simpleitk") if who in readers}
    figures: dict[str, float] = {f"{name}_monai_readers": len(monai)}
    for label, who in others.items():
        figures |= compare(
            f"{name}_vs_{label}", ours=per_slice["ours"], other=per_slice[who], memory=(memory["ours"], memory[who])
        )
    return figures


def _read_again(reader: Reader, path: Path, times: int) -> None:
    for _ in range(times):
        reader(path)


def _read_with_pydicom(path: Path) -> np.ndarray:
    return dcmread(path).pixel_array


def _read_with_simpleitk(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _monai_readers() -> dict[str, Reader]:
    from monai.data import ITKReader, PydicomReader
    from monai.transforms import LoadImage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about missing optional decoders of NVIDIA
        readers: dict[str, Reader] = {"monai_pydicom": LoadImage(reader=PydicomReader, image_only=True)}
        if _itk_is_there():
            readers["monai_itk"] = LoadImage(reader=ITKReader, image_only=True)
    return readers


def _itk_is_there() -> bool:
    """Load itk for MONAI's ITKReader; print the reason if that is impossible."""
    if importlib.util.find_spec("itk") is None:
        print("    itk is not installed: MONAI's ITKReader is left out (pip install 'movl-monai[bench]')")
        return False
    if "itk.ITKPyBasePython" not in sys.modules and "SimpleITK" in sys.modules:
        # loaded in this order, the two can end the program
        print("    SimpleITK was loaded before itk: MONAI's ITKReader is left out (run the dicom sections alone)")
        return False
    # its parts are loaded at first use
    return hasattr(importlib.import_module("itk"), "ImageFileReader")


def _reads(name: str, reader: Reader, path: Path) -> bool:
    try:
        reader(path)
    except Exception as error:  # any error of a reader without decoder
        print(f"    {name} does not read this transfer syntax here ({type(error).__name__})")
        return False
    return True


COMPRESSED = {
    "jpeg_lossless": JPEGLosslessSV1,
    "jpeg_2000": JPEG2000Lossless,
    "jpeg_ls": JPEGLSLossless,
    "rle": RLELossless,
}
"""Name -> transfer syntax of the lossless codecs of clinical archives."""

_NOISE_HU = 20
_INTERCEPT = -1024


def native_slice(size: int, *, seed: int = 0) -> FileDataset:
    """Make an uncompressed CT slice of 12 bits in 16: a body with two lungs, under noise, with a usual header.

    Args:
        size: rows and columns.
        seed: of the noise.

    Example:
        >>> native_slice(64).pixel_array.shape
        (64, 64)
    """
    axis = np.linspace(-1, 1, size)
    x, y = axis[None, :], axis[:, None]
    hu = np.where(np.hypot(x / 0.9, y / 0.7) < 1, 40.0, -1000.0)
    hu[np.hypot((np.abs(x) - 0.4) / 0.3, y / 0.45) < 1] = -800
    hu += np.random.default_rng(seed).normal(0, _NOISE_HU, hu.shape)
    stored = (hu - _INTERCEPT).round().clip(0, 2**12 - 1).astype("<u2")
    dataset = _header(size)
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def compressed_slice(codec: str, size: int) -> FileDataset:
    """Make the slice of :func:`native_slice` in a transfer syntax of :data:`COMPRESSED`.

    Raises:
        KeyError: if ``codec`` is unknown.
    """
    dataset = native_slice(size)
    if codec == "jpeg_lossless":
        frame = _jpeg_lossless_frame(dataset.pixel_array)
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = COMPRESSED[codec]
    else:
        dataset.compress(COMPRESSED[codec], generate_instance_uid=False)
    return dataset


def _jpeg_lossless_frame(stored: np.ndarray) -> bytes:
    """Encode with GDCM inside SimpleITK, as pydicom has no encoder for it."""
    import SimpleITK as sitk
    from pydicom.encaps import get_frame

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(path))
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(sitk.GetImageFromArray(stored))
        written = dcmread(path)
    if written.file_meta.TransferSyntaxUID != JPEGLosslessSV1:
        raise RuntimeError(f"SimpleITK wrote {written.file_meta.TransferSyntaxUID} instead of JPEG Lossless.")
    return get_frame(written.PixelData, 0, number_of_frames=1)


def _header(size: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["bench"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Modality, dataset.Manufacturer, dataset.PatientPosition = "CT", "movl_monai", "HFS"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyDescription = "20200101", "120000", "benchmark"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (generate_uid(entropy_srcs=[name]) for name in "ab")
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=["c"])
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.KVP = 1, 1, 120
    dataset.SliceThickness, dataset.SliceLocation = 1.0, 0.0
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-180, -180, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.703125, 0.703125]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = size
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = [40, -600], [400, 1500]
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = _INTERCEPT, 1, "HU"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "77477000", "SCT", "CT of chest"
    dataset.ProcedureCodeSequence = [code]
    return dataset


_WORKERS = 2


def run_scan(settings: BenchSettings) -> dict[str, float]:
    """Compare header scans of the files that pydicom ships and of a folder of CT slices.

    ``scan_vs_pydicom``: CPU time of one process. ``scan_two_workers_vs_pydicom``: wall time of two worker processes,
        including their start, relative to pydicom in one process. Ours returns grouping, geometry and frames, with
        converted values, under the safety limits; pydicom's elements are not converted yet.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [*shipped_files(), *write_scan_files(Path(folder), settings.scan_files, settings.slice_size)]
        one: dict[str, Callable[[], object]] = {
            "ours": partial(_scan, files),
            "other": partial(scan_with_pydicom, files),
        }
        # enough files to justify the start of two workers
        many = files * settings.scan_passes
        two: dict[str, Callable[[], object]] = {
            "ours": partial(_scan_in_workers, many),
            "other": partial(scan_with_pydicom, many),
        }
        times: dict[str, Any] = {"rounds": settings.rounds, "warmup": settings.warmup, "device": settings.device}
        timings = interleave(one, **times, clock=time.process_time)
        wall = interleave(two, **times)
        memory = [peak_memory(action, device=settings.device) for action in one.values()]
    figures = compare("scan_vs_pydicom", ours=timings["ours"], other=timings["other"], memory=memory)
    figures |= compare("scan_two_workers_vs_pydicom", ours=wall["ours"], other=wall["other"], memory=memory)
    rates = {"ours": timings["ours"].median, "pydicom": timings["other"].median}
    return figures | {f"scan_{who}_files_per_cpu_s": len(files) / seconds for who, seconds in rates.items()}


@quiet()
def scan_with_pydicom(files: Sequence[Path]) -> list[FileDataset]:
    """Parse headers in the straightforward way."""
    return [dcmread(path, stop_before_pixels=True, force=True) for path in files]


def shipped_files() -> list[Path]:
    """Return the files that pydicom ships and that both can read."""
    folder = Path(pydicom.data.__file__).parent
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_read_by_both(path)]


def write_scan_files(folder: Path, count: int, size: int) -> list[Path]:
    """Write CT slices with headers of about a hundred elements, as from scanners."""
    dataset = native_slice(size)
    _add_usual_elements(dataset)
    paths = []
    for index in range(count):
        dataset.InstanceNumber, dataset.ImagePositionPatient = index + 1, [-180, -180, float(index)]
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=["scan", str(index)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        paths.append(folder / f"{index}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _add_usual_elements(dataset: Dataset) -> None:
    words = "AccessionNumber InstitutionName StationName SeriesDescription ManufacturerModelName PatientID StudyID"
    words += " ProtocolName SoftwareVersions DeviceSerialNumber ConvolutionKernel FilterType"
    for keyword in words.split():
        setattr(dataset, keyword, "bench")
    numbers = "DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient"
    numbers += " GantryDetectorTilt TableHeight ExposureTime XRayTubeCurrent Exposure FocalSpots SpiralPitchFactor"
    for keyword in numbers.split():
        setattr(dataset, keyword, 1)
    for keyword in ("SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, keyword, "20200101")
    for keyword in ("SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(dataset, keyword, "120000.000000")
    reference = Dataset()
    reference.ReferencedSOPClassUID = dataset.SOPClassUID
    reference.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ReferencedImageSequence = Items([reference])
    dataset["ReferencedImageSequence"].is_undefined_length = True
    block = dataset.private_block(0x0045, "movl_monai bench", create=True)
    for element in range(40):
        block.add_new(element, "DS", "1.5")


@quiet()
def _is_read_by_both(path: Path) -> bool:
    try:
        scan_header(path)
    except MedicalImageError:
        return False
    dcmread(path, stop_before_pixels=True, force=True)
    return True


def _scan(files: Sequence[Path]) -> list[object]:
    return [scan_header(path) for path in files]


def _scan_in_workers(files: Sequence[Path]) -> list[object]:
    return list(map_in_workers(scan_header, files, num_workers=_WORKERS, died=_died, chunk=HEADERS_TOGETHER))


def _died() -> None:
    raise RuntimeError("A worker died while it read a header; the figure would be of fewer files.")
