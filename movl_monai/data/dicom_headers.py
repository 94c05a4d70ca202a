"""The few header fields of DICOM files that make a list: patient, and number of frames."""

from __future__ import annotations

import warnings
import zlib
from pathlib import Path

from movl_monai.data.entries import FileHeader

__all__ = ["read_dicom_header"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 512 * 2**20
_MAX_FRAMES = 10_000
_TAGS = ["IssuerOfPatientID", "PatientID", "NumberOfFrames", "Rows", "SOPClassUID"]


def read_dicom_header(path: Path) -> FileHeader:
    """The header of a file that begins like DICOM; what is wrong with it is its ``problem``, never an exception.

    Reference:
        DICOM PS3.10, section 7.1 (preamble and prefix); PS3.3 C.7.1.1 (PatientID, IssuerOfPatientID).
    """
    with path.open("rb") as stream:
        start = stream.read(132)
    # warnings of pydicom quote the values, which may be a patient's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parse(path, start)


def _parse(path: Path, start: bytes) -> FileHeader:
    import pydicom

    try:
        if _inflates_too_much(path, start):
            return FileHeader(problem="too_large")
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        frames = int(dataset.get("NumberOfFrames") or 1)
        issuer, patient = (str(dataset.get(tag) or "").strip() for tag in _TAGS[:2])
        rows = dataset.get("Rows")
    # pydicom raises whatever its parsing trips over; RecursionError for sequences nested on purpose
    except Exception:
        return FileHeader(problem="bad_header")
    if rows is None:
        return FileHeader(problem="not_image")
    if frames > _MAX_FRAMES:
        return FileHeader(problem="too_large")
    return FileHeader(patient=f"{issuer}|{patient}" if patient else None, frames=max(frames, 1))


def _inflates_too_much(path: Path, start: bytes) -> bool:
    """Whether a deflated data set is larger than the limits; pydicom inflates it whole even for one tag."""
    from pydicom.filereader import read_file_meta_info

    if start[128:] != b"DICM":
        return False
    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return False
    offset = 144 + int(meta.get("FileMetaInformationGroupLength", 0))
    limit = min(_MAX_INFLATED, 200 * path.stat().st_size)
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as stream:
        stream.seek(offset)
        pending = stream.read(2**20)
        while pending and not inflater.eof and inflated <= limit:
            inflated += len(inflater.decompress(pending, 2**20))
            pending = inflater.unconsumed_tail or stream.read(2**20)
    return inflated > limit
