"""The table shows every comparison, and all other figures below it."""

from __future__ import annotations

import torch

from benchmarks import Timing, compare, synthetic_images
from benchmarks.table import format_table


def test_a_comparison_is_a_row_and_other_figures_are_lines() -> None:
    figures = compare("x", ours=Timing((1.0, 3.0)), other=Timing((0.01, 0.02)), memory=(5.2, 7.8))
    text = format_table({**figures, "epochs": 33}, {"x": "<= 1"})
    assert "| x | 125.000 | <= 1 | 2 | 2.00 s (1.00 s, 50%) | 15.0 ms (10.0 ms, 33%) | 5 / 8 MB |" in text
    assert text.endswith("\n\n- epochs: 33")
    assert text.count("\n") == 4


def test_images_are_repeatable_and_depend_on_the_seed() -> None:
    one, again, other = (synthetic_images(70, image_size=16, num_classes=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, other.images)
    assert one.labels.bincount().tolist() == [14] * 5


def test_items_are_what_training_reads() -> None:
    data = synthetic_images(4, image_size=16, num_classes=2)
    item = data[3]
    assert (item["label"], item["index"], item["image"].dtype) == (1, 3, torch.uint8)
    assert torch.equal(item["image"], data.images[3])


def test_the_angle_of_the_stripes_tells_the_class() -> None:
    # angles 0 and 90 degrees: brightness changes along x for class 0, along y for class 1
    data = synthetic_images(300, image_size=128, num_classes=2)
    blurred = torch.nn.functional.avg_pool2d(data.images.float(), 2)
    changes = [blurred.diff(dim=dim).abs().mean(dim=(1, 2, 3)) for dim in (3, 2)]
    right = ((changes[1] > changes[0]).long() == data.labels).float().mean().item()
    assert 0.6 < right < 0.9  # neighbours overlap
