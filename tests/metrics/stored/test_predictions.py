"""Tests of the predictions and their file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from movl_monai.errors import MovlError
from movl_monai.evaluation import NonFiniteLogitsError, Predictions, predictions_csv, read_predictions
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.metrics.stored.predictions import sections
from tests.evaluation.data import random_predictions

NAMES = ["a, b", 'say "c"', "d"]


def test_file_gives_back_the_same_float64_probabilities() -> None:
    predictions = random_predictions()
    rows = list(csv.DictReader(io.StringIO(predictions_csv(predictions, NAMES))))
    found = [[float(row[f"probability_{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_array_equal(found, softmax(predictions.logits))


def test_file_round_trip_keeps_every_column(tmp_path: Path) -> None:
    predictions = random_predictions()
    (tmp_path / "p.csv").write_text(predictions_csv(predictions, NAMES))
    back, names = read_predictions(tmp_path / "p.csv")
    assert names == NAMES
    for column in ("ids", "splits", "domains", "patient_ids"):
        assert getattr(back, column) == getattr(predictions, column)
    np.testing.assert_array_equal(back.labels, predictions.labels)
    np.testing.assert_allclose(softmax(back.logits), softmax(predictions.logits), atol=1e-15)


def test_file_never_holds_the_names_of_patients() -> None:
    assert "Smith" not in predictions_csv(random_predictions(), NAMES)


def test_image_without_a_label_has_an_empty_cell_and_comes_back_without_one(tmp_path: Path) -> None:
    predictions = Predictions(ids=["0a", "0b"], logits=[[2, 1], [0, 1]], labels=[-1, 1])
    (tmp_path / "p.csv").write_text(predictions_csv(predictions, ["no", "yes"]))
    assert read_predictions(tmp_path / "p.csv")[0].labels.tolist() == [-1, 1]


@pytest.mark.parametrize("content", ["", "id,label\n0a,no\n", "id,label,predicted,probability_no\n0a,no,no,x\n", None])
def test_other_files_are_refused_in_one_sentence(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(MovlError, match="p.csv cannot be read as predictions") as error:
        read_predictions(path)
    assert str(tmp_path) not in str(error.value)


def test_every_image_is_in_exactly_one_section() -> None:
    predictions = random_predictions()
    parts = sections(predictions)
    assert set(parts.id.splits) == {"test"}
    assert set(parts.val.splits) == {"val"}
    assert list(parts.ood) == ["scanner_b", "hospital_c"]
    every = [
        *parts.id.ids,
        *parts.val.ids,
        *parts.train.ids,
        *(name for part in parts.ood.values() for name in part.ids),
    ]
    assert sorted(every) == sorted(predictions.ids)


def test_id_images_without_a_split_are_test_images() -> None:
    assert len(sections(Predictions(ids=["0a"], logits=[[1, 2]], labels=[0])).id) == 1


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must have 2 values.*'labels': 1"):
        Predictions(ids=["0a", "0b"], logits=np.zeros((2, 2)), labels=[0])


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"labels must be -1 or in \[0, 2\), got 5 to 5"):
        Predictions(ids=["0a"], logits=np.zeros((1, 2)), labels=[5])


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFiniteLogitsError, match="1 of 1 images"):
        Predictions(ids=["0a"], logits=[[np.nan, 0.0]])
