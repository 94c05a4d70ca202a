"""Evaluate a trained run from its record, alone or in pairs with other runs."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from movl_monai.engines import Run, keep_strings
from movl_monai.report.several_runs import add_comparisons
from movl_monai.report.tasks import task_named

__all__ = ["evaluate"]


def evaluate(
    run: Run,
    *,
    against: list[str] | None = None,
    tracking: str | None = None,
    log: bool = True,
    **overrides: Any,
) -> Path:
    """Run the bundle's evaluation workflow with the recorded settings.

    Args:
        run: from :func:`~movl_monai.engines.open_run`.
        against: folders of other runs, already evaluated on the same test images.
        tracking: as in MONAI: "mlflow", or a file of settings.
        log: set up the logging of the bundle; otherwise that of the calling program stays.
        overrides: ids and their values; ``dataset_dir`` is required, because a record names no data.

    Returns:
        Path of the report's page.

    Raises:
        ConfigError: for an override that nothing reads.
        MovlError: if another run was not evaluated (checked first), or on other test images.
    """
    config = run.config("evaluate")
    # checked first, before an hour of evaluation is spent
    others = [str(task_named(run.task).find_evaluation(Path(path))) for path in against or ()]
    in_workflow = "against" in config
    if others and in_workflow:
        overrides["against"] = others
    # MONAI reads workflows only from files
    with tempfile.TemporaryDirectory(prefix="movl-monai-") as folder:
        workflow = _workflow(Path(folder), config, run, tracking, {**run.overrides, **overrides}, log=log)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        evaluation = Path(workflow.parser.get_parsed_content("output_evaluation"))
    if others and not in_workflow:
        add_comparisons(evaluation, others)
    return evaluation / "report.html"


def _workflow(
    folder: Path, config: dict[str, Any], run: Run, tracking: str | None, overrides: dict[str, Any], *, log: bool
) -> Any:
    metadata = config.pop("_meta_")
    for name, content in (("evaluate.json", config), ("metadata.json", metadata)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    settings = run.bundle_dir / "configs" / "logging.conf" if log and run.has_bundle else Path()
    monai_log = logging.getLogger("monai.bundle.workflows")
    monai_log.disabled = not log  # it would warn that there are no settings of logging
    try:
        return ConfigWorkflow(
            config_file=str(folder / "evaluate.json"),
            logging_file=str(settings) if settings.is_file() else False,
            workflow_type="infer",
            run_id="evaluating",
            tracking=tracking,
            **keep_strings(overrides),
        )
    finally:
        monai_log.disabled = False
