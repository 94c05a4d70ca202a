"""Choices of images that keep findings and numbers in balance."""

from __future__ import annotations

from typing import Any

import numpy as np

from movl_monai.experiments.compare.data import choose_images
from movl_monai.experiments.compare.fraction_choice import choose_fraction
from movl_monai.experiments.compare.strata import label_counts

NAMES = ["Edema", "Hernia"]


def items(labels: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": str(n), "image": str(n), "label": label, "patient_id": f"p{n // 2}"} for n, label in enumerate(labels)
    ]


def test_a_few_images_show_every_finding() -> None:
    found = items([(1, 0)] * 60 + [(0, None)] * 36 + [(1, 1)] * 4)
    chosen = choose_images(found, 9)
    assert label_counts(chosen, NAMES) == {"Edema": 6, "Hernia": 3, "(no finding)": 3}
    part = choose_fraction(found, 0.5, class_names=NAMES)
    assert label_counts(part, NAMES)["Hernia"] == 2


def test_a_few_images_spread_over_the_numbers() -> None:
    found = items([float(n) for n in range(100)])
    for chosen in (choose_images(found, 10), choose_fraction(found, 0.2)):
        assert np.histogram([item["label"] for item in chosen], 5, (0, 100))[0].min() >= 2
    assert label_counts([*found, {"label": None}], ["age"]) == {"with age": 100, "(no label)": 1}
