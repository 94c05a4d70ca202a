"""Tests of all figures of one set of images in the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from movl_monai.evaluation import classification_figures
from movl_monai.metrics import classification_metrics as metrics
from tests.evaluation.data import random_logits

NAMES = ["a", "b", "c"]


def test_figures_are_those_of_the_functions() -> None:
    labels, logits = random_logits()
    figures = classification_figures(labels, logits, class_names=NAMES)
    probabilities = metrics.softmax(logits)
    assert figures["n"] == 60
    assert figures["balanced_accuracy"] == metrics.balanced_accuracy(labels, logits)
    assert figures["auroc"] == metrics.macro_auroc(labels, probabilities)
    assert figures["average_precision"] == metrics.macro_average_precision(labels, probabilities)
    assert figures["quadratic_kappa"] == metrics.quadratic_kappa(labels, logits)
    assert figures["cross_entropy"] == metrics.cross_entropy(labels, logits)
    assert figures["brier"] == metrics.brier_score(labels, probabilities)
    assert figures["ece"] == metrics.expected_calibration_error(labels, probabilities)
    assert figures["per_class"]["b"]["sensitivity"] == metrics.sensitivity_per_class(labels, logits)[1]
    assert sum(figures["per_class"][name]["n"] for name in NAMES) == 60
    assert np.sum(figures["confusion_matrix"]) == 60
    assert figures["notes"] == []


@pytest.mark.parametrize("present", [[0, 1], [1], []])
def test_figures_without_a_value_are_none_with_a_reason_and_valid_json(present: list[int]) -> None:
    labels, logits = random_logits()
    rows = np.isin(labels, present)
    figures = classification_figures(labels[rows], logits[rows], class_names=NAMES)
    json.dumps(figures, allow_nan=False)
    for name in ("balanced_accuracy", "auroc", "average_precision"):
        assert figures[name] is None
        assert any(note.startswith(f"{name} is not given: ") for note in figures["notes"])
    assert (figures["accuracy"] is None) == (present == [])


def test_note_names_the_missing_class_and_gives_the_mean_over_the_others() -> None:
    labels, logits = random_logits()
    rows = labels != 2
    note = classification_figures(labels[rows], logits[rows], class_names=NAMES)["notes"][0]
    expected = np.nanmean(metrics.sensitivity_per_class(labels[rows], logits[rows]))
    assert "No images of the class c" in note
    assert f"mean sensitivity is {expected:.4f}" in note


def test_class_names_must_fit_the_logits() -> None:
    with pytest.raises(ValueError, match="Expected 3 class names for as many logits, got 2"):
        classification_figures(*random_logits(), class_names=["a", "b"])
