"""Stored outputs of a made-up network, with every split and kind of image."""

from __future__ import annotations

from typing import Any

import numpy as np

from movl_monai.evaluation import Predictions, StoredOutputs

NAMES = ["a", "b", "c"]
PLACES = {
    ("id", "train"): 60,
    ("id", "val"): 48,
    ("id", "calibration"): 48,
    ("id", "test"): 60,
    ("scanner_b", "test"): 40,
    ("colon", "test"): 20,
}


def stored_outputs(*, seed: int = 0, skill: float = 2.0, facts: dict[str, Any] | None = None) -> StoredOutputs:
    """Features in clusters by class, shifted in other domains and far away for "colon", which has no labels.

    Two images belong to one patient.
    """
    draw = np.random.default_rng(seed)
    places = [place for place, count in PLACES.items() for _ in range(count)]
    count = len(places)
    labels = np.arange(count) % 3
    shift = np.array([{"id": 0.0, "scanner_b": 1.0, "colon": 9.0}[domain] for domain, _ in places])
    features = draw.normal(size=(count, 6)) + shift[:, None]
    features[np.arange(count), labels] += skill
    logits = features[:, :3] + draw.normal(scale=0.3, size=(count, 3))
    domains = [domain for domain, _ in places]
    predictions = Predictions(
        ids=[f"{index:012x}" for index in range(count)],
        logits=logits,
        labels=[-1 if domain == "colon" else label for domain, label in zip(domains, labels, strict=True)],
        domains=domains,
        splits=[split for _, split in places],
        patients=[f"{index // 2:012x}" for index in range(count)],
        patient_ids=[f"{index // 2:012x}" for index in range(count)],
    )
    return StoredOutputs(
        predictions=predictions,
        class_names=NAMES,
        features=features,
        groups={"sex": [("F", "M", "F", "M", "")[index // 2 % 5] for index in range(count)]},
        far_domains=["colon"],
        facts=facts or {"run": {"seed": 3}, "options": {"rounds": 30}, "bundle": {"bundle": "movl_classification"}},
    )
