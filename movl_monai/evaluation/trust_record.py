"""Trust record: fitted numbers kept with a checkpoint that tell how far to trust its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.checks import check_finite
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.conformal import METHODS, ConformalFit, ConformalMethod
from movl_monai.metrics.ood.detection import OODDetector, fit_detector
from movl_monai.metrics.stored.outputs import StoredOutputs

__all__ = ["CONFORMAL_METHODS", "Trusted", "TrustRecord", "trust_record"]

# deterministic methods of a report's prediction sets
CONFORMAL_METHODS: dict[str, tuple[ConformalMethod, bool]] = {
    name: (method, per_class) for name, (method, per_class) in METHODS.items() if method != "aps_randomised"
}


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """Judgement of a trust record about N images; an unknown part is None.

    Args:
        probabilities: calibrated probabilities, float64 (N, C).
        ood_scores: OOD scores, float64 (N,); larger means more out-of-distribution.
        outside: out-of-distribution images, bool (N,).
        sets: prediction sets, bool (N, C).
        abstain: images on which the network should abstain, bool (N,).
    """

    probabilities: np.ndarray | None
    ood_scores: np.ndarray | None
    outside: np.ndarray | None
    sets: np.ndarray | None
    abstain: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class TrustRecord:
    """Numbers fitted for one checkpoint on train, val and calibration images, never on test or OOD images.

    Args:
        checkpoint_sha256: the trained state it belongs to; see
            :func:`~movl_monai.networks.trained_state_sha256`.
        class_names: the C names in the order of the logits.
        temperature: divisor of the logits for calibrated probabilities; None if unknown.
        operating_points: thresholds of the probability (raw logits) of a class: ``class``, ``target``, ``threshold``,
            ``chosen_on``.
        least_confidence: smallest confidence (largest probability, raw logits) with which the network answers; None if
            unknown.
        conformal: thresholds of the prediction sets (raw logits); None if unknown.
        detector: OOD score and threshold; None if unknown.
        facts: source of the numbers, by part: splits, sizes, targets.

    Example:
        >>> record = TrustRecord(checkpoint_sha256="0" * 64, class_names=["no", "yes"], temperature=2.0)
        >>> record.apply([[4.0, 0.0]]).probabilities.round(3).tolist()
        [[0.881, 0.119]]
    """

    checkpoint_sha256: str
    class_names: Sequence[str]
    temperature: float | None = None
    operating_points: Sequence[Mapping[str, Any]] = ()
    least_confidence: float | None = None
    conformal: ConformalFit | None = None
    detector: OODDetector | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, logits: ArrayLike, features: ArrayLike | None = None) -> Trusted:
        """Judge images.

        The network abstains from out-of-distribution images, and from images with a confidence below
        ``least_confidence``. If neither the detector nor that threshold is known, ``abstain`` is None.

        Args:
            logits: (N, C), before softmax.
            features: (N, F), the input of the head; None if the score does not need them.

        Raises:
            ValueError: if the number of classes differs.
            MovlError: if a value is not finite, features are missing, or their number differs from the fit.
        """
        values = np.asarray(logits, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.class_names):
            raise ValueError(f"logits must be (N, {len(self.class_names)}), got {values.shape}.")
        check_finite(values)
        scores, outside = (None, None) if self.detector is None else self.detector(values, features)
        unsure = None if self.least_confidence is None else softmax(values).max(axis=1) < self.least_confidence
        reasons = [reason for reason in (outside, unsure) if reason is not None]
        return Trusted(
            probabilities=None if self.temperature is None else softmax(values / self.temperature),
            ood_scores=scores,
            outside=outside,
            sets=None if self.conformal is None else self.conformal.sets(values),
            abstain=np.any(reasons, axis=0) if reasons else None,
        )

    @property
    def gaps(self) -> list[str]:
        """The unknown parts, in words."""
        known = {
            "calibrated probabilities": self.temperature,
            "images outside": self.detector,
            "conformal sets": self.conformal,
            "when to abstain as unsure": self.least_confidence,
        }
        return [name for name, part in known.items() if part is None]


def trust_record(
    outputs: StoredOutputs, report: Mapping[str, Any], *, checkpoint_sha256: str, conformal: str = "lac"
) -> TrustRecord:
    """Collect the numbers that a report fitted and chose, so that inference applies the same.

    Args:
        outputs: outputs that the report was computed from; the arrays of the OOD score are fitted on them again.
        report: report with the entries ``calibration``, ``operating_points``, ``ood_detection``, ``conformal`` and
            ``abstention``, each of which may be missing.
        checkpoint_sha256: trained state that gave the outputs.
        conformal: method of the prediction sets, a name of :data:`CONFORMAL_METHODS`. The default gives the smallest
            sets on average (Sadinle et al., JASA 2019).

    Raises:
        ValueError: if the name is unknown; "aps_randomised" is not offered because its sets are random.
    """
    if conformal not in CONFORMAL_METHODS:
        raise ValueError(f"conformal must be one of {', '.join(CONFORMAL_METHODS)}, got {conformal!r}.")
    entries = {name: report.get(name) or {} for name in ("calibration", "conformal", "abstention", "ood_detection")}
    points = (report.get("operating_points") or {}).get("points") or ()
    kept = ("class", "target", "threshold", "chosen_on")
    fit, detector = _conformal(entries["conformal"], conformal, outputs.class_names), None
    if chosen := entries["ood_detection"].get("chosen"):
        target = entries["ood_detection"]["threshold_from"]["target_id_kept"]
        detector = fit_detector(outputs, score=chosen["score"], target_id_kept=target)
    return TrustRecord(
        checkpoint_sha256=checkpoint_sha256,
        class_names=list(outputs.class_names),
        temperature=entries["calibration"].get("temperature"),
        operating_points=[{name: point.get(name) for name in kept} for point in points],
        least_confidence=entries["abstention"].get("threshold"),
        conformal=fit,
        detector=detector,
        facts=_facts(entries, conformal if fit is not None else None),
    )


def _conformal(entry: Mapping[str, Any], name: str, class_names: Sequence[str]) -> ConformalFit | None:
    thresholds = ((entry.get("methods") or {}).get(name) or {}).get("thresholds")
    if thresholds is None:
        return None
    # JSON has no infinity: the report holds None for a class that is in every set
    values = [thresholds[class_name] for class_name in class_names]
    method, per_class = CONFORMAL_METHODS[name]
    return ConformalFit(
        method=method,
        alpha=entry["alpha"],
        per_class=per_class,
        thresholds=np.array([np.inf if value is None else value for value in values]),
        n=entry["calibrated_on"]["n"],
        short=tuple(index for index, value in enumerate(values) if value is None),
    )


def _facts(entries: Mapping[str, Mapping[str, Any]], conformal: str | None) -> dict[str, Any]:
    """Return the source of the numbers."""
    wanted = {
        "calibration": ("fitted_on",),
        "abstention": ("target_risk", "chosen_on"),
        "conformal": ("alpha", "calibrated_on"),
        "ood_detection": ("fitted_on", "threshold_from"),
    }
    facts = {name: {key: entries[name].get(key) for key in keys} for name, keys in wanted.items() if entries[name]}
    if conformal is not None:
        facts["conformal"]["method"] = conformal
    return facts
