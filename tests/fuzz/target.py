"""What must hold for every file, however damaged: an image as promised, or a known reason, and nobody's words."""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from dataclasses import replace
from io import BytesIO

import torch

from movl_monai.readers import REASONS, MedicalImageError
from movl_monai.readers.dicom import scan_header
from movl_monai.transforms import LoadMedicalImage, LoadSegmentation
from tests.fuzz.samples import PLANTED

__all__ = ["check_file"]


class _Listener(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def check_file(content: bytes) -> str:
    """Read a file.

    Returns:
        "image" or a reason code.

    Raises:
        AssertionError: if the image breaks its contract, the reason is unknown, or planted words come out.
        Exception: whatever else reading raises, which it must not.
    """
    listener, root = _Listener(), logging.getLogger()
    root.addHandler(listener)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result, told = _read(content)
            told += _read_mask(content) + _scan(content)
    finally:
        root.removeHandler(listener)
    heard = "\n".join([told, *listener.lines, *(str(warning.message) for warning in caught)])
    assert PLANTED not in heard.upper(), f"planted words came out: {heard[:300]}"
    return result


def _read(content: bytes) -> tuple[str, str]:
    """Return the result, and all the words that came with it."""
    load = LoadMedicalImage()
    try:
        count = load.frame_count(BytesIO(content))
        image, record = load.read(BytesIO(content), count - 1 if count > 1 else None)
    except MedicalImageError as error:
        refused = error
    else:
        _check_image(image)
        return "image", json.dumps(record, allow_nan=False)
    assert refused.reason in REASONS
    return refused.reason, "".join(traceback.format_exception_only(refused)) + _chained(refused)


def _read_mask(content: bytes) -> str:
    """Read a file as a segmentation; return the words that came with it."""
    try:
        mask, record = LoadSegmentation().read(BytesIO(content))
    except MedicalImageError as error:
        refused = error
    else:
        assert mask.ndim == 3
        assert mask.numel() > 0
        assert int(mask.min()) >= 0
        return json.dumps(record, allow_nan=False)
    assert refused.reason in REASONS
    return str(refused) + _chained(refused)


def _scan(content: bytes) -> str:
    """Scan a header both ways; return the words of a refusal. What is found may hold a patient.

    The quick way may find what it wants in a header that the full parser stumbles over or ends early in, but no other
    values.
    """
    found, words = [], ""
    for lean in (True, False):
        try:
            found.append(replace(scan_header(BytesIO(content), lean=lean), header_bytes=0))
        except MedicalImageError as error:
            words += str(error) + _chained(error)
    if len(found) == 2 and found[0].problem == found[1].problem:
        assert repr(found[0]) == repr(found[1]), "the two ways to scan a header differ"
    return words


def _check_image(image: torch.Tensor) -> None:
    assert image.dtype == torch.float32
    assert image.ndim == 3
    assert image.shape[0] == 3
    assert image.numel() > 0
    assert bool(torch.isfinite(image).all())
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1


def _chained(error: BaseException) -> str:
    """Return what a traceback would show of the errors that led to this one."""
    if error.__cause__ is not None:
        return str(error.__cause__) + _chained(error.__cause__)
    if error.__context__ is not None and not error.__suppress_context__:
        return str(error.__context__) + _chained(error.__context__)
    return ""
