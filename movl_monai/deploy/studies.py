"""Load studies and choose the series to predict."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from movl_monai.data.decode import fault_of
from movl_monai.data.read_folders import read_files
from movl_monai.data.series import REASONS, Selection, SeriesScan, problem_of
from movl_monai.deploy.prediction import clean_errors, outcome_of
from movl_monai.deploy.sdk import (
    CountCondition,
    DICOMDataLoaderOperator,
    DICOMSeries,
    DICOMSeriesSelectorOperator,
    DICOMStudy,
    StudySelectedSeries,
)
from movl_monai.errors import DataError
from movl_monai.readers.dicom import read_header, scan_header
from movl_monai.readers.dicom.codes import MODALITIES, known

__all__ = ["SeriesSelectorOperator", "StudyLoaderOperator", "files_of"]

_LOGGER = logging.getLogger(__name__)
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # prefix of Secondary Capture Image Storage and its multi-frame variants


class StudyLoaderOperator(DICOMDataLoaderOperator):
    """Loader of the SDK that reads only headers, and only of regular files within the folder.

    An unreadable file is left out and gets a row with the reason; all others are loaded.

    Pixels are decoded later, with all checks of the bundle's preprocessing. The SDK's own loader reads every file
    whole, stops at a damaged one, and drops slices at the same position as another slice.

    Args:
        fragment: the application.
        input_folder: folder of the DICOM files, searched recursively.

    Named output:
        dicom_study_list: list of ``DICOMStudy``.

    Raises:
        DataError: (when it runs) if there is no DICOM image in the folder.
    """

    def __init__(self, fragment: Any, *args: Any, input_folder: Path, **kwargs: Any) -> None:
        self.outcome = outcome_of(fragment)
        super().__init__(fragment, CountCondition(fragment, 1), *args, input_folder=Path(input_folder), **kwargs)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Load the studies and emit them."""
        with clean_errors("load the studies"):
            studies = self.load_data_to_studies(self.input_path)
        op_output.emit(studies, self.output_name)

    def load_data_to_studies(self, input_path: Path) -> list[Any]:
        """Read the headers of all files in a folder into studies and series."""
        if not Path(input_path).is_dir():
            raise DataError("The input must be a folder with DICOM files; give it with -i.")
        listing = read_files(Path(input_path))
        left_out = [(file.path, file.reason) for file in listing.skipped]
        studies: dict[str, Any] = {}
        series: dict[tuple[str, str], Any] = {}
        for entry in listing.entries:
            header = _header(entry.path)
            if isinstance(header, str):
                left_out.append((entry.path, header))
            else:
                self._add(header, studies, series)
        for path, reason in left_out:
            self.outcome.leave_out(path, reason)
        self.outcome.found_studies(studies)
        reasons = Counter(reason for _, reason in left_out)
        said = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        if not studies:
            raise DataError(f"There is no DICOM image in the input folder ({said or 'no file'}); give another with -i.")
        if said:
            _LOGGER.warning("Files that are not predicted: %s.", said)
        return list(studies.values())

    def _add(self, header: Any, studies: dict[str, Any], series: dict[tuple[str, str], Any]) -> None:
        study_uid, series_uid = str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", ""))
        if study_uid not in studies:
            studies[study_uid] = DICOMStudy(study_uid)
            with suppress(Exception):  # a damaged value matches no rule
                self.populate_study_attributes(studies[study_uid], header)
        if (study_uid, series_uid) not in series:
            one = series[study_uid, series_uid] = DICOMSeries(series_uid)
            with suppress(Exception):
                self.populate_series_attributes(one, header)
            with suppress(Exception):
                # the SDK reads it from the tag of another attribute
                one.BodyPartExamined = header.BodyPartExamined
            studies[study_uid].add_series(one)
        series[study_uid, series_uid].add_sop_instance(header)


