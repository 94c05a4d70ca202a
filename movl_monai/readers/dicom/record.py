"""Allow-list of the reportable technical facts of a file, checked so that no free text passes."""

from __future__ import annotations

import re

from pydicom import FileDataset
from pydicom.uid import UID

from movl_monai.readers.dicom.codes import MODALITIES, known
from movl_monai.readers.dicom.tags import code_string, uid

__all__ = ["modality_code", "sop_class_name", "transfer_syntax_name"]

_CODE = re.compile(r"[A-Z0-9]{2,16}")
_STANDARD_UID = re.compile(r"1\.2\.840\.10008(\.\d+){1,8}")


def sop_class_name(header: FileDataset) -> str:
    """Return the name of the SOP class; "unknown" if it is missing or not of the standard."""
    for found in (uid(header, "SOPClassUID"), uid(header.file_meta, "MediaStorageSOPClassUID")):
        # a name of the standard's registry; any other UID is its own name, and could be any text
        if found.type == "SOP Class":
            return found.name
    return "unknown"


def transfer_syntax_name(syntax: UID) -> str:
    """Return the UID of a transfer syntax; "private" if it is not below the root of the standard."""
    return str(syntax) if _STANDARD_UID.fullmatch(str(syntax)) else "private"


def modality_code(header: FileDataset) -> str:
    """Return Modality; "other" for a code outside of the standard, "" for a missing value or one that is not a code."""
    code = code_string(header, "Modality")
    return known(code, MODALITIES) if _CODE.fullmatch(code) else ""
