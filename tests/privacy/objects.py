"""Elements of a derived DICOM object that come from its source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from movl_monai.readers.dicom.quiet import quiet
from tests.privacy.plant import PATH, TAG, TAG_DATE, TAG_TIME, TAG_UID
from tests.privacy.runs import WORDS
from tests.privacy.search import Search

__all__ = ["COPIED", "REFERENCES", "check_objects", "headers", "planted_elements", "search_of"]

COPIED = frozenset(
    {
        *("PatientName", "PatientID", "PatientBirthDate", "IssuerOfPatientID", "DeidentificationMethod"),
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
        "FrameOfReferenceUID",
    }
)
"""Of the patient, the study and the place in space: what makes an object belong beside its source."""

REFERENCES = frozenset({"StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID"})
"""What items of sequences may have: the UIDs of the source that they refer to."""


@quiet()
def planted_elements(path: Path) -> dict[tuple[str, ...], Any]:
    """Return values that hold a planted word, by the keywords that lead to them, including preamble and file meta."""
    dataset = dcmread(path)
    found: dict[tuple[str, ...], Any] = {}
    if _is_planted(dataset.preamble):
        found["preamble",] = dataset.preamble
    for part in (dataset.file_meta, dataset):
        found |= {where: value for where, value in _elements(part, ()) if _is_planted(value)}
    return found


def _elements(dataset: Dataset, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for element in dataset:
        here = (*where, keyword_for_tag(element.tag) or str(element.tag))
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item, here)
        else:
            yield here, element.value


def _is_planted(value: Any) -> bool:
    data = value if isinstance(value, bytes) else str(value).encode()
    return any(word.encode() in data for word in (TAG, TAG_DATE, TAG_TIME, TAG_UID, PATH))


def search_of(folder: Path) -> Search:
    """Return a search that allows derived objects their copied values but no path, and tables in `local` only paths."""
    allowed: dict[str, Any] = {path.name: (TAG, TAG_DATE, TAG_TIME, TAG_UID) for path in folder.rglob("*.dcm")}
    return Search(WORDS, allowed | {"files.csv": (PATH,), "id_map.json": (PATH,)})


@quiet()
def check_objects(paths: list[Path], sources: dict[str, Dataset]) -> set[tuple[str, ...]]:
    """Check the values that derived objects copy from their sources against the rule; return their places.

    Args:
        paths: paths of the objects.
        sources: headers by StudyInstanceUID.
    """
    places: set[tuple[str, ...]] = set()
    for path in paths:
        found = planted_elements(path)
        source = sources[found["StudyInstanceUID",]]
        for where, value in found.items():
            assert where[-1] in (COPIED if len(where) == 1 else REFERENCES), (path.parent.name, where)
            if len(where) == 1:
                assert str(value) == str(source.get(where[0])), where
        places |= set(found)
    return places


@quiet()
def headers(folder: Path) -> dict[str, Dataset]:
    """Return the readable headers by StudyInstanceUID."""
    found: dict[str, Dataset] = {}
    for path in sorted(folder.rglob("*.dcm")):
        if path.is_file():
            header = dcmread(path, force=True, stop_before_pixels=True)
            found.setdefault(str(header.get("StudyInstanceUID")), header)
    return found
