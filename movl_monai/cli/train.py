"""`movl-monai train`: train a bundle, with overlays and settings by name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from movl_monai.bundles import OVERLAY_KINDS, find_bundle, find_overlays
from movl_monai.cli.options import split_words
from movl_monai.cli.output import keep_stdout, say_next, show
from movl_monai.errors import ConfigError, DataError
from movl_monai.id_values import parse_overrides

__all__ = ["choose_files", "run"]

_SET = ("dataset_dir", "output_dir")


def run(options: argparse.Namespace) -> int:
    """Train as MONAI's runner does with the same files, and print the checkpoint and the next command."""
    bundle = find_bundle(options.bundle)
    files, overrides = choose_files(bundle, parse_overrides(options.overrides), overlays=options.overlay)
    if given := [name for name in _SET if name in overrides]:
        raise ConfigError(f"`--{given[0]}` is given twice; leave DATA and --output_dir, and remove the other.")
    if not Path(options.data).exists():
        raise DataError(f"There is no data set at '{options.data}': DATA must be a folder, a CSV or a JSON file.")
    with keep_stdout():
        from movl_monai.cli.run import run_workflow

    overrides = {"dataset_dir": options.data, "output_dir": options.output_dir, **overrides}
    run_workflow("training", [str(file) for file in files], overrides, tracking=options.tracking)
    show(options, f"Run: {options.output_dir}", {"run": options.output_dir})
    say_next("evaluate", options.output_dir, "--dataset_dir", "DATA")
    return 0


def choose_files(
    bundle: Path, overrides: Mapping[str, Any], *, overlays: list[str]
) -> tuple[list[Path], dict[str, Any]]:
    """Return the config files of a training, and the settings among the overrides.

    Args:
        bundle: its folder.
        overrides: ids and values. Text of a kind, such as ``{"strategy": "joint"}``, names overlays; a dictionary, a
            list or an expression replaces the id.
        overlays: names or paths of further overlays, each with commas between them.

    Raises:
        ConfigError: for an overlay that the bundle does not have.
    """
    names = {kind: split_words(overrides[kind]) for kind in OVERLAY_KINDS if _is_name(overrides.get(kind))}
    settings = {name: value for name, value in overrides.items() if name not in names}
    found = find_overlays(bundle, {**names, "overlay": [name for text in overlays for name in split_words(text)]})
    return [bundle / "configs" / "train.json", *found], settings


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and not value.startswith(("$", "@", "%"))
