"""Properties of the division by patient: nothing shared, every class everywhere, near the fractions, reproducible."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movl_monai.data.grouped_split import grouped_split
from movl_monai.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Labels and patients: 2 to 4 classes of 3 to 12 patients each, 1 to 4 images of a patient."""
    labels, groups = [], []
    for label in range(draw(st.integers(2, 4))):
        for patient in range(draw(st.integers(3, 12))):
            for _ in range(draw(st.integers(1, 4))):
                labels.append(f"class{label}")
                groups.append(f"{label}-{patient}")
    return labels, groups


@settings(deadline=None, max_examples=40)
@given(cohorts(), st.integers(0, 5), st.sampled_from([FRACTIONS, (0.8, 0.1, 0.1), (0.7, 0.3), (1 / 3, 1 / 3, 1 / 3)]))
def test_no_patient_is_in_two_parts_and_every_part_has_every_class(
    cohort: tuple[list[str], list[str]], seed: int, fractions: tuple[float, ...]
) -> None:
    labels, groups = cohort
    parts = grouped_split(labels, groups, fractions=fractions, seed=seed)
    assert len({(group, part) for group, part in zip(groups, parts, strict=True)}) == len(set(groups))
    found = {(label, part) for label, part in zip(labels, parts, strict=True)}
    assert len(found) == len(set(labels)) * len(fractions)


@settings(deadline=None, max_examples=20)
@given(cohorts(), st.randoms())
def test_the_order_of_the_images_does_not_matter(cohort: tuple[list[str], list[str]], random: Random) -> None:
    labels, groups = cohort
    order = list(range(len(labels)))
    random.shuffle(order)
    parts = grouped_split(labels, groups, fractions=FRACTIONS, seed=3)
    shuffled = grouped_split([labels[i] for i in order], [groups[i] for i in order], fractions=FRACTIONS, seed=3)
    assert shuffled == [parts[i] for i in order]


@pytest.mark.parametrize("fractions", [FRACTIONS, (0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.9, 0.1)])
def test_fractions_are_near_in_every_class(fractions: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    groups = [f"p{patient}" for patient in rng.integers(0, 300, 1000)]
    labels = [str(label) for label in rng.choice(3, 1000, p=[0.7, 0.2, 0.1])]
    parts = np.array(grouped_split(labels, groups, fractions=fractions, seed=0))
    for label in "012":
        chosen = parts[np.array(labels) == label]
        shares = np.bincount(chosen, minlength=len(fractions)) / len(chosen)
        np.testing.assert_allclose(shares, fractions, atol=0.05)


def test_the_seed_decides() -> None:
    labels, groups = ["a", "b"] * 50, [f"p{i}" for i in range(100)]
    splits = [tuple(grouped_split(labels, groups, fractions=FRACTIONS, seed=seed)) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len(set(splits)) == 3


def test_a_rare_class_of_three_patients_reaches_every_part() -> None:
    labels = ["common"] * 200 + ["rare"] * 3
    parts = grouped_split(labels, [f"p{i}" for i in range(203)], fractions=FRACTIONS, seed=0)
    assert sorted(parts[-3:]) == [0, 1, 2]
    assert parts.count(0) == pytest.approx(0.6 * 203, abs=10)


def test_a_class_with_too_few_patients_is_named_with_the_counts() -> None:
    labels, groups = ["a"] * 5 + ["b"] * 4, ["1", "2", "3", "4", "5", "6", "6", "7", "7"]
    with pytest.raises(DataError, match=r"Class 'b' has images of 2 patient.*\(patients per class: a 5, b 2\)"):
        grouped_split(labels, groups, fractions=FRACTIONS, seed=0)


def test_folders_that_are_patients_and_not_classes_are_not_named() -> None:
    labels = ["DOE^JANE", "DOE^JOHN", "ROE^RICHARD", "normal", "normal", "normal"]
    with pytest.raises(DataError, match=r"3 of 4 classes have images of fewer patients") as caught:
        grouped_split(labels, ["1", "2", "3", "4", "5", "6"], fractions=FRACTIONS, seed=0)
    assert "DOE" not in str(caught.value)
    assert "movl-monai ingest" in str(caught.value)


def test_a_division_that_cannot_be_is_an_error() -> None:
    # two patients own all classes but one image each; three parts cannot all have both classes
    labels = ["a", "a", "a", "b", "b", "b", "c", "c", "c"]
    groups = ["1", "2", "3", "1", "2", "4", "1", "3", "4"]
    with pytest.raises(DataError, match="No division by patient"):
        grouped_split(labels, groups, fractions=FRACTIONS, seed=0)
