"""Findings: stated as drawn where they are stated at all, and together as in patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movl_monai.phantom import write_phantom
from movl_monai.phantom.anatomy import draw_anatomy, draw_consolidation, draw_effusion, render_chest
from movl_monai.phantom.findings import FINDINGS, draw_findings
from movl_monai.phantom.scanner import Lesions
from tests.tables import read_rows

SMALL = {"patients": (6, 3, 3, 3), "images_per_patient": 2, "size": 64, "progress": False}


@pytest.mark.parametrize("kind", ["findings", "findings_label"])
def test_manifest_states_the_findings_of_the_truth(tmp_path: Path, kind: str) -> None:
    counts = write_phantom(tmp_path, kind=kind, **SMALL).counts  # type: ignore[arg-type]
    rows, truth = read_rows(tmp_path / "manifest.csv"), read_rows(tmp_path / "truth.csv")
    assert [row["path"] for row in rows] == [row["path"] for row in truth]
    labels = FINDINGS if kind == "findings" else ("label",)
    assert list(rows[0]) == ["path", "patient_id", "split", "domain", *labels]
    assert sum(counts[f"id/train/{name}"] for name in FINDINGS) == sum(
        row[name] == "1" for row in truth[:12] for name in FINDINGS
    )
    for row, true in zip(rows, truth, strict=True):
        if kind == "findings":
            assert all(row[name] in (true[name], "-1", "") for name in FINDINGS)
        else:
            assert row["label"] == ("|".join(name for name in FINDINGS if true[name] == "1") or "No Finding")


def test_some_labels_are_uncertain_or_blank() -> None:
    stated = np.array([image.stated for patient in draw_findings(60, 4, np.random.default_rng(0)) for image in patient])
    assert 0.05 < (stated == "-1").mean() < 0.12
    assert 0.06 < (stated == "").mean() < 0.14


@pytest.mark.parametrize(("patients", "images"), [(2, 2), (3, 1), (60, 4)])
def test_each_finding_stays_known_in_both_ways(patients: int, images: int) -> None:
    for seed in range(10):
        drawn = draw_findings(patients, images, np.random.default_rng(seed))
        for stated in zip(*(image.stated for patient in drawn for image in patient), strict=True):
            assert {"1", "0"} <= set(stated)


def test_findings_occur_together_as_in_heart_failure() -> None:
    drawn = draw_findings(200, 4, np.random.default_rng(0))
    truth = np.array([image.truth for patient in drawn for image in patient])
    heart, consolidation, effusion, _ = truth.T
    assert effusion[heart == 1].mean() > 1.5 * effusion[heart == 0].mean()
    assert consolidation[effusion == 1].mean() > 1.5 * consolidation[effusion == 0].mean()
    assert (heart.reshape(200, 4).std(axis=1) == 0).all()


@pytest.mark.parametrize("draw", [draw_effusion, draw_consolidation])
def test_lesions_are_opaque_and_inside_the_lungs(draw: Lesions) -> None:
    along = (np.arange(96, dtype=np.float32) - 47.5) * 3.6
    x, y = np.meshgrid(along, along)
    lung = render_chest(draw_anatomy(np.random.default_rng(0)), x, y, spacing=3.6).lung
    for seed in range(10):
        picture = draw(lung, x, y, np.random.default_rng(seed))
        assert picture.min() >= 0
        assert picture[lung > 0.2].max() > 0.4
        assert picture[lung < 0.01].max() < 0.2
