"""Where an object comes from: the source image, made fit to be copied from, and new UIDs, numbers and dates."""

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
from movl_monai.data.faults import ends_run
from movl_monai.errors import MovlError
from movl_monai.transforms.dicom.quiet import quiet

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

RESEARCH_USE = "Research use only. Not a medical device; not for diagnosis."
MANUFACTURER = "movl_monai"

_HIGHDICOM_UIDS = "1.2.826.0.1.3680043.10.511.3."  # below which highdicom makes random ones
# of patient and study, copied as they are at the end: the constructors would refuse odd ones, and quote them
_TEXTS = ("PatientName", "ReferringPhysicianName", "PatientID", "AccessionNumber", "StudyID")
_DATES = {"PatientBirthDate": r"\d{8}", "StudyDate": r"\d{8}", "StudyTime": r"\d{2,6}(\.\d{1,6})?"}
# what places frames in the patient; others of the study, such as codes of procedures, are often invalid
_SEQUENCES = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DimensionOrganizationSequence", "DimensionIndexSequence"),
)
# free text, names, dates and times: of people, places and equipment, and nothing that objects are derived from
_TEXT_VRS = frozenset(("AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UN", "UR", "UT"))
# type 3, copied where they are
_OPTIONAL = ("PatientIdentityRemoved", "DeidentificationMethod", "IssuerOfPatientID")
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


class DicomOutputError(MovlError):
    """No valid DICOM object can be derived from a source."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The network that objects come from.

    Args:
        name: of the model.
        version: of the model.
        fingerprint: of all that its results depend on; part of every new UID.
        checkpoint_sha256: of what was trained; stated as a parameter of the algorithm.
        backbone: name of the frozen encoder.
    """

    name: str
    version: str
    fingerprint: str
    checkpoint_sha256: str = ""
    backbone: str = ""

    @property
    def parameters(self) -> list[str]:
        """What identifies the algorithm beyond name and version."""
        stated = {"backbone": self.backbone, "checkpoint sha256": self.checkpoint_sha256}
        return [f"{key}: {value}" for key, value in stated.items() if value] + [f"use: {RESEARCH_USE}"]

    @property
    def software(self) -> str:
        """Version of what wrote the object."""
        return movl_monai.__version__

    def uid(self, kind: str, *sources: str) -> UID:
        """The UID of what this network makes of some sources: always the same, so that storing it twice adds nothing.

        Args:
            kind: of the object or series.
            sources: UIDs of the source.
        """
        return generate_uid(entropy_srcs=["movl_monai", kind, self.fingerprint, *sources])


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """When objects are made, and which number their series have.

    Args:
        seconds: since 1970; local time is written, as the dates of the study are.
        series_offset: number of the series of this kind, added to 1000 times the number of the source's series.
    """

    seconds: int
    series_offset: int = 900

    @property
    def time(self) -> datetime.datetime:
        """As a local time."""
        return datetime.datetime.fromtimestamp(self.seconds)

    def series_number(self, source: Dataset) -> int:
        """A number that no series of the source's scanner is likely to have."""
        try:
            number = int(source.get("SeriesNumber") or 0)
        except (TypeError, ValueError):
            number = 0
        return 1000 * number + self.series_offset if 0 <= number < 2_000_000 else self.series_offset


@quiet()
def check_source(source: Dataset) -> None:
    """Raise DicomOutputError if no object can be derived from an image, or refer to it."""
    prepared(source)


def prepared(source: Dataset) -> Dataset:
    """A copy of a source's header that objects can be derived from; patient and study are left for :func:`finish`.

    Whatever highdicom would copy beyond them is left out: physicians, institutions, equipment, trials, descriptions.

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
        header.pop(keyword, None)  # the element itself is the source's
        setattr(header, keyword, "")
    header.SpecificCharacterSet = "ISO_IR 192"  # no text of the source is left, and theirs may be none
    return header


def _is_left_out(tag: BaseTag, header: Dataset) -> bool:
    """Whether an element could make what is derived invalid or tell more of people, and is not needed for it."""
    if tag.group == 0x0010 or tag.is_private:
        return True
    try:
        vr = str(header.get_item(tag).VR or dictionary_VR(tag))  # files with implicit VR do not say it
    except KeyError:
        return True
    return vr in _TEXT_VRS or (vr == "SQ" and keyword_for_tag(tag) not in _SEQUENCES)


def orientation(header: Dataset) -> list[str] | str:
    """PatientOrientation where the source states a valid one, else "" as a type 2C attribute may be."""
    value = header.get("PatientOrientation")
    parts = [] if value is None or isinstance(value, str) else [str(part) for part in value]
    return (
        parts
        if len(parts) == 2 and all(re.fullmatch("[ALRPHF]{1,3}|LE|RT|D|V|CR|CD|M|PL|PA", part) for part in parts)
        else ""
    )


@contextmanager
def deriving(kind: str, lacks: str) -> Iterator[None]:
    """Turn errors of pydicom and highdicom into one that calls the source unfit; their own words would quote values.

    Args:
        kind: of the object, for the message.
        lacks: what the source may lack, and what to do.

    Raises:
        DicomOutputError: instead of any error of the source's values.
    """
    try:
        yield
    except MovlError:
        raise
    except Exception as error:  # damaged, in any way
        if ends_run(error):
            raise
        raise DicomOutputError(f"No {kind} can be derived from this source ({type(error).__name__}): {lacks}") from None


def _value(source: Dataset, keyword: str) -> Any:
    """A value, "" where it is missing or cannot be converted."""
    try:
        value = source.get(keyword)
    except Exception:  # damaged, in any way
        return ""
    return "" if value is None else value


def common(stamp: Stamp, source: Dataset) -> dict[str, Any]:
    """Arguments that all constructors of highdicom take."""
    return {
        "manufacturer": MANUFACTURER,
        "series_number": stamp.series_number(source),
        "content_date": stamp.time.date(),
        "content_time": stamp.time.time(),
        "content_qualification": "RESEARCH",
    }


@quiet()
def finish(dataset: Any, stamp: Stamp, source: Dataset, *, description: str) -> Any:
    """Make an object of highdicom final: patient and study, dates, character set, UIDs that were drawn.

    Patient and study are those of the source; what is not known is empty. Texts are decoded by the source's character
    set and written as UTF-8.

    Args:
        dataset: the object, changed in place.
        stamp: when.
        source: a source image, as it was read.
        description: of the series.

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
    """Replace random UIDs by such that are made of the object's own, the same one by the same."""
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
    """Return the file of an object.

    Raises:
        DicomOutputError: if a value that was copied from the source cannot be written.
    """
    stream = io.BytesIO()
    with deriving("file", "a value of it cannot be written. Ask for csv, json or png instead."):
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
