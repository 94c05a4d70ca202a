"""Codes for class names: SNOMED CT if it has a concept of that name, else a private scheme."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from movl_monai.errors import ConfigError

__all__ = ["SCHEME", "ClassCodes", "private_code", "private_scheme"]

SCHEME = "99MOVL"
"""Designator of the private coding scheme. Designators that begin with 99 are for private use (PS3.16 section 8)."""

_MOST_MEANING = 64  # characters of a Code Meaning, VR LO
# category of a segment, by the context group of its type (PS3.16, CID 7150)
_ABNORMAL, _ANATOMICAL = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.AnatomicalStructure
_CATEGORIES = ((codes.cid7159, _ABNORMAL), (codes.cid7140, _ANATOMICAL), (codes.cid7151, _ANATOMICAL))


class ClassCodes:
    """Codes of the classes of a network.

    A class name that equals the meaning of a SNOMED CT concept in DICOM's context groups gets the code of the concept
    (underscores and letter case are ignored). Any other name gets a code of the private scheme that is a hash of the
    name.

    Args:
        class_names: names of the classes.
        given: codes by class name: (value, scheme designator, meaning); they take precedence.

    Raises:
        ConfigError: if a code is given for an unknown class, or is incomplete.

    Example:
        >>> found = ClassCodes(["Liver", "no_lesion"])
        >>> found["Liver"].value, found["Liver"].scheme_designator, found["no_lesion"].scheme_designator
        ('10200004', 'SCT', '99MOVL')
    """

    def __init__(self, class_names: Sequence[str], given: Mapping[str, Sequence[str]] | None = None) -> None:
        given = dict(given or {})
        if unknown := sorted(set(given) - set(class_names)):
            raise ConfigError(f"Codes are given for {unknown}, the classes are {list(class_names)}; use their names.")
        for name, code in given.items():
            if len(code) != 3 or not all(isinstance(part, str) and part for part in code):
                raise ConfigError(f"The code of {name!r} must be [value, scheme designator, meaning], got {code!r}.")
        self._codes = {name: CodedConcept(*given[name]) if name in given else _code(name) for name in class_names}

    def __getitem__(self, class_name: str) -> CodedConcept:
        """Return the code of a class."""
        return self._codes[class_name]

    def category(self, class_name: str) -> CodedConcept:
        """Return the category of a class for segments: abnormal, anatomical, or spatial if neither is known."""
        code = self._codes[class_name]
        for group, category in _CATEGORIES:
            if any(
                (one.value, one.scheme_designator) == (code.value, code.scheme_designator)
                for one in group.concepts.values()
            ):
                return CodedConcept(*category[:3])
        return CodedConcept(*codes.SCT.SpatialAndRelationalConcept[:3])


def private_code(key: str, meaning: str) -> CodedConcept:
    """Return a code of the private scheme; keys have at most 16 characters."""
    return CodedConcept(key, SCHEME, meaning[:_MOST_MEANING])


def private_scheme() -> CodingSchemeIdentificationItem:
    """Return the item that declares the private scheme in an object.

    Reference:
        DICOM PS3.3 C.12.1.1.7 (Coding Scheme Identification).
    """
    return CodingSchemeIdentificationItem(
        designator=SCHEME, name="movl_monai classes and results", responsible_organization="movl_monai"
    )


def class_key(prefix: str, class_name: str) -> str:
    """Return a code value of at most 16 characters that is a hash of a class name."""
    return f"{prefix}-{hashlib.sha256(class_name.encode()).hexdigest()[:10]}"


def _code(class_name: str) -> CodedConcept:
    words = [word for word in re.split(r"[\W_]+", class_name) if word]
    keyword = "".join(word[:1].upper() + word[1:] for word in words)
    found = getattr(codes.SCT, keyword, None) if keyword.isidentifier() else None
    if found is not None and found.meaning.lower() == " ".join(words).lower():
        return CodedConcept(found.value, found.scheme_designator, found.meaning)
    return private_code(class_key("CLASS", class_name), class_name)
