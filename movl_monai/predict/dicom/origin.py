"""Origin of an object: a cleaned copy of the source header, and new UIDs, numbers and dates."""

from __future__ import annotations

import datetime
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag
from pydicom.uid import UID, generate_uid

import movl_monai
from movl_monai.data.decode import ends_run
from movl_monai.errors import RESEARCH_USE, MovlError
from movl_monai.readers.dicom.quiet import quiet

__all__ = [
    "MANUFACTURER",
    "RESEARCH_USE",
    "DicomOutputError",
    "Origin",
    "Stamp",
    "as_bytes",
    "check_source",
    "finish",
]

MANUFACTURER = "movl_monai"

_HIGHDICOM_UIDS = "1.2.826.0.1.3680043.10.511.3."  # root of the random UIDs of highdicom
# patient and study values, copied unchanged at the end: the constructors would refuse odd ones, and quote them
_TEXTS = ("PatientName", "ReferringPhysicianName", "PatientID", "AccessionNumber", "StudyID")
_DATES = {"PatientBirthDate": r"\d{8}", "StudyDate": r"\d{8}", "StudyTime": r"\d{2,6}(\.\d{1,6})?"}
# positions of frames in the patient; other sequences of a study, such as procedure codes, are often invalid
_SEQUENCES = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DimensionOrganizationSequence", "DimensionIndexSequence"),
)
# free text, names, dates and times of people, places and equipment; no object is derived from them
_TEXT_VRS = frozenset(("AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"))
# type 3, copied if present
_OPTIONAL = ("PatientIdentityRemoved", "DeidentificationMethod", "IssuerOfPatientID")
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


class DicomOutputError(MovlError):
    """No valid DICOM object can be derived from a source."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The network that made an object.

    Args:
        name: name of the model.
        version: version of the model.
        fingerprint: hash of everything that its results depend on; part of every new UID.
        checkpoint_sha256: SHA-256 of the trained state; stated as a parameter of the algorithm.
        backbone: name of the frozen encoder.
    """

    name: str
    version: str
    fingerprint: str
    checkpoint_sha256: str = ""
    backbone: str = ""

    @property
    def parameters(self) -> list[str]:
        """Parameters that identify the algorithm beyond name and version."""
        stated = {"backbone": self.backbone, "checkpoint sha256": self.checkpoint_sha256}
        return [f"{key}: {value}" for key, value in stated.items() if value] + [f"use: {RESEARCH_USE}"]

    @property
    def software(self) -> str:
        """Version of the software that writes the object."""
        return movl_monai.__version__

    def uid(self, kind: str, *sources: str) -> UID:
        """Return the UID of an object that this network makes from some sources.

        It is always the same, so that storing an object twice adds nothing.

        Args:
            kind: kind of the object or series.
            sources: UIDs of the source.
        """
        return generate_uid(entropy_srcs=["movl_monai", kind, self.fingerprint, *sources])


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Time and series number of new objects.

    Args:
        seconds: seconds since 1970; written as local time, as the dates of the study are.
        series_offset: offset for this kind of series, added to 1000 times the number of the source's series.
    """

    seconds: int
    series_offset: int = 900

    @property
    def time(self) -> datetime.datetime:
        """The local time."""
        return datetime.datetime.fromtimestamp(self.seconds)

    def series_number(self, source: Dataset) -> int:
        """Return a series number that the source's scanner is unlikely to use."""
        try:
            number = int(source.get("SeriesNumber") or 0)
        except (TypeError, ValueError):
            number = 0
        return 1000 * number + self.series_offset if 0 <= number < 2_000_000 else self.series_offset


@quiet()
def check_source(source: Dataset) -> None:
    """Raise DicomOutputError if no object can be derived from an image or refer to it."""
    prepared(source)


def prepared(source: Dataset) -> Dataset:
    """Return a copy of a source header from which objects can be derived; :func:`finish` adds patient and study.

    Other elements that highdicom would copy are removed: physicians, institutions, equipment, trials, descriptions.

    Raises:
        DicomOutputError: if a UID is missing or invalid, or the header cannot be read.
    """
    with deriving("object", "an element of its header is damaged. Ask for csv, json or png instead."):
        return _prepared(source)


def _prepared(source: Dataset) -> Dataset:
    header = Dataset()
    header.update({tag: source.get_item(tag) for tag in source.keys()})  # noqa: SIM118 - values would be converted
    if meta := getattr(source, "file_meta", None):
        header.file_meta = meta
    for keyword in _NEEDED:
        value = str(_value(source, keyword))
        if not value or not UID(value).is_valid:
            raise DicomOutputError(
                f"The source has no valid {keyword}, which a DICOM object that refers to it needs; ask for other "
                "outputs, or have the source corrected."
            )
    for tag in [tag for tag in header.keys() if _is_left_out(tag, header)]:  # noqa: SIM118 - as above
        del header[tag]
    for keyword in (*_TEXTS, *_DATES, "PatientSex"):
        header.pop(keyword, None)  # the element object is shared with the source
        setattr(header, keyword, "")
    header.SpecificCharacterSet = "ISO_IR 192"  # no source text is left, and its character set may be invalid
    return header


