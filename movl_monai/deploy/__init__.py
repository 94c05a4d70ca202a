"""Operators and applications for the MONAI Deploy App SDK, which needs a separate environment.

The SDK installs itself into MONAI's package, so that `import monai` starts Holoscan. The extra `deploy` is therefore
never installed beside training. Without the SDK, every name of this package raises an error that explains this.
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
    """Import a name of this package after checking that the SDK is installed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from movl_monai.deploy.sdk import require_sdk

    require_sdk()
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