class SeriesSelectorOperator(DICOMSeriesSelectorOperator):
    """Rule-based selector of the SDK that requires exactly one series per study instead of taking the first.

    Localizers do not count. Secondary captures count only if the study has nothing else. The intended one of two series
    is not guessed: the study is left out and gets a row with the reason. If no study remains, an error is raised.

    Args:
        fragment: the application.
        rules: JSON, see the SDK's class.

    Named input:
        dicom_study_list: list of ``DICOMStudy``.

    Named output:
        study_selected_series_list: list of ``StudySelectedSeries``, one series in each.

    Raises:
        DataError: (when it runs) if no study has exactly one matching series.
    """

    def __init__(self, fragment: Any, *args: Any, **kwargs: Any) -> None:
        self.outcome = outcome_of(fragment)
        super().__init__(fragment, *args, **kwargs)

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        """Select one series per study, and emit the studies."""
        studies = op_input.receive(self.input_name_study_list)
        with clean_errors("select a series"):
            selected = self.filter(self._load_rules() if self._rules_json_str else None, studies)
        op_output.emit(selected, self.output_name_selected_series)

    def filter(
        self,
        selection_rules: Any,
        dicom_study_list: list[Any],
        all_matched: bool = True,
        sort_by_sop_instance_count: bool = False,
    ) -> list[Any]:
        """Return the studies with exactly one matching series."""
        matched = super().filter(selection_rules, dicom_study_list, True, False)
        found_in = {id(found.study) for found in matched}
        left_out = [(study, "no_image_series") for study in dicom_study_list if id(study) not in found_in]
        selected = []
        for found in matched:
            fitting = {id(one.series): one for one in found.selected_series}
            # a series that two rules select counts once
            chosen, reason = _choose(list(fitting.values()))
            if chosen is None:
                left_out.append((found.study, reason))
            else:
                study = StudySelectedSeries(found.study)
                study.add_selected_series(chosen)
                selected.append(study)
        if not selected:
            raise DataError(_explain(Counter(reason for _, reason in left_out), dicom_study_list))
        for study, reason in left_out:
            self.outcome.leave_out(_folder_of(study), reason, study=study.get_study_instance_uid())
        return selected


def files_of(selected_series: Sequence[Any]) -> list[str]:
    """Return the files of the selected series.

    Args:
        selected_series: list of ``StudySelectedSeries``.

    Raises:
        DataError: if nothing was selected, or the data sets carry no file names.
    """
    files = [
        str(instance.get_native_sop_instance().filename or "")
        for study in selected_series
        for one in study.selected_series
        for instance in one.series.get_sop_instances()
    ]
    if not files:
        raise DataError("No series was selected; change the selection rules, or give a study with a series that fits.")
    if not all(files):
        raise DataError("Data sets of the series do not say which files they are from; load them from a folder.")
    return list(dict.fromkeys(files))


def _header(path: Path) -> Any:
    """Return the header of an image with its path, or the reason code for any other file."""
    try:
        if problem := problem_of(scan_header(path)):
            return problem
        header = read_header(path)
        header.filename = str(path)
    except Exception as error:  # any kind of damage
        return fault_of(error)[0]
    return header


def _choose(selected: Sequence[Any]) -> tuple[Any, str]:
    """Return the only matching series and "", or None and the reason."""
    scans = {str(number): _scan(number, one.series) for number, one in enumerate(selected)}
    reasons = Selection(one=True).reasons(scans)
    left = [one for number, one in enumerate(selected) if str(number) not in reasons]
    if len(left) == 1:
        return left[0], ""
    return None, next((reason for reason in reasons.values() if reason != "not_selected"), "several_series")


def _scan(number: int, series: Any) -> SeriesScan:
    first = series.get_sop_instances()[0].get_native_sop_instance()
    kinds = first.get("ImageType") or ()
    return SeriesScan(
        path="",
        study="",
        series=str(number),
        instance="",
        modality=known(str(first.get("Modality") or ""), MODALITIES),
        is_localizer="LOCALIZER" in [str(kind).upper() for kind in ([kinds] if isinstance(kinds, str) else kinds)],
        is_capture=str(first.get("SOPClassUID", "")).startswith(_CAPTURE) or bool(first.get("ConversionType")),
    )


def _folder_of(study: Any) -> Path:
    """Return the folder of the first file of a study."""
    return Path(str(study.get_all_series()[0].get_sop_instances()[0].get_native_sop_instance().filename)).parent


def _explain(problems: Counter[str], studies: Sequence[Any]) -> str:
    modalities = sorted(
        {known(str(one.Modality or ""), MODALITIES) or "none" for study in studies for one in study.get_all_series()}
    )
    said = "; ".join(f"{REASONS[reason]} ({count} of {len(studies)})" for reason, count in problems.items())
    return (
        f"No series was selected: {said}. The modalities there are: {', '.join(modalities)}. Give a folder with one "
        "series that fits, or change the selection rules in app.py."
    )
