"""uint8 batches become images in [0, 1] on the device."""

from __future__ import annotations

import torch

from movl_monai.engines import prepare_image_batch


def test_uint8_is_divided_by_255_and_float_is_left_alone() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    image, label = prepare_image_batch({"image": levels, "label": torch.tensor([1], dtype=torch.int32)}, "cpu")
    assert image.dtype == torch.float32
    assert torch.equal(image, levels.float() / 255)
    assert label is not None
    assert label.dtype == torch.int64
    floats = torch.rand(1, 3, 4, 4)
    assert torch.equal(prepare_image_batch({"image": floats})[0], floats)


def test_a_mask_is_what_is_predicted_where_there_is_one() -> None:
    mask = torch.tensor([[[0, 1], [2, 0]]], dtype=torch.uint8)
    batch = {"image": torch.zeros(1, 3, 2, 2), "mask": mask, "label": torch.tensor([-1])}
    _, target = prepare_image_batch(batch)
    assert target is not None
    assert target.dtype == torch.int64
    assert torch.equal(target, mask.long())
