"""Classes of the MONAI Deploy App SDK, or stand-ins that explain how to install it; its volumes converted."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from movl_monai.errors import ConfigError, DataError
from movl_monai.predict.model import Model
from movl_monai.readers.dicom.codes import MODALITIES, known

__all__ = [
    "Application",
    "ConditionType",
    "CountCondition",
    "DICOMDataLoaderOperator",
    "DICOMSeries",
    "DICOMSeriesSelectorOperator",
    "DICOMStudy",
    "Image",
    "Operator",
    "SdkMissingError",
    "StudySelectedSeries",
    "model_for_volumes",
    "require_sdk",
    "write_volume",
]

_AXES = 3
_UNEVEN = 0.01
_INSTEAD = "connect the selected series (`study_selected_series_list`) instead, whose files are read as in training"


class SdkMissingError(ConfigError, ImportError):
    """The MONAI Deploy App SDK is not installed, or cannot be loaded."""


class _Missing:
    """Stand-in for a class of the SDK, so that modules can be imported without it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        require_sdk()


def _preload_cuda_runtime() -> None:
    """Load the CUDA runtime installed by pip, which the linker does not find; Holoscan needs it even without a GPU."""
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for path in sorted(Path(folder).glob("*/lib/libcudart.so.*")):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


Application: Any = _Missing
ConditionType: Any = _Missing
CountCondition: Any = _Missing
DICOMDataLoaderOperator: Any = _Missing
DICOMSeries: Any = _Missing
DICOMSeriesSelectorOperator: Any = _Missing
DICOMStudy: Any = _Missing
Image: Any = None
Operator: Any = _Missing
StudySelectedSeries: Any = _Missing

_problem: ImportError | None = None
try:
    _preload_cuda_runtime()
    from monai.deploy.conditions import CountCondition  # type: ignore[no-redef]
    from monai.deploy.core import Application, ConditionType, Image, Operator  # type: ignore[no-redef]
    from monai.deploy.core.domain.dicom_series import DICOMSeries  # type: ignore[no-redef]
    from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries  # type: ignore[no-redef]
    from monai.deploy.core.domain.dicom_study import DICOMStudy  # type: ignore[no-redef]
    from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator  # type: ignore[no-redef]
    from monai.deploy.operators.dicom_series_selector_operator import (  # type: ignore[no-redef]
        DICOMSeriesSelectorOperator,
    )
except ImportError as error:
    _problem = error


def require_sdk() -> None:
    """Return if the SDK can be used.

    Raises:
        SdkMissingError: if it is not installed, or a library that it is linked against is missing.
    """
    if _problem is not None:
        _refuse(_problem)


def _refuse(problem: ImportError) -> NoReturn:
    if isinstance(problem, ModuleNotFoundError) and str(problem.name).startswith("monai"):
        raise SdkMissingError(
            "movl_monai.deploy needs the MONAI Deploy App SDK, which is not installed here: make a new virtual "
            "environment for it, as it changes what `import monai` does, and run `pip install 'movl-monai[deploy]'`. "
            "Without it, `movl-monai predict` writes the same results."
        ) from problem
    raise SdkMissingError(
        f"The MONAI Deploy App SDK is installed but cannot be loaded ({problem}). Where libcudart is missing, `pip "
        "install nvidia-cuda-runtime` brings it; it is needed without a GPU too."
    ) from problem


def write_volume(image: Any, path: Path) -> None:
    """Write an ``Image`` of the SDK as NIfTI in patient orientation.

    ``DICOMSeriesToVolumeOperator`` of version 4 gives an array (slices, rows, columns) and an affine for (column, row,
    slice). Other operators of the SDK transpose the array to (columns, rows, slices) and leave no mark. The array's
    shape therefore cannot be checked against the affine, and a transposed array must not be given. For non-square
    pixels that affine has the spacings of rows and columns swapped, which is corrected here.

    Values are HU, and the CT windows of the bundles need nothing else. For all other modalities the window, polarity
    and padding of the files are lost, and the numbers would differ from those of training.

    Args:
        image: image with ``asnumpy()`` (slices, rows, columns) and ``metadata()``.
        path: path of the new file.

    The metadata holds the first slice distance (``depth_pixel_spacing``), the affine the mean one. A series with gaps
    or unequal distances is recognised by their difference.

    Raises:
        DataError: if the image is no CT volume, its position in the patient is unknown, or the slice distances are
            unequal.
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
    """Return the affine in RAS, with the correct spacing along each axis."""
    if "lps" in str(facts.get("space", "")).lower():
        affine[:2] *= -1
    rows, columns = facts.get("row_pixel_spacing"), facts.get("col_pixel_spacing")
    for axis, spacing in ((0, columns), (1, rows)):
        length = np.linalg.norm(affine[:3, axis])
        if spacing and length:
            affine[:3, axis] *= float(spacing) / length
    return affine


def _check_distances(affine: np.ndarray, facts: dict[str, Any]) -> None:
    """Refuse a volume with unequal slice distances, which no affine describes: its masks would have wrong volumes.

    Raises:
        DataError: if the first distance differs from the mean one by more than 1 %.
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
    """Return the model with preprocessing that reads NIfTI values as HU, regardless of the setting in training."""
    preprocessing = deepcopy(model.preprocessing)
    loading = preprocessing.transforms[0].transform
    # the loader of image and mask holds the loader of images
    getattr(loading, "images", loading).nifti_range = "ct"
    return dataclasses.replace(model, preprocessing=preprocessing)
