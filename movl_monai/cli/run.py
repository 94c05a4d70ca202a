"""`movl-monai run`: MONAI's bundle runner, with the project's own errors shown as one paragraph."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.bundle.scripts as monai_bundle
from monai.bundle import ConfigParser

from movl_monai.cli.output import keep_stdout
from movl_monai.engines import keep_strings
from movl_monai.errors import ConfigError
from movl_monai.id_values import parse_overrides

__all__ = ["parse_overrides", "run", "run_workflow"]

_SUFFIXES = (".json", ".yaml", ".yml")


def run(options: argparse.Namespace) -> int:
    """Run the workflow of the given files in this process."""
    overrides = parse_overrides(options.overrides)
    run_workflow(options.run_id, options.config_file, overrides, tracking=options.tracking)
    return 0


def run_workflow(
    run_id: str, files: Sequence[str], overrides: Mapping[str, Any], *, tracking: str | None = None
) -> None:
    """Run a workflow in this process.

    Args:
        run_id: "training", "evaluating" or "inferring".
        files: the workflow's file, then overlays.
        overrides: ids and their values.
        tracking: as in MONAI: "mlflow", or a file of settings.

    Raises:
        ConfigError: for a config file that cannot be read, or an override below an id that holds nothing.
    """
    _check_places(_read(files), overrides)
    monai_bundle.logger.addFilter(_is_no_argument)
    try:
        with keep_stdout(), warnings.catch_warnings():
            # the files are named by the user
            warnings.filterwarnings("ignore", message="parsing config_file")
            monai_bundle.run(
                run_id=run_id,
                config_file=list(files) if len(files) > 1 else files[0],
                tracking=tracking,
                **{name: _kept(value) for name, value in overrides.items()},
            )
    finally:
        monai_bundle.logger.removeFilter(_is_no_argument)


def _read(files: Sequence[str]) -> ConfigParser:
    """Return the merged config files, nothing of which is evaluated."""
    for number, file in enumerate(files):
        name = Path(file).name
        if not Path(file).is_file():
            hint = f"; overrides are written `--{file} VALUE`" if number and not file.endswith(_SUFFIXES) else ""
            raise ConfigError(
                f"There is no config file '{name}'. Expected the files of a bundle, such as "
                f"bundles/movl_classification/configs/train.json, each with its folder{hint}."
            )
        if not file.lower().endswith(_SUFFIXES):
            raise ConfigError(f"A config file ends in .json, .yaml or .yml, got '{name}'; give a file of the bundle.")
        try:
            content = ConfigParser.load_config_file(file)
        except Exception as error:  # of json, of yaml, of decoding
            raise ConfigError(f"{name} cannot be read as a config: {error}. Correct the file.") from error
        if not isinstance(content, dict):
            raise ConfigError(
                f"{name} must hold ids and their values ({{...}}), got a {type(content).__name__}; give a file of the "
                "bundle."
            )
    return ConfigParser(ConfigParser.load_config_files(list(files)))


def _check_places(config: ConfigParser, overrides: Mapping[str, Any]) -> None:
    """Refuse an override such as `--backbone#name x` where the id above it has no parts."""
    for name in overrides:
        above, _, last = name.removeprefix("+").replace("#", "::").rpartition("::")
        if not above or f"{above}::{last}" in config:
            continue
        holder = config.get(above)
        if not isinstance(holder, dict):
            held = f"has {len(holder)} parts" if isinstance(holder, list) else "has no parts"
            raise ConfigError(
                f"`--{name}` replaces '{last}' of '{above.replace('::', '#')}', which {held} in these config files. "
                "Expected the place of a value in them; correct it, or override a whole id."
            )


def _kept(value: Any) -> Any:
    """Return an override as MONAI takes it: it drops None, but not an expression of None."""
    return "$None" if value is None else keep_strings(value)


def _is_no_argument(record: logging.LogRecord) -> bool:
    """Pass all lines of MONAI's runner except its list of the arguments: paths can name patients."""
    return not record.getMessage().startswith(("> ", "---"))
