"""Effects of int8 quantisation on images: accuracy, classes, logits, and the flags of the trust record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from movl_monai.errors import ExportError
from movl_monai.metrics.conformal import binomial_interval
from movl_monai.metrics.declared import TaskFigures
from movl_monai.metrics.paired import mcnemar, paired_figures
from movl_monai.report.tasks import CLASSIFICATION, Task

from .exported import ExportedOutput
from .parity import ImageSample

if TYPE_CHECKING:
    from movl_monai.evaluation.trust_record import TrustRecord

__all__ = ["check_change", "describe_change", "doubt"]

Predict = Callable[[np.ndarray], ExportedOutput]

_BATCH = 8


def describe_change(
    exact: Predict,
    quantized: Predict,
    sample: ImageSample,
    *,
    trust: TrustRecord | None = None,
    task: Task = CLASSIFICATION,
) -> dict[str, Any]:
    """Compare a float model and its int8 version on images.

    Args:
        exact: the float model.
        quantized: the same model in int8.
        sample: images, with labels if they are known.
        trust: trust record of the float model, which the int8 file carries too.
        task: task of the model.

    Returns:
        JSON-able dictionary:

        - ``images``, ``kind``, ``unreadable``, ``available``: see :class:`~movl_monai.export.parity.ImageSample`.
        - ``same_class``: share of images (of pixels, for a segmentation) with an unchanged class.
        - ``max_logit_difference``, ``max_probability_difference``.
        - ``labeled``: null without labels of whole images, else: for "balanced_accuracy" (null if a class has no
          images) and "accuracy" the values ``before`` and ``after``, their ``change``, and its ``interval`` (95 %,
          paired, resampled by patient if patients are known; null if no image flips, because resampling would take that
          for certain); ``only_before_right`` and ``only_after_right`` (images); ``p_value`` (McNemar); ``lost_at_most``
          (if no image is lost, the upper end of the exact interval for the share of lost patients or images, else
          null); ``resampled``, ``num_resampled``, ``level``.
        - ``marks``: null without a trust record, else: for "outside" and "abstain" the share of images ``before``,
          ``after`` and ``changed``.
    """
    before, after = _outputs(exact, sample), _outputs(quantized, sample)
    logits = before.logits, after.logits
    probabilities = [task.probabilities(one) for one in logits]
    classes = [task.decide(one) for one in probabilities]
    whole = logits[0].ndim == 2
    return {
        "images": len(sample),
        "kind": sample.kind,
        "unreadable": sample.unreadable,
        "available": sample.available,
        "same_class": float((classes[0] == classes[1]).mean()),
        "max_logit_difference": _largest(*logits),
        "max_probability_difference": _largest(*probabilities),
        "labeled": _labeled(*logits, sample, task.figures) if whole and sample.labels is not None else None,
        "marks": _marks(before, after, trust) if whole and trust is not None else None,
    }


def check_change(change: Mapping[str, Any], *, max_drop: float) -> None:
    """Raise ExportError if int8 changes more than allowed.

    Args:
        change: result of :func:`describe_change`.
        max_drop: largest allowed drop of the balanced accuracy (of the accuracy, if a class has no images). Without
            labels: largest allowed share of images, or pixels, that change their class.
    """
    labeled = change["labeled"]
    if labeled is None:
        drop, what = 1 - change["same_class"], "another class is predicted in a share of"
    else:
        name, figure = _figure(labeled)
        drop, what = -figure["change"], f"the {name} falls by"
    if drop > max_drop:
        raise ExportError(
            f"In int8 {what} {drop:.3f} ({change['images']} {change['kind']} images), allowed is {max_drop:.3f}; "
            "nothing was written. Leave --int8 out, or allow more with --int8_max_drop if that is acceptable."
        )


def doubt(change: Mapping[str, Any]) -> str:
    """Describe a drop that the images cannot rule out although the change was accepted; "" if they can.

    Example:
        >>> labeled = {"accuracy": None, "lost_at_most": 0.07, "level": 0.95, "resampled": "patients"}
        >>> labeled["balanced_accuracy"] = {"before": 0.9, "after": 0.9, "change": 0.0, "interval": None}
        >>> doubt({"images": 50, "max_drop": 0.02, "labeled": labeled})
        'on 50 images none is lost, but a share of 0.070 of patients cannot be ruled out (95 % interval)'
    """
    labeled = change["labeled"]
    if labeled is None:
        return ""
    name, figure = _figure(labeled)
    level = f"cannot be ruled out ({100 * labeled['level']:.0f} % interval)"
    if (lost := labeled["lost_at_most"]) is not None and lost > change["max_drop"]:
        return f"on {change['images']} images none is lost, but a share of {lost:.3f} of {labeled['resampled']} {level}"
    if figure["interval"] is None or -figure["interval"][0] <= change["max_drop"]:
        return ""
    return f"on {change['images']} images a fall of the {name} by {-figure['interval'][0]:.3f} {level}"


def _figure(labeled: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if labeled["balanced_accuracy"] is not None:
        return "balanced accuracy", labeled["balanced_accuracy"]
    return "accuracy", labeled["accuracy"]


def _outputs(model: Predict, sample: ImageSample) -> ExportedOutput:
    parts = [model(sample.images[start : start + _BATCH]) for start in range(0, len(sample), _BATCH)]
    features = [part.features for part in parts if part.features is not None]
    return ExportedOutput(
        np.concatenate([part.logits for part in parts]), np.concatenate(features) if features else None
    )


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def _labeled(before: np.ndarray, after: np.ndarray, sample: ImageSample, figures: TaskFigures) -> dict[str, Any]:
    labels = np.asarray(sample.labels)
    chosen = ["balanced_accuracy", "accuracy"]
    found = paired_figures(labels, after, before, patients=sample.patients, metrics=chosen, figures=figures)
    flips = mcnemar(labels, after, before, decide=figures.decide)
    lost, won = flips["only_b"], flips["only_a"]
    return {
        **{
            name: None
            if entry["difference"] is None
            else {
                "before": entry["b"],
                "after": entry["a"],
                "change": entry["difference"],
                "interval": entry["interval"] if lost or won else None,
            }
            for name, entry in found["metrics"].items()
        },
        "only_before_right": lost,
        "only_after_right": won,
        "p_value": flips["p_value"],
        "lost_at_most": None if lost else binomial_interval(0, found["num_resampled"])[1],
        "resampled": found["resampled"],
        "num_resampled": found["num_resampled"],
        "level": found["level"],
    }


def _marks(before: ExportedOutput, after: ExportedOutput, trust: TrustRecord) -> dict[str, Any]:
    one, other = (trust.apply(output.logits, output.features) for output in (before, after))
    pairs = {"outside": (one.outside, other.outside), "abstain": (one.abstain, other.abstain)}
    return {
        name: None
        if first is None or second is None
        else {
            "before": float(first.mean()),
            "after": float(second.mean()),
            "changed": float((first != second).mean()),
        }
        for name, (first, second) in pairs.items()
    }
