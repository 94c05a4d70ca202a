"""DICOM slices for benchmarks of reading: one picture, in every transfer syntax with an available encoder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset, dcmread
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

__all__ = ["COMPRESSED", "compressed_slice", "native_slice"]

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
