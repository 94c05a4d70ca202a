"""Embedded data set: synthetic chest radiographs of two scanners, as DICOM files, from a seed."""

from .dataset import PhantomSettings, PhantomSummary, write_phantom

__all__ = ["PhantomSettings", "PhantomSummary", "write_phantom"]
