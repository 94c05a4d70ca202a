"""One DICOM file (frame) to one image: the whole pipeline, in the order of the standard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from movl_monai.transforms.dicom.limits import Limits

__all__ = ["read_dicom"]

Source = str | os.PathLike[str] | BinaryIO


def read_dicom(
    source: Source,
    *,
    frame: int | None = None,
    ct_windows: Sequence[str | Sequence[float]] = ("lungs", "mediastinum", "spine_bone"),
    voi: int | str = 0,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read one frame of a DICOM file as an image.

    Args:
        source: path of a regular file, or a seekable binary file object.
        frame: index of the frame, from 0; may be left out where the file has one.
        ct_windows: for CT: one window (repeated) or three, each a name of ``HU_PRESETS`` or ``[width, level]`` in HU.
        voi: which VOI LUT or window of the file to use, by index or explanation (not for CT).
        limits: what the file may ask for at most.

    Returns:
        The image, float32 (3, H, W) in [0, 1], and a record of technical facts without patient data.

    Raises:
        MedicalImageError: if the file cannot become an image; ``reason`` says why.
    """
    raise NotImplementedError
