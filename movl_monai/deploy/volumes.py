"""The SDK's volumes in memory, brought to what the bundles' preprocessing reads."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.errors import DataError
from movl_monai.predict.model import Model
from movl_monai.transforms.dicom.codes import MODALITIES, known

__all__ = ["model_for_volumes", "write_volume"]

_AXES = 3
_UNEVEN = 0.01
_INSTEAD = "connect the selected series (`study_selected_series_list`) instead, whose files are read as in training"


def write_volume(image: Any, path: Path) -> None:
    """Write an ``Image`` of the SDK as NIfTI, oriented as the patient lies.

    ``DICOMSeriesToVolumeOperator`` of version 4 gives (slices, rows, columns) and an affine for (column, row, slice);
    other operators of the SDK turn that to (columns, rows, slices) without a mark, so the shape is held against
    nothing here: an array that was turned must not be given. Pixels that are not square have the spacings of rows and
    columns exchanged in that affine, which is put right.

    Values are HU, which the CT windows of the bundles need and nothing else; of all other modalities the window, the
    polarity and the padding of the files are lost, and the numbers would not be those of training.

    Args:
        image: with ``asnumpy()`` (slices, rows, columns) and ``metadata()``.
        path: of the file.

    Of the distances of the slices it keeps the first (``depth_pixel_spacing``) and, in the affine, the mean one: a
    series with gaps or unequal distances is known by their difference.

    Raises:
        DataError: if it is no CT volume, its place in the patient is not known, or its slices have unequal distances.
    """
    import nibabel

    values, facts = np.asarray(image.asnumpy()), dict(image.metadata())
    modality = known(str(facts.get("modality") or facts.get("Modality") or ""), MODALITIES)
    if modality != "CT":
        raise DataError(
            f"A volume of the SDK can be predicted for CT only, got {modality or 'no modality'}: the windows and the "
            f"polarity of other images are lost in it; {_INSTEAD}."
        )
    affine = facts.get("affine")
    if values.ndim != _AXES or len(values) < 2 or affine is None or np.shape(affine) != (4, 4):
        raise DataError(
            f"A volume of the SDK must be (slices, rows, columns) with at least 2 slices and an affine, got shape "
            f"{values.shape} {'without' if affine is None else 'with'} one; {_INSTEAD}."
        )
    placed = _placed(np.array(affine, dtype=float), facts)
    _check_distances(placed, facts)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0).astype(np.float32), placed), path)


def _placed(affine: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    """The affine in RAS, with the right spacing along each axis."""
    if "lps" in str(facts.get("space", "")).lower():
        affine[:2] *= -1
    rows, columns = facts.get("row_pixel_spacing"), facts.get("col_pixel_spacing")
    for axis, spacing in ((0, columns), (1, rows)):
        length = np.linalg.norm(affine[:3, axis])
        if spacing and length:
            affine[:3, axis] *= float(spacing) / length
    return affine


def _check_distances(affine: np.ndarray, facts: dict[str, Any]) -> None:
    """Refuse a volume whose slices no affine places: its masks would have wrong volumes.

    Raises:
        DataError: if the first distance is not the mean one within 1 %.
    """
    first = facts.get("depth_pixel_spacing")
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    mean = abs(float(affine[:3, 2] @ normal)) / float(np.linalg.norm(normal))
    if first and abs(float(first) - mean) > _UNEVEN * mean:
        raise DataError(
            f"The slices of a volume of the SDK must have equal distances, got {float(first):.3g} mm between the first "
            f"two and {mean:.3g} mm on average; {_INSTEAD} and each slice counts with its own thickness."
        )


def model_for_volumes(model: Model) -> Model:
    """The model with preprocessing that takes the values of NIfTI volumes as HU, whatever it did in training."""
    preprocessing = deepcopy(model.preprocessing)
    loading = preprocessing.transforms[0].transform
    # that of images with masks holds the one of images
    getattr(loading, "images", loading).nifti_range = "ct"
    return dataclasses.replace(model, preprocessing=preprocessing)
