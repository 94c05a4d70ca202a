"""Made stored outputs of several findings and of a number, with all sections, gaps and groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit

from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions

FINDINGS = ["Effusion", "Mass", "Nodule"]
_PLACES = [("train", "id"), ("val", "id"), ("calibration", "id"), ("test", "id"), ("test", "scanner_b"), ("", "far")]


def made_outputs(
    labels: np.ndarray, logits: np.ndarray, names: list[str], task: str, *, each: int, **facts: Any
) -> StoredOutputs:
    """Stored outputs with ``each`` images in every place, two per patient; the far ones have no label."""
    count = len(logits)
    labels = labels.copy()
    labels[5 * each :] = np.nan
    draw = np.random.default_rng(7)
    features = np.hstack([logits, draw.normal(size=(count, 5))]).astype(np.float32)
    features[4 * each :] += 1.5
    features[5 * each :] += 3
    patients = [f"{number // 2:012x}" for number in range(count)]
    predictions = Predictions(
        ids=[f"{number:012x}" for number in range(count)],
        logits=logits,
        labels=labels,
        splits=[split for split, _ in _PLACES for _ in range(each)],
        domains=[domain for _, domain in _PLACES for _ in range(each)],
        patients=patients,
        patient_ids=patients,
    )
    return StoredOutputs(
        predictions=predictions,
        class_names=names,
        features=features,
        groups={"sex": ["F" if number % 4 < 2 else "M" for number in range(count)]},
        far_domains=["far"],
        task=task,
        facts={"run": {"seed": 0, "strategy": [{"name": "joint", "epochs": 3}]}, "options": {"rounds": 50}} | facts,
    )


def finding_outputs(*, each: int = 60, skill: float = 1.5, seed: int = 0, missing: float = 0.15) -> StoredOutputs:
    """Outputs of three findings; the labels do not depend on the skill."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(6 * each, len(FINDINGS))) * 1.5 - [0.3, 0.8, 1.2]
    labels = (expit(hidden * 2) > draw.random(hidden.shape)).astype(float)
    labels[draw.random(labels.shape) < missing] = np.nan
    return made_outputs(labels, skill * hidden + draw.normal(size=hidden.shape), FINDINGS, "multilabel", each=each)


def number_outputs(*, each: int = 60, noise: float = 4.0, seed: int = 0) -> StoredOutputs:
    """Outputs of a regression of an age in years."""
    draw = np.random.default_rng(seed)
    labels = draw.uniform(20, 90, size=6 * each)
    given = labels + noise * draw.normal(size=len(labels)) + 1
    labels[3::17] = np.nan
    return made_outputs(labels, given[:, None], ["age"], "regression", each=each)
