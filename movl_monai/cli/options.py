"""Options that several commands share, and values of options that are lists."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from movl_monai.errors import ConfigError

__all__ = [
    "EXPORT_FORMATS",
    "add_bundle_dir",
    "add_tracking",
    "add_trust",
    "say_next",
    "shown_overrides",
    "split_numbers",
    "split_words",
    "take_overrides",
]

EXPORT_FORMATS = ("onnx", "torchscript", "torch-export")
"""Formats of exported files."""


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust``."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run code that the record names outside of movl_monai, MONAI and torch; see movl-monai inspect",
    )


def add_bundle_dir(parser: argparse.ArgumentParser, text: str = "the run's bundle, where it is not found") -> None:
    """Add ``--bundle_dir`` with its help."""
    parser.add_argument("--bundle_dir", metavar="NAME|DIR", help=text)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Add ``--tracking``."""
    parser.add_argument("--tracking", default=None, help="'mlflow' or a settings file, as in MONAI")


def take_overrides(parser: argparse.ArgumentParser, epilog: str) -> None:
    """Let a command take `--id value` pairs, which its epilog explains; its own options need their whole names."""
    parser.epilog = epilog
    parser.allow_abbrev = False
    parser.set_defaults(takes_overrides=True)


def say_next(*words: str) -> None:
    """Print the next command, apart from the results: on standard error."""
    print(f"Next: movl-monai {shlex.join(words)}", file=sys.stderr)


def split_words(text: str) -> list[str]:
    """Return the words between commas.

    Example:
        >>> split_words("csv, json,")
        ['csv', 'json']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


def split_numbers(text: str, *, option: str, example: str) -> list[int]:
    """Return the whole numbers between commas.

    Raises:
        ConfigError: for anything else, with the option's name and an example.
    """
    try:
        return [int(word) for word in split_words(text)]
    except ValueError as error:
        raise ConfigError(
            f"{option} must be whole numbers separated by commas, such as {example}, got '{text}'."
        ) from error


def shown_overrides(words: Sequence[str]) -> list[str]:
    """Return overrides for a table that may leave this machine: absolute paths are cut to their names."""
    return [Path(word).name if Path(word).is_absolute() else word for word in words]
