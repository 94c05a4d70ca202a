"""Arguments of the commands, as `movl-monai COMMAND --help` shows them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from movl_monai.bundles import find_bundle
from movl_monai.cli.bundle_help import describe_bundle
from movl_monai.cli.options import (
    CORRUPTION_NAMES,
    EXPORT_FORMATS,
    accept_old_names,
    add_bundle_dir,
    add_dataset_dir,
    add_device,
    add_log,
    add_num_workers,
    add_output_dir,
    add_tracking,
    add_trust,
    take_overrides,
)
from movl_monai.predict.outputs import OUTPUTS

__all__ = [
    "add_bundle",
    "add_check",
    "add_compare",
    "add_ensemble",
    "add_evaluate",
    "add_export",
    "add_fit",
    "add_ingest",
    "add_inspect",
    "add_phantom",
    "add_predict",
    "add_report",
    "add_robustness",
    "add_run",
    "add_train",
]

_INGEST_EXIT_CODES = (
    "Exit codes: 0 done (ingest) or nothing found (check); 2 an error that you can act on; 3 (check) leakage: a "
    "patient, or the same pixels, in two splits; 4 (check) more unreadable files than --max_unreadable; 130 "
    "interrupted."
)


_TRAIN_EPILOG = (
    "Overlays are chosen by kind, in any order: `--strategy joint --backbone resnet50 --data ct`. Every further "
    "`--id value` is a setting of the bundle, e.g. `--epochs 8 --image_size 96`. `movl-monai train BUNDLE --help` "
    "lists both."
)


_EVALUATE_EPILOG = (
    "The settings are those of the training. Every further `--id value` overrides that id of the config, e.g. "
    "`--ood_dataset_dirs \"['DIR']\" --device cpu --ood_score knn`."
)


_COMPARE_EPILOG = (
    "Every further `--id value` overrides that id of the config for all arms, e.g. `--image_size 128 --epochs 6`; an "
    "id that is set in this way is not searched. A run that was stopped goes on where it was when the same command is "
    "given again; more arms, seeds, draws or trials can be added later. The same command given twice shares the "
    "work: each takes the searches and runs that the other is not at."
)


_ARMS = (
    "arms to compare (default: all in the arms file); its first reference, such as linear_probe, always joins; for "
    "classification movl stands for joint and lp for linear_probe"
)


_ENSEMBLE_EPILOG = (
    "`--overwrite true` replaces a run that is in OUT. A setting of a member, such as member_0_backbone_weights where "
    "weights lie elsewhere now, is given like any id. With --dataset_dir, every other `--id value` overrides one of "
    "the evaluation, e.g. `--ood_dataset_dirs \"['DIR']\" --device cpu`."
)


_ROBUSTNESS_EPILOG = (
    "Every further `--id value` is a setting of the data set, over what the runs recorded: --id_domain, "
    "--split_fractions, --seed, --patient_pattern, --one_image_per_patient, --merge_labels, --encoding, --slice_axis, "
    "--allow_patient_overlap, --new_images. "
    "A suite that was stopped goes on where it was when the same command is given again; runs, corruptions and "
    "severities can be added later."
)


_FIT_EPILOG = (
    "`--unit series`, study or patient asks for one answer for all images of each. Every further `--id value` "
    "overrides that id of the bundle, e.g. `--image_size 112 --one_image_per_patient true`. A fit that was stopped "
    "resumes when the same command is given again, with the whole budget for what was skipped. "
    "Exit codes: 0 done, 2 an error to act on, 3 leakage, 130 interrupted."
)


_PREDICT_EPILOG = (
    "Every further `--id value` overrides that id of the run's config, e.g. `--backbone_weights FILE`. A prediction "
    "that was stopped goes on where it was when the same command is given again. Exit codes: 0 all predicted, 2 an "
    "error to act on, 4 some files could not be predicted (each has a row with its reason)."
)


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai fit`."""
    parser.add_argument(
        "dataset_dir", metavar="DATA", help="class folders, images and masks, or a list (manifest.csv, dataset.json)"
    )
    add_output_dir(parser, "new, or of the same fit, which resumes")
    parser.add_argument("--minutes", type=float, default=30, help="time for everything (default: 30)")
    parser.add_argument(
        "--task",
        metavar="TASK",
        help="classification, ordinal, multilabel, regression or segmentation (default: decided by the data, and said)",
    )
    parser.add_argument("--bundle", metavar="NAME", help="name or folder of a bundle (default: that of the task)")
    parser.add_argument(
        "--backbones",
        default="",
        metavar="A,B,...",
        help="backbones to try, as in the bundle's backbone_NAME.json, or default (default: default)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of split and training (default: 0)")
    add_log(parser)
    take_overrides(parser, _FIT_EPILOG)


