"""Reading of one DICOM slice: ours relative to MONAI's readers, pydicom and SimpleITK, in CPU time."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from pydicom import FileDataset, dcmread

from movl_monai.transforms import LoadMedicalImage

from .clock import Timing, compare, interleave
from .dicom_files import COMPRESSED, compressed_slice, native_slice
from .memory import peak_memory
from .settings import BenchSettings

__all__ = ["compare_readers", "readers_of", "run_compressed", "run_native"]

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
