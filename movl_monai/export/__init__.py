"""Export: one file for a hospital's computer, that gives the same numbers as the network it is made from."""

from .exported import ExportedModel, ExportedOutput, read_exported

__all__ = ["ExportedModel", "ExportedOutput", "read_exported"]
