"""Entries of a report on trust in the network, from its stored outputs."""

from __future__ import annotations

from collections.abc import Sequence

from movl_monai.metrics.calibration import calibration_report
from movl_monai.metrics.conformal import CLASS_METHODS, conformal_report
from movl_monai.metrics.declared import CLASS_FIGURES, TaskFigures
from movl_monai.metrics.entries import OODDetection
from movl_monai.metrics.ood.detection import DEFAULT_SCORE, FEATURE_SCORES, ood_detection
from movl_monai.metrics.operating_points import operating_points_report
from movl_monai.metrics.selective import abstention_report
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.subgroups import group_report
from movl_monai.report.entries import TrustEntries
from movl_monai.report.options import ReportOptions

__all__ = ["NO_FAR", "NO_GROUPS", "calibrated_on", "feature_detection", "shown_sections", "trust_entries"]

NO_FAR = "There are no far sets, images of another kind (`far_dataset_dirs`)."
NO_GROUPS = "No column of the manifest was named as a group (`group_columns`)."


def trust_entries(
    outputs: StoredOutputs,
    options: ReportOptions,
    *,
    figures: TaskFigures = CLASS_FIGURES,
    sets: Sequence[str] = CLASS_METHODS,
    ordered: bool = False,
) -> TrustEntries:
    """Compute ``calibration``, ``operating_points``, ``ood_detection``, ``conformal``, ``abstention`` and ``groups``.

    Parameters are fitted or chosen on train, val and calibration images; figures are given for every section. An entry
    without the necessary images is empty, and its ``notes`` give the reason.

    Args:
        outputs: stored outputs of all splits.
        options: options of the report.
        figures: figures of the task, and its predicted class.
        sets: methods of the prediction sets, the promised one first.
        ordered: True for grades; see :func:`~movl_monai.metrics.operating_points.operating_points_report`.
    """
    parts = shown_sections(outputs)
    shown = {name: part.predictions for name, part in parts.items()}
    resampling, names = options.resampling, outputs.class_names
    targets = [(point["metric"], point["at_least"]) for point in options.operating_points]
    score = options.ood_score or DEFAULT_SCORE
    entries: TrustEntries = {
        "calibration": calibration_report(shown, decide=figures.decide, **resampling),
        "operating_points": operating_points_report(
            shown, class_names=names, targets=targets, ordered=ordered, **resampling
        ),
        "ood_detection": ood_detection(outputs, score=score, target_id_kept=options.target_id_kept, **resampling),
        "conformal": conformal_report(
            shown,
            class_names=names,
            calibrated_on=calibrated_on(outputs),
            alpha=options.alpha,
            methods=sets,
            level=options.level,
            seed=options.seed,
        ),
        "abstention": abstention_report(shown, target_risk=options.target_risk, decide=figures.decide, **resampling),
        "groups": group_report(parts, figures=figures, small_below=options.small_group, **resampling),
    }
    if not outputs.far_domains:
        entries["ood_detection"]["notes"].append(NO_FAR)
    if not outputs.groups:
        entries["groups"]["notes"] = [*entries["groups"]["notes"], NO_GROUPS]
    return entries


def shown_sections(outputs: StoredOutputs) -> dict[str, StoredOutputs]:
    """Return the existing sections with figures: "id", "ood:<domain>", "val" and "calibration"."""
    return {name: part for name, part in outputs.sections().items() if name != "train" and not name.startswith("far:")}


def calibrated_on(outputs: StoredOutputs) -> str:
    """Return the calibration section of the prediction sets: "calibration", or else "val", which a note reports."""
    parts = outputs.sections()
    return "val" if "calibration" not in parts and "val" in parts else "calibration"


def feature_detection(outputs: StoredOutputs, options: ReportOptions) -> OODDetection:
    """Compute ``ood_detection`` of a task without classes, whose scores read features alone."""
    score = options.ood_score or DEFAULT_SCORE
    chosen = score if score in FEATURE_SCORES else DEFAULT_SCORE
    entry = ood_detection(
        outputs, score=chosen, target_id_kept=options.target_id_kept, scores=FEATURE_SCORES, **options.resampling
    )
    if chosen != score:
        entry["notes"].append(f"The score {score} needs the logits of classes; {chosen} takes its place.")
    if not outputs.far_domains:
        entry["notes"].append(NO_FAR)
    return entry
