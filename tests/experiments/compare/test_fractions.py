"""Fractions of the labels: whole patients, nested, seeded; and the curve over them."""

from __future__ import annotations

import io
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from movl_monai.cli import main
from movl_monai.errors import ConfigError, DataError
from movl_monai.experiments.compare.fraction_choice import choose_fraction, parse_fractions
from movl_monai.experiments.compare.fractions import draw_fractions, fraction_rows, reached
from movl_monai.experiments.compare.statistics import Difference, DomainFigures
from tests.experiments.compare.conftest import BUNDLE, FAST
from tests.tables import read_rows


def _items(count: int = 60, *, classes: int = 2, per_patient: int = 3) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{n:04x}",
            "image": f"/d/{n:03d}.png",
            "label": n // per_patient % classes,
            "patient_id": f"p{n // per_patient}",
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.4, 0.73])
def test_a_fraction_has_about_so_many_images_of_every_class_and_whole_patients(fraction: float) -> None:
    items = _items(120, classes=3)
    chosen = choose_fraction(items, fraction)
    assert 0 <= len(chosen) - round(fraction * 120) < 3
    counts = Counter(item["label"] for item in chosen)
    assert max(counts.values()) - min(counts.values()) <= 6, "two patients at most"
    patients = {item["patient_id"] for item in chosen}
    assert all((item["patient_id"] in patients) == (item in chosen) for item in items)


def test_a_larger_fraction_holds_a_smaller_one_and_the_whole_is_all() -> None:
    items = _items(90)
    parts = [{item["id"] for item in choose_fraction(items, f, seed=4)} for f in (0.1, 0.2, 0.4, 0.6, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(parts))
    assert choose_fraction(items, 1.0) == items


def test_a_fraction_depends_on_the_seed_and_not_on_the_order_or_the_salt_of_the_ids() -> None:
    items = _items(90)
    names = {item["image"] for item in choose_fraction(items, 0.3, seed=1)}
    salted = [{**item, "id": f"x{89 - n:04x}"} for n, item in enumerate(items)]
    shuffled = random.Random(2).sample(salted, len(salted))
    assert {item["image"] for item in choose_fraction(shuffled, 0.3, seed=1)} == names
    assert {item["image"] for item in choose_fraction(items, 0.3, seed=2)} != names


def test_images_without_a_patient_are_patients_of_their_own() -> None:
    items = [{**item, "patient_id": None} for item in _items(40, per_patient=1)]
    assert len(choose_fraction(items, 0.25)) == 10


def test_rare_classes_come_as_often_as_in_the_whole() -> None:
    items = [{"id": str(n), "image": str(n), "label": int(n % 10 == 0), "patient_id": str(n)} for n in range(200)]
    assert Counter(item["label"] for item in choose_fraction(items, 0.5))[1] == 10


def test_a_fraction_without_an_image_of_a_class_is_refused() -> None:
    items = [{"id": str(n), "image": str(n), "label": int(n == 0), "patient_id": str(n)} for n in range(50)]
    message = "The fraction 0.1 of the training images, 5 of 50, has no image of rare; take a larger fraction"
    with pytest.raises(DataError, match=message):
        choose_fraction(items, 0.1, class_names=["common", "rare"])


@pytest.mark.parametrize("text", ["", "a,1.0", "0,1.0", "0.5,1.5", "0.5,0.5,1.0", "0.5", "-0.5,1", "nan,1"])
def test_fractions_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"different numbers above 0 and up to 1, .* with 1\.0 among them"):
        parse_fractions(text)


def _entry(arm: str, mean: float, *, domain: str = "id") -> DomainFigures:
    main = "balanced_accuracy" if domain == "id" else "auroc"
    values = {main: np.array([mean - 0.01, mean + 0.01])}
    intervals = {main: (mean - 0.05, mean + 0.05)}
    difference = {"full_finetune": {main: Difference(value=mean - 0.8, interval=(-0.1, 0.1))}}
    return DomainFigures(
        arm=arm,
        domain=domain,
        images=10,
        patients=5,
        seeds=(0, 1),
        values=values,
        intervals=intervals,
        differences=difference,
    )


