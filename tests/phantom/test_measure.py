"""The measure: the number in the manifest is the ratio of the heart that was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movl_monai.phantom import write_phantom
from movl_monai.phantom.anatomy import cardiothoracic_ratio, draw_anatomy, enlarge_heart, render_chest
from movl_monai.phantom.measure import draw_ratios
from tests.tables import read_rows


def test_manifest_has_a_number_for_each_image(tmp_path: Path) -> None:
    numbers = {"patients": (3, 1, 1, 1), "images_per_patient": 2, "size": 64}
    summary = write_phantom(tmp_path, kind="measure", progress=False, **numbers)  # type: ignore[arg-type]
    rows = read_rows(tmp_path / "manifest.csv")
    assert summary.counts == {"id/train": 6, "id/val": 2, "id/test": 2, "scanner_b/test": 2}
    assert all(0.3 <= float(row["label"]) <= 0.75 for row in rows)
    assert len({row["label"] for row in rows}) > 9


def test_patients_differ_more_than_their_images() -> None:
    ratios = draw_ratios(100, 2, np.random.default_rng(0))
    assert ratios.mean(axis=1).std() > 5 * (ratios[:, 0] - ratios[:, 1]).std()


@pytest.mark.parametrize("wanted", [0.35, 0.5, 0.7])
def test_ratio_is_that_of_the_drawn_widths(wanted: float) -> None:
    along = np.arange(-180, 180, dtype=np.float32)
    x, y = np.meshgrid(along, along)
    anatomy = draw_anatomy(np.random.default_rng(0))
    anatomy = enlarge_heart(anatomy, wanted / cardiothoracic_ratio(anatomy))
    small = enlarge_heart(anatomy, 1e-6)
    with_heart, without = (render_chest(drawn, x, y, spacing=1.0) for drawn in (anatomy, small))
    heart = (with_heart.attenuation - without.attenuation > 0.05).any(axis=0).sum()
    lungs = np.flatnonzero((without.lung > 0.01).any(axis=0))
    assert heart / (lungs[-1] - lungs[0]) == pytest.approx(wanted, abs=0.02)
