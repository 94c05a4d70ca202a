"""Every file that pydicom ships, images or not, and dcmtk's rendering of those that are images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest
from movl_monai.transforms.dicom import FLAGS, frame_count, read_dicom, read_header
from movl_monai.transforms.errors import MedicalImageError

from tests.transforms.dicom.objects import dcmtk_render

FOLDER = Path(pydicom.data.__file__).parent
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))

# dcmj2pnm takes 32-bit big-endian values for swapped 16-bit words; test_failure_classes compares these with their twins
BIG_ENDIAN_32_BIT = {"rtdose_expb.dcm", "rtdose_expb_1frame.dcm"}
# its header is in the implicit encoding that its transfer syntax rules out
NOT_READ_BY_DCMTK = {"SC_rgb_jpeg.dcm"}
# codecs that dcmj2pnm does not have; test_decode compares these files with their uncompressed originals
JPEG_2000_AND_JPEG_LS = {f"1.2.840.10008.1.2.4.{number}" for number in (80, 81, 90, 91)}


def read(path: Path, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
    """Read the only frame of a file, or the first."""
    frame = 0 if frame_count(read_header(path)) > 1 else None
    return read_dicom(path, frame=frame, **options)


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def is_image(path: Path) -> bool:
    try:
        read(path)
    except MedicalImageError:
        return False
    return True


IMAGES = [path for path in FILES if is_image(path)]
OTHERS = [path for path in FILES if path not in IMAGES]


def is_rendered_by_dcmtk(path: Path) -> bool:
    syntax = read_header(path).file_meta.get("TransferSyntaxUID")
    return syntax not in JPEG_2000_AND_JPEG_LS and path.name not in BIG_ENDIAN_32_BIT | NOT_READ_BY_DCMTK


def test_pydicom_ships_the_files_this_module_is_about() -> None:
    assert len(FILES) > 190


@pytest.mark.parametrize("path", IMAGES, ids=name_of)
def test_every_shipped_image_meets_the_image_contract(path: Path) -> None:
    image, record = read(path)
    assert image.shape == (3, record["rows"], record["columns"])
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.flags.c_contiguous
    assert {flag.split(":")[0] for flag in record["flags"]} <= set(FLAGS)


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_every_other_shipped_file_is_refused_with_a_reason(path: Path) -> None:
    with pytest.raises(MedicalImageError, match=r"\.$") as caught:
        read(path)
    assert path.stem not in str(caught.value)


def test_the_shipped_files_end_as_they_should() -> None:
    reasons: Counter[str] = Counter()
    for path in OTHERS:
        with pytest.raises(MedicalImageError) as caught:
            read(path)
        reasons[caught.value.reason] += 1
    assert len(IMAGES) == 100
    assert reasons == {
        "not_image": 83,  # reports, plans, structure sets, waveforms, palettes, DICOMDIRs
        "unsupported_format": 14,  # texts, JSON, gzip, a colour profile, and a data set with a byte before it
        "segmentation": 2,
        "truncated": 2,
        "missing_tag": 2,  # header fragments with a few bytes of pixel data
        "bad_header": 2,  # a number of frames that is none; a codestream that is 3.7e9 pixels wide
    }


@pytest.mark.parametrize("path", [path for path in IMAGES if is_rendered_by_dcmtk(path)], ids=name_of)
def test_shipped_images_look_as_dcmtk_renders_them(path: Path) -> None:
    image, record = read(path, ct_windows=[[400, 40]])
    options = {"window": ["+Wi", "1"], "ct_windows": ["+Ww", "40", "400"]}.get(record["voi"]["source"], [])
    expected = dcmtk_render(path, *options, frame=record["frame"])
    # subsampled colour is converted with whole numbers there
    tolerance = 2 if record["photometric"].startswith("YBR") else 1
    np.testing.assert_allclose(image, expected, atol=(tolerance + 1e-3) / 255)
