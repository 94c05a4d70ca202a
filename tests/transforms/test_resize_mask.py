"""Masks follow their image to the network's size and back."""

from __future__ import annotations

import pytest
import torch

from movl_monai.transforms import ResizeImage, ResizeMask, ResizeMaskd, resize_back


def _blocks(rows: int, columns: int) -> torch.Tensor:
    """Classes 0, 1 and 2 in large pieces."""
    mask = torch.zeros(1, rows, columns, dtype=torch.uint8)
    mask[:, rows // 4 : rows // 2, columns // 5 :] = 1
    mask[:, rows // 2 :, : columns // 2] = 2
    return mask


@pytest.mark.parametrize("mode", ["stretch", "pad", "crop"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (33, 33), (7, 90)])
def test_a_mask_lies_on_its_resized_image(mode: str, shape: tuple[int, int]) -> None:
    mask = _blocks(*shape)
    image = (mask == 2).float().repeat(3, 1, 1)
    resized = ResizeImage(32, mode=mode)(image)[0]  # type: ignore[arg-type]
    classes = ResizeMask(32, mode=mode)(mask)[0]  # type: ignore[arg-type]
    assert classes.dtype == torch.uint8
    assert set(classes.unique().tolist()) <= {0, 1, 2}
    # away from the soft border the two agree
    assert ((classes == 2)[resized > 0.75]).all()
    assert not ((classes == 2)[resized < 0.25]).any()


@pytest.mark.parametrize("mode", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (33, 33)])
def test_what_is_resized_and_resized_back_is_where_it_was(mode: str, shape: tuple[int, int]) -> None:
    mask = _blocks(*shape)
    small = ResizeMask(128, mode=mode)(mask)[0].long()  # type: ignore[arg-type]
    probabilities = torch.nn.functional.one_hot(small, 3).permute(2, 0, 1).float()
    back = resize_back(probabilities, shape, mode=mode).argmax(dim=0)  # type: ignore[arg-type]
    assert (back == mask[0]).float().mean() > 0.98


def test_what_a_crop_had_cut_off_comes_back_as_background() -> None:
    lesion = torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])
    back = resize_back(lesion, (16, 32), mode="crop")
    assert back.shape == (2, 16, 32)
    torch.testing.assert_close(back.sum(dim=0), torch.ones(16, 32))
    classes = back.argmax(dim=0)
    assert (classes[:, 8:24] == 1).all()
    assert classes.sum() == 16 * 16


def test_a_mask_of_the_right_size_stays_as_it_is() -> None:
    mask = _blocks(8, 8)
    assert torch.equal(ResizeMask(8)(mask), mask)
    assert torch.equal(ResizeMaskd(image_size=8)({"mask": mask, "id": "a"})["mask"], mask)


def test_masks_are_integers_of_three_axes() -> None:
    with pytest.raises(ValueError, match="of integers, got torch.float32"):
        ResizeMask(8)(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="image_size"):
        ResizeMask(0)
