"""Write small DICOM files for the tests, and render files with dcmtk as the oracle."""

from __future__ import annotations

import re
import shutil
import subprocess
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, FileDataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

__all__ = [
    "as_file",
    "compressed",
    "dcmtk_render",
    "deflate",
    "grey_object",
    "lut_item",
    "rewritten",
    "rgb_object",
    "run_lengths",
    "shipped",
]


def shipped(name: str) -> Path:
    """A file that pydicom ships; it is never downloaded."""
    found = get_testdata_file(name, download=False)
    assert found is not None, f"pydicom does not ship {name}"
    return Path(str(found))


def grey_object(
    stored: Any,
    *,
    sop_class: UID = SecondaryCaptureImageStorage,
    modality: str = "OT",
    bits_stored: int | None = None,
    photometric: str = "MONOCHROME2",
    **tags: Any,
) -> FileDataset:
    """A grey object whose stored values are an array (H, W) or (frames, H, W); None leaves a tag out."""
    array = np.asarray(stored)
    dataset = _empty_object(sop_class, modality)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    if array.ndim == 3:
        dataset.NumberOfFrames = len(array)
    dataset.Rows, dataset.Columns = array.shape[-2:]
    bits = array.dtype.itemsize * 8
    dataset.BitsAllocated = bits
    dataset.BitsStored = bits_stored or bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    dataset.PixelData = array.astype(array.dtype.newbyteorder("<")).tobytes() + b"\0" * (array.nbytes % 2)
    dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return _with(dataset, tags)


def rgb_object(samples: Any, *, bits_stored: int | None = None, photometric: str = "RGB", **tags: Any) -> FileDataset:
    """A colour object whose samples are an array (H, W, 3)."""
    array = np.asarray(samples)
    dataset = grey_object(array[..., 0], bits_stored=bits_stored)
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = photometric
    dataset.PlanarConfiguration = 0
    dataset.PixelData = array.astype(array.dtype.newbyteorder("<")).tobytes() + b"\0" * (array.nbytes % 2)
    return _with(dataset, tags)


def lut_item(entries: Sequence[int], *, first: int, bits: int, explanation: str | None = None) -> Dataset:
    """An item of ModalityLUTSequence or VOILUTSequence."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(entries, dtype="<u2").tobytes()
    item["LUTData"].VR = "OW"
    if explanation is not None:
        item.LUTExplanation = explanation
    return item


def as_file(dataset: Dataset, path: Path | None = None) -> Any:
    """Write an object to a path, or to memory; return the path or the buffer."""
    target: Any = BytesIO() if path is None else path
    dataset.save_as(target, enforce_file_format=True)
    if path is None:
        target.seek(0)
    return target


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def run_lengths(row: np.ndarray) -> bytes:
    """Run lengths (RLE Lossless) of one row of bytes."""
    return get_encoder(RLELossless).encode(
        row[None],
        encoding_plugin="pydicom",
        rows=1,
        columns=len(row),
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=8,
        bits_stored=8,
        pixel_representation=0,
        number_of_frames=1,
    )


def compressed(dataset: Dataset, frames: list[bytes], syntax: str) -> BytesIO:
    """The object as a file in memory with compressed frames, in a transfer syntax that pydicom need not know."""
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    file = BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=True, force_encoding=True)
    return file


def dcmtk_render(path: Path, *options: str, frame: int = 0) -> np.ndarray:
    """Render a frame with dcmtk's dcmj2pnm to (3, H, W) in [0, 1], without overlays.

    Skips the test with a message where dcmtk is not installed.
    """
    program = shutil.which("dcmj2pnm")
    if program is None:
        pytest.skip("dcmj2pnm (dcmtk) is not installed: there is no rendering to compare with")
    command = [program, "-q", "-O", "+op", "+F", str(frame + 1), *options, str(path)]
    result = subprocess.run(command, capture_output=True, check=True, timeout=60)
    header = re.match(rb"P([56])\s+(?:#[^\n]*\n)?(\d+)\s+(\d+)\s+(\d+)\s", result.stdout)
    assert header is not None, result.stderr
    kind, columns, rows, largest = (int(group) for group in header.groups())
    values = np.frombuffer(result.stdout[header.end() :], dtype=np.uint8)
    image = values.reshape(rows, columns, 3 if kind == 6 else 1).transpose(2, 0, 1) / largest
    return np.broadcast_to(image, (3, rows, columns))


def rewritten(name: str, **tags: Any) -> FileDataset:
    """A file that pydicom ships, with some tags replaced or (None) left out."""
    return _with(dcmread(shipped(name)), tags)


def _empty_object(sop_class: UID, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = modality
    return dataset


def _with(dataset: FileDataset, tags: dict[str, Any]) -> FileDataset:
    for keyword, value in tags.items():
        if value is not None:
            setattr(dataset, keyword, value)
        elif keyword in dataset:
            del dataset[keyword]
    return dataset
