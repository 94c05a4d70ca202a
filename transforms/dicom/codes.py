"""Values of tags that may be told: closed lists, so that no free text or name gets into a report.

Reference:
    DICOM PS3.3 C.7.3.1.1.1 (Modality), C.8.7.1.1 and C.8.11.5.1 (ViewPosition), C.7.6.1.1.1 (ImageLaterality),
    C.7.6.3.1.2 (PhotometricInterpretation).
"""

from __future__ import annotations

__all__ = ["LATERALITIES", "MODALITIES", "PHOTOMETRICS", "VIEWS", "known"]

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
PHOTOMETRICS = frozenset(
    ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
)


def known(value: str, allowed: frozenset[str]) -> str:
    """A value if it is one of the list, "" if it is empty, "other" if it is anything else.

    Example:
        >>> known("PA", VIEWS), known("", VIEWS), known("DOE JANE", VIEWS)
        ('PA', '', 'other')
    """
    return value if value in allowed else "other" if value else ""
