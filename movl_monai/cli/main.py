"""The `movl-monai` command."""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from movl_monai import __version__
from movl_monai.cli import arguments
from movl_monai.cli.output import keep_stdout, open_log, say_loading
from movl_monai.errors import errors_shown_once, user_error

__all__ = ["COMMANDS", "Command", "main", "parsers", "take_pairs", "underscored"]

_EXIT_USER_ERROR = 2
_EXIT_INTERRUPTED = 130
_AGAIN = "The same command goes on where it was."
_OF_TRAINING = "A training goes on after its last finished epoch with the same command and `--resume true`."
_GO_ON = {"run": _OF_TRAINING, "train": _OF_TRAINING}
_GO_ON |= dict.fromkeys(("compare", "fit", "ingest", "phantom", "predict", "robustness"), _AGAIN)
"""Advice on how to go on after an interruption, by command."""


class Command(NamedTuple):
    """A command.

    Args:
        program: function that runs it, as ``module:name``; its module, which may import torch and MONAI, is imported
            when the command's arguments are known to be right.
        help: line in the list of commands.
        add_arguments: adds its arguments to a parser.
        check: function that checks the arguments without torch and MONAI, as ``module:name``; "" for a program that
            imports neither before it has checked them.
    """

    program: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    check: str = ""


COMMANDS = {
    "fit": Command(
        "movl_monai.cli.fit:run",
        "one command from a folder of images to an evaluated and exported model, within a time budget",
        arguments.add_fit,
        "movl_monai.cli.early:check_fit",
    ),
    "phantom": Command(
        "movl_monai.cli.phantom:run",
        "write the embedded data set: valid DICOM files of a synthetic phantom",
        arguments.add_phantom,
    ),
    "ingest": Command(
        "movl_monai.cli.ingest:run_ingest",
        "look at a folder of images: manifest, quality report, status of each file",
        arguments.add_ingest,
    ),
    "check": Command(
        "movl_monai.cli.ingest:run_check",
        "look for leakage and unreadable files in a manifest; exit code 3 or 4",
        arguments.add_check,
    ),
    "train": Command(
        "movl_monai.cli.train:run",
        "train a bundle on a data set, with overlays and settings by name",
        arguments.add_train,
    ),
    "run": Command(
        "movl_monai.cli.run:run",
        "run a bundle workflow as `python -m monai.bundle run` does, with errors as one paragraph",
        arguments.add_run,
    ),
    "evaluate": Command(
        "movl_monai.cli.evaluate:run",
        "evaluate a trained run from its record, alone or against other runs",
        arguments.add_evaluate,
        "movl_monai.cli.early:check_evaluate",
    ),
    "report": Command(
        "movl_monai.cli.report:run",
        "make the report of a run again, put several runs on one page, or fill a reporting checklist",
        arguments.add_report,
    ),
    "compare": Command(
        "movl_monai.cli.compare:run",
        "compare adaptation methods on one data set: seeds, equal search, one table",
        arguments.add_compare,
        "movl_monai.cli.early:check_compare",
    ),
    "ensemble": Command(
        "movl_monai.cli.ensemble:run",
        "join runs in one that gives the mean of their calibrated probabilities",
        arguments.add_ensemble,
        "movl_monai.cli.early:check_ensemble",
    ),
    "robustness": Command(
        "movl_monai.cli.robustness:run",
        "how runs do on corrupted test images, as multiples of a baseline",
        arguments.add_robustness,
        "movl_monai.cli.early:check_robustness",
    ),
    "export": Command(
        "movl_monai.cli.export:run",
        "write a trained run as one ONNX, TorchScript or torch.export file",
        arguments.add_export,
        "movl_monai.cli.early:check_export",
    ),
    "predict": Command(
        "movl_monai.cli.predict:run",
        "predict DICOM, NIfTI and pictures: tables, DICOM objects, masks",
        arguments.add_predict,
        "movl_monai.cli.early:check_predict",
    ),
    "inspect": Command(
        "movl_monai.cli.inspect:run",
        "look into a config, run, checkpoint, exported file or bundle without running any of it",
        arguments.add_inspect,
    ),
    "bundle": Command(
        "movl_monai.cli.bundle:run_list",
        "list the bundles that come with the package, or copy one for editing",
        arguments.add_bundle,
    ),
}
"""The commands by name, in the order of the help."""


def parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser, and those of the commands by name."""
    parser = argparse.ArgumentParser(
        prog="movl-monai", description="Adapt frozen natural-image backbones to medical images. Research use only."
    )
    parser.add_argument("--version", action="version", version=f"movl-monai {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(name, help=command.help, add_help=name != "train", allow_abbrev=False)
        )
    return parser, dict(commands.choices)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        words: without the program's name; None takes ``sys.argv``.

    Returns:
        0 on success, 2 for a user's error, 3 for leakage (images or patients that a network learned from would be
        scored as test), 130 when interrupted; `check` also 4 for too many unreadable files; `predict` 4 if files could
        not be predicted; `inspect` 5 for findings. Other errors are raised.
    """
    options = None
    try:
        options = _read(sys.argv[1:] if words is None else list(words))
        with open_log(getattr(options, "log_file", None), quiet=getattr(options, "quiet", False)):
            command = COMMANDS[options.command]
            if command.check:
                pkgutil.resolve_name(command.check)(options)
                say_loading()
            with keep_stdout():  # loggers of MONAI take the stream at import
                program = pkgutil.resolve_name(getattr(options, "program", command.program))
            with nullcontext() if _shows_tracebacks(options) else errors_shown_once():
                return int(program(options) or 0)
    except KeyboardInterrupt:
        again = _GO_ON.get(getattr(options, "command", ""), "")
        print(f"movl-monai: interrupted. {again}".rstrip(), file=sys.stderr)
        return _EXIT_INTERRUPTED
    except Exception as error:
        known = user_error(error)
        if known is None or _shows_tracebacks(options):
            raise
        text = textwrap.fill(f"movl-monai: {known}", width=110, break_long_words=False, break_on_hyphens=False)
        print(text, file=sys.stderr)
        return int(getattr(known, "exit_code", _EXIT_USER_ERROR))


def _shows_tracebacks(options: argparse.Namespace | None) -> bool:
    return bool(getattr(options, "traceback", False) or os.environ.get("MOVL_TRACEBACK"))


def _read(words: list[str]) -> argparse.Namespace:
    """Return the options of a command line, with `--id value` pairs as ``overrides`` where the command takes them."""
    parser, commands = parsers()
    words = [underscored(word) for word in words]
    place = next((place for place, word in enumerate(words) if word in commands), len(words))
    overrides: list[str] = []
    if place < len(words):
        command = commands[words[place]]
        words[place + 1 :] = [_renamed(word, command.get_default("old_names") or {}) for word in words[place + 1 :]]
        if command.get_default("takes_overrides"):
            words[place + 1 :], overrides = take_pairs(words[place + 1 :], command)
    options = parser.parse_args(words)
    options.overrides = overrides
    return options


def underscored(word: str) -> str:
    """Return an option with underscores: hyphens are another spelling of every option and id."""
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if name.startswith("--") else word


def _renamed(word: str, names: Mapping[str, str]) -> str:
    name, equals, value = word.partition("=")
    return f"--{names[name[2:]]}{equals}{value}" if name.startswith("--") and name[2:] in names else word


def take_pairs(words: list[str], parser: argparse.ArgumentParser) -> tuple[list[str], list[str]]:
    """Return the words of a command's own arguments, and the `--id value` pairs, wherever they stand."""
    own: list[str] = []
    pairs: list[str] = []
    words = list(words)
    while words:
        word = words.pop(0)
        is_pair = word.startswith("--") and word.partition("=")[0] not in parser._option_string_actions
        (pairs if is_pair else own).append(word)
        if is_pair and "=" not in word and words and not words[0].startswith("--"):
            pairs.append(words.pop(0))
    return own, pairs


if __name__ == "__main__":
    sys.exit(main())
