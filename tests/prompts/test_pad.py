"""PadPrompt: the identity at its start, a border and nothing else, in pixel and in normalised space."""

from __future__ import annotations

import pytest
import torch

from movl_monai.prompts import PadPrompt

STD = (0.2, 0.3, 0.4)


def images(height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(4, 3, height, width)


@pytest.mark.parametrize("options", [{}, {"space": "normalized", "std": STD}], ids=["pixel", "normalized"])
def test_pad_prompt_from_zeros_is_exactly_the_identity(options: dict) -> None:
    image = images()
    assert torch.equal(PadPrompt(image_size=(20, 24), width=3, **options)(image), image)


@pytest.mark.parametrize(("size", "width"), [((224, 224), 30), ((20, 24), 3), ((9, 7), 3)])
def test_pad_prompt_stores_the_border_only(size: tuple[int, int], width: int) -> None:
    prompt = PadPrompt(image_size=size, width=width)
    expected = 3 * (size[0] * size[1] - (size[0] - 2 * width) * (size[1] - 2 * width))
    assert sum(parameter.numel() for parameter in prompt.parameters()) == expected


def test_pad_prompt_leaves_the_inside_unchanged_and_moves_every_border_pixel() -> None:
    prompt = PadPrompt(image_size=(20, 24), width=3, init="normal", init_std=10.0)
    image = images() * 0.9 + 0.05
    changed = (prompt(image) != image).any(dim=1)
    inside = torch.zeros(20, 24, dtype=torch.bool)
    inside[3:-3, 3:-3] = True
    assert not changed[:, inside].any()
    assert changed[:, ~inside].float().mean() > 0.99


def test_pad_prompt_equals_a_loop_over_pixels() -> None:
    prompt = PadPrompt(image_size=(6, 7), width=2, init="normal", init_std=0.5)
    image = torch.rand(2, 3, 6, 7)
    expected = image.clone()
    for b, c, i, j in torch.cartesian_prod(*(torch.arange(n) for n in image.shape)).tolist():
        if i < 2:
            delta = prompt.top[c, i, j]
        elif i >= 4:
            delta = prompt.bottom[c, i - 4, j]
        elif j < 2:
            delta = prompt.left[c, i - 2, j]
        elif j >= 5:
            delta = prompt.right[c, i - 2, j - 5]
        else:
            continue
        expected[b, c, i, j] = min(max(float((image[b, c, i, j] + delta).detach()), 0.0), 1.0)
    torch.testing.assert_close(prompt(image), expected)


def test_pad_prompt_in_pixel_space_stays_in_0_1() -> None:
    prompt = PadPrompt(image_size=(20, 24), width=3, init="normal", init_std=5.0)
    prompted = prompt(images())
    assert prompted.min() == 0
    assert prompted.max() == 1


def test_pad_prompt_in_normalized_space_is_added_after_the_normalisation_without_clamping() -> None:
    prompt = PadPrompt(image_size=(20, 24), width=3, space="normalized", std=STD, init="normal")
    image, mean, std = images(), torch.tensor([0.4, 0.5, 0.6]).reshape(3, 1, 1), torch.tensor(STD).reshape(3, 1, 1)
    torch.testing.assert_close((prompt(image) - mean) / std, (image - mean) / std + prompt.parameter_image())
    assert prompt(image).max() > 1


def test_pad_prompt_gets_a_gradient_in_every_border_pixel_at_its_start() -> None:
    prompt = PadPrompt(image_size=(20, 24), width=3)
    (prompt(images()) * torch.rand(3, 20, 24)).sum().backward()
    assert all(bool((parameter.grad > 0).all()) for parameter in prompt.parameters())


def test_pad_prompt_random_start_repeats_with_its_seed_and_differs_between_strips() -> None:
    first, again, other = (PadPrompt(image_size=20, width=4, init="normal", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.delta(), again.delta())
    assert not torch.equal(first.delta(), other.delta())
    assert not torch.equal(first.top, first.bottom)


def test_pad_prompt_default_random_start_is_equally_strong_in_both_spaces() -> None:
    pixel = PadPrompt(image_size=100, width=20, init="normal").delta()
    normalized = PadPrompt(image_size=100, width=20, init="normal", space="normalized", std=(0.25, 0.25, 0.25)).delta()
    torch.testing.assert_close(pixel, normalized)


def test_pad_prompt_that_is_not_trainable_has_no_parameter_but_is_saved() -> None:
    prompt = PadPrompt(image_size=20, width=4, init="normal", trainable=False)
    assert list(prompt.parameters()) == []
    other = PadPrompt(image_size=20, width=4, trainable=False)
    other.load_state_dict(prompt.state_dict())
    assert torch.equal(other.delta(), prompt.delta())


def test_pad_prompt_state_is_the_four_strips() -> None:
    assert sorted(PadPrompt(image_size=20, width=4).state_dict()) == ["bottom", "left", "right", "top"]


@pytest.mark.parametrize("options", [{}, {"space": "normalized", "std": STD}, {"trainable": False}])
def test_pad_prompt_scripts(options: dict) -> None:
    prompt = PadPrompt(image_size=(20, 24), width=3, init="normal", **options)
    image = images()
    scripted = torch.jit.script(prompt)
    assert torch.equal(scripted(image), prompt(image))
    with pytest.raises(Exception, match=r"images of shape \(B, 3, 20, 24\)"):
        scripted(image[..., 1:])


@pytest.mark.parametrize("width", [0, -1, 10, 12])
def test_pad_prompt_refuses_a_width_without_interior_and_names_the_range(width: int) -> None:
    with pytest.raises(ValueError, match=f"between 1 and 9 pixels for 20 x 24 images, got {width}"):
        PadPrompt(image_size=(20, 24), width=width)


@pytest.mark.parametrize("shape", [(1, 3, 24, 20), (3, 20, 24), (1, 1, 20, 24)])
def test_pad_prompt_refuses_images_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, 3, 20, 24\), got .*resize"):
        PadPrompt(image_size=(20, 24), width=3)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "normalized"}, "std .* belongs to space='normalized' only"),
        ({"std": STD}, "std .* belongs to space='normalized' only"),
        ({"space": "normalized", "std": (0.2, 0.0, 0.2)}, "3 positive numbers"),
        ({"space": "normalized", "std": (0.2,)}, "3 positive numbers"),
        ({"space": "frequency"}, "'pixel' or 'normalized', got 'frequency'"),
        ({"init": "ones"}, "'zeros' or 'normal', got 'ones'"),
        ({"init": "normal", "init_std": 0.0}, "init_std must be > 0, got 0.0"),
        ({"image_size": (20, 0)}, "image_size must be one positive number"),
    ],
)
def test_pad_prompt_refuses_impossible_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PadPrompt(**{"image_size": 20, "width": 3, **options})
