"""Grades: fewer images of the higher ones, similar in a patient, with more opacity in each."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from movl_monai.phantom.anatomy import draw_anatomy, draw_nodules, render_chest
from movl_monai.phantom.grades import NODULES, draw_grades


@pytest.mark.parametrize(("patients", "images"), [(60, 2), (20, 3), (3, 2), (5, 1)])
def test_each_grade_is_there_and_low_grades_are_more_frequent(patients: int, images: int) -> None:
    counts = np.bincount(draw_grades(patients, images, np.random.default_rng(0)).ravel(), minlength=5)
    assert counts.sum() == patients * images
    assert counts.min() >= 1
    assert counts[:2].sum() >= counts[2:4].sum() >= counts[4]


def test_fewer_images_than_grades_have_the_lowest_grades() -> None:
    assert sorted(draw_grades(1, 2, np.random.default_rng(0)).ravel()) == [0, 1]
    assert draw_grades(0, 2, np.random.default_rng(0)).size == 0


def test_images_of_a_patient_have_similar_grades() -> None:
    first, second = draw_grades(300, 2, np.random.default_rng(0)).T
    assert 0.6 < np.corrcoef(first, second)[0, 1] < 0.95


def test_opacity_grows_with_the_grade() -> None:
    along = (np.arange(64, dtype=np.float32) - 31.5) * 5.5
    x, y = np.meshgrid(along, along)
    lung = render_chest(draw_anatomy(np.random.default_rng(0)), x, y, spacing=5.5).lung
    means = []
    for count, radius in NODULES.values():
        draw = partial(draw_nodules, lung, x, y, count=count, radius=radius)
        means.append(np.mean([draw(np.random.default_rng(seed)).sum() for seed in range(20)]))
    assert list(NODULES) == [1, 2, 3, 4]
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(means))
