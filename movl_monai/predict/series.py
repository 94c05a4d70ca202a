"""Which series of a study is predicted, and what is said where none or several could be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movl_monai.transforms.dicom import HeaderScan

__all__ = ["CROSS_SECTIONAL", "HARMLESS", "REASONS", "Selection", "SeriesScan", "problem_of"]

CROSS_SECTIONAL = ("CT", "MR", "PT", "NM")

REASONS = {
    "unsupported_modality": "the modality is not one of those that were asked for",
    "no_image_series": "the study has no series that could be predicted",
    "several_series": "the study has several series that could be predicted, and one was asked for",
    "no_pixels": "an object of a class of images, without pixel data: a header alone, or a file that was cut",
    "not_selected": "a localizer or capture beside the one series of the study that is predicted",
}
"""Why a readable DICOM file is not predicted."""


HARMLESS = frozenset(
    (
        *("hidden_file", "other_file", "linked_folder", "not_image", "segmentation", "label_image", "not_selected"),
        "duplicate_row",
    )
)
"""Reasons of files that nobody expects a prediction for."""


def problem_of(header: HeaderScan) -> str:
    """Return the reason why nothing can be predicted of a file, "" for an image.

    Reports and plans have no pixels either, but nobody expects a prediction for them.
    """
    is_lost = header.problem == "not_image" and "Image Storage" in header.sop_class
    return "no_pixels" if is_lost else header.problem


@dataclass(frozen=True, kw_only=True)
class SeriesScan:
    """What is known of the series of a DICOM file. It identifies, and stays in memory.

    Args:
        path: of the file.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        modality: the code, "" where it is missing.
        is_localizer: by ImageType.
        is_capture: whether it shows a screen or a scan of film.
        geometry: size, orientation and pixel spacing; None without a position.
    """

    path: str
    study: str
    series: str
    instance: str
    modality: str
    is_localizer: bool = False
    is_capture: bool = False
    geometry: tuple[tuple[int, int], tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def is_slice(self) -> bool:
        """Whether it may be one of the slices of a volume."""
        return self.modality in CROSS_SECTIONAL and self.geometry is not None and not self.is_capture

    @property
    def volume(self) -> tuple[object, ...]:
        """Values that are equal in the slices of one volume; orientation and spacing are alike only."""
        return (self.study, self.series, self.is_localizer, self.geometry[0] if self.geometry else None)

    @classmethod
    def of(cls, path: Path, header: HeaderScan) -> SeriesScan:
        """What a header says."""
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
        )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of the series of each study are predicted.

    With ``one``, exactly one series of a study may remain. Localizers do not count, and secondary captures only where
    a study has nothing else; then a study without a series, or with more than one, is not predicted at all: which of
    two series is meant is not guessed.

    Args:
        modalities: the only ones that are taken; () takes all.
        one: whether one series of each study is wanted, instead of all.

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
        """Return the reason, a key of :data:`REASONS`, by the key of each file that is not to be predicted."""
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
