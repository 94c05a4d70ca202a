"""The commands `movl-monai ingest` and `movl-monai check`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from movl_monai.cli.output import say_next, show
from movl_monai.data.reading import read_datalist
from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError, MovlError
from movl_monai.files import jsonable
from movl_monai.fit.task import decide
from movl_monai.ingest.examine import Preprocessing
from movl_monai.ingest.quality import has_leaks
from movl_monai.ingest.records import UNREADABLE
from movl_monai.ingest.run import Outcome, Reading, check_manifest, ingest_folder, summarize

__all__ = [
    "EXIT_LEAKAGE",
    "EXIT_UNREADABLE",
    "run_check",
    "run_ingest",
]

EXIT_LEAKAGE = 3
EXIT_UNREADABLE = 4


def run_ingest(options: argparse.Namespace) -> int:
    """Ingest a folder: read it, write the files, print the summary.

    Returns:
        0.

    Raises:
        DataError: see :func:`movl_monai.ingest.run.ingest_folder`.
        ConfigError: for an option that cannot be used.
    """
    outcome = ingest_folder(
        Path(options.folder),
        out=Path(options.output),
        labels=options.labels,
        reading=_reading(options),
        split_fractions=_fractions(options.split_fractions),
        seed=options.seed,
        one_image_per_patient=options.one_image_per_patient,
        merge_labels=options.merge_labels,
        mask_suffix=options.mask_suffix,
        id_map=None if options.id_map is None else Path(options.id_map),
        salt=options.salt,
        fresh=options.fresh,
    )
    show(options, "\n".join(summarize(outcome)), _facts(outcome))
    say_next("check", options.output)
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check a manifest or data set, and print the findings and the splits of a training.

    Returns:
        0 if nothing is wrong, 3 for leakage, 4 for more unreadable files than allowed.

    Raises:
        DataError: see :func:`movl_monai.ingest.run.check_manifest`.
        ConfigError: for an option that cannot be used.
    """
    if not 0 <= options.max_unreadable <= 1:
        raise ConfigError(f"--max_unreadable must be a share in [0, 1], got {options.max_unreadable:g}.")
    outcome = check_manifest(
        Path(options.manifest),
        data_root=None if options.data_root is None else Path(options.data_root),
        output_dir=None if options.output_dir is None else Path(options.output_dir),
        reading=_reading(options),
        id_map=None if options.id_map is None else Path(options.id_map),
    )
    code, result = _judge(outcome.quality, options.max_unreadable)
    training = _as_training(options, masks=outcome.masks)
    lines = [*summarize(outcome), *training.values(), f"Result: {result}"]
    show(options, "\n".join(lines), {"exit_code": code, "result": result, **training, **_facts(outcome)})
    return code


def _as_training(options: argparse.Namespace, *, masks: bool) -> dict[str, str]:
    """Read the list as training does, without decoding: the images of each split, or the error."""
    try:
        decision = None if masks else decide(Path(options.manifest), given={"encoding": options.encoding})
        findings = decision is not None and labels_of(decision.task).several
        datalist = read_datalist(
            options.manifest,
            masks=masks,
            task="multilabel" if findings else "classification",
            **(dict(decision.settings) if decision is not None and findings else {}),
            data_root=options.data_root,
            id_domain=options.id_domain,
            patient_pattern=options.patient_pattern,
            encoding=options.encoding,
            slice_axis=options.slice_axis,
            id_map=options.id_map,
        )
    except MovlError as error:
        return {"training": f"Training would stop: {error}"}
    return {"training": f"Training would read:\n{datalist.summary()}"}


def _judge(quality: dict[str, Any], max_unreadable: float) -> tuple[int, str]:
    """Return the exit code and the result of a check."""
    unreadable = sum(count for status, count in quality["statuses"].items() if status in UNREADABLE)
    if has_leaks(quality):
        return EXIT_LEAKAGE, "LEAKAGE."
    if unreadable > max_unreadable * quality["files"]:
        return (
            EXIT_UNREADABLE,
            f"{unreadable} of {quality['files']} files cannot be read, more than --max_unreadable allows.",
        )
    return 0, "no leakage."


def _reading(options: argparse.Namespace) -> Reading:
    if options.num_workers < 0 or options.patient_pictures < 0:
        raise ConfigError(
            f"--num_workers and --patient_pictures must be >= 0, got {options.num_workers} and "
            f"{options.patient_pictures}."
        )
    return Reading(
        preprocessing=Preprocessing(
            image_size=options.image_size,
            resize_mode=options.resize_mode,
            ct_windows=tuple(name.strip() for name in options.ct_windows.split(",")),
            voi=int(options.voi) if options.voi.isdecimal() else options.voi,
            dicom_range=options.dicom_range,
            value_range=_value_range(options.value_range),
            nifti_range=options.nifti_range,
            slice_axis=options.slice_axis,
            exif=options.exif,
        ),
        headers_only=options.headers_only,
        num_workers=options.num_workers,
        patient_pictures=options.patient_pictures,
        patient_pattern=options.patient_pattern,
        id_domain=options.id_domain,
        encoding=options.encoding,
        progress=False if options.no_progress or options.quiet else None,
    )


def _fractions(text: str) -> tuple[float, ...] | None:
    if text.strip().lower() == "none":
        return None
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        fractions = ()
    if len(fractions) != 3:
        raise ConfigError(f"--split_fractions must be three numbers such as 0.6,0.2,0.2, or none, got {text!r}.")
    return fractions


def _value_range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--value_range must be two numbers such as 0,4095, got {text!r}.") from None
    return low, high


def _facts(outcome: Outcome) -> dict[str, Any]:
    counts = {"read": outcome.read, "known": outcome.known, "files": outcome.files}
    return {**counts, "quality": jsonable(outcome.quality), "notes": outcome.notes}
