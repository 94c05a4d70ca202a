"""Trust record: fitted numbers in a file bound to a checkpoint that tell how far to trust its predictions."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

import movl_monai
from movl_monai.backbones.base import digest_tensors
from movl_monai.errors import MovlError
from movl_monai.metrics.classification_metrics import check_finite, softmax
from movl_monai.metrics.conformal import METHODS, ConformalFit, ConformalMethod
from movl_monai.metrics.ood.detection import SCORES, OODDetector, fit_detector
from movl_monai.metrics.ood.score import FeatureSketch
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.networks import decode_facts, encode_facts, save_atomically, trained_state_sha256
from movl_monai.report.tasks import CLASSIFICATION, task_named

__all__ = [
    "CONFORMAL_METHODS",
    "TRUST_FILE",
    "TRUST_FORMAT",
    "TrustError",
    "TrustRecord",
    "Trusted",
    "decode_trust",
    "read_trust",
    "trust_record",
    "write_trust",
]

# deterministic methods of a report's prediction sets
CONFORMAL_METHODS: dict[str, tuple[ConformalMethod, bool]] = {
    name: (method, per_class) for name, (method, per_class) in METHODS.items() if method != "aps_randomised"
}
TRUST_FILE = "trust.pt"
TRUST_FORMAT = 1

_LOGGER = logging.getLogger(__name__)
_AGAIN = (
    "Evaluate the run again (`movl-monai evaluate RUN --dataset_dir DIR`), which writes the record anew; without the "
    "file, predictions are not marked."
)


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
        least_confidence: smallest confidence (probability of the predicted class, raw logits) with which the network
            answers; None if unknown.
        conformal: thresholds of the prediction sets (raw logits); None if unknown.
        detector: OOD score and threshold; None if unknown.
        facts: source of the numbers, by part: splits, sizes, targets.
        task: name of the task, which decides on the answer that the confidence is about.
        findings: record of each of several findings, as of a classification into negative and positive with the logits
            (0, z); () for other tasks. Their ``least_confidence`` is of logits (0, z - logit(threshold)).
        threshold: probability (raw logits) from which a finding is called positive; None if unknown.
        half_width: half width of the interval around the number of a regression, in its unit; None if unknown.

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
    task: str = CLASSIFICATION.name
    findings: Sequence[TrustRecord] = ()
    threshold: float | None = None
    half_width: float | None = None

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
        unsure = None if self.least_confidence is None else self._confidence(values) < self.least_confidence
        reasons = [reason for reason in (outside, unsure) if reason is not None]
        return Trusted(
            probabilities=None if self.temperature is None else softmax(values / self.temperature),
            ood_scores=scores,
            outside=outside,
            sets=None if self.conformal is None else self.conformal.sets(values),
            abstain=np.any(reasons, axis=0) if reasons else None,
        )

    def _confidence(self, logits: np.ndarray) -> np.ndarray:
        task = task_named(self.task)
        probabilities = task.probabilities(logits)
        return probabilities[np.arange(len(logits)), task.decide(probabilities)]

    @property
    def gaps(self) -> list[str]:
        """The unknown parts, in words."""
        known: dict[str, Any]
        if "half_width" in self.facts:
            known = {"images outside": self.detector, "intervals": self.half_width}
        elif self.findings:
            known = {"images outside": self.detector}
        else:
            known = {
                "calibrated probabilities": self.temperature,
                "images outside": self.detector,
                "conformal sets": self.conformal,
                "when to abstain as unsure": self.least_confidence,
            }
        named = zip(self.class_names, self.findings, strict=False)
        return [name for name, part in known.items() if part is None] + [
            f"{gap} ({name})" for name, part in named for gap in part.gaps if gap != "images outside"
        ]


def trust_record(
    outputs: StoredOutputs, report: Mapping[str, Any], *, checkpoint_sha256: str, conformal: str | None = None
) -> TrustRecord:
    """Collect the numbers that a report fitted and chose, so that inference applies the same.

    Args:
        outputs: outputs that the report was computed from; the arrays of the OOD score are fitted on them again.
        report: report with the entries ``calibration``, ``operating_points``, ``ood_detection``, ``conformal`` and
            ``abstention``, each of which may be missing.
        checkpoint_sha256: trained state that gave the outputs.
        conformal: method of the prediction sets, a name of :data:`CONFORMAL_METHODS`; None takes the first in the
            report. Of classes it is "lac", which gives the smallest sets on average (Sadinle et al., JASA 2019).

    Raises:
        ValueError: if the name is unknown; "aps_randomised" is not offered because its sets are random.
    """
    if conformal is None:
        listed = (report.get("conformal") or {}).get("methods") or {}
        conformal = next((name for name in listed if name in CONFORMAL_METHODS), "lac")
    if conformal not in CONFORMAL_METHODS:
        raise ValueError(f"conformal must be one of {', '.join(CONFORMAL_METHODS)}, got {conformal!r}.")
    detector, found = None, report.get("ood_detection") or {}
    if chosen := found.get("chosen"):
        target = found["threshold_from"]["target_id_kept"]
        detector = fit_detector(outputs, score=chosen["score"], target_id_kept=target)
    given = {"checkpoint_sha256": checkpoint_sha256, "conformal": conformal}
    record = _numbers(report, outputs.class_names, task=outputs.task, **given)
    findings = [
        _numbers(entry, ["negative", "positive"], task=CLASSIFICATION.name, **given)
        for entry in (report.get("findings") or {}).values()
    ]
    return dataclasses.replace(record, detector=detector, findings=findings)


def _numbers(
    report: Mapping[str, Any], class_names: Sequence[str], *, task: str, checkpoint_sha256: str, conformal: str
) -> TrustRecord:
    """Return the numbers of a report, or of the entry of one finding in it, without a detector."""
    entries = {name: report.get(name) or {} for name in ("calibration", "conformal", "abstention", "ood_detection")}
    points = (report.get("operating_points") or {}).get("points") or ()
    kept = ("class", "target", "threshold", "chosen_on")
    fit = _conformal(entries["conformal"], conformal, class_names)
    facts = _facts(entries, conformal if fit is not None else None)
    intervals = report.get("number_intervals")
    if intervals is not None:
        facts["half_width"] = {name: intervals.get(name) for name in ("alpha", "calibrated_on")}
    return TrustRecord(
        checkpoint_sha256=checkpoint_sha256,
        class_names=list(class_names),
        temperature=entries["calibration"].get("temperature"),
        operating_points=[{name: point.get(name) for name in kept} for point in points],
        least_confidence=entries["abstention"].get("threshold"),
        conformal=fit,
        facts=facts,
        task=task,
        threshold=(report.get("threshold") or {}).get("threshold"),
        half_width=(intervals or {}).get("half_width"),
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


class TrustError(MovlError):
    """A trust record is missing, damaged, of another format, or of another checkpoint."""


def write_trust(path: str | os.PathLike[str], record: TrustRecord) -> int:
    """Write a record atomically.

    The file holds tensors only (:func:`torch.load` with ``weights_only=True`` reads it): facts as JSON in a uint8
    tensor, the arrays of the OOD score, and a SHA-256 of both. Mahalanobis needs 4 R F bytes for R principal axes of F
    features; R is the smaller of F and the number of training images: at most 6.6 MB for 1280 features, 1.2 MB with 240
    images. kNN keeps the training features, 2 N F bytes. F is at most 2048: a sketch replaces more features.

    Returns:
        size of the file in bytes, which is also logged.

    Raises:
        MovlError: if it cannot be written.
    """
    arrays, facts = _pack(record)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    encoded = encode_facts(facts)
    save_atomically({"facts": encoded, "arrays": tensors, "digest": _digest(encoded, tensors)}, path)
    size = Path(path).stat().st_size
    score = "" if record.detector is None else f", with {record.detector.score.name}"
    _LOGGER.info("Trust record: %s, %.0f kB%s.", Path(path).name, size / 1e3, score)
    if record.gaps:
        _LOGGER.info("Trust record: not known are %s.", ", ".join(record.gaps))
    return size


def read_trust(
    path: str | os.PathLike[str], source: nn.Module | Mapping[str, torch.Tensor] | str | os.PathLike[str]
) -> TrustRecord:
    """Read the record of a checkpoint.

    Args:
        path: ``trust.pt``.
        source: the network, state or checkpoint whose record it must be; see :func:`trained_state_sha256`.

    Raises:
        TrustError: if the file is missing or damaged, has another format version, or belongs to another checkpoint.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TrustError(f"There is no trust record {path.name} beside the checkpoint. {_AGAIN}") from error
    except OSError as error:
        raise _damaged(path, error) from error
    return decode_trust(content, trained_state_sha256(source), name=path.name)


