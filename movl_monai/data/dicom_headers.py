"""DICOM header fields of a list: patient, and number of frames."""

from __future__ import annotations

from pathlib import Path

from movl_monai.data.decode import fault_of
from movl_monai.data.entries import FileHeader
from movl_monai.readers.dicom import scan_header

__all__ = ["read_dicom_header"]


def read_dicom_header(path: Path) -> FileHeader:
    """Return the header of a file that begins like DICOM; faults become its ``problem``, never an exception.

    Reference:
        DICOM PS3.10, section 7.1 (preamble and prefix); PS3.3 C.7.1.1 (PatientID, IssuerOfPatientID).
    """
    try:
        scan = scan_header(path)
    except Exception as error:  # damaged, in any way
        return FileHeader(problem=fault_of(error)[0])
    if scan.problem:
        return FileHeader(problem=scan.problem)
    return FileHeader(patient=scan.patient, frames=len(scan.frames))
