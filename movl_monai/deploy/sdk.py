"""Classes of the MONAI Deploy App SDK, or stand-ins that explain how to install it."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any, NoReturn

from movl_monai.errors import ConfigError

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
    "require_sdk",
]


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
