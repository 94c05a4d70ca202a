"""The `movl-monai` command."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence

from movl_monai import __version__
from movl_monai.errors import user_error

__all__ = ["main"]

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130


def _add_phantom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.phantom import add_arguments, run

    parser = commands.add_parser(
        "phantom", help="write the embedded data set: valid DICOM files of a synthetic phantom"
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.run import add_arguments, run

    parser = commands.add_parser(
        "run",
        help="run a bundle workflow as `python -m monai.bundle run` does, with errors as one paragraph",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.evaluate import add_arguments, run

    parser = commands.add_parser(
        "evaluate", help="evaluate a trained run from its record, alone or against other runs", allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.compare import add_arguments, run

    parser = commands.add_parser(
        "compare", help="compare adaptation methods on one data set: seeds, equal search, one table", allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_ensemble(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.ensemble import add_arguments, run

    parser = commands.add_parser(
        "ensemble",
        help="join runs in one that gives the mean of their calibrated probabilities",
        allow_abbrev=False,
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_ingest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.ingest import add_check_arguments, add_ingest_arguments, run_check, run_ingest

    parser = commands.add_parser(
        "ingest", help="look at a folder of images: manifest, quality report, status of each file"
    )
    add_ingest_arguments(parser)
    parser.set_defaults(run=run_ingest)
    parser = commands.add_parser("check", help="look for leakage and unreadable files in a manifest; exit code 3 or 4")
    add_check_arguments(parser)
    parser.set_defaults(run=run_check)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.report import add_arguments, run

    parser = commands.add_parser("report", help="make the report of a run again, or put several runs on one page")
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_robustness(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.robustness import add_arguments, run

    parser = commands.add_parser(
        "robustness", help="how runs do on corrupted test images, as multiples of a baseline", allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.export import add_arguments, run

    parser = commands.add_parser(
        "export", help="write a trained run as one ONNX, TorchScript or torch.export file", allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.predict import add_arguments, run

    parser = commands.add_parser(
        "predict", help="predict DICOM, NIfTI and pictures: tables, DICOM objects, masks", allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _add_inspect(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from movl_monai.cli.inspect import add_arguments, run

    parser = commands.add_parser(
        "inspect", help="look into a config, run, checkpoint, exported file or bundle without running any of it"
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="movl-monai", description="Adapt frozen natural-image backbones to medical images. Research use only."
    )
    parser.add_argument("--version", action="version", version=f"movl-monai {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_phantom,
        _add_ingest,
        _add_run,
        _add_evaluate,
        _add_report,
        _add_compare,
        _add_ensemble,
        _add_robustness,
        _add_export,
        _add_predict,
        _add_inspect,
    ):
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes ``sys.argv``.

    Returns:
        0 on success, 2 for a user's error, 3 for leakage (images or patients that a network learned from would be
        scored as test), 130 when interrupted; `check` also 4 for too many unreadable files; `predict` 4 if files could
        not be predicted; `inspect` 5 for findings. Other errors are raised.
    """
    parser = _parser()
    options, words = parser.parse_known_args(arguments)
    options.overrides = words
    if words and not getattr(options, "takes_overrides", False):
        parser.error(f"unrecognized arguments: {' '.join(words)}")
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("movl-monai: interrupted", file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        known = user_error(error)
        if known is None or options.traceback or os.environ.get("MOVL_TRACEBACK"):
            raise
        print(textwrap.fill(f"movl-monai: {known}", width=110, break_long_words=False), file=sys.stderr)
        return int(getattr(known, "exit_code", _EXIT_USER_ERROR))


if __name__ == "__main__":
    sys.exit(main())