_PHANTOM_KINDS = {
    "findings": "radiographs with several findings at once, in columns as in CheXpert: 1, 0, -1 (uncertain), blank",
    "findings_label": "the same radiographs with the names of their findings in the column label: Effusion|Nodule",
    "grades": "radiographs with a grade 0 to 4 in the column label, from no nodules to many",
    "measure": "radiographs with a number in the column label: width of the heart by width of the chest",
    "volumes": "CT series of 16 to 24 slices with and without lesions, which few slices show",
}


def add_phantom(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai phantom`."""
    parser.add_argument("folder", help="where to write: new, empty, or of an earlier call")
    kinds = parser.add_mutually_exclusive_group()
    for name, text in _PHANTOM_KINDS.items():
        kinds.add_argument(f"--{name}", dest="kind", action="store_const", const=name, default="lesion", help=text)
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: 0)")
    parser.add_argument(
        "--patients",
        type=int,
        nargs=4,
        default=None,
        metavar=("TRAIN", "VAL", "TEST", "SCANNER_B"),
        help="numbers of patients (default: 60 20 30 30, of measure 120 40 60 60, of volumes 56 16 24 24)",
    )
    parser.add_argument(
        "--images_per_patient",
        type=int,
        default=None,
        help="of volumes one to so many series (default: 4, of grades, measure and volumes 2)",
    )
    parser.add_argument(
        "--size", type=int, default=None, help="rows and columns of scanner A (default: 256, of volumes 128)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a complete phantom of other settings")
    add_log(parser)


def add_ingest(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai ingest`."""
    parser.add_argument(
        "folder", help="holds the images: DICOM, NIfTI, PNG, JPEG, TIFF, BMP, WebP, GIF; searched deeply"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="manifest to write, such as DIR/manifest.csv; reports go beside it",
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
        "--split_fractions",
        default="0.6,0.2,0.2",
        metavar="A,B,C",
        help="of train, val and test, by patient, where labels are given and splits are not; none makes no splits "
        "(default: 0.6,0.2,0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument(
        "--one_image_per_patient",
        action="store_true",
        help="state that files without a patient are of as many patients",
    )
    parser.add_argument(
        "--mask_suffix", default="", metavar="TEXT", help="what names of masks have behind those of images, as _mask"
    )
    parser.add_argument(
        "--merge_labels",
        action="store_true",
        help="make one class of labels that are equal but for case, blanks or width, such as Normal and normal",
    )
    parser.add_argument("--salt", default=None, metavar="TEXT", help="of the ids, 16 or more characters")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs read")
    _add_reading_arguments(parser)
    accept_old_names(parser, out="output", workers="num_workers", thumbnails="patient_pictures")


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai check`."""
    parser.add_argument(
        "manifest", metavar="DATA", help="CSV or JSON list, or a folder with one, with class folders or with masks"
    )
    parser.add_argument("--data_root", default=None, metavar="DIR", help="folder that relative paths belong to")
    add_output_dir(parser, "where to write the reports; without it none are written", required=False)
    parser.add_argument(
        "--max_unreadable", type=float, default=0.05, metavar="SHARE", help="of the files, in [0, 1] (default: 0.05)"
    )
    _add_reading_arguments(parser)
    accept_old_names(parser, workers="num_workers", thumbnails="patient_pictures")


def _add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _INGEST_EXIT_CODES
    parser.add_argument(
        "--id_map", default=None, metavar="FILE", help="salt and map of the ids (default: local/id_map.json)"
    )
    parser.add_argument(
        "--patient_pattern", default=None, metavar="REGEX", help="(?P<patient>...) in the relative path"
    )
    parser.add_argument(
        "--encoding",
        default=None,
        metavar="NAME",
        help="code page of a CSV list that is not Unicode, such as gbk (default: cp1252, with a note)",
    )
    parser.add_argument("--id_domain", default="id", metavar="NAME", help="the in-distribution domain (default: id)")
    add_num_workers(parser, os.cpu_count() or 1, "default: one per core")
    parser.add_argument("--headers_only", action="store_true", help="read no pixels: quick, but finds no copies")
    parser.add_argument(
        "--patient_pictures",
        type=int,
        default=0,
        metavar="N",
        help="pictures of patients on the page (default: 0, none)",
    )
    parser.add_argument("--no_progress", action="store_true", help=argparse.SUPPRESS)
    shown = parser.add_argument_group("what the model will see (as in the bundles' configs)")
    shown.add_argument("--image_size", type=int, default=224)
    shown.add_argument("--resize_mode", choices=("stretch", "pad", "crop"), default="stretch")
    shown.add_argument("--ct_windows", default="lungs,mediastinum,spine_bone", metavar="A[,B,C]")
    shown.add_argument(
        "--voi",
        default="0",
        metavar="CHOICE",
        help="window or VOI LUT of other DICOM files: index, explanation, or full",
    )
    shown.add_argument(
        "--dicom_range",
        choices=("full", "percentile"),
        default="full",
        help="in DICOM files without window: the range of the stored bits, or percentiles of the series",
    )
    shown.add_argument(
        "--value_range", default=None, metavar="LOW,HIGH", help="of grey PNG and TIFF files of 16 or more bits"
    )
    shown.add_argument("--nifti_range", choices=("percentile", "minmax", "ct"), default="percentile")
    shown.add_argument("--slice_axis", choices=("axial", "coronal", "sagittal"), default="axial")
    shown.add_argument(
        "--exif",
        choices=("apply", "ignore"),
        help="turn photos as EXIF says, or not (default: turn them, and ask where a mask may be drawn on either)",
    )
    add_log(parser)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai train`."""
    parser.add_argument("bundle", metavar="BUNDLE", help="name (see movl-monai bundle list) or folder of a bundle")
    parser.add_argument("data", metavar="DATA", help="the data set: class folders, or a folder with a list, or a list")
    add_output_dir(parser, "folder of everything that is written")
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="A,B,...",
        help="further overlays of the bundle by name, such as augment or early_stop, or files of your own",
    )
    add_tracking(parser)
    parser.add_argument(
        "-h", "--help", action=_BundleHelp, help="show this; behind BUNDLE, its overlays and settings, too"
    )
    add_log(parser)
    take_overrides(parser, _TRAIN_EPILOG)


class _BundleHelp(argparse.Action):
    """`--help` with the overlays and settings of the bundle that stands before it."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *_: Any) -> None:
        own = "" if namespace.bundle is None else describe_bundle(find_bundle(namespace.bundle))
        print(parser.format_help() + own, end="")
        parser.exit()


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai run`."""
    parser.add_argument("run_id", help="what to run: training, evaluating or inferring")
    parser.add_argument(
        "--config_file",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the workflow's file, then overlays, all in one folder",
    )
    add_tracking(parser)
    add_log(parser)
    take_overrides(
        parser, "Every further `--id value` overrides that id of the config, e.g. `--dataset_dir DIR --epochs 4`."
    )


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai evaluate`."""
    parser.add_argument("run_dir", metavar="RUN", help="the output_dir of a training, or its model.pt")
    add_dataset_dir(parser, "the data set of the training")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="OTHER_RUN",
        help="evaluated runs to compare with in pairs, on the same test images",
    )
    add_bundle_dir(parser, "the bundle, where it is not found by itself")
    add_trust(parser)
    add_tracking(parser)
    add_log(parser)
    take_overrides(parser, _EVALUATE_EPILOG)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai report`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output_dir of a run, or its folder `evaluation`")
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="OTHER", help="with one run: other runs to compare it with in pairs"
    )
    add_output_dir(parser, "with several runs: where comparison.html goes (default: comparison)", required=False)
    parser.add_argument(
        "--checklist",
        choices=("tripod-ai", "claim"),
        help="with one run: fill this reporting checklist from its report, into evaluation/NAME.md",
    )
    add_log(parser)
    parser.epilog = (
        "One run: everything is computed again from the stored outputs, without network and images; a run evaluated "
        "before outputs were stored gets its page again from report.json. Several runs: one page with a column for "
        "each and paired differences to the first. With --checklist: each item as far as the run knows it, the rest "
        "marked `author`."
    )


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai compare`."""
    parser.add_argument(
        "--bundle", metavar="NAME|DIR", help="the bundle, by name or folder, with its arms in compare.json"
    )
    parser.add_argument("--arms_file", metavar="FILE", help="another arms file than the bundle's compare.json")
    parser.add_argument(
        "--overlay", default="", metavar="A,B,...", help="overlays for all arms by name, e.g. backbone_resnet50"
    )
    add_dataset_dir(parser, "the data set", required=False)
    add_output_dir(parser, "for results, search and table")
    parser.add_argument("--arms", metavar="A,B,...", help=_ARMS)
    parser.add_argument("--seeds", default="0", metavar="0,1,...", help="seeds of the runs (default: 0)")
    parser.add_argument("--search", type=int, default=0, metavar="N", help="trials per arm on val (default: 0, none)")
    parser.add_argument("--train_images", type=int, metavar="K", help="use K training images, the same for all arms")
    parser.add_argument("--val_images", type=int, metavar="K", help="use K validation images, the same for all arms")
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="train on N seeded draws of --train_images (and --val_images); intervals hold their chance (default: 1)",
    )
    parser.add_argument(
        "--label_fractions",
        metavar="0.1,...,1.0",
        help="repeat all of it on nested parts of the training patients, and draw the curve",
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="run N searches and runs at once, each in a process of its own"
    )
    parser.add_argument(
        "--task", metavar="ARM:SEED:DRAW", help="do this run alone, without a table; ARM alone does its search"
    )
    parser.add_argument("--restart", default="", metavar="A,...", help="delete these arms' search and results first")
    parser.add_argument(
        "--summary",
        nargs="+",
        metavar="DIR",
        help="summarise finished comparisons (their --output_dir or comparison.csv) in --output_dir/summary.md instead",
    )
    accept_old_names(parser, overlays="overlay")
    add_log(parser)
    take_overrides(parser, _COMPARE_EPILOG)


def add_ensemble(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai ensemble`."""
    parser.add_argument(
        "run_dirs",
        nargs="+",
        metavar="RUN",
        help="two or more evaluated runs of classification with the same classes, preprocessing and splits",
    )
    add_output_dir(parser, "the new run, which needs the others no more")
    add_dataset_dir(
        parser,
        "the data set of the training, to evaluate the ensemble on; this writes its trust record",
        required=False,
    )
    parser.add_argument(
        "--export",
        choices=EXPORT_FORMATS,
        default=None,
        help="write the ensemble as one file, too, as movl-monai export does",
    )
    add_trust(parser)
    add_log(parser)
    take_overrides(parser, _ENSEMBLE_EPILOG)


