"""Tests of the picture of the report."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from movl_monai.evaluation import Predictions, draw_figure
from tests.evaluation.data import random_logits


def images(num_classes: int, count: int = 60) -> Predictions:
    labels, logits = random_logits(count, num_classes)
    return Predictions(ids=[str(index) for index in range(count)], logits=logits, labels=labels)


@pytest.mark.parametrize("num_classes", [2, 6])
def test_figure_grows_by_a_column_per_domain(num_classes: int) -> None:
    names = [f"class $_{index}" for index in range(num_classes)]
    one, two = (
        Image.open(io.BytesIO(draw_figure({f"domain {i}": images(num_classes) for i in range(count)}, names, dpi=40)))
        for count in (1, 2)
    )
    assert (two.width, two.height) == (2 * one.width, one.height)


def test_figure_of_the_same_images_is_the_same_file() -> None:
    first, second = (draw_figure({"ID": images(3)}, ["a", "b", "c"], dpi=40) for _ in range(2))
    assert first == second


def test_curves_of_right_and_wrong_answers_differ() -> None:
    right = images(2)
    wrong = Predictions(ids=right.ids, logits=-right.logits, labels=right.labels)
    a, b = (
        np.asarray(Image.open(io.BytesIO(draw_figure({"ID": part}, ["a", "b"], dpi=40)))) for part in (right, wrong)
    )
    assert not np.array_equal(a, b)


def test_names_that_the_font_lacks_are_no_empty_boxes() -> None:
    predictions = images(3)
    # a glyph that is missing would be a warning, which is an error here
    assert draw_figure({"ID": predictions, "肺炎": predictions}, ["肺炎", "$x", "c" * 60], dpi=40)
