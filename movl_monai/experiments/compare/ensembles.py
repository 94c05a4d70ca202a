"""Final run of an arm without training: the mean of the calibrated probabilities of other arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs, read_outputs
from movl_monai.experiments.compare.runs import Result, keep_result
from movl_monai.experiments.compare.setup import ArmSetup, settings_digest
from movl_monai.experiments.compare.training import Training, read_record
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE, write_outputs
from movl_monai.report.rebuild import rebuild_report

__all__ = ["ensemble_run", "ensemble_settings", "mean_outputs"]


def ensemble_settings(setup: ArmSetup, members: Sequence[Result]) -> str:
    """Return the SHA-256 of everything that determines the result of an ensemble."""
    return settings_digest([setup.digest, [[one.settings, one.predictions_sha256] for one in members]])


def ensemble_run(setup: ArmSetup, members: Sequence[Result], *, folder: Path) -> Result:
    """Join the stored outputs of runs of one seed and draw, and write a report and ``result.json``.

    Seconds, bytes and trained parameters are sums over the members; memory is the largest of any member.

    Args:
        setup: the arm.
        members: the results to join.
        folder: of the new result.

    Raises:
        MovlError: if a member has no outputs of ``val``, or the members have different images.
    """
    settings = ensemble_settings(setup, members)
    failed = [one.arm for one in members if one.training.failed]
    report: dict[str, Any] = {}
    if not failed:
        outputs = mean_outputs([read_outputs(one.folder) for one in members], [_temperature(one) for one in members])
        write_outputs(folder / "evaluation" / OUTPUTS_FILE, outputs)
        (folder / "evaluation" / "report.json").unlink(missing_ok=True)  # from other members
        report = dict(rebuild_report(folder))
    training = _joined(members, report)
    training |= {"settings": settings, "failed": f"{', '.join(failed)} has no result" if failed else ""}
    return keep_result(
        folder,
        settings=settings,
        arm=setup.name,
        seed=members[0].seed,
        draw=members[0].draw,
        values={},
        training=Training(**training),
        report=report,
    )


def mean_outputs(outputs: Sequence[StoredOutputs], temperatures: Sequence[float]) -> StoredOutputs:
    r"""Compute the outputs of an ensemble from its members' outputs.

    Logits are :math:`\log \frac{1}{M} \sum_m \mathrm{softmax}(z_m / T_m)`; features are concatenated.

    Raises:
        MovlError: if the members have different images, or a different order.
    """
    first = outputs[0]
    if any(one.predictions.ids != first.predictions.ids or one.class_names != first.class_names for one in outputs):
        raise MovlError("The members of an ensemble were evaluated on other images; expected one comparison's runs.")
    scaled = [one.predictions.logits / value for one, value in zip(outputs, temperatures, strict=True)]
    logs = np.stack([part - logsumexp(part, axis=1, keepdims=True) for part in scaled])
    mean = logsumexp(logs, axis=0) - np.log(len(outputs))
    features = np.concatenate([one.features for one in outputs], axis=1)
    run = {key: first.facts.get("run", {}).get(key) for key in ("seed", "versions", "git_commit", "git_modified")}
    facts = {**first.facts, "run": {**run, "strategy": f"ensemble of {len(outputs)} runs"}}
    kept = ("ids", "labels", "splits", "domains", "patients", "patient_ids")
    predictions = Predictions(logits=mean, **{name: getattr(first.predictions, name) for name in kept})
    return replace(first, predictions=predictions, features=features, facts=facts)


def _temperature(member: Result) -> float:
    report = read_record(member.folder / "evaluation" / "report.json")
    found = (report.get("calibration") or {}).get("temperature")
    if found is None:
        raise MovlError(
            f"The results of {member.arm} are not calibrated, as those of an earlier version that kept no outputs of "
            f"val; make them again by `--restart {member.arm}`."
        )
    return float(found)


def _joined(members: Sequence[Result], report: dict[str, Any]) -> dict[str, Any]:
    """Return the joint training cost of the members, and the figure of the ensemble on val."""
    parts = [one.training for one in members]
    metric = parts[0].metric
    percents = [part.backbone_percent for part in parts if part.backbone_percent is not None]
    return {
        **asdict(parts[0]),
        "score": (report.get("val") or {}).get(metric.removeprefix("val_")),
        "tie_break": None,
        "epoch": max(part.epoch for part in parts),
        "epochs": max(part.epochs for part in parts),
        "trainable_parameters": sum(part.trainable_parameters for part in parts),
        "backbone_percent": sum(percents) if len(percents) == len(parts) else None,
        "checkpoint_bytes": sum(part.checkpoint_bytes for part in parts),
        "train_seconds": sum(part.train_seconds for part in parts),
        "peak_memory": max(part.peak_memory for part in parts),
    }