def _is_left_out(tag: BaseTag, header: Dataset) -> bool:
    """Return whether an element is not needed and could make a derived object invalid or reveal more about people."""
    if tag.group == 0x0010 or tag.is_private:
        return True
    try:
        vr = str(header.get_item(tag).VR or dictionary_VR(tag))  # files with implicit VR do not state it
    except KeyError:
        return True
    return vr in _TEXT_VRS or (vr == "SQ" and keyword_for_tag(tag) not in _SEQUENCES)


def orientation(header: Dataset) -> list[str] | str:
    """Return PatientOrientation if the source states a valid one, else "", as allowed for a type 2C attribute."""
    value = header.get("PatientOrientation")
    parts = [] if value is None or isinstance(value, str) else [str(part) for part in value]
    return (
        parts
        if len(parts) == 2 and all(re.fullmatch("[ALRPHF]{1,3}|LE|RT|D|V|CR|CD|M|PL|PA", part) for part in parts)
        else ""
    )


@contextmanager
def deriving(kind: str, lacks: str) -> Iterator[None]:
    """Turn errors of pydicom and highdicom into one without their texts, which would quote values of the source.

    Args:
        kind: kind of the object, for the message.
        lacks: possible shortcoming of the source and a remedy, for the message.

    Raises:
        DicomOutputError: in place of any error that the source's values cause.
    """
    try:
        yield
    except MovlError:
        raise
    except Exception as error:  # any kind of damage
        if ends_run(error):
            raise
        raise DicomOutputError(f"No {kind} can be derived from this source ({type(error).__name__}): {lacks}") from None


def _value(source: Dataset, keyword: str) -> Any:
    """Return a value, or "" if it is missing or cannot be converted."""
    try:
        value = source.get(keyword)
    except Exception:  # any kind of damage
        return ""
    return "" if value is None else value


def common(stamp: Stamp, source: Dataset) -> dict[str, Any]:
    """Return the arguments that all constructors of highdicom take."""
    return {
        "manufacturer": MANUFACTURER,
        "series_number": stamp.series_number(source),
        "content_date": stamp.time.date(),
        "content_time": stamp.time.time(),
        "content_qualification": "RESEARCH",
    }


@quiet()
def finish(dataset: Any, stamp: Stamp, source: Dataset, *, description: str) -> Any:
    """Complete an object of highdicom: patient and study, dates, character set, random UIDs.

    Patient and study are copied from the source; unknown values are empty. Texts are decoded with the source's
    character set and written as UTF-8.

    Args:
        dataset: the object, changed in place.
        stamp: time of creation.
        source: a source image, as it was read.
        description: description of the series.

    Raises:
        DicomOutputError: if patient or study cannot be copied.
    """
    with deriving("object", "patient or study are damaged in its header. Ask for csv, json or png instead."):
        return _finish(dataset, stamp, source, description=description)


def _finish(dataset: Any, stamp: Stamp, source: Dataset, *, description: str) -> Any:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    day, time = stamp.time.strftime("%Y%m%d"), stamp.time.strftime("%H%M%S")
    for keyword in ("InstanceCreation", "Content", "Series"):
        setattr(dataset, f"{keyword}Date", day)
        setattr(dataset, f"{keyword}Time", time)
    dataset.SeriesDescription = description
    for keyword in _TEXTS:
        setattr(dataset, keyword, str(_value(source, keyword)))
    for keyword, form in _DATES.items():
        value = str(_value(source, keyword))
        setattr(dataset, keyword, value if re.fullmatch(form, value) else "")
    sex = str(_value(source, "PatientSex"))
    dataset.PatientSex = sex if sex in ("M", "F", "O") else ""
    for keyword in _OPTIONAL:
        if value := _value(source, keyword):
            setattr(dataset, keyword, value)
    if method := _value(source, "DeidentificationMethodCodeSequence"):
        dataset.DeidentificationMethodCodeSequence = method
    for item in dataset.get("ContributingEquipmentSequence") or ():
        item.ContributionDateTime = day + time
    _replace_drawn_uids(dataset)
    return dataset


def _replace_drawn_uids(dataset: Dataset) -> None:
    """Replace random UIDs by UIDs derived from the object's own; equal UIDs stay equal."""
    replaced: dict[str, UID] = {}
    for element in _elements(dataset):
        if element.VR != "UI" or not isinstance(element.value, str) or not element.value.startswith(_HIGHDICOM_UIDS):
            continue
        if element.value not in replaced:
            entropy = [str(dataset.SOPInstanceUID), str(len(replaced))]
            replaced[element.value] = generate_uid(entropy_srcs=entropy)
        element.value = replaced[element.value]


def _elements(dataset: Dataset) -> Iterator[Any]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)
        else:
            yield element


@quiet()
def as_bytes(dataset: Any) -> bytes:
    """Return the file content of an object.

    Raises:
        DicomOutputError: if a value that was copied from the source cannot be written.
    """
    stream = io.BytesIO()
    with deriving("file", "a value of it cannot be written. Ask for csv, json or png instead."):
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
