"""Choice on val: the simpler candidate, unless another is clearly better."""

from __future__ import annotations

import numpy as np
import pytest

from movl_monai.fit.choice import OnVal, choose


def _one(correct: int, *, count: int = 60, margin: float = 1.0) -> OnVal:
    """The first `correct` of `count` images of two classes are right, by a margin in logits."""
    labels = np.arange(count) % 2
    right = np.where(np.arange(count) < correct, margin, -1.0)
    logits = np.zeros((count, 2))
    logits[np.arange(count), labels] = right
    return OnVal(figure="balanced_accuracy", patients=[None] * count, labels=labels, logits=logits, cases=np.array([]))


def _cases(*dice: float) -> OnVal:
    empty = np.array([])
    return OnVal(figure="dice", patients=[None] * len(dice), labels=empty, logits=empty, cases=np.array(dice))


@pytest.mark.parametrize(
    ("linear", "layers", "trained", "chosen"),
    [
        (40, 50, 52, "layers"),  # ahead, but not clearly
        (40, 42, 58, "trained"),
        (50, 40, 48, "linear"),  # of the probes the better one, never below the linear probe
        (50, 50, 50, "linear"),
    ],
)
def test_a_trained_candidate_must_be_clearly_better(linear: int, layers: int, trained: int, chosen: str) -> None:
    found = {"linear": _one(linear), "layers": _one(layers), "trained": _one(trained)}
    choice = choose(found, exact=["linear", "layers"])
    assert choice.name == chosen
    assert set(choice.differences) == set(found) - {chosen}
    assert found[chosen].value() >= found["linear"].value()


def test_equal_probes_are_told_apart_by_cross_entropy() -> None:
    found = {"linear": _one(50), "layers": _one(50, margin=3.0)}
    assert choose(found, exact=list(found)).name == "layers"


def test_the_simpler_of_two_trained_candidates_is_kept() -> None:
    found = {"probe": _one(30), "lora": _one(56), "dvpt": _one(57)}
    choice = choose(found, exact=["probe"])
    assert choice.name == "lora"
    assert choice.reason == "clearly better on val than probe; dvpt not clearly better on val"


def test_cases_of_a_segmentation_are_compared_in_pairs() -> None:
    found = {"decoder": _cases(0.5, 0.6, 0.7, 0.8), "adapter": _cases(0.55, 0.66, 0.77, 0.9)}
    choice = choose(found, exact=[])
    assert choice.name == "adapter"
    assert choice.differences["decoder"]["difference"] == pytest.approx(-0.07)
