"""JPEG Lossless and JPEG with 12 bits, which neither Pillow nor pydicom's other permissive decoders read."""

from __future__ import annotations

import os
import tempfile

import numpy as np
from movl_monai.transforms.dicom.codestream import read_jpeg_header
from movl_monai.transforms.dicom.layout import PixelLayout
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, SecondaryCaptureImageStorage

__all__ = ["decode_with_itk"]

_RGB_IDS = (b"RGB", b"rgb")


def decode_with_itk(encoded: bytes, layout: PixelLayout) -> tuple[np.ndarray, str]:
    """Decode one JPEG frame with SimpleITK.

    SimpleITK only sees a small file that is written here, with the frame and what it takes to decode it. It turns the
    failures of GDCM, which does the work inside, into exceptions; called directly, GDCM ends the whole program.

    Args:
        encoded: the compressed frame, of a size that is known to fit ``layout``.
        layout: what it holds.

    Returns:
        Stored values (H, W) or (H, W, 3), and the photometric interpretation.

    Raises:
        ImportError: if SimpleITK is not installed.
        RuntimeError: if it cannot decode the frame.
        ValueError: if the result has another shape than ``layout`` says.
    """
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    # closed before it is read: some systems do not open a file twice
    with tempfile.NamedTemporaryFile(suffix=".dcm", delete=False) as file:
        _single_frame(encoded, layout).save_as(file, enforce_file_format=True)
    try:
        reader.SetFileName(file.name)
        image = reader.Execute()
    finally:
        os.unlink(file.name)
    values = sitk.GetArrayFromImage(image)
    shape = (layout.rows, layout.columns, 3)[: 2 if layout.samples == 1 else 3]
    return values.reshape(shape), _photometric(encoded, layout)


def _single_frame(encoded: bytes, layout: PixelLayout) -> Dataset:
    frame = Dataset()
    frame.file_meta = FileMetaDataset()
    frame.file_meta.TransferSyntaxUID = layout.transfer_syntax
    frame.file_meta.MediaStorageSOPClassUID = frame.SOPClassUID = SecondaryCaptureImageStorage
    frame.file_meta.MediaStorageSOPInstanceUID = frame.SOPInstanceUID = UID("2.25.1")
    frame.Rows, frame.Columns, frame.SamplesPerPixel = layout.rows, layout.columns, layout.samples
    # ITK would invert MONOCHROME1 and convert YBR; both are done after decoding
    frame.PhotometricInterpretation = "MONOCHROME2" if layout.samples == 1 else "RGB"
    if layout.samples > 1:
        frame.PlanarConfiguration = 0
    frame.BitsAllocated, frame.BitsStored = layout.bits_allocated, layout.bits_stored
    frame.HighBit, frame.PixelRepresentation = layout.bits_stored - 1, int(layout.signed)
    frame.PixelData = encapsulate([encoded])
    frame["PixelData"].VR = "OB"
    return frame


def _photometric(encoded: bytes, layout: PixelLayout) -> str:
    """Return what the samples are: component names R, G, B in the frame itself are believed."""
    codestream = read_jpeg_header(encoded)
    if layout.samples == 3 and codestream is not None and codestream.component_ids in _RGB_IDS:
        return "RGB"
    return layout.photometric
