"""`movl-monai evaluate`: evaluate a trained run from its record, and compare it with others in pairs."""

from __future__ import annotations

import argparse
from typing import Any

from movl_monai.cli.output import keep_stdout, say_next, show
from movl_monai.engines import open_run
from movl_monai.evaluation.evaluate import evaluate
from movl_monai.id_values import parse_overrides
from movl_monai.runs import verbatim

__all__ = ["evaluate", "run"]


def run(options: argparse.Namespace) -> int:
    """Evaluate, and print the path of the report."""
    overrides: dict[str, Any] = {"dataset_dir": verbatim(options.dataset_dir), **parse_overrides(options.overrides)}
    trained = open_run(options.run_dir, bundle_dir=options.bundle_dir, trust=options.trust)
    with keep_stdout():
        report = evaluate(trained, against=options.against, tracking=options.tracking, **overrides)
    show(options, f"Report: {report}", {"report": report, "report_json": report.with_suffix(".json")})
    say_next("predict", options.run_dir, "INPUT", "--output_dir", "OUT")
    return 0
