"""Labels that are several findings or a number, in every form of a list."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movl_monai.data import read_datalist
from movl_monai.data.splits import iterative_split
from movl_monai.data.targets import label_tensor
from movl_monai.errors import ConfigError, DataError

MakeCsv = Callable[..., Path]
OPEN: dict[str, Any] = {"task": "multilabel", "split_fractions": None}
NAMED = {"class_names": ["Mass", "Edema"]}
CHOSEN = {"label_columns": ["Mass", "Edema"]}
COLUMNS = ("path,patient_id,No Finding,Mass,Edema,age", "a.png,p,,1.0,-1,61", "b.png,q,1.0,,,1", "c.png,r,,,1.0,50")
NUMBERS = ("path,patient_id,label,age", "a.png,p,x,61", 'b.png,q,x,"1,5"', "c.png,r,x,nan")


def labels(csv: Path, **options: Any) -> tuple[list[str], list[Any]]:
    datalist = read_datalist(csv, **OPEN | options)
    return datalist.class_names, [item["label"] for item in datalist]


@pytest.mark.parametrize(
    ("rows", "options", "names", "expected"),
    [
        (
            ("path,label", "a.png,Mass|Edema", "b.png,No Finding", "c.png,Mass", "d.png,nan"),
            {},
            ["Edema", "Mass"],
            [(1, 1), (0, 0), (0, 1), None],
        ),
        (
            ("path,label", "a.png,Mass;Edema", "b.png,ok"),
            {"label_separator": ";", "no_finding": "OK"},
            ["Edema", "Mass"],
            [(1, 1), (0, 0)],
        ),
        (COLUMNS, {}, ["Mass", "Edema"], [(1, None), (0, 0), (None, 1)]),
        (COLUMNS, {"uncertain": "negative"}, ["Mass", "Edema"], [(1, 0), (0, 0), (None, 1)]),
        (
            COLUMNS,
            {"label_columns": ["edema", "Mass"], "no_finding": ""},
            ["edema", "Mass"],
            [(None, 1), None, (1, None)],
        ),
        (COLUMNS, {"class_names": ["Hernia", "Edema"]}, ["Hernia", "Edema"], [None, (None, 0), (None, 1)]),
        (("path,label", "a.png,Mass|Cyst", "b.png,"), NAMED, ["Mass", "Edema"], [(1, 0), None]),
        (("path,Mass,mass_,x", "a.png,1,0,0", "b.png,,1,1"), {"merge_labels": True}, ["Mass", "x"], [(1, 0), (1, 1)]),
    ],
    ids=["names", "separator", "columns", "uncertain", "chosen", "trained", "trained-names", "spellings"],
)
def test_findings_become_one_tuple_per_image(
    make_csv: MakeCsv, rows: tuple[str, ...], options: dict[str, Any], names: list[str], expected: list[Any]
) -> None:
    assert labels(make_csv(*rows), **options) == (names, expected)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (("path,Mass,Edema", "a.png,1,2", "b.png,0,1"), CHOSEN, "row 2 .* 'Edema' must be 1, 0, -1"),
        (("path,Mass,Edema", "a.png,1,", "b.png,0,"), CHOSEN, "All labels of the finding 'Edema'"),
        (("path,Mass", "a.png,1"), CHOSEN, "no column Edema .* found: path, Mass"),
        (("path,age", "a.png,61"), {}, "columns of each finding .* found: path, age"),
        (("path,label", "a.png,No Finding|Mass"), {}, "row 2 .* says 'No Finding' and names findings"),
        (("path,label", "a.png,Mass", "b.png,Mass"), {}, "two or more findings, got 1: Mass"),
        (("path,label", "a.png,Mass|Edema", "b.png,mass"), {}, "merge_labels true"),
        (("path,label", *(f"{n}.png,name {n}" for n in range(20))), {}, "a finding needs several images"),
        (("path,label", "a.png,Cyst"), NAMED, "'Cyst' .1 images. is not one of the findings"),
        (
            ("path,label,split", "a.png,Mass|Edema,train", "b.png,Mass,train"),
            {"split_fractions": (1, 0, 0)},
            "In train there is no image without the finding 'Mass'",
        ),
        (("path,label", "a.png,x"), {"task": "regression"}, "row 2 .* label must be a finite number.* got 'x'"),
        (("path,label", "a.png,inf"), {"task": "regression"}, "row 2 .* got 'inf'"),
        (("path,label", "a.png,NA"), {"task": "regression"}, "No image has a number"),
    ],
)
def test_labels_without_sense_are_refused(
    make_csv: MakeCsv, rows: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        labels(make_csv(*rows), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_columns": ["a", "b"], "task": "classification"}, "for the tasks multilabel and regression"),
        ({"label_columns": ["a"]}, "two or more findings"),
        ({"label_columns": ["a", "b"], "task": "regression"}, "one column of numbers"),
        ({"label_columns": "Mass"}, r"write \['Mass'\]"),
        ({"label_separator": " "}, "label_separator must be a sign"),
        ({"uncertain": "maybe"}, "ignore, positive, negative"),
        ({"task": "ranking"}, "task must be one of"),
    ],
)
def test_settings_that_fit_no_task_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_datalist(tmp_path, **OPEN | options)


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_class_folders_hold_no_such_labels(make_images: Callable[..., Path], task: str) -> None:
    with pytest.raises(DataError, match="class folders give each image one class.*manifest.csv"):
        read_datalist(make_images(["a/1.png", "b/2.png"]), **OPEN | {"task": task})


def test_numbers_are_read_from_their_column(make_csv: MakeCsv) -> None:
    csv = make_csv(*NUMBERS)
    assert labels(csv, task="regression", label_columns=["age"]) == (["age"], [61.0, 1.5, None])


@pytest.mark.parametrize(
    ("task", "rows"),
    [("multilabel", COLUMNS), ("regression", ("path,patient_id,label", "a.png,p,-1.5", "b.png,q,2", "c.png,r,"))],
)
def test_a_written_list_gives_the_same_labels(make_csv: MakeCsv, task: str, rows: tuple[str, ...]) -> None:
    csv = make_csv(*rows)
    datalist = read_datalist(csv, **OPEN | {"task": task})
    written = csv.with_name("list.json")
    datalist.write(written)
    again = read_datalist(written, **OPEN | {"task": task})
    assert [(item["id"], item["label"]) for item in again] == [(item["id"], item["label"]) for item in datalist]
    assert again.class_names == datalist.class_names
    assert len(read_datalist(csv, ood_dataset_dirs=[written], **OPEN | {"task": task}).select(domain="list")) == 3


def test_json_fields_and_names_are_findings(make_csv: MakeCsv) -> None:
    folder = make_csv(*COLUMNS).parent
    entries: list[dict[str, Any]] = [{"image": "a.png", "label": ["Mass", "Edema"]}, {"image": "b.png", "label": []}]
    target = folder / "list.json"
    target.write_text(json.dumps({"training": entries}))
    assert labels(target) == (["Edema", "Mass"], [(1, 1), (0, 0)])
    entries = [{"image": "a.png", "Mass": 1, "Edema": True}, {"image": "b.png", "Mass": 0, "Edema": None}]
    target.write_text(json.dumps({"training": entries}))
    assert labels(target, label_columns=["Mass", "Edema"]) == (["Mass", "Edema"], [(1, 1), (0, None)])


def test_the_summary_counts_images_of_each_finding(make_csv: MakeCsv) -> None:
    rows = [line.split() for line in read_datalist(make_csv(*COLUMNS), **OPEN).summary().splitlines()]
    counts = {" ".join(row[2:-2]): row[-2] for row in rows}
    assert counts == {"class": "images", "(all)": "3", "Mass": "1", "Edema": "1", "(no finding)": "1"}


def test_unknown_labels_are_nan_in_the_tensor() -> None:
    tensor = label_tensor([{"label": (1, None)}, {"label": None}], "multilabel", ["a", "b"])
    np.testing.assert_array_equal(tensor, [[1, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(label_tensor([{"label": 2.5}, {"label": None}], "regression", ["n"]), [2.5, np.nan])


def findings(count: int, rates: tuple[float, ...], seed: int = 0) -> tuple[list[tuple[int | None, ...]], list[str]]:
    random = np.random.default_rng(seed)
    values = random.random((count, len(rates))) < rates
    known = random.random(values.shape) < 0.9
    rows = [tuple(int(v) if k else None for v, k in zip(*row, strict=True)) for row in zip(values, known, strict=True)]
    return rows, [f"p{patient}" for patient in random.integers(0, count // 2, count)]


def test_every_split_keeps_the_share_of_every_finding() -> None:
    rows, patients = findings(600, (0.5, 0.1, 0.02))
    fractions = (0.6, 0.2, 0.2)
    parts = np.array(iterative_split(rows, patients, fractions=fractions, seed=1))
    assert len(set(zip(patients, parts.tolist(), strict=True))) == len(set(patients))
    values = np.array(rows, dtype=float)
    for place, tolerance in enumerate((0.03, 0.04, 0.15)):
        for value in (0, 1):
            shares = [np.mean(parts[values[:, place] == value] == part) for part in range(3)]
            np.testing.assert_allclose(shares, fractions, atol=tolerance)


def test_a_rare_finding_is_in_every_split_in_any_order() -> None:
    rows, patients = findings(60, (0.3, 0.0))
    rows = [(row[0], int(patient in ("p1", "p2", "p3"))) for row, patient in zip(rows, patients, strict=True)]
    parts = iterative_split(rows, patients, fractions=(0.6, 0.2, 0.2), seed=0)
    assert {part for row, part in zip(rows, parts, strict=True) if row[1]} == {0, 1, 2}
    back = iterative_split(rows[::-1], patients[::-1], fractions=(0.6, 0.2, 0.2), seed=0)
    assert back[::-1] == parts


def test_numbers_are_split_by_quantiles(make_csv: MakeCsv) -> None:
    rows = [f"{n}.png,p{n},{n}" for n in range(60)]
    datalist = read_datalist(
        make_csv("path,patient_id,label", *rows), task="regression", split_fractions=(0.5, 0.25, 0.25)
    )
    for split in ("train", "val", "test"):
        values = [item["label"] for item in datalist.select(split)]
        assert abs(np.mean(values) - 29.5) < 4
        assert np.std(values) > 14


def test_what_val_lacks_of_a_finding_is_named_or_allowed(make_csv: MakeCsv, caplog: pytest.LogCaptureFixture) -> None:
    train = ["a.png,Mass|Edema,train", "b.png,No Finding,train"]
    csv = make_csv("path,label,split", *train, "c.png,Mass,val", "d.png,No Finding,val", "e.png,Mass,test")
    with pytest.raises(
        DataError, match="In val there is no image with the finding 'Edema'.*allow_missing_classes true"
    ):
        read_datalist(csv, task="multilabel")
    assert len(read_datalist(csv, task="multilabel", allow_missing_classes=True)) == 5
    assert "In val there is no image with the finding 'Edema'" in caplog.text
    assert "with the finding 'Edema'; no image without the finding 'Mass'" in caplog.text
