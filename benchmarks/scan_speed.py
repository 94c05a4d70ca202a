"""Header scan of a folder: ours relative to pydicom's `stop_before_pixels`, on the same files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pydicom.data
from pydicom import Dataset, FileDataset, dcmread
from pydicom import Sequence as Items
from pydicom.uid import generate_uid

from movl_monai.data.workers import map_in_workers
from movl_monai.ingest.scan import HEADERS_TOGETHER
from movl_monai.readers import MedicalImageError
from movl_monai.readers.dicom import scan_header
from movl_monai.readers.dicom.quiet import quiet

from .clock import compare, interleave
from .dicom_files import native_slice
from .memory import peak_memory
from .settings import BenchSettings

__all__ = ["run", "scan_with_pydicom", "shipped_files", "write_slices"]

_WORKERS = 2


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare header scans of the files that pydicom ships and of a folder of CT slices.

    ``scan_vs_pydicom``: CPU time of one process. ``scan_two_workers_vs_pydicom``: wall time of two worker processes,
        including their start, relative to pydicom in one process. Ours returns grouping, geometry and frames, with
        converted values, under the safety limits; pydicom's elements are not converted yet.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [*shipped_files(), *write_slices(Path(folder), settings.scan_files, settings.slice_size)]
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


def write_slices(folder: Path, count: int, size: int) -> list[Path]:
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
