"""Images and networks, shared by the tests of this folder."""

from __future__ import annotations

import numpy as np

from movl_monai.evaluation import Predictions
from movl_monai.metrics.classification_metrics import softmax


def drawn_from_softmax(count: int, num_classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the probabilities of the logits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, num_classes)) * 2
    cumulated = softmax(logits).cumsum(axis=1)
    return (generator.random(count)[:, None] > cumulated).sum(axis=1).clip(max=num_classes - 1), logits


def images(labels: np.ndarray, logits: np.ndarray, *, patients: int | None = None) -> Predictions:
    """Predictions whose images belong to the given number of patients in turn."""
    ids = [str(index) for index in range(len(labels))]
    owners = None if patients is None else [f"p{index % patients}" for index in range(len(labels))]
    return Predictions(ids=ids, logits=logits, labels=labels, patients=owners)
