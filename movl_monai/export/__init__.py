"""Export: one file for a hospital's computer that gives the same numbers as its network."""

from .exported import ExportedModel, ExportedOutput, read_exported

__all__ = ["ExportedModel", "ExportedOutput", "read_exported"]
