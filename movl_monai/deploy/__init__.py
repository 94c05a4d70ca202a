"""Operators and applications for the MONAI Deploy App SDK, which needs an environment of its own.

The SDK puts itself inside of MONAI's package, so that `import monai` starts Holoscan there; the extra `deploy` is
therefore never installed beside training. Whatever is taken from here without the SDK raises an error that says so.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "CaptureWriterOperator",
    "ClassificationOperator",
    "DeployApplication",
    "ReportWriterOperator",
    "SegmentationOperator",
    "SegmentationWriterOperator",
    "SeriesSelectorOperator",
    "StudyLoaderOperator",
    "TableWriterOperator",
    "main",
]

_MODULES = {
    "CaptureWriterOperator": "writers",
    "ClassificationOperator": "operators",
    "DeployApplication": "app",
    "ReportWriterOperator": "writers",
    "SegmentationOperator": "operators",
    "SegmentationWriterOperator": "writers",
    "SeriesSelectorOperator": "studies",
    "StudyLoaderOperator": "studies",
    "TableWriterOperator": "writers",
    "main": "app",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, once it is clear that the SDK is there."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from movl_monai.deploy.sdk import require_sdk

    require_sdk()
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