FIGURES = {
    0.1: [_entry("dvpt", 0.6), _entry("full_finetune", 0.5), _entry("dvpt", 0.7, domain="b")],
    0.4: [_entry("dvpt", 0.81), _entry("full_finetune", 0.7), _entry("dvpt", 0.7, domain="b")],
    1.0: [
        *(_entry("dvpt", 0.79), _entry("full_finetune", 0.8)),
        *(_entry("dvpt", 0.7, domain="b"), _entry("full_finetune", 0.9, domain="b")),
    ],
}


def test_the_smallest_fraction_that_reaches_full_fine_tuning_is_named() -> None:
    lines = reached(FIGURES)
    assert lines == [
        "- id: dvpt reaches the balanced accuracy of full_finetune with all labels (0.800) with 40% of the labels.",
        "- id: full_finetune reaches the balanced accuracy of full_finetune with all labels (0.800) with 100% of the "
        "labels.",
        "- b: dvpt reaches the macro AUROC of full_finetune with all labels (0.900) with none of the fractions.",
        "- b: full_finetune reaches the macro AUROC of full_finetune with all labels (0.900) with 100% of the labels.",
    ]
    without = {1.0: [_entry("dvpt", 0.8)]}
    assert reached(without) == [
        "- The arm full_finetune has no result with all labels, so nothing can be held against it."
    ]


def test_rows_are_in_order_with_the_difference_to_full_fine_tuning_with_all_labels() -> None:
    rows = fraction_rows(FIGURES)
    assert [(row["domain"], row["arm"], row["fraction"]) for row in rows[:3]] == [
        ("id", "dvpt", 0.1),
        ("id", "dvpt", 0.4),
        ("id", "dvpt", 1.0),
    ]
    assert rows[1]["difference"] == pytest.approx(0.01)


def test_the_curve_has_a_line_for_every_arm() -> None:
    picture = np.asarray(Image.open(io.BytesIO(draw_fractions(FIGURES))).convert("RGB")).astype(int)
    for color in ([0, 114, 178], [213, 94, 0]):
        assert (np.abs(picture - color).sum(axis=2) < 30).sum() > 200


def test_the_command_repeats_the_comparison_on_parts_and_writes_the_curve(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainable = {**FAST, "backbone": {**FAST["backbone"], "frozen": "@backbone_frozen"}}
    settings = [word for name, value in trainable.items() for word in (f"--{name}", str(value))]
    words = ["compare", "--bundle", str(BUNDLE), "--dataset_dir", str(phantom), "--output_dir", str(tmp_path)]
    words += [*settings, "--arms", "linear_probe,full_finetune", "--warmup_epochs", "0"]
    assert main([*words, "--label_fractions", "0.5,1.0"]) == 0
    said = capsys.readouterr()
    page = (tmp_path / "label_fractions.md").read_text(encoding="utf-8")
    assert page in said.out
    assert "--label_fractions 0.5,1.0" in page
    assert str(phantom) not in page
    assert "- 50%: 6 training images" in page
    assert "- 100%: 12 training images" in page
    assert "linear_probe reaches the balanced accuracy of full_finetune with all labels" in page
    rows = read_rows(tmp_path / "label_fractions.csv")
    assert len(rows) == 2 * 2 * 2, "domains, arms, fractions"
    for row in rows:
        folder = tmp_path / f"fraction_{float(row['fraction']):g}" / "runs" / row["arm"] / "seed_0"
        figures = json.loads((folder / "result.json").read_text(encoding="utf-8"))["figures"]
        assert float(row["mean"]) == pytest.approx(
            figures[row["domain"]]["balanced_accuracy" if row["domain"] == "id" else "auroc"]
        )
    assert (tmp_path / "label_fractions.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "fraction_0.5" / "comparison.md").read_text(encoding="utf-8")
    assert "- train: 50% of the images, whole patients" in table
    assert main([*words, "--label_fractions", "0.5,1.0"]) == 0
    assert capsys.readouterr().err.count("done before") == 4


def test_bad_fractions_are_one_paragraph(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "--bundle", str(BUNDLE), "--dataset_dir", str(phantom), "--output_dir", str(tmp_path)]
    settings = [word for name, value in FAST.items() for word in (f"--{name}", str(value))]
    for text, message in (("0.5", "with 1.0 among them"), ("0.01,1.0", "has no image of")):
        assert main([*words, *settings, "--arms", "linear_probe", "--label_fractions", text]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert message in said
        assert "Traceback" not in said
