"""Every file that pydicom ships and every one of pydicom-data, images or not, against dcmtk's rendering."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data
import pytest

from benchmarks.readers.truth import CT_WINDOW, judged_frames, truth_of
from movl_monai.readers.dicom import FLAGS, frame_count, read_dicom, read_header
from movl_monai.readers.errors import MedicalImageError


def files_of(home: Path, *folders: str) -> list[Path]:
    found = (path for folder in folders for path in (home / folder).rglob("*"))
    return sorted(path for path in found if path.is_file() and path.suffix not in (".py", ".pyc"))


def data_folder() -> Path:
    """Return the folder of pydicom-data's files; it does not exist where pydicom-data is not installed."""
    spec = importlib.util.find_spec("data_store")
    return Path("pydicom-data is not installed") if spec is None or spec.origin is None else Path(spec.origin).parent


SHIPPED = files_of(Path(pydicom.data.__file__).parent, "charset_files", "palettes", "test_files")
MORE = files_of(data_folder(), "data")

# dcmtk calculates these with whole numbers on the way, so that they are up to two levels of 255 apart
TWO_LEVELS = {
    "SC_ybr_full_uncompressed.dcm": "colour differences",
    "SC_ybr_full_422_uncompressed.dcm": "colour differences",
    "MR2_UNCI.dcm": "values rescaled by 3.77 are cut to whole numbers",
    "MR2_UNCR.dcm": "values rescaled by 3.77 are cut to whole numbers",
}
# dcmtk renders nothing, or something else; these are compared with pydicom's values and the standard's formulas
NOT_BY_DCMTK = {
    "SC_rgb_jpeg.dcm": "its header is in the implicit encoding that its transfer syntax rules out",
    "rtdose_expb.dcm": "32-bit big-endian values are taken for swapped 16-bit words",
    "rtdose_expb_1frame.dcm": "32-bit big-endian values are taken for swapped 16-bit words",
    "SC_rgb_32bit.dcm": "colour of 32 bits",
    "SC_rgb_32bit_2frame.dcm": "colour of 32 bits",
    "SC_rgb_expb_32bit.dcm": "colour of 32 bits",
    "SC_rgb_expb_32bit_2frame.dcm": "colour of 32 bits",
    "gdcm-US-ALOKA-16.dcm": "a palette for signed 16-bit indices",
    "gdcm-US-ALOKA-16_big.dcm": "a palette for signed 16-bit indices",
    "eCT_Supplemental.dcm": "frames with a rescaling of their own, which dcmtk 3.6 does not apply",
}
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")


def read(path: Path, frame: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a frame of a file; None stands for the only frame, or the first."""
    if frame is None:
        frame = 0 if frame_count(read_header(path)) > 1 else None
    return read_dicom(path, frame=frame, ct_windows=[list(CT_WINDOW)])


def is_image(path: Path) -> bool:
    try:
        read(path)
    except MedicalImageError:
        return False
    return True


IMAGES = [path for path in SHIPPED + MORE if is_image(path)]
OTHERS = [path for path in SHIPPED + MORE if path not in IMAGES]


def outcomes(files: list[Path]) -> dict[str, int]:
    """Count the files that give an image, and those with each reason."""
    found: Counter[str] = Counter()
    for path in files:
        try:
            read(path)
        except MedicalImageError as error:
            found[error.reason] += 1
        else:
            found["image"] += 1
    return found


def test_the_shipped_files_end_as_they_should() -> None:
    assert len(SHIPPED) == 203
    assert outcomes(SHIPPED) == {
        "image": 100,
        "not_image": 83,  # reports, plans, structure sets, waveforms, palettes, DICOMDIRs
        "unsupported_format": 12,  # texts, JSON, gzip, a colour profile, and a data set with a byte before it
        "segmentation": 2,
        "truncated": 2,
        "missing_tag": 2,  # header fragments with a few bytes of pixel data
        "bad_header": 2,  # a number of frames that is none; a codestream that is 3.7e9 pixels wide
    }


def test_the_files_of_pydicom_data_end_as_they_should() -> None:
    if not MORE:
        pytest.skip("pydicom-data is not installed: its 68 files are not on this machine")
    assert len(MORE) == 68
    assert outcomes(MORE) == {"image": 66, "segmentation": 2}


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_every_image_meets_the_image_contract(path: Path) -> None:
    image, record = read(path)
    assert image.shape == (3, record["rows"], record["columns"])
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.flags.c_contiguous
    assert {flag.split(":")[0] for flag in record["flags"]} <= set(FLAGS)


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_every_other_file_is_refused_with_a_reason_and_without_its_name(path: Path) -> None:
    with pytest.raises(MedicalImageError, match=r"\.$") as caught:
        read(path)
    assert path.stem not in str(caught.value)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_every_image_looks_as_dcmtk_renders_it_and_where_it_does_not_as_the_standard_says(path: Path) -> None:
    if shutil.which("dcmj2pnm") is None:
        pytest.skip("dcmj2pnm (dcmtk) is not installed: there is no rendering to compare with")
    right = truth_of(path)
    assert right.kind == "image"
    assert right.frames == judged_frames(frame_count(read_header(path)))
    levels = 2 if path.name in TWO_LEVELS else 1
    for frame, shown, padding in zip(right.frames, right.shown, right.padding, strict=True):
        image, record = read(path, frame if len(right.frames) > 1 else None)
        expected = np.stack([shown] * 3) if shown.ndim == 2 else shown.transpose(2, 0, 1)
        measured = np.ones(shown.shape[:2], dtype=bool) if padding is None else ~padding
        np.testing.assert_allclose(image[:, measured], expected[:, measured], atol=(levels + 0.01) / 255)
        assert (image[:, ~measured] == 0).all()
    is_named = path.name in NOT_BY_DCMTK or record["transfer_syntax"] in JPEG_2000
    # this file is compared with its uncompressed twin
    is_named |= path.name == "emri_small_jpeg_2k_lossless_too_short.dcm"
    assert right.source == ("dcmtk" if not is_named or "too_short" in path.name else "pydicom and formulas")


def test_the_named_exceptions_are_files_that_are_there() -> None:
    if not MORE:
        pytest.skip("pydicom-data is not installed: its 68 files are not on this machine")
    assert set(TWO_LEVELS) | set(NOT_BY_DCMTK) <= {path.name for path in IMAGES}
