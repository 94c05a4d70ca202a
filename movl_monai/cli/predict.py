"""`movl-monai predict`: from DICOM, NIfTI and pictures to tables, DICOM objects and masks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from movl_monai.errors import EXIT_SOME_FAILED, ConfigError
from movl_monai.predict.outputs import OUTPUTS

__all__ = ["EXIT_SOME_FAILED", "add_arguments", "run"]

_EPILOG = (
    "Every further `--id value` overrides that id of the run's config, e.g. `--backbone_weights FILE`. A prediction "
    "that was stopped goes on where it was when the same command is given again. Exit codes: 0 all predicted, 2 an "
    "error to act on, 4 some files could not be predicted (each has a row with its reason)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai predict`."""
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="output_dir of a training, its model.pt, or an exported file"
    )
    parser.add_argument("input", metavar="INPUT", help="a folder, one file, or a manifest (CSV, JSON)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the outputs, outside of INPUT")
    parser.add_argument("--outputs", default="csv,json", metavar="A,B,...", help=f"of {', '.join(OUTPUTS)} (csv,json)")
    parser.add_argument("--batch_size", default="auto", metavar="N", help="images at once (auto: as memory allows)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (default: as the device allows)"
    )
    parser.add_argument("--device", metavar="D", help="cpu or cuda[:N] (default: a GPU where there is one)")
    parser.add_argument("--modalities", default="", metavar="CT,...", help="predict these of the DICOM files only")
    parser.add_argument(
        "--series", choices=("all", "one"), default="all", help="all series, or exactly one of each study (all)"
    )
    parser.add_argument("--bundle_dir", metavar="DIR", help="the run's bundle, where it is not found")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code that the record names outside of movl_monai, MONAI and torch; see movl-monai inspect",
    )
    parser.add_argument("--codes", metavar="FILE", help='codes of classes, JSON: {"name": [value, scheme, meaning]}')
    parser.epilog = _EPILOG
    parser.set_defaults(takes_overrides=True)


def run(options: argparse.Namespace) -> int:
    """Predict, print a summary, and return an exit code that shows failed files."""
    from movl_monai.heap import keep_free_memory
    from movl_monai.id_values import parse_overrides
    from movl_monai.predict.run import predict

    keep_free_memory()
    summary = predict(
        options.model,
        options.input,
        out=options.out,
        outputs=_words(options.outputs),
        batch_size=_batch_size(options.batch_size),
        num_workers=options.workers,
        device=options.device,
        modalities=_words(options.modalities),
        series=options.series,
        overrides=parse_overrides(options.overrides),
        bundle_dir=options.bundle_dir,
        trust=options.trust,
        codes=_codes(options.codes),
    )
    if summary is None:  # not the first process
        return 0
    print(summary.text())
    return EXIT_SOME_FAILED if summary.failed or summary.not_written else 0


def _codes(path: str | None) -> dict[str, list[str]] | None:
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--codes cannot be read as JSON ({type(error).__name__}): {path}.") from error
    if not isinstance(content, dict):
        raise ConfigError('--codes must hold {"class name": [value, scheme designator, meaning], ...}.')
    return content


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--batch_size must be 'auto' or a number of at least 1, got {text!r}.")
    return int(text)
