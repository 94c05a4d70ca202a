"""Options that several commands share, and values of options that are lists."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from movl_monai.errors import ConfigError

__all__ = [
    "CORRUPTION_NAMES",
    "EXPORT_FORMATS",
    "accept_old_names",
    "add_bundle_dir",
    "add_dataset_dir",
    "add_device",
    "add_log",
    "add_num_workers",
    "add_output_dir",
    "add_tracking",
    "add_trust",
    "shown_overrides",
    "split_numbers",
    "split_words",
    "take_overrides",
]

EXPORT_FORMATS = ("onnx", "torchscript", "torch-export")
"""Formats of exported files."""

CORRUPTION_NAMES = (
    *("gaussian_noise", "quantum_noise", "gaussian_blur", "defocus", "motion", "contrast", "gamma", "jpeg"),
    *("resampling", "inversion", "text", "field_of_view"),
)
"""Corruptions of `movl-monai robustness`, as :data:`movl_monai.transforms.corruptions.CORRUPTIONS` names them."""


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


def add_dataset_dir(parser: argparse.ArgumentParser, text: str, *, required: bool = True) -> None:
    """Add ``--dataset_dir`` with its help."""
    parser.add_argument("--dataset_dir", required=required, metavar="DATA", help=text)


def add_output_dir(parser: argparse.ArgumentParser, text: str, *, required: bool = True) -> None:
    """Add ``--output_dir`` with its help."""
    parser.add_argument("--output_dir", required=required, metavar="OUT", help=text)


def add_num_workers(parser: argparse.ArgumentParser, default: int | None, text: str) -> None:
    """Add ``--num_workers``, the number of processes that read images."""
    parser.add_argument(
        "--num_workers", type=int, default=default, metavar="N", help=f"processes that read images, 0 for none ({text})"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")


def add_log(parser: argparse.ArgumentParser) -> None:
    """Add ``--log_file``, ``--quiet`` and ``--json``."""
    group = parser.add_argument_group("messages")
    group.add_argument("--log_file", metavar="FILE", help="add all messages to this file, too")
    group.add_argument("--quiet", action="store_true", help="show results and errors alone")
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def accept_old_names(parser: argparse.ArgumentParser, **names: str) -> None:
    """Accept earlier spellings of options, which the help does not show.

    Args:
        parser: of the command.
        names: spelling today by earlier spelling, without hyphens in front: ``out="output_dir"``.
    """
    parser.set_defaults(old_names=names)


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """Add ``--tracking``."""
    parser.add_argument("--tracking", default=None, help="'mlflow' or a settings file, as in MONAI")


def take_overrides(parser: argparse.ArgumentParser, epilog: str) -> None:
    """Let a command take `--id value` pairs, which its epilog explains."""
    parser.epilog = epilog
    parser.set_defaults(takes_overrides=True)


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
