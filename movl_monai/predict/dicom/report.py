"""Classification as a structured report: Comprehensive 3D SR with TID 1500, classes coded by SNOMED CT if possible."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes

from movl_monai.errors import ConfigError
from movl_monai.evaluation.rows import NO_ANSWER_OUTSIDE, NO_ANSWER_UNSURE, no_answer
from movl_monai.fonts import legible_names
from movl_monai.predict.dicom.origin import (
    MANUFACTURER,
    RESEARCH_USE,
    DicomOutputError,
    Origin,
    Stamp,
    common,
    deriving,
    finish,
    prepared,
)
from movl_monai.readers.dicom.quiet import quiet

__all__ = [
    "ClassCodes",
    "ImageFinding",
    "SCHEME",
    "classification_report",
    "private_code",
    "private_scheme",
    "read_classification_report",
]

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


_CLASS = private_code("CLASS", "Most probable class")
_GRADE = private_code("GRADE", "Median grade")
_LOWEST = private_code("GRADE-LOWEST", "Range of grades, lowest")
_HIGHEST = private_code("GRADE-HIGHEST", "Range of grades, highest")
_OUTSIDE = private_code("OUTSIDE", "Outside of what the model was trained on")
_ABSTAINED = private_code("ABSTAINED", "Model abstains from an answer")
_REFUSALS = {
    NO_ANSWER_OUTSIDE: private_code("NOANSWER-OUTSIDE", NO_ANSWER_OUTSIDE),
    NO_ANSWER_UNSURE: private_code("NOANSWER-UNSURE", NO_ANSWER_UNSURE),
}
_PRESENCE = {True: codes.SCT.Present, False: codes.SCT.Absent, None: codes.SCT.Indeterminate}
_CALIBRATED, _RAW = "calibrated", "not calibrated"
_MOST_GROUPS = 10_000  # images in one report


@dataclass(frozen=True, kw_only=True)
class ImageFinding:
    """Finding of a network about one image, or about a series, study or patient with its key images.

    Args:
        sop_instance_uid: SOPInstanceUID of the image.
        sop_class_uid: SOPClassUID of the image.
        frame: index of the frame of a multi-frame image, from 0; None for other images.
        predicted: the most probable class, or the median grade.
        probabilities: probability of each class, in [0, 1].
        calibrated: whether the probabilities are calibrated; False if the network abstains.
        outside: whether the image is out-of-distribution; None if unknown.
        abstained: whether the network abstains; None if unknown.
        is_grade: whether the classes are grades.
        grades: lowest and highest grade of the prediction range; None if unknown.
        others: SOPInstanceUID, SOPClassUID and frame of the further key images of a series, study or patient.
        unit: "series", "study" or "patient" that the finding is about; "" for the image alone.
        presence: of several findings whether each is present, by name; None where the network does not answer.
        thresholds: probability (not calibrated) from which a finding is present, by name.
        number: of a regression its name and value, and the ends of its interval, None if unknown.
    """

    sop_instance_uid: str
    sop_class_uid: str
    frame: int | None = None
    others: Sequence[tuple[str, str, int | None]] = ()
    unit: str = ""
    predicted: str = ""
    probabilities: dict[str, float] = field(default_factory=dict)
    calibrated: bool = False
    outside: bool | None = None
    abstained: bool | None = None
    is_grade: bool = False
    grades: tuple[str, str] | None = None
    presence: Mapping[str, bool | None] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    number: tuple[str, float, float | None, float | None] | None = None


@quiet()
def classification_report(
    findings: Sequence[ImageFinding],
    sources: Sequence[Dataset],
    *,
    origin: Origin,
    stamp: Stamp,
    codes_of: ClassCodes,
    is_partial: bool = False,
) -> Any:
    """Report on the images of one series, with a measurement group per image; or on a unit, with its key images.

    If the network abstains, the finding of the group is "No answer" with the reason, ahead of the raw probabilities. Of
    several findings, each has its probability, its threshold, and whether it is present: Present, Absent, or
    Indeterminate where the network does not answer. A number and the ends of its interval are measurements without a
    unit.

    The report is unverified, names the algorithm, refers to the images, and says that it is for research only.

    Args:
        findings: findings about the images.
        sources: headers of the images, one per file, in any order.
        origin: network that made the findings.
        stamp: time of creation.
        codes_of: codes of the classes.
        is_partial: whether images of the series are missing because they could not be read.

    Returns:
        a `highdicom.sr.Comprehensive3DSR`.

    Raises:
        DicomOutputError: if there are no findings, a finding has no source, the sources belong to several series, or
            they lack values that a report needs.

    Reference:
        DICOM PS3.3 A.35.13 (Comprehensive 3D SR); PS3.16 TID 1500, 1501, 300 and 4019.
    """
    headers = [prepared(source) for source in sources]
    known = {str(header.SOPInstanceUID): header for header in headers}
    named = {finding.sop_instance_uid for finding in findings}
    named |= {other[0] for finding in findings for other in finding.others}
    if not findings or not named <= set(known):
        raise DicomOutputError("A report needs findings, and the header of the image of each.")
    if len(findings) > _MOST_GROUPS:
        raise DicomOutputError(f"A report holds at most {_MOST_GROUPS} images, got {len(findings)}; divide the series.")
    unit = findings[0].unit
    level = "StudyInstanceUID" if unit else "SeriesInstanceUID"
    if len({str(header[level].value) for header in headers}) > 1:
        raise DicomOutputError(
            f"A report is about the images of one {'study' if unit else 'series'}, got several; make one for each."
        )
    first = headers[0]
    instances = sorted(named)
    with deriving("report", "a value of it is not as the standard wants it. Ask for csv or json instead."):
        document = sr.Comprehensive3DSR(
            evidence=[known[uid] for uid in instances],
            content=_content(findings, origin, codes_of, first),
            series_instance_uid=origin.uid("sr series", str(first.SeriesInstanceUID)),
            sop_instance_uid=origin.uid("sr", *([unit] if unit else []), *instances),
            instance_number=1,
            is_complete=not is_partial,
            is_final=False,
            is_verified=False,
            coding_schemes=[private_scheme()],
            **{key: value for key, value in common(stamp, first).items() if not key.startswith("content_")},
        )
    document.ManufacturerModelName = origin.name[:64]
    document.SoftwareVersions = origin.software
    return finish(document, stamp, sources[0], description="Classification, research use only")


def _content(findings: Sequence[ImageFinding], origin: Origin, codes_of: ClassCodes, source: Dataset) -> Any:
    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=origin.uid("device"), name=origin.name[:64], manufacturer_name=MANUFACTURER, model_name=origin.name[:64]
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            _group(finding, number, origin, codes_of) for number, finding in enumerate(findings, start=1)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    # TID 1500 may be extended
    for text in (RESEARCH_USE, _numbers(list(findings[0].probabilities)), _of_unit(findings[0])):
        if text:
            content[0].ContentSequence.append(
                sr.TextContentItem(
                    name=codes.DCM.Comment, value=text, relationship_type=sr.RelationshipTypeValues.CONTAINS
                )
            )
    return content


def _numbers(class_names: Sequence[str]) -> str:
    """Explain the class numbers in pictures; "" if pictures show the names."""
    shown = enumerate(zip(legible_names(class_names), class_names, strict=True))
    numbered = [f"class {number} is {name}" for number, (text, name) in shown if text == f"class {number}" != name]
    return f"In pictures {', '.join(numbered)}." if numbered else ""


def _of_unit(finding: ImageFinding) -> str:
    """Say what a finding is about that is of more than an image, and which images are named."""
    if not finding.unit:
        return ""
    return (
        f"The finding is about the whole {finding.unit}, computed from all of its readable images; the images "
        "named here are those with the largest weight in it."
    )


def _group(finding: ImageFinding, number: int, origin: Origin, codes_of: ClassCodes) -> Any:
    images = [(finding.sop_instance_uid, finding.sop_class_uid, finding.frame), *finding.others]
    kind = _CALIBRATED if finding.calibrated else _RAW
    yes_no = {True: codes.SCT.Yes, False: codes.SCT.No}
    flags = ((_OUTSIDE, finding.outside), (_ABSTAINED, finding.abstained))
    refusal = no_answer(outside=finding.outside, abstain=finding.abstained)
    return sr.MeasurementsAndQualitativeEvaluations(
        finding_type=_REFUSALS.get(refusal),
        tracking_identifier=sr.TrackingIdentifier(
            uid=origin.uid("tracking", finding.sop_instance_uid, str(finding.frame)),
            identifier=f"{finding.unit or 'image'} {number}",
        ),
        algorithm_id=sr.AlgorithmIdentification(
            name=origin.name, version=origin.version, parameters=origin.parameters, manufacturer=MANUFACTURER
        ),
        measurements=[
            sr.Measurement(name=name, value=float(value), unit=codes.UCUM.NoUnits)
            for name, value in _measured(finding, kind)
        ],
        qualitative_evaluations=[
            *(
                [
                    sr.QualitativeEvaluation(
                        name=_GRADE if finding.is_grade else _CLASS, value=codes_of[finding.predicted]
                    )
                ]
                if finding.predicted
                else []
            ),
            *(
                sr.QualitativeEvaluation(name=codes_of[name], value=_PRESENCE[present])
                for name, present in finding.presence.items()
            ),
            *(
                sr.QualitativeEvaluation(name=name, value=codes_of[grade])
                for name, grade in zip((_LOWEST, _HIGHEST), finding.grades or (), strict=False)
            ),
            *(sr.QualitativeEvaluation(name=name, value=yes_no[value]) for name, value in flags if value is not None),
        ],
        source_images=[
            sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=sop_class,
                referenced_sop_instance_uid=instance,
                referenced_frame_numbers=None if frame is None else [frame + 1],
            )
            for instance, sop_class, frame in images
        ],
    )


def _measured(finding: ImageFinding, kind: str) -> Iterator[tuple[Any, float]]:
    """Yield codes and values: probabilities, thresholds of findings, and a number with the ends of its interval."""
    for name, value in finding.probabilities.items():
        yield _probability_code(name, kind), value
    for name, value in finding.thresholds.items():
        yield _threshold_code(name), value
    if finding.number is not None:
        name, *ends = finding.number
        for code, number in zip(_number_codes(name), ends, strict=True):
            if number is not None:
                yield code, number


def _threshold_code(class_name: str) -> Any:
    return private_code(class_key("TH", class_name), f"Threshold, {_RAW}: {class_name}")


def _number_codes(name: str) -> list[Any]:
    """Return the codes of a number, and of the lower and the upper end of its interval."""
    words = {"NUM": "Number", "LOW": "Interval, lower end", "HIGH": "Interval, upper end"}
    return [private_code(class_key(prefix, name), f"{text}: {name}") for prefix, text in words.items()]


def _probability_code(class_name: str, kind: str) -> Any:
    prefix = "PC" if kind == _CALIBRATED else "PR"
    return private_code(class_key(prefix, class_name), f"Probability, {kind}: {class_name}")


def read_classification_report(
    path: str | os.PathLike[str], class_names: Sequence[str], *, codes_of: ClassCodes | None = None
) -> list[ImageFinding]:
    """Read a report of :func:`classification_report` back.

    Args:
        path: path of the report.
        class_names: names of the classes of the network.
        codes_of: codes of the classes, if they were given when writing.

    Raises:
        DicomOutputError: if the file is no such report.
    """
    coded = codes_of or ClassCodes(class_names)
    try:
        document: Any = sr.srread(path)
        groups = document.content.get_image_measurement_groups()
    except Exception as error:  # any error that a file of another kind causes
        raise DicomOutputError(f"The file is no structured report of TID 1500 ({type(error).__name__}).") from error
    return [_finding(group, class_names, coded) for group in groups]


def _finding(group: Any, class_names: Sequence[str], coded: ClassCodes) -> ImageFinding:
    evaluations = {
        (one.name.value, one.name.scheme_designator): one.value for one in group.get_qualitative_evaluations()
    }
    values = {one.name.value: float(one.value) for one in group.get_measurements()}
    calibrated = any(value.startswith("PC-") for value in values)
    prefix = "PC" if calibrated else "PR"
    image = group.source_images[0]
    reference = image.ReferencedSOPSequence[0]
    frames = reference.get("ReferencedFrameNumber")

    def named(name: Any) -> str | None:
        said = evaluations.get((name.value, name.scheme_designator))
        return next((one for one in class_names if coded[one] == said), None)

    present = {code.value: presence for presence, code in _PRESENCE.items()}
    number = next(iter(_named(values, "NUM", class_names).items()), None)
    low, high = _named(values, "LOW", class_names), _named(values, "HIGH", class_names)
    grade, lowest, highest = named(_GRADE), named(_LOWEST), named(_HIGHEST)

    def flag(name: Any) -> bool | None:
        value = evaluations.get((name.value, name.scheme_designator))
        return None if value is None else bool(value == codes.SCT.Yes)

    return ImageFinding(
        sop_instance_uid=str(reference.ReferencedSOPInstanceUID),
        sop_class_uid=str(reference.ReferencedSOPClassUID),
        frame=None if frames in (None, "") else int(frames if not hasattr(frames, "__iter__") else frames[0]) - 1,
        predicted=str(grade or named(_CLASS) or ""),
        probabilities=_named(values, prefix, class_names),
        calibrated=calibrated,
        outside=flag(_OUTSIDE),
        abstained=flag(_ABSTAINED),
        is_grade=grade is not None,
        grades=None if lowest is None or highest is None else (lowest, highest),
        presence={name: present[code.value] for name in class_names if (code := evaluations.get(_pair(coded[name])))},
        thresholds=_named(values, "TH", class_names),
        number=None if number is None else (*number, low.get(number[0]), high.get(number[0])),
    )


def _named(values: Mapping[str, float], prefix: str, class_names: Sequence[str]) -> dict[str, float]:
    """Return the values with a prefix by the name of their class."""
    keys = {name: class_key(prefix, name) for name in class_names}
    return {name: values[key] for name, key in keys.items() if key in values}


def _pair(code: Any) -> tuple[str, str]:
    return code.value, code.scheme_designator
