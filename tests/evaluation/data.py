"""Random predictions, shared by the tests of this folder."""

from __future__ import annotations

import numpy as np

from movl_monai.evaluation import Predictions


def random_logits(
    count: int = 60, num_classes: int = 3, *, skill: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of every class, and logits of a classifier with the given skill, with some ties."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % num_classes)
    logits = generator.normal(size=(count, num_classes)).round(1)
    logits[np.arange(count), labels] += skill
    logits[: count // 4] = logits[0]  # ties
    return labels, logits


def random_predictions(count: int = 60, num_classes: int = 3, *, seed: int = 0) -> Predictions:
    """Images of the ID test and val sets and of two other domains, two per patient."""
    labels, logits = random_logits(count, num_classes, seed=seed)
    places = [("id", "test"), ("id", "val"), ("scanner_b", "test"), ("hospital_c", "")]
    chosen = [places[index * len(places) // count] for index in range(count)]
    return Predictions(
        ids=[f"{index:012x}" for index in range(count)],
        logits=logits,
        labels=labels,
        domains=[domain for domain, _ in chosen],
        splits=[split for _, split in chosen],
        patients=[f"Smith-{index // 2}" for index in range(count)],
        patient_ids=[f"{index // 2:012x}" for index in range(count)],
    )
