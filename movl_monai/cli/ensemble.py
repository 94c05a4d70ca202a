"""`movl-monai ensemble`: join trained runs into one with the mean of their calibrated probabilities."""

from __future__ import annotations

import argparse
from typing import Any

from movl_monai.cli.output import keep_stdout, show
from movl_monai.errors import ConfigError
from movl_monai.evaluation.evaluate import evaluate
from movl_monai.experiments.ensemble import MEMBER_ID, make_ensemble
from movl_monai.export.exporting import export_run
from movl_monai.id_values import parse_overrides
from movl_monai.runs import verbatim

__all__ = ["run"]


def run(options: argparse.Namespace) -> int:
    """Make the ensemble; evaluate it if a data set is given, and export it on demand."""
    overrides = parse_overrides(options.overrides)
    overwrite = bool(overrides.get("overwrite", False))
    of_members = {name: overrides.pop(name) for name in list(overrides) if MEMBER_ID.fullmatch(name)}
    unread = [name for name in overrides if name != "overwrite"]
    if unread and options.dataset_dir is None:
        raise ConfigError(
            f"--{unread[0]} is no option of `movl-monai ensemble`; ids of the config go with --dataset_dir, "
            "for the evaluation."
        )
    made = make_ensemble(
        options.run_dirs, options.output_dir, overwrite=overwrite, trust=options.trust, overrides=of_members
    )
    members = [{name: member[name] for name in ("backbone", "temperature")} for member in made.record["members"]]
    lines = [f"member {i}: {each['backbone']}, temperature {each['temperature']:.3f}" for i, each in enumerate(members)]
    lines.append(f"Run: {made.folder}")
    facts: dict[str, Any] = {"run": made.folder, "members": members}
    if options.dataset_dir is not None:
        with keep_stdout():
            facts["report"] = evaluate(made, dataset_dir=verbatim(options.dataset_dir), **overrides)
        lines.append(f"Report: {facts['report']}")
    if options.export is not None:
        files = export_run(options.output_dir, options.export, trust_code=options.trust)
        facts["files"] = [file.path for file in files]
        lines += [
            f"{file.path} ({file.megabytes:.1f} MB), logits within {file.parity.logits:.1e} of the network"
            for file in files
        ]
    show(options, "\n".join(lines), facts)
    return 0
