"""Splits that are made when some are given, and input that is refused."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movl_monai.data.entries import Entry, SplitName
from movl_monai.data.splits import (
    check_patients,
    check_train_classes,
    complete_splits,
    grouped_split,
    set_aside_calibration,
)
from movl_monai.errors import DataError

FRACTIONS = (0.6, 0.2, 0.2)


def entries(split: SplitName | None, count: int = 30, start: int = 0) -> list[Entry]:
    """Images of two classes, each of another patient."""
    return [
        Entry(Path(f"/{i}"), f"{i:03}", label="ab"[i % 2], patient=f"p{i}", split=split)
        for i in range(start, start + count)
    ]


def counts(listed: list[Entry]) -> dict[str | None, int]:
    return dict(Counter(entry.split for entry in listed))


ALL_GIVEN = entries("train", 10) + entries("val", 10, 10) + entries("test", 10, 20)


@pytest.mark.parametrize(
    ("listed", "fractions", "expected"),
    [
        (entries(None), FRACTIONS, {"train": 18, "val": 6, "test": 6}),
        (entries("train"), FRACTIONS, {"train": 18, "val": 6, "test": 6}),  # as without any
        (entries(None, 20), (0.5, 0.5, 0), {"train": 10, "val": 10}),
        (entries("test", 10) + entries(None, 40, 10), FRACTIONS, {"train": 30, "val": 10, "test": 10}),
        (ALL_GIVEN, FRACTIONS, {"train": 10, "val": 10, "test": 10}),
    ],
)
def test_splits_that_are_not_given_are_made(
    listed: list[Entry], fractions: tuple[float, ...], expected: dict[str, int]
) -> None:
    listed = [replace(entry) for entry in listed]
    complete_splits(listed, fractions=fractions, seed=0)
    assert counts(listed) == expected


@pytest.mark.parametrize(("given_split", "missing"), [("test", "val"), ("val", "test")])
def test_a_missing_split_is_taken_out_of_train_only(given_split: SplitName, missing: SplitName) -> None:
    listed = entries("train", 40) + entries(given_split, 10, 40)
    complete_splits(listed, fractions=FRACTIONS, seed=0)
    assert counts(listed) == {"train": 30, missing: 10, given_split: 10}
    assert all(entry.split == given_split for entry in listed[40:])


def test_a_blank_image_follows_its_patient() -> None:
    listed = entries("test", 10) + entries(None, 40, 10)
    listed[-1].patient = "p0"
    complete_splits(listed, fractions=FRACTIONS, seed=0)
    assert listed[-1].split == "test"


def test_one_missing_split_takes_all_blank_images_without_knowing_patients() -> None:
    listed = entries("train", 10) + entries("val", 10, 10) + entries(None, 10, 20)
    for entry in listed:
        entry.patient = None
    complete_splits(listed, fractions=FRACTIONS, seed=0)
    assert counts(listed) == {"train": 10, "val": 10, "test": 10}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_are_none_are_refused(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="three numbers >= 0 that add up to 1"):
        complete_splits(entries(None), fractions=fractions, seed=0)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (ALL_GIVEN + entries(None, 7, 30), "7 images have no split although train, val, test are given"),
        (entries("test"), "no training images: every image is marked test.*split_fractions=None"),
        (
            [replace(entry, patient=entry.patient if entry.patient != "p3" else None) for entry in entries(None)],
            r"patient of 1 of 30 .* patient_id .*--patient_pattern.*--one_image_per_patient true",
        ),
        (
            [replace(entry, label=entry.label if entry.patient != "p3" else None) for entry in entries(None)],
            "1 of the 30 images to be split have no label",
        ),
    ],
)
def test_images_that_cannot_be_split_are_refused(listed: list[Entry], message: str) -> None:
    with pytest.raises(DataError, match=message):
        complete_splits(listed, fractions=FRACTIONS, seed=0)


def test_shared_patients_are_counted_and_not_named() -> None:
    listed = entries("train", 10) + entries("test", 6, 8) + entries("val", 2, 8)
    with pytest.raises(DataError, match=r"2 of 14 patients .* \(train\+val\+test 2\)") as caught:
        check_patients(listed, allow_overlap=False)
    assert "p8" not in str(caught.value)


def test_shared_patients_can_be_allowed_aloud(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_patients(entries("train", 10) + entries("val", 6, 8), allow_overlap=True)
    assert "2 of 14 patients have images in more than one split (train+val 2)" in caplog.text


def test_a_class_without_training_image_is_refused() -> None:
    listed = [entry for entry in entries("train", 10) if entry.label == "a"] + entries("val", 4, 10)
    with pytest.raises(DataError, match="No training image of class 'b'"):
        check_train_classes(listed, ["a", "b"])


def test_a_class_missing_in_val_stops_unless_allowed(caplog: pytest.LogCaptureFixture) -> None:
    listed = entries("train", 10) + entries("val", 1, 10)
    with pytest.raises(DataError, match="No image of class 'b' in val.*--allow_missing_classes true"):
        check_train_classes(listed, ["a", "b"])
    check_train_classes(listed, ["a", "b"], allow_missing=True)
    assert "No image of class 'b' in val" in caplog.text


def test_a_class_missing_in_test_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    check_train_classes(entries("train", 10) + entries("test", 1, 10), ["a", "b"])
    assert "No image of class 'b' in test" in caplog.text


def patients_of(listed: list[Entry], split: str) -> set[str | None]:
    return {entry.patient for entry in listed if entry.split == split}


def test_calibration_takes_whole_patients_out_of_val_alone() -> None:
    listed = entries(None, 40)
    complete_splits(listed, fractions=(0.5, 0.25, 0.25), seed=0)
    before = {split: patients_of(listed, split) for split in ("train", "val", "test")}
    set_aside_calibration(listed, fraction=0.5, seed=0)
    assert patients_of(listed, "train") == before["train"]
    assert patients_of(listed, "test") == before["test"]
    val, calibration = patients_of(listed, "val"), patients_of(listed, "calibration")
    assert val | calibration == before["val"]
    assert not val & calibration
    for split in ("val", "calibration"):
        assert {entry.label for entry in listed if entry.split == split} == {"a", "b"}


def test_calibration_depends_on_the_seed_and_not_on_the_order() -> None:
    def chosen(seed: int, turn: int = 1) -> set[str | None]:
        listed = [replace(entry, split="val") for entry in entries(None, 40)][::turn]
        set_aside_calibration(listed, fraction=0.3, seed=seed)
        return patients_of(listed, "calibration")

    assert chosen(0) == chosen(0, turn=-1)
    assert chosen(0) != chosen(1)


def test_a_fraction_of_nothing_changes_nothing() -> None:
    listed = [replace(entry, split="val") for entry in entries(None, 4)]
    set_aside_calibration(listed, fraction=0.0, seed=0)
    assert {entry.split for entry in listed} == {"val"}


@pytest.mark.parametrize(
    ("splits", "fraction", "message"),
    [
        (["val", "val"], 1.0, r"must be in \[0, 1\), a share of the val patients, got 1.0"),
        (["val", "val"], -0.1, r"must be in \[0, 1\)"),
        (["val", "calibration"], 0.5, "marks 20 images as calibration, and calibration_fraction=0.5 asks for more"),
        (["train", "test"], 0.5, "there are no val images"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(splits: list[SplitName], fraction: float, message: str) -> None:
    listed = [replace(entry, split=splits[index % 2]) for index, entry in enumerate(entries(None, 40))]
    with pytest.raises(DataError, match=message):
        set_aside_calibration(listed, fraction=fraction, seed=0)


def test_too_few_val_patients_for_calibration_are_counted() -> None:
    listed = [replace(entry, split="val", patient="one") for entry in entries(None, 4)]
    with pytest.raises(DataError, match=r"calibration_fraction=0.5 cannot be taken out of val: .* 1 patient"):
        set_aside_calibration(listed, fraction=0.5, seed=0)


def test_a_patient_in_calibration_and_test_is_leakage() -> None:
    listed = [
        replace(entry, split=split, patient="one")
        for entry, split in zip(entries(None, 2), ("calibration", "test"), strict=True)
    ]
    with pytest.raises(DataError, match=r"more than one split \(calibration\+test 1\)"):
        check_patients(listed, allow_overlap=False)


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
