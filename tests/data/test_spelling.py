"""One patient and one class under several spellings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from movl_monai.data import read_datalist
from movl_monai.data.entries import Entry
from movl_monai.data.spelling import label_key, patient_key, settle_labels, unify_patients
from movl_monai.errors import DataError

Make = Callable[..., Path]
SALT = "0123456789abcdef"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("7", "007"), ("7", "7.0"), ("7", " 7"), ("7", "7,00"), ("120000", "1.2E+05"), ("7", "７"), ("P7", "p7")),
        *(("P-007", "P-7"), ("P 7", "P7"), ("7", "7\u200b"), ("7", '="007"'), ("7", "'007"), ("A\u20107", "a-7")),
        *(("site\\07", "Site\\7"), ("|7", "7"), ("\ufeff7", "7"), ("7\xa0", "7")),
    ],
)
def test_spellings_of_one_patient_have_one_key(one: str, other: str) -> None:
    assert patient_key(one) == patient_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "70"),
        ("P1", "P10"),
        ("7.5", "7"),
        ("1.2.30", "1.2.3"),
        ("a7", "b7"),
        ("1e5x", "1e6x"),
        ("-7", "7"),
        ("0", "10"),
    ],
)
def test_different_patients_have_different_keys(one: str, other: str) -> None:
    assert patient_key(one) != patient_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("Normal", "NORMAL"), ("no finding", "no  finding"), ("no finding", "no\xa0finding"), ("Ａ", "a")),
        *(
            ("no finding", "no_finding"),
            ("a\u200bb", "ab"),
            ("1.0", "1"),
            ("ma\u00dfe", "MASSE"),
            ("e\u0301", "\u00e9"),
        ),
    ],
)
def test_spellings_of_one_label_have_one_key(one: str, other: str) -> None:
    assert label_key(one) == label_key(other)


@pytest.mark.parametrize(("one", "other"), [("HER2+", "HER2-"), ("4a", "4b"), ("1", "10"), ("T1", "T2"), ("1e1", "10")])
def test_different_labels_have_different_keys(one: str, other: str) -> None:
    assert label_key(one) != label_key(other)


def test_a_stand_in_for_a_file_is_no_patient() -> None:
    entries = [Entry(Path(key), key, patient=f"file:{key}") for key in ("a/1.png", "a/01.png")]
    assert unify_patients(entries) == set()
    assert len({entry.patient for entry in entries}) == 2


def test_the_splitter_keeps_spellings_of_a_patient_together(make_csv: Make) -> None:
    rows = [
        f"{n}.png,{'ab'[n % 2]},{spelling}"
        for n in range(40)
        for spelling in [f"{n // 4}" if n % 4 < 2 else f"{n // 4:03d}.0"]
    ]
    datalist = read_datalist(make_csv("path,label,patient_id", *rows), id_salt=SALT)
    splits: dict[int, set[str]] = {}
    for item in datalist:
        splits.setdefault(int(Path(item["image"]).stem) // 4, set()).add(item["split"])
    assert len(splits) == 10
    assert all(len(found) == 1 for found in splits.values())
    assert len({item["patient_id"] for item in datalist}) == 10


def test_a_patient_under_two_spellings_in_two_splits_is_an_error(
    make_csv: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ("1.png,a,7,train", "2.png,b,8,train", "3.png,a,007,test", "4.png,b,9,test")
    csv = make_csv("path,label,patient_id,split", *rows)
    with pytest.raises(DataError, match=r"1 of 3 patients .*\(train\+test 1\), 1 of them in more than one spelling"):
        read_datalist(csv, split_fractions=None)
    with caplog.at_level(logging.INFO):
        read_datalist(csv, split_fractions=None, allow_patient_overlap=True)
    assert "1 patients are written in more than one way" in caplog.text


def test_labels_of_one_class_are_refused_until_they_are_merged(make_csv: Make) -> None:
    rows = (
        "1.png,Normal,1",
        "2.png,normal,2",
        "3.png,normal,3",
        "4.png,no\xa0ill,4",
        "5.png,no ill,5",
        "6.png,no ill,6",
    )
    csv = make_csv("path,label,patient_id", *rows)
    with pytest.raises(DataError, match=r"'Normal' \(1 images\), 'normal' \(2 images\).*merge_labels true"):
        read_datalist(csv, split_fractions=None)
    assert read_datalist(csv, split_fractions=None, merge_labels=True).class_names == ["no ill", "normal"]


@pytest.mark.parametrize("form", ["folders", "json"])
def test_class_folders_and_json_labels_are_held_to_it_too(make_images: Make, form: str) -> None:
    import json

    names = [f"{label}/{number}.png" for label in ("Normal", "normal", "ill") for number in range(2)]
    root = make_images(names)
    if form == "json":
        (root / "dataset.json").write_text(
            json.dumps({"training": [{"image": name, "label": name.split("/")[0]} for name in names]})
        )
    with pytest.raises(DataError, match="equal but for case"):
        read_datalist(root, split_fractions=None)
    assert len(read_datalist(root, split_fractions=None, merge_labels=True).class_names) == 2


def test_labels_of_an_outside_set_are_held_to_those_of_training(make_images: Make) -> None:
    root = make_images([f"{label}/{n}.png" for label in ("ill", "well") for n in range(3)])
    outside = make_images(["ILL/1.png", "well/1.png"], root="outside")
    with pytest.raises(DataError, match="'ILL'.*'ill'"):
        read_datalist(root, ood_dataset_dirs=[outside], split_fractions=None)
    merged = read_datalist(root, ood_dataset_dirs=[outside], split_fractions=None, merge_labels=True)
    assert [merged.class_names[item["label"]] for item in merged.select(domain="outside")] == ["ill", "well"]


def test_names_of_a_trained_network_stay_apart() -> None:
    entries = [Entry(Path("x"), "x", label=label) for label in ("a", "A")]
    assert settle_labels(entries, ["a", "A"], merge=False, apart=True) == ["a", "A"]
    with pytest.raises(DataError, match="equal but for case"):
        settle_labels(entries, ["a", "A"], merge=False)
