"""Closed lists of reportable tag values, which keep free text and names out of reports.

Reference:
    DICOM PS3.3 C.7.3.1.1.1 (Modality), C.8.7.1.1 and C.8.11.5.1 (ViewPosition), C.7.6.1.1.1 (ImageLaterality),
    C.7.6.3.1.2 (PhotometricInterpretation).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom import FileDataset
from pydicom.uid import UID

from movl_monai.readers.dicom.tags import code_string, uid

__all__ = [
    "INTENTS",
    "LATERALITIES",
    "MODALITIES",
    "PHOTOMETRICS",
    "VIEWS",
    "image_kind",
    "known",
    "modality_code",
    "presentation_intent",
    "sop_class_name",
    "transfer_syntax_name",
]

_MODALITIES = """
AR ASMT AU BDUS BI BMD CD CFM CR CT CTPROTOCOL DD DF DG DM DMS DOC DS DX EC ECG EEG EMG EOG EPS ES FA FID FS GM HC HD
IO IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX
REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF ST STAIN
TEXTUREMAP TG US VA VF VL XA XAPROTOCOL XC
"""
_VIEWS = """
AP PA LL RL RLD LLD RLO LLO CC MLO ML LM LMO SIO FB XCC XCCL XCCM LATERAL LAT AXIAL CLEO ISO SID OBLIQUE
"""
MODALITIES = frozenset(_MODALITIES.split())
VIEWS = frozenset(_VIEWS.split())
LATERALITIES = frozenset("RLBU")
INTENTS = frozenset(("FOR PRESENTATION", "FOR PROCESSING"))
# kind of image: words that a value of ImageType begins with, or equals; the first matching kind counts
_BEGINNINGS = {
    "mosaic": ("MOSAIC",),
    "localizer": ("LOCALIZER", "SCOUT", "TOPOGRAM", "SURVEY"),
    "projection": ("PROJECTION IMAGE", "MIP", "MINIP", "MAX IP", "MIN IP", "VOLREN", "VOLUME REND", "VRT", "3D REND"),
    "reformatted": ("MPR", "CSA MPR", "CSA RESAMPLED", "CURVED", "CPR", "REFORMATTED", "RESAMPLED"),
    "subtraction": ("SUBTRACT",),
}
_MAPS = frozenset(
    (
        *("ADC", "EADC", "EXP ADC", "FA", "COLFA", "TRACE", "TRACEW", "TENSOR", "CBF", "RCBF", "CBV", "RCBV", "MTT"),
        *("TTP", "TMAX", "PBP", "KTRANS", "FAT FRACTION"),
        *("T1 MAP", "T2 MAP", "T2 STAR MAP", "R1 MAP", "R2 MAP", "R2 STAR MAP", "FIELD MAP", "B0 MAP", "PHASE MAP"),
    )
)
PHOTOMETRICS = frozenset(
    ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
)
_CODE = re.compile(r"[A-Z0-9]{2,16}")
_STANDARD_UID = re.compile(r"1\.2\.840\.10008(\.\d+){1,8}")


def known(value: str, allowed: frozenset[str]) -> str:
    """Return a value of the list unchanged, "" for an empty one, "other" for any other.

    Example:
        >>> known("PA", VIEWS), known("", VIEWS), known("DOE JANE", VIEWS)
        ('PA', '', 'other')
    """
    return value if value in allowed else "other" if value else ""


def image_kind(image_type: Sequence[str]) -> str:
    """Return the kind of an image by ImageType: one word of a closed list, "" if it is not stated.

    The words are ``primary``, ``mosaic``, ``localizer``, ``projection``, ``reformatted``, ``subtraction``, ``map`` and,
    of other secondary images, ``derived``.

    Reference:
        DICOM PS3.3 C.7.6.1.1.2 (ImageType), C.8.2.1.1.1 (CT), C.8.3.1.1.1 (MR), C.8.16.1 (enhanced objects).

    Example:
        >>> image_kind(("ORIGINAL", "PRIMARY", "M", "MOSAIC")), image_kind(("DERIVED", "PRIMARY", "ADC"))
        ('mosaic', 'map')
        >>> image_kind(("DERIVED", "PRIMARY")), image_kind(())
        ('primary', '')
    """
    words = [value.replace("_", " ").strip() for value in image_type]
    for kind, beginnings in _BEGINNINGS.items():
        if any(word.startswith(beginnings) for word in words[2:]):
            return kind
    if _MAPS.intersection(words[2:]):
        return "map"
    if not any(words):
        return ""
    return "derived" if words[:2] == ["DERIVED", "SECONDARY"] else "primary"


def presentation_intent(stated: str, sop_class: str) -> str:
    """Return PresentationIntentType, or the intent in the name of the SOP class if the tag is missing.

    Example:
        >>> presentation_intent("", "Digital Mammography X-Ray Image Storage - For Processing")
        'FOR PROCESSING'
    """
    named = sop_class.rpartition(" - ")[2].upper()
    return stated or (named if named in INTENTS else "")


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
