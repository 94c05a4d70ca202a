"""Export: one file for a hospital's computer that gives the same numbers as its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from movl_monai.lazy import lazy_names

if TYPE_CHECKING:
    from .exported import ExportedModel, ExportedOutput, read_exported

__all__ = ["ExportedModel", "ExportedOutput", "read_exported"]

__getattr__ = lazy_names(__name__, dict.fromkeys(("ExportedModel", "ExportedOutput", "read_exported"), "exported"))
