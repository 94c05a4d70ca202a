"""File of a trust record, bound to its checkpoint by a hash."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import movl_monai
from movl_monai.backbones.base import digest_tensors
from movl_monai.errors import MovlError
from movl_monai.evaluation.trust_record import TrustRecord
from movl_monai.metrics.conformal import ConformalFit
from movl_monai.metrics.ood.detection import SCORES, OODDetector
from movl_monai.metrics.ood.sketch import FeatureSketch
from movl_monai.networks import decode_facts, encode_facts, save_atomically, trained_state_sha256

__all__ = [
    "TRUST_FILE",
    "TRUST_FORMAT",
    "TrustError",
    "decode_trust",
    "read_trust",
    "write_trust",
]

TRUST_FILE = "trust.pt"
TRUST_FORMAT = 1

_LOGGER = logging.getLogger(__name__)
_AGAIN = (
    "Evaluate the run again (`movl-monai evaluate RUN --dataset_dir DIR`), which writes the record anew; without the "
    "file, predictions are not marked."
)


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
    return TrustRecord(**{name: facts[name] for name in names}, conformal=conformal, detector=detector)