def add_robustness(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai robustness`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output_dir of a training, or NAME=DIR to name it")
    parser.add_argument("--baseline", required=True, metavar="RUN", help="the run that errors are multiples of")
    add_dataset_dir(parser, "the data set, with its test split")
    add_output_dir(parser, "for logits, table and figure")
    parser.add_argument(
        "--images", type=int, metavar="N", help="use N test images, as many of each class (default: all)"
    )
    parser.add_argument("--severities", default="1,2,3,4,5", metavar="1,3,...", help="(default: 1,2,3,4,5)")
    parser.add_argument("--corruptions", metavar="A,B,...", help=f"of {', '.join(CORRUPTION_NAMES)} (default: all)")
    parser.add_argument("--corruption_seed", type=int, default=0, help="of the draws of the corruptions (default: 0)")
    parser.add_argument("--rounds", type=int, default=1000, help="resamples of the intervals (default: 1000)")
    add_device(parser)
    add_num_workers(parser, 2, "default: 2")
    add_bundle_dir(parser, "the runs' bundle, where it is not found by itself")
    parser.add_argument("--backbone_weights", metavar="FILE", help="where the runs' pretrained weights lie now")
    add_trust(parser)
    add_log(parser)
    take_overrides(parser, _ROBUSTNESS_EPILOG)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai export`."""
    parser.add_argument("run_dir", metavar="RUN", help="output folder of a training, or its checkpoint")
    parser.add_argument(
        "--format",
        choices=EXPORT_FORMATS,
        default="onnx",
        help="onnx runs in onnxruntime, the others in torch (default: onnx)",
    )
    parser.add_argument(
        "--output", default=None, metavar="FILE", help="default: model.onnx, .ts or .pt2 beside the checkpoint"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference of a logit from the network itself, and of a feature over the largest; above it "
        "nothing is written (default: 1e-4)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=(),
        metavar="PATH",
        help="folders or files to compare on; without it images of val where they are still there, else the phantom",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="write an int8 twin beside it (*.int8.onnx) and say what it changes on val, so evaluate first; pays in "
        "Transformers on CPUs",
    )
    parser.add_argument(
        "--int8_max_drop",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="by how much int8 may lower the balanced accuracy on val, or without labels how many images may change "
        "their class (default: 0.02)",
    )
    parser.add_argument(
        "--without_trust", action="store_true", help="leave the trust record of the run's evaluation out of the file"
    )
    add_bundle_dir(parser)
    add_trust(parser)
    add_log(parser)
    take_overrides(
        parser,
        "Every further `--id value` overrides that setting of the run, e.g. `--backbone_weights FILE` where the "
        "weights are at another place now.",
    )


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai predict`."""
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="output_dir of a training, its model.pt, or an exported file"
    )
    parser.add_argument("input", metavar="INPUT", help="a folder, one file, or a manifest (CSV, JSON)")
    add_output_dir(parser, "folder for the outputs, outside of INPUT")
    parser.add_argument("--outputs", default="csv,json", metavar="A,B,...", help=f"of {', '.join(OUTPUTS)} (csv,json)")
    parser.add_argument("--batch_size", default="auto", metavar="N", help="images at once (auto: as memory allows)")
    add_num_workers(parser, None, "default: as the device allows")
    add_device(parser)
    parser.add_argument("--modalities", default="", metavar="CT,...", help="predict these of the DICOM files only")
    parser.add_argument(
        "--series", choices=("all", "one"), default="all", help="all series, or exactly one of each study (all)"
    )
    parser.add_argument(
        "--paths",
        action="store_true",
        help="name the files in the tables, which then stay on this machine",
    )
    parser.add_argument("--split", metavar="NAME", help="of a list: predict it alone, e.g. test (default: all)")
    add_bundle_dir(parser)
    add_trust(parser)
    parser.add_argument("--codes", metavar="FILE", help='codes of classes, JSON: {"name": [value, scheme, meaning]}')
    accept_old_names(parser, out="output_dir", workers="num_workers")
    add_log(parser)
    take_overrides(parser, _PREDICT_EPILOG)


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the commands of `movl-monai bundle`."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="list|copy")
    listing = commands.add_parser("list", help="name, version, folder and description of each bundle")
    add_log(listing)
    listing.set_defaults(program="movl_monai.cli.bundle:run_list")
    copying = commands.add_parser("copy", help="copy a bundle to a folder of your own, to edit it")
    copying.add_argument("name", metavar="NAME", help="name or folder of a bundle")
    copying.add_argument("folder", metavar="DIR", help="the copy: a new or empty folder")
    add_log(copying)
    copying.set_defaults(program="movl_monai.cli.bundle:run_copy")


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai inspect`."""
    parser.add_argument(
        "path",
        metavar="FILE|RUN|BUNDLE",
        help="config, run.json, checkpoint, exported file, output_dir of a training, or folder of a bundle",
    )
    add_log(parser)
    parser.epilog = (
        "With --json the report has the SHA-256 of all files. Nothing is evaluated, loaded or imported. Exit codes: 0 "
        "clean, 2 nothing that can be inspected, 5 findings. A clean file asks for code of movl_monai, MONAI and torch "
        "alone; it can still read and write where its settings say. SECURITY.md has the rules."
    )
