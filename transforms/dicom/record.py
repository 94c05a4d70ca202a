"""What may be told about a file: an allow-list of technical facts, checked so that no free text slips through."""

from __future__ import annotations

import re
from typing import Any

from movl_monai.transforms.dicom.tags import code_string
from pydicom import FileDataset
from pydicom.uid import UID

__all__ = ["modality_code", "sop_class_name", "transfer_syntax_name"]

_STANDARD_UID = re.compile(r"1\.2\.840\.10008(\.\d+){1,8}")
_MODALITY = re.compile(r"[A-Z]{2,8}")


def sop_class_name(header: FileDataset) -> str:
    """Return the name of the SOP class; "unknown" where it is missing or not of the standard."""
    meta: Any = getattr(header, "file_meta", {})
    for found in (header.get("SOPClassUID"), meta.get("MediaStorageSOPClassUID")):
        uid = UID(str(found)) if found else UID("")
        # a name of the standard's registry; anything else is its own name, and could be any text
        if uid and uid.type == "SOP Class":
            return uid.name
    return "unknown"


def transfer_syntax_name(uid: UID) -> str:
    """Return the UID of a transfer syntax; "private" where it is not below the root of the standard."""
    return str(uid) if _STANDARD_UID.fullmatch(str(uid)) else "private"


def modality_code(header: FileDataset) -> str:
    """Return Modality, "" where it is missing or does not look like a code."""
    code = code_string(header, "Modality")
    return code if _MODALITY.fullmatch(code) else ""
