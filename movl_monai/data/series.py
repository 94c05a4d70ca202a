"""Choose the series of a study that are predicted, and give the reasons for all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from movl_monai.data.units import slice_position

if TYPE_CHECKING:
    from movl_monai.readers.dicom import HeaderScan

__all__ = ["CROSS_SECTIONAL", "HARMLESS", "REASONS", "Selection", "SeriesScan", "problem_of"]

CROSS_SECTIONAL = ("CT", "MR", "PT", "NM")

REASONS = {
    "unsupported_modality": "the modality is not one of those that were asked for",
    "no_image_series": "the study has no series that could be predicted",
    "several_series": "the study has several series that could be predicted, and one was asked for",
    "no_pixels": "an object of a class of images, without pixel data: a header alone, or a file that was cut",
    "not_selected": "a localizer or capture beside the one series of the study that is predicted",
}
"""Reasons why a readable DICOM file is not predicted."""


HARMLESS = frozenset(
    (
        *("hidden_file", "other_file", "linked_folder", "not_image", "segmentation", "label_image", "not_selected"),
        "duplicate_row",
    )
)
"""Reasons of files for which no prediction is expected."""


def problem_of(header: HeaderScan) -> str:
    """Return the reason why a file cannot be predicted, "" for an image.

    Reports and plans have no pixels either, but no prediction is expected for them.
    """
    is_lost = header.problem == "not_image" and "Image Storage" in header.sop_class
    return "no_pixels" if is_lost else header.problem


@dataclass(frozen=True, kw_only=True)
class SeriesScan:
    """Header values of a DICOM file and its series. They identify patients and stay in memory.

    Args:
        path: path of the file.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        modality: the code, "" if missing.
        is_localizer: whether ImageType names a localizer.
        is_capture: whether it shows a screen or a scan of film.
        geometry: size, orientation and pixel spacing; None without a position.
        patient: issuer and patient id in one string, None if they are missing.
        position: place of a slice along the normal of its plane in mm, None if unknown.
    """

    path: str
    study: str
    series: str
    instance: str
    modality: str
    is_localizer: bool = False
    is_capture: bool = False
    geometry: tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]] | None = None
    patient: str | None = None
    position: float | None = None

    @property
    def is_slice(self) -> bool:
        """Return whether the file may be a slice of a volume."""
        return self.modality in CROSS_SECTIONAL and self.geometry is not None and not self.is_capture

    @property
    def volume(self) -> tuple[object, ...]:
        """Return values that are equal in all slices of a volume; orientation and spacing are only nearly equal."""
        return (self.study, self.series, self.is_localizer, self.geometry[0] if self.geometry else None)

    @classmethod
    def of(cls, path: Path, header: HeaderScan) -> SeriesScan:
        """Read the values from a header."""
        first = header.frames[0]
        geometry: tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]] | None = None
        if len(header.frames) == 1 and first.position and first.orientation and first.spacing:
            geometry = (header.shape, tuple(first.orientation), tuple(first.spacing))
        return cls(
            path=str(path),
            study=header.study,
            series=header.series,
            instance=header.instance,
            modality=header.modality,
            is_localizer="LOCALIZER" in header.image_type,
            is_capture=header.is_secondary_capture,
            geometry=geometry,
            patient=header.patient,
            position=slice_position(header.frames),
        )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selection of the series of each study that are predicted.

    With ``one``, exactly one series of a study must remain. Localizers do not count. Secondary captures count only if
    the study has nothing else. A study with no series or with several is not predicted at all: the intended series is
    not guessed.

    Args:
        modalities: modalities to predict; () takes all.
        one: predict one series of each study, instead of all.

    Example:
        >>> ct = SeriesScan(path="a", study="1", series="1.1", instance="1.1.1", modality="CT")
        >>> mr = SeriesScan(path="b", study="1", series="1.2", instance="1.2.1", modality="MR")
        >>> Selection(one=True).reasons({"a": ct, "b": mr})
        {'a': 'several_series', 'b': 'several_series'}
        >>> Selection(one=True, modalities=["MR"]).reasons({"a": ct, "b": mr})
        {'a': 'unsupported_modality'}
    """

    modalities: Sequence[str] = ()
    one: bool = False

    def reasons(self, scans: Mapping[str, SeriesScan]) -> dict[str, str]:
        """Return the reason, a key of :data:`REASONS`, for the key of each file that is not predicted."""
        wanted = {name.upper() for name in self.modalities}
        found = {key: "unsupported_modality" for key, scan in scans.items() if wanted and scan.modality not in wanted}
        if not self.one:
            return found
        studies: dict[str, list[str]] = defaultdict(list)
        for key, scan in scans.items():
            studies[scan.study].append(key)
        for keys in studies.values():
            found |= _reasons_of_study({key: scans[key] for key in keys if key not in found})
        return found


def _reasons_of_study(scans: Mapping[str, SeriesScan]) -> dict[str, str]:
    candidates = {key: scan for key, scan in scans.items() if not scan.is_localizer}
    own = {key: scan for key, scan in candidates.items() if not scan.is_capture}
    candidates = own or candidates
    count = len({scan.series for scan in candidates.values()})
    if count == 1:
        return {key: "not_selected" for key in scans if key not in candidates}
    return dict.fromkeys(scans, "several_series" if count else "no_image_series")
