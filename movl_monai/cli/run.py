"""`movl-monai run`: MONAI's bundle runner, with the project's own errors shown as one paragraph."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.cli.output import keep_stdout, say_loading, say_next, show
from movl_monai.id_values import parse_overrides
from movl_monai.runs.preflight import check_workflow, literal
from movl_monai.runs.verbatim import keep_strings

__all__ = ["parse_overrides", "run", "run_workflow"]


def run(options: argparse.Namespace) -> int:
    """Run the workflow of the given files in this process."""
    overrides = parse_overrides(options.overrides)
    config = run_workflow(options.run_id, options.config_file, overrides, tracking=options.tracking)
    _say_end(options, config)
    return 0


def run_workflow(
    run_id: str, files: Sequence[str], overrides: Mapping[str, Any], *, tracking: str | None = None
) -> dict[str, Any]:
    """Run a workflow in this process, and return its merged config.

    Args:
        run_id: "training", "evaluating" or "inferring".
        files: the workflow's file, then overlays.
        overrides: ids and their values.
        tracking: as in MONAI: "mlflow", or a file of settings.

    Raises:
        MovlError: as :func:`movl_monai.runs.preflight.check_workflow`, before torch and MONAI are imported.
    """
    config = check_workflow(run_id, files, overrides)
    say_loading()
    with keep_stdout():
        import monai.bundle.scripts as monai_bundle

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
    return config


def _say_end(options: argparse.Namespace, config: Mapping[str, Any]) -> None:
    """Print where the results of a workflow lie, and say the next command."""
    folder = literal(config, "output_dir")
    if not isinstance(folder, str):
        return
    if options.run_id == "evaluating":
        evaluation = literal(config, "output_evaluation") or Path(folder, "evaluation")
        report = Path(evaluation) / "report.html"
        show(options, f"Report: {report}", {"report": report, "report_json": report.with_suffix(".json")})
        say_next("predict", folder, "INPUT", "--output_dir", "OUT")
    elif options.run_id == "inferring":
        show(options, f"Predictions: {folder}", {"predictions": folder})
    else:
        show(options, f"Run: {folder}", {"run": folder})
        say_next("evaluate", folder, "--dataset_dir", "DATA")


def _kept(value: Any) -> Any:
    """Return an override as MONAI takes it: it drops None, but not an expression of None."""
    return "$None" if value is None else keep_strings(value)


def _is_no_argument(record: logging.LogRecord) -> bool:
    """Pass all lines of MONAI's runner except its list of the arguments: paths can name patients."""
    return not record.getMessage().startswith(("> ", "---"))
