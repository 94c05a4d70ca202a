"""Small whole files of every format and many encodings, with words planted in them that no message may repeat."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache

import nibabel as nib
import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread

from tests.readers.dicom.objects import as_file, grey_object, lut_item, shipped

__all__ = ["PLANTED", "samples"]

PLANTED = "ZQXPLANTED"
_SHIPPED = (
    *("MR_small.dcm", "CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm"),
    *("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_small_odd.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm", "693_J2KI.dcm"),
    *("examples_palette.dcm", "rtdose_1frame.dcm", "liver_1frame.dcm", "GDCMJ2K_TextGBR.dcm", "JPEG-lossy.dcm"),
    *("DICOMDIR", "reportsi.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_jls_lossy_line.dcm"),
)
_TEXTS = (
    *("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "StudyDescription", "SeriesDescription"),
    *("ImageComments", "ProtocolName", "WindowCenterWidthExplanation", "StationName", "IssuerOfPatientID"),
)


@lru_cache
def samples() -> dict[str, bytes]:
    """Name -> content."""
    return _dicom() | _rasters() | _volumes()


def _dicom() -> dict[str, bytes]:
    found = {}
    for name in _SHIPPED:
        path = shipped(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = dcmread(path)
            try:
                for keyword in _TEXTS:
                    setattr(dataset, keyword, PLANTED)
                block = dataset.private_block(0x0099, PLANTED, create=True)
                block.add_new(0x01, "LO", PLANTED)
                found[name] = as_file(dataset).getvalue()
            except Exception:  # a few shipped files cannot be written again
                found[name] = path.read_bytes()
    return found | {"luts.dcm": _with_tables()}


def _with_tables() -> bytes:
    """A small frame with a Modality LUT, VOI LUTs, windows, padding and functional groups."""
    dataset = grey_object(np.arange(48, dtype=np.int16).reshape(2, 4, 6), bits_stored=12, photometric="MONOCHROME1")
    dataset.ModalityLUTSequence = [lut_item(range(0, 640, 10), first=0, bits=16)]
    dataset.VOILUTSequence = [lut_item(range(256), first=0, bits=8, explanation=PLANTED)]
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = [40, 99], [400, 9], "SIGMOID"
    dataset.PixelPaddingValue = 7
    dataset["PixelPaddingValue"].VR = "SS"
    dataset.PresentationLUTShape = "INVERSE"
    group, transformation = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 2, -5, PLANTED
    group.PixelValueTransformationSequence = [transformation]
    dataset.PerFrameFunctionalGroupsSequence = [group, group]
    return as_file(dataset).getvalue()


def _rasters() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    grey = Image.fromarray(rng.integers(0, 256, (24, 32), dtype=np.uint8))
    color = Image.fromarray(rng.integers(0, 256, (24, 32, 4), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (24, 32), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E], exif[0x013B] = 6, PLANTED, PLANTED
    pages = [grey.convert("P"), grey.rotate(90, expand=False).convert("P")]
    images: dict[str, tuple[Image.Image, dict]] = {
        "grey.png": (grey, {"exif": exif}),
        "color.png": (color, {}),
        "deep.png": (deep, {}),
        "palette.png": (color.convert("RGB").quantize(16), {"transparency": 3}),
        "grey.jpeg": (grey, {"exif": exif, "comment": PLANTED}),
        "progressive.jpeg": (color.convert("RGB"), {"progressive": True}),
        "cmyk.jpeg": (color.convert("CMYK"), {}),
        "deep.tiff": (deep, {"exif": exif}),
        "lzw.tiff": (color, {"compression": "tiff_lzw"}),
        "deflated.tiff": (grey, {"compression": "tiff_deflate", "save_all": True, "append_images": pages}),
        "pages.gif": (pages[0], {"save_all": True, "append_images": pages, "comment": PLANTED.encode()}),
        "lossless.webp": (color, {"lossless": True, "exif": exif}),
        "lossy.webp": (color.convert("RGB"), {}),
        "color.bmp": (color.convert("RGB"), {}),
    }
    found = {}
    for name, (image, options) in images.items():
        file = io.BytesIO()
        image.save(file, name.split(".")[1].upper(), **options)
        found[name] = file.getvalue()
    return found


def _volumes() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    images = {
        "volume": nib.Nifti1Image(rng.integers(0, 1000, (9, 8, 4)).astype(np.int16), affine),
        "floats": nib.Nifti1Image(rng.normal(size=(9, 8, 4)).astype(np.float32), affine),
        "series": nib.Nifti1Image(rng.integers(0, 99, (5, 4, 3, 2)).astype(np.uint8), affine),
        "second": nib.Nifti2Image(rng.normal(size=(9, 8, 4)), affine),
    }
    found = {}
    for name, image in images.items():
        image.header["descrip"] = PLANTED.encode()
        found[f"{name}.nii"] = image.to_bytes()
    import gzip

    return found | {"volume.nii.gz": gzip.compress(found["volume.nii"], mtime=0)}
