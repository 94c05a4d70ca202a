"""The commands `movl-monai ingest` and `movl-monai check`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from movl_monai.ingest.run import Outcome, Reading

__all__ = [
    "EXIT_LEAKAGE",
    "EXIT_UNREADABLE",
    "add_check_arguments",
    "add_ingest_arguments",
    "run_check",
    "run_ingest",
]

EXIT_LEAKAGE = 3
EXIT_UNREADABLE = 4

_EXIT_CODES = (
    "Exit codes: 0 done (ingest) or nothing found (check); 2 an error that you can act on; 3 (check) leakage: a "
    "patient, or the same pixels, in two splits; 4 (check) more unreadable files than --max-unreadable; 130 "
    "interrupted."
)


def add_ingest_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai ingest`."""
    parser.add_argument(
        "folder", help="holds the images: DICOM, NIfTI, PNG, JPEG, TIFF, BMP, WebP, GIF; searched deeply"
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE", help="manifest to write, such as DIR/manifest.csv; reports go beside it"
    )
    parser.add_argument(
        "--labels",
        default=None,
        metavar="SOURCE",
        help="folders (class folders), masks (images with masks, paired as in training), a CSV file "
        "(path,label[,mask,patient_id,split,domain,frame]; paths relative to "
        "the folder), or dicom:KEYWORD (such as dicom:BodyPartExamined); without it the images have no labels",
    )
    parser.add_argument(
        "--split-fractions",
        default="0.6,0.2,0.2",
        metavar="A,B,C",
        help="of train, val and test, by patient, where labels are given and splits are not; none makes no splits "
        "(default: 0.6,0.2,0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument(
        "--one-image-per-patient",
        action="store_true",
        help="state that files without a patient are of as many patients",
    )
    parser.add_argument(
        "--mask-suffix", default="", metavar="TEXT", help="what names of masks have behind those of images, as _mask"
    )
    parser.add_argument(
        "--merge-labels",
        action="store_true",
        help="make one class of labels that are equal but for case, blanks or width, such as Normal and normal",
    )
    parser.add_argument("--salt", default=None, metavar="TEXT", help="of the ids, 16 or more characters")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs read")
    _add_reading_arguments(parser)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai check`."""
    parser.add_argument("manifest", help="CSV or JSON list, or a folder with one or with class folders")
    parser.add_argument("--data-root", default=None, metavar="DIR", help="folder that relative paths belong to")
    parser.add_argument(
        "--output-dir", default=None, metavar="DIR", help="where to write the reports; without it none are written"
    )
    parser.add_argument(
        "--max-unreadable", type=float, default=0.05, metavar="SHARE", help="of the files, in [0, 1] (default: 0.05)"
    )
    _add_reading_arguments(parser)


def _add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXIT_CODES
    parser.add_argument(
        "--id-map", default=None, metavar="FILE", help="salt and map of the ids (default: local/id_map.json)"
    )
    parser.add_argument(
        "--patient-pattern", default=None, metavar="REGEX", help="(?P<patient>...) in the relative path"
    )
    parser.add_argument(
        "--encoding",
        default=None,
        metavar="NAME",
        help="code page of a CSV list that is not Unicode, such as gbk (default: cp1252, with a note)",
    )
    parser.add_argument("--id-domain", default="id", metavar="NAME", help="the in-distribution domain (default: id)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    parser.add_argument("--headers-only", action="store_true", help="read no pixels: quick, but finds no copies")
    parser.add_argument("--thumbnails", type=int, default=48, metavar="N", help="pictures on the page (default: 48)")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    shown = parser.add_argument_group("what the model will see (as in the bundles' configs)")
    shown.add_argument("--image-size", type=int, default=224)
    shown.add_argument("--resize-mode", choices=("stretch", "pad", "crop"), default="stretch")
    shown.add_argument("--ct-windows", default="lungs,mediastinum,spine_bone", metavar="A[,B,C]")
    shown.add_argument(
        "--voi",
        default="0",
        metavar="CHOICE",
        help="window or VOI LUT of other DICOM files: index, explanation, or full",
    )
    shown.add_argument(
        "--dicom-range",
        choices=("full", "percentile"),
        default="full",
        help="in DICOM files without window: the range of the stored bits, or percentiles of the series",
    )
    shown.add_argument(
        "--value-range", default=None, metavar="LOW,HIGH", help="of grey PNG and TIFF files of 16 or more bits"
    )
    shown.add_argument("--nifti-range", choices=("percentile", "minmax", "ct"), default="percentile")
    shown.add_argument("--slice-axis", choices=("axial", "coronal", "sagittal"), default="axial")
    shown.add_argument(
        "--exif",
        choices=("apply", "ignore"),
        help="turn photos as EXIF says, or not (default: turn them, and ask where a mask may be drawn on either)",
    )


def run_ingest(options: argparse.Namespace) -> int:
    """Ingest a folder: read it, write the files, print the summary.

    Returns:
        0.

    Raises:
        DataError: see :func:`movl_monai.ingest.run.ingest_folder`.
        ConfigError: for an option that cannot be used.
    """
    from movl_monai.ingest.run import ingest_folder

    outcome = ingest_folder(
        Path(options.folder),
        out=Path(options.out),
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
    _print(outcome)
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check the manifest and print the findings.

    Returns:
        0 if nothing is wrong, 3 for leakage, 4 for more unreadable files than allowed.

    Raises:
        DataError: see :func:`movl_monai.ingest.run.check_manifest`.
        ConfigError: for an option that cannot be used.
    """
    from movl_monai.errors import ConfigError
    from movl_monai.ingest.quality import has_leaks
    from movl_monai.ingest.run import check_manifest
    from movl_monai.ingest.statuses import UNREADABLE

    if not 0 <= options.max_unreadable <= 1:
        raise ConfigError(f"--max-unreadable must be a share in [0, 1], got {options.max_unreadable:g}.")
    outcome = check_manifest(
        Path(options.manifest),
        data_root=None if options.data_root is None else Path(options.data_root),
        output_dir=None if options.output_dir is None else Path(options.output_dir),
        reading=_reading(options),
        id_map=None if options.id_map is None else Path(options.id_map),
    )
    _print(outcome)
    quality = outcome.quality
    unreadable = sum(count for status, count in quality["statuses"].items() if status in UNREADABLE)
    if has_leaks(quality):
        print("Result: LEAKAGE.")
        return EXIT_LEAKAGE
    if unreadable > options.max_unreadable * quality["files"]:
        print(f"Result: {unreadable} of {quality['files']} files cannot be read, more than --max-unreadable allows.")
        return EXIT_UNREADABLE
    print("Result: no leakage.")
    return 0


def _reading(options: argparse.Namespace) -> Reading:
    from movl_monai.errors import ConfigError
    from movl_monai.ingest.preprocessing import Preprocessing
    from movl_monai.ingest.run import Reading

    if options.workers < 0 or options.thumbnails < 0:
        raise ConfigError(f"--workers and --thumbnails must be >= 0, got {options.workers} and {options.thumbnails}.")
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
        num_workers=options.workers,
        thumbnails=options.thumbnails,
        patient_pattern=options.patient_pattern,
        id_domain=options.id_domain,
        encoding=options.encoding,
        progress=False if options.no_progress else None,
    )


def _fractions(text: str) -> tuple[float, ...] | None:
    from movl_monai.errors import ConfigError

    if text.strip().lower() == "none":
        return None
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        fractions = ()
    if len(fractions) != 3:
        raise ConfigError(f"--split-fractions must be three numbers such as 0.6,0.2,0.2, or none, got {text!r}.")
    return fractions


def _value_range(text: str | None) -> tuple[float, float] | None:
    from movl_monai.errors import ConfigError

    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--value-range must be two numbers such as 0,4095, got {text!r}.") from None
    return low, high


def _print(outcome: Outcome) -> None:
    from movl_monai.ingest.summary import summarize

    print("\n".join(summarize(outcome)))
