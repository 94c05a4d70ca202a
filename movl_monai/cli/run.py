"""`movl-monai run`: MONAI's bundle runner, with the project's own errors shown as one paragraph."""

from __future__ import annotations

import argparse
import logging

from movl_monai.id_values import parse_overrides

__all__ = ["add_arguments", "parse_overrides", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai run`."""
    parser.add_argument("run_id", help="what to run: training, evaluating or inferring")
    parser.add_argument(
        "--config_file",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the workflow's file, then overlays, all in one folder",
    )
    parser.add_argument("--tracking", default=None, help="'mlflow' or a settings file, as in MONAI")
    parser.epilog = "Every further `--id value` overrides that id of the config, e.g. `--dataset_dir DIR --epochs 4`."
    parser.set_defaults(takes_overrides=True)


def run(options: argparse.Namespace) -> int:
    """Run the workflow in this process."""
    import monai.bundle.scripts as monai_bundle

    from movl_monai.engines import keep_strings

    overrides = keep_strings(parse_overrides(options.overrides))
    files = options.config_file if len(options.config_file) > 1 else options.config_file[0]
    monai_bundle.logger.addFilter(_is_no_argument)
    try:
        monai_bundle.run(run_id=options.run_id, config_file=files, tracking=options.tracking, **overrides)
    finally:
        monai_bundle.logger.removeFilter(_is_no_argument)
    return 0


def _is_no_argument(record: logging.LogRecord) -> bool:
    """Pass all lines of MONAI's runner except those that repeat the arguments: paths can name patients."""
    return not record.getMessage().startswith("> ")
