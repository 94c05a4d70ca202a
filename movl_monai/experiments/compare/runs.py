"""Final run of an arm and a seed: train with the selected values, or average an ensemble's members; evaluate once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from movl_monai.data.kept_splits import SPLITS_FILE
from movl_monai.errors import MovlError
from movl_monai.evaluation import Predictions, StoredOutputs, read_outputs
from movl_monai.experiments.compare.data import TestData
from movl_monai.experiments.compare.setup import ArmSetup, make_parser, settings_digest
from movl_monai.experiments.compare.training import Training, read_record, training_of
from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE, write_outputs
from movl_monai.report.rebuild import rebuild_report
from movl_monai.report.tasks import task_in
from movl_monai.runs.record_file import RECORD_FILE

__all__ = [
    "Result",
    "copy_training",
    "ensemble_run",
    "ensemble_settings",
    "evaluate_arm",
    "final_run",
    "keep_result",
    "mean_outputs",
    "read_result",
    "result_settings",
]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Contents of ``result.json`` of an arm, a seed and a draw.

    Args:
        settings: SHA-256 of everything that determines the result.
        arm: name of the arm.
        seed: of the run.
        draw: of the training images.
        values: of the searched ids.
        training: figures of the training.
        figures: of the task by domain, such as balanced accuracy; the table computes them again from the file.
        predictions_sha256: of ``evaluation/predictions.csv``, or ``cases.csv`` of a segmentation.
        versions: of the software.
        folder: of the result.
    """

    settings: str
    arm: str
    seed: int
    values: Mapping[str, Any]
    training: Training
    figures: Mapping[str, Mapping[str, float | None]]
    predictions_sha256: str
    versions: Mapping[str, Any]
    folder: Path
    draw: int = 0  # files of earlier versions have none

    @property
    def predictions(self) -> Path:
        """File with the results of each image, or of each case of a segmentation."""
        evaluation = self.folder / "evaluation"
        return evaluation / task_in(evaluation).results


def result_settings(setup: ArmSetup, values: Mapping[str, Any], seed: int, fingerprints: Mapping[str, str]) -> str:
    """Return the SHA-256 of everything that determines a result."""
    return settings_digest([setup.digest, dict(values), seed, dict(fingerprints)])


def read_result(folder: Path, settings: str) -> Result | None:
    """Read a result; None unless it is complete and has these settings."""
    content = read_record(folder / "result.json")
    if content.get("settings") != settings:
        return None
    training = training_of(content["training"])
    if training is None or (not training.failed and content["predictions_sha256"] != _digest(folder)):
        return None
    return Result(**{**content, "training": training, "folder": folder})


def final_run(
    setup: ArmSetup,
    *,
    values: Mapping[str, Any],
    seed: int,
    folder: Path,
    fingerprints: Mapping[str, str],
    train: Callable[[], Training],
    test: Callable[[], TestData],
    draw: int = 0,
) -> Result:
    """Train, evaluate once, and write ``result.json`` atomically.

    Args:
        setup: the arm.
        values: of the searched ids.
        seed: of the run.
        folder: of this run, for ``models/model.pt``.
        fingerprints: of the data.
        train: runs the training in the folder.
        test: returns the decoded images for evaluation; called only if the training did not fail.
        draw: of the training images.
    """
    training = train()
    report = {} if training.failed else evaluate_arm(setup, test(), values=values, seed=seed, folder=folder)
    return keep_result(
        folder,
        settings=result_settings(setup, values, seed, fingerprints),
        arm=setup.name,
        seed=seed,
        draw=draw,
        values=values,
        training=training,
        report=report,
    )


def keep_result(
    folder: Path,
    *,
    settings: str,
    arm: str,
    seed: int,
    draw: int,
    values: Mapping[str, Any],
    training: Training,
    report: Mapping[str, Any],
) -> Result:
    """Write ``result.json``, and return its contents.

    Args:
        folder: of the run, with its ``evaluation``.
        settings: SHA-256 of everything that determines the result.
        arm: name of the arm.
        seed: of the run.
        draw: of the training images.
        values: of the searched ids.
        training: figures of the training.
        report: of the evaluation; empty if the training failed.
    """
    figures: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    digest = ""
    if report:
        sections = {"id": report["id"], **report["ood"]}
        names = task_in(folder / "evaluation").figures.listed
        figures = {domain: {name: part[name] for name in names} for domain, part in sections.items() if part}
        versions = {**report["run"]["versions"], "git_commit": report["run"]["git_commit"]}
        digest = _digest(folder)
    content: dict[str, Any] = {
        "settings": settings,
        "arm": arm,
        "seed": seed,
        "draw": draw,
        "values": dict(values),
        "training": asdict(training),
        "figures": figures,
        "predictions_sha256": digest,
        "versions": versions,
    }
    write_atomically(folder / "result.json", to_json(jsonable(content)).encode())
    result = read_result(folder, content["settings"])
    if result is None:
        raise MovlError(f"The result of '{arm}', seed {seed}, cannot be read back; is the disk full?")
    return result


def evaluate_arm(
    setup: ArmSetup, test: TestData, *, values: Mapping[str, Any], seed: int, folder: Path
) -> dict[str, Any]:
    """Run the evaluation workflow on the images and return its report."""
    parser = make_parser(
        setup.evaluate,
        {**values, "seed": seed, "output_dir": str(folder), "overwrite": True, **_without_trust(setup.evaluate)},
        dataset=test.images,
        datalist=test.datalist,
        id_map=test.datalist.id_map,
        checkpoint=str(folder / "models" / "model.pt"),
    )
    parser.get_parsed_content("initialize")
    parser.get_parsed_content("evaluator").run()
    report = read_record(folder / "evaluation" / "report.json")
    if not report:
        raise MovlError("The evaluation workflow wrote no evaluation/report.json below output_dir.")
    return report


def _without_trust(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return overrides without a trust record, which without train images would have no OOD detector."""
    handlers = config.get("handlers")
    entries = enumerate(handlers if isinstance(handlers, list) else [])
    return {
        f"handlers#{index}#trust_record": None
        for index, entry in entries
        if isinstance(entry, Mapping) and "trust_record" in entry
    }


def copy_training(source: Path, target: Path) -> None:
    """Copy a finished training, so that the best trial is not trained again."""
    if not (source / "training.json").is_file() or (target / "training.json").is_file():
        return
    (target / "models").mkdir(parents=True, exist_ok=True)
    for name in ("models/model.pt", f"models/{RECORD_FILE}", f"models/{SPLITS_FILE}"):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    shutil.copyfile(source / "training.json", target / "training.json")


def _digest(folder: Path) -> str:
    """Return the SHA-256 of the file with the results of each image or case; "" without one."""
    try:
        path = folder / "evaluation" / task_in(folder / "evaluation").results
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (MovlError, OSError):
        return ""


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
