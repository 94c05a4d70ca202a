"""Colour statistics: the formula, constant channels, and idempotence."""

from __future__ import annotations

import pytest
import torch

from movl_monai.transforms.color import MatchColorStatistics, MatchColorStatisticsd

MEAN, STD = (0.4, 0.5, 0.6), (0.05, 0.06, 0.07)


def test_each_channel_gets_the_mean_and_deviation() -> None:
    image = torch.rand(3, 40, 50) * torch.tensor([0.2, 0.5, 1.0])[:, None, None]
    result = MatchColorStatistics(mean=MEAN, std=STD)(image)
    torch.testing.assert_close(result.mean(dim=(1, 2)), torch.tensor(MEAN), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.std(dim=(1, 2), correction=0), torch.tensor(STD), atol=1e-5, rtol=0)


def test_exposure_makes_no_difference_any_more() -> None:
    image = torch.rand(3, 16, 16) * 0.5
    match = MatchColorStatistics(mean=MEAN, std=STD)
    torch.testing.assert_close(match(0.3 * image + 0.2), match(image), atol=1e-5, rtol=0)
    torch.testing.assert_close(match(match(image)), match(image), atol=1e-5, rtol=0)


def test_a_constant_channel_becomes_the_mean_without_amplified_noise() -> None:
    image = torch.full((3, 8, 8), 0.9)
    image[0, 0, 0] += 1e-3
    result = MatchColorStatistics(mean=MEAN, std=STD)(image)
    torch.testing.assert_close(result, torch.tensor(MEAN)[:, None, None].expand(3, 8, 8))


def test_the_result_is_clamped() -> None:
    result = MatchColorStatistics(mean=(0, 0.5, 1), std=(2, 2, 2))(torch.rand(3, 8, 8))
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5), STD, r"mean must be three numbers in \[0, 1\]"),
        ((120, 110, 90), STD, r"mean must be three numbers in \[0, 1\].* got \(120, 110, 90\)"),
        (MEAN, (0.1, 0, 0.1), "std must be three numbers > 0"),
    ],
)
def test_wrong_constants_are_refused(mean: tuple, std: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatchColorStatistics(mean=mean, std=std)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floating \(3, H, W\) .* got torch.float32 \(1, 4, 4\)"):
        MatchColorStatistics(mean=MEAN, std=STD)(torch.zeros(1, 4, 4))


def test_the_dictionary_twin_equals_the_array_form() -> None:
    image = torch.rand(3, 8, 8)
    result = MatchColorStatisticsd("image", mean=MEAN, std=STD)({"image": image, "label": 0})
    assert torch.equal(result["image"], MatchColorStatistics(mean=MEAN, std=STD)(image))
    assert result["label"] == 0
