"""The few header fields of DICOM files that make a list: patient, and number of frames."""

from __future__ import annotations

import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DicomHeader", "read_dicom_header"]

_DEFLATED = "1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 512 * 2**20
_MAX_FRAMES = 10_000
_OTHER_FORMATS = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"BM", b"RIFF", b"GIF8", b"\x1f\x8b")
_TAGS = ["IssuerOfPatientID", "PatientID", "NumberOfFrames", "Rows", "SOPClassUID"]


@dataclass(frozen=True)
class DicomHeader:
    """What is needed of a DICOM file's header.

    Args:
        patient: issuer and patient id in one string, None if the id is empty.
        frames: number of frames, 1 for an ordinary image.
        problem: reason code if the file cannot be an image of the list: ``bad_header``, ``not_image`` (a report,
            plan or other object without pixels), ``too_large`` (over 10 000 frames, or inflates beyond 512 MiB or
            200 : 1).
            The codes are those of the reading errors.
    """

    patient: str | None = None
    frames: int = 1
    problem: str | None = None


def read_dicom_header(path: Path) -> DicomHeader | None:
    """The header of a DICOM file, by its content and not its name; None for another format.

    Files without the 128 bytes preamble are recognised by a first element of group 2 or 8; a ``.dcm`` that is
    neither DICOM nor a known image format is ``bad_header``. Never raises on the content.

    Reference:
        DICOM PS3.10, section 7.1 (preamble and prefix); PS3.3 C.7.1.1 (PatientID, IssuerOfPatientID).
    """
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] != b"DICM" and start[:2] not in (b"\x02\x00", b"\x08\x00"):
        claims_dicom = path.suffix.lower() in (".dcm", ".dicom", ".ima") and not start.startswith(_OTHER_FORMATS)
        return DicomHeader(problem="bad_header") if claims_dicom else None
    # warnings of pydicom quote the values, which may be a patient's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parse(path, start)


def _parse(path: Path, start: bytes) -> DicomHeader:
    import pydicom

    try:
        if _inflates_too_much(path, start):
            return DicomHeader(problem="too_large")
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        frames = int(dataset.get("NumberOfFrames") or 1)
        issuer, patient = (str(dataset.get(tag) or "").strip() for tag in _TAGS[:2])
        rows = dataset.get("Rows")
    # pydicom raises whatever its parsing trips over; RecursionError for sequences nested on purpose
    except Exception:
        return DicomHeader(problem="bad_header")
    if rows is None:
        return DicomHeader(problem="not_image")
    if frames > _MAX_FRAMES:
        return DicomHeader(problem="too_large")
    return DicomHeader(patient=f"{issuer}|{patient}" if patient else None, frames=max(frames, 1))


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
