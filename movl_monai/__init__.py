"""Adapt frozen natural-image backbones to medical images with very few trained parameters.

The names of this page are imported when they are first used. `import movl_monai` alone imports no part, and so neither
torch nor MONAI. The parts receive each other (`AdaptedClassifier(prompt=..., backbone=..., head=...)`). Configs of
MONAI bundles wire them by their dotted path.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from movl_monai._moved import keep_old_names

__version__ = "0.1.0"

# `__init__.pyi` has the same names for type checkers and editors
_PAGE = {
    "api": ("OpenRun", "Prediction", "open_run", "train"),
    "data": ("Datalist", "IdMap", "ImageDataset", "SegmentationDataset", "read_datalist", "read_mask_datalist"),
    "transforms": ("LoadMedicalImage", "read_volume"),
    "backbones": ("CLIPBackbone", "ResNetBackbone", "TimmBackbone", "embedded_efficientnet_lite0"),
    "prompts": ("PadPrompt",),
    "adapters": ("DVPT", "LoRA"),
    "heads": ("LinearHead",),
    "losses": ("MoVLLoss",),
    "networks": ("AdaptedClassifier", "AdaptedSegmenter", "load_checkpoint"),
    "engines": ("LinearProbe", "Stage", "StagedTrainer", "fit_linear_probe"),
    "evaluation": ("StoredOutputs", "read_outputs", "read_trust", "report_of_outputs"),
    "export": ("read_exported",),
    "errors": ("ConfigError", "MovlError"),
}
_SOURCES = {name: package for package, names in _PAGE.items() for name in names}

__all__ = ["__version__", *sorted(_SOURCES)]


def __getattr__(name: str) -> Any:
    if name not in _SOURCES:
        raise AttributeError(f"module 'movl_monai' has no attribute {name!r}")
    value = getattr(import_module(f"movl_monai.{_SOURCES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_SOURCES})


keep_old_names()
