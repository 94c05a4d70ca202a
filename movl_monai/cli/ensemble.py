"""`movl-monai ensemble`: join trained runs into one with the mean of their calibrated probabilities."""

from __future__ import annotations

import argparse

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
    for number, member in enumerate(made.record["members"]):
        print(f"member {number}: {member['backbone']}, temperature {member['temperature']:.3f}")
    print(f"Run: {made.folder}")
    if options.dataset_dir is not None:
        print(f"Report: {evaluate(made, dataset_dir=verbatim(options.dataset_dir), **overrides)}")
    if options.export is not None:
        _export(options)
    return 0


def _export(options: argparse.Namespace) -> None:
    for file in export_run(options.output_dir, options.export, trust_code=options.trust):
        print(f"{file.path} ({file.megabytes:.1f} MB), logits within {file.parity.logits:.1e} of the network")