def decode_trust(content: bytes, checkpoint_sha256: str, *, name: str = TRUST_FILE) -> TrustRecord:
    """Read a record from the bytes of its file, which an exported model carries.

    Args:
        content: content of ``trust.pt``.
        checkpoint_sha256: hash of the expected trained state; see :func:`trained_state_sha256`.
        name: name of the file, for messages.

    Raises:
        TrustError: as :func:`read_trust`.
    """
    facts, arrays = _load(content, name)
    if facts["checkpoint_sha256"] != checkpoint_sha256:
        raise TrustError(
            f"{name} belongs to the trained state {facts['checkpoint_sha256'][:12]}..., this checkpoint has "
            f"{checkpoint_sha256[:12]}...: it was trained again, or the file comes from another run. {_AGAIN}"
        )
    try:
        return _unpack(facts, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(name, error) from error


def _load(file: bytes, name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    try:
        content = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        encoded, arrays, digest = content["facts"], dict(content["arrays"]), content["digest"]
        facts = decode_facts(encoded)
        version = facts["format"]
        sound = version != TRUST_FORMAT or torch.equal(digest, _digest(encoded, arrays))
    except Exception as error:  # torch's unpickler raises many kinds of errors for damaged files
        raise _damaged(name, error) from error
    if version != TRUST_FORMAT:
        raise TrustError(f"{name} has format {version}, this movl_monai reads {TRUST_FORMAT}. {_AGAIN}")
    if not sound:
        raise _damaged(name)
    return facts, arrays


def _damaged(path: str | os.PathLike[str], error: Exception | None = None) -> TrustError:
    reason = "its checksum does not fit" if error is None else type(error).__name__
    return TrustError(f"{Path(path).name} is no trust record that can be read: {reason}. {_AGAIN}")


def _digest(encoded: torch.Tensor, arrays: Mapping[str, torch.Tensor]) -> torch.Tensor:
    text = digest_tensors({"facts": encoded, **{f"arrays.{name}": value for name, value in arrays.items()}})
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8)


def _pack(record: TrustRecord) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    facts: dict[str, Any] = {"format": TRUST_FORMAT, "movl_monai": movl_monai.__version__}
    facts |= {"checkpoint_sha256": record.checkpoint_sha256, "class_names": list(record.class_names)}
    facts |= {"temperature": record.temperature, "least_confidence": record.least_confidence}
    facts |= {"operating_points": [dict(point) for point in record.operating_points], "facts": dict(record.facts)}
    facts |= {"conformal": None, "ood": None}
    # a record that names no task is of a classification, as in older versions
    facts |= {} if record.task == CLASSIFICATION.name else {"task": record.task}
    if record.findings:
        facts["findings"] = [_pack(one)[1] for one in record.findings]
    extra = {"threshold": record.threshold, "half_width": record.half_width}
    facts |= {name: value for name, value in extra.items() if value is not None}
    arrays: dict[str, np.ndarray] = {}
    if (fit := record.conformal) is not None:
        thresholds = [None if np.isinf(value) else float(value) for value in fit.thresholds]
        facts["conformal"] = {"method": fit.method, "alpha": fit.alpha, "per_class": fit.per_class, "n": fit.n}
        facts["conformal"] |= {"thresholds": thresholds, "short": list(fit.short)}
    if (detector := record.detector) is not None:
        state = detector.score.state()
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        numbers = {name: value for name, value in state.items() if name not in arrays}
        facts["ood"] = {"score": detector.score.name, "numbers": numbers, "threshold": detector.threshold}
        facts["ood"] |= {"target_id_kept": detector.target_id_kept}
        facts["ood"] |= {"fitted_on": detector.fitted_on, "threshold_from": detector.threshold_from}
        if detector.sketch is not None:
            facts["ood"] |= {"sketch": dataclasses.asdict(detector.sketch)}
    return arrays, facts


def _unpack(facts: Mapping[str, Any], arrays: Mapping[str, torch.Tensor]) -> TrustRecord:
    names = ("checkpoint_sha256", "class_names", "temperature", "least_confidence", "operating_points", "facts")
    conformal = detector = None
    if (said := facts["conformal"]) is not None:
        thresholds = np.array([np.inf if value is None else value for value in said["thresholds"]])
        conformal = ConformalFit(**{**said, "thresholds": thresholds, "short": tuple(said["short"])})
    if (said := facts["ood"]) is not None:
        state = {name: value.numpy() for name, value in arrays.items()} | said["numbers"]
        score = SCORES[said["score"]].from_state(state)
        kept = ("threshold", "target_id_kept", "fitted_on", "threshold_from")
        sketch = FeatureSketch(**said["sketch"]) if "sketch" in said else None
        detector = OODDetector(score=score, sketch=sketch, **{name: said[name] for name in kept})
    return TrustRecord(
        **{name: facts[name] for name in names},
        conformal=conformal,
        detector=detector,
        # records of earlier versions and of other tasks have none
        task=facts.get("task", CLASSIFICATION.name),
        findings=[_unpack(one, {}) for one in facts.get("findings", ())],
        threshold=facts.get("threshold"),
        half_width=facts.get("half_width"),
    )
