"""Random variation: identity where asked, SciPy's geometry, formulas for levels, seeds."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from scipy.ndimage import affine_transform, gaussian_filter

from movl_monai.transforms.augment import RandomAugmentImage, RandomAugmentImaged

NOTHING = {
    "prob": 1.0,
    "rotate_degrees": 0.0,
    "shift": 0.0,
    "scale": (1.0, 1.0),
    "brightness": 0.0,
    "contrast": (1.0, 1.0),
    "noise": 0.0,
}


def smooth_image(rows: int = 24, columns: int = 32) -> torch.Tensor:
    noise = np.random.default_rng(0).random((3, rows, columns))
    return torch.from_numpy(gaussian_filter(noise, (0, 2, 2)).astype(np.float32))


def only(**options: object) -> RandomAugmentImage:
    return RandomAugmentImage(**(NOTHING | options)).set_random_state(seed=3)  # type: ignore[arg-type]


def test_prob_zero_and_all_ranges_empty_change_nothing() -> None:
    image = torch.rand(3, 9, 11)
    assert torch.equal(RandomAugmentImage(prob=0)(image), image)
    torch.testing.assert_close(only()(image), image, rtol=0, atol=1e-7)


def test_prob_is_the_share_of_changed_images() -> None:
    augment = RandomAugmentImage(prob=0.3).set_random_state(seed=0)
    image = torch.rand(3, 4, 4)
    changed = sum(not torch.equal(augment(image), image) for _ in range(1000))
    assert 250 < changed < 350


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    image = smooth_image()
    first, second, other = (RandomAugmentImage(prob=1).set_random_state(seed=seed) for seed in (5, 5, 6))
    results = [first(image) for _ in range(3)]
    assert all(torch.equal(second(image), result) for result in results)
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(other(image), results[0])


def test_torchs_generator_is_not_touched() -> None:
    state = torch.get_rng_state()
    only(noise=0.1)(smooth_image())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_result_is_an_image_and_the_input_is_kept() -> None:
    augment = RandomAugmentImage(prob=1, brightness=0.9, contrast=(0.1, 5), noise=0.5, flip=True)
    image = smooth_image()
    before = image.clone()
    for _ in range(20):
        result = augment(image)
        assert (result.shape, result.dtype) == (image.shape, torch.float32)
        assert 0 <= result.min() <= result.max() <= 1
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    "options",
    [
        {"rotate_degrees": 30.0},
        {"shift": 0.2},
        {"scale": (0.6, 1.7)},
        {"rotate_degrees": 20.0, "shift": 0.1, "scale": (0.8, 1.3)},
    ],
)
def test_geometry_equals_scipys_affine_transform(options: dict) -> None:
    image = smooth_image()
    augment = only(**options)
    result = augment(image)
    drawn = augment._drawn
    angle = np.deg2rad(drawn["angle"])
    # rows down, columns right: forward = scale * rotation (counterclockwise as seen) and shift, around the center
    forward = drawn["scale"] * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = drawn["shift"] * image.shape[1:]
    center = (np.array(image.shape[1:]) - 1) / 2
    inverse = np.linalg.inv(forward)
    for channel, expected in zip(result, image, strict=True):
        oracle = affine_transform(
            expected.numpy(), inverse, offset=center - inverse @ (center + shift), order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(channel.numpy(), oracle, atol=2e-5)


def test_a_positive_angle_turns_counterclockwise() -> None:
    image = torch.zeros(3, 21, 21)
    image[:, 10, 18] = 1  # right of the center
    augment = only(rotate_degrees=90.0)
    augment.randomize()
    augment._drawn["angle"] = 90.0
    peak = augment(image, randomize=False)[0].argmax().item()
    assert divmod(peak, 21) == (2, 10)  # above it


def test_flip_is_off_by_default_and_mirrors_half_of_the_images() -> None:
    image = smooth_image()
    default, flipping = RandomAugmentImage(**NOTHING), only(flip=True)  # type: ignore[arg-type]
    assert not default.flip
    flipped = 0
    for _ in range(100):
        torch.testing.assert_close(default(image), image)
        result = flipping(image)
        mirrored = torch.allclose(result, image.flip(-1))
        assert mirrored or torch.allclose(result, image)
        flipped += mirrored
    assert 30 < flipped < 70


def test_levels_follow_the_formula() -> None:
    image = smooth_image()
    augment = only(brightness=0.05, contrast=(0.8, 1.2))
    result = augment(image)
    drawn = augment._drawn
    assert drawn["contrast"] != 1
    torch.testing.assert_close(result, ((image - 0.5) * drawn["contrast"] + 0.5 + drawn["brightness"]).clamp(0, 1))


def test_noise_has_the_drawn_deviation_and_is_grey() -> None:
    image = torch.full((3, 200, 200), 0.5)
    augment = only(noise=0.1)
    difference = augment(image) - image
    assert difference.std().item() == pytest.approx(augment._drawn["sigma"], rel=0.02)
    assert abs(difference.mean().item()) < 0.002
    assert torch.equal(difference[0], difference[2])


def test_one_option_does_not_change_what_the_others_draw() -> None:
    with_noise, without = only(noise=0.1, brightness=0.1), only(brightness=0.1)
    with_noise.randomize()
    without.randomize()
    assert with_noise._drawn["brightness"] == without._drawn["brightness"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prob": 1.5}, r"prob must be in \[0, 1\], got 1.5"),
        ({"rotate_degrees": -1}, r"rotate_degrees must be in \[0, 180\], got -1"),
        ({"noise": float("nan")}, r"noise must be in \[0, 1\], got nan"),
        ({"scale": (0, 1)}, r"scale must be \(lowest, highest\) with 0 < lowest <= highest"),
        ({"contrast": (1.2, 0.8)}, "contrast must be"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomAugmentImage(**options)


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got torch.uint8 \(3, 4, 4\); augment before"):
        RandomAugmentImage()(torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_the_dictionary_twin_varies_all_keys_alike_and_is_seeded_by_compose() -> None:
    image = smooth_image()
    expected = RandomAugmentImage(prob=1)
    chain = Compose([RandomAugmentImaged(["image", "other"], prob=1)])
    chain.set_random_state(seed=1)
    first = chain({"image": image, "other": image, "label": 1})
    assert torch.equal(first["image"], first["other"])
    assert first["label"] == 1
    chain.set_random_state(seed=1)
    assert torch.equal(chain({"image": image, "other": image})["image"], first["image"])
    twin = RandomAugmentImaged("image", prob=1).set_random_state(seed=7)
    assert torch.equal(twin({"image": image})["image"], expected.set_random_state(seed=7)(image))


def test_a_pickled_copy_goes_on_with_the_same_numbers() -> None:
    augment = RandomAugmentImage(prob=1).set_random_state(seed=2)
    copy = pickle.loads(pickle.dumps(augment))
    assert torch.equal(copy(smooth_image()), augment(smooth_image()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_seed_gives_the_same_image_on_cuda() -> None:
    image = smooth_image()
    cpu, cuda = (RandomAugmentImage(prob=1).set_random_state(seed=2) for _ in range(2))
    torch.testing.assert_close(cuda(image.cuda()).cpu(), cpu(image), atol=1e-4, rtol=0)


def test_a_mask_moves_with_its_image_and_keeps_its_values() -> None:
    mask = torch.zeros(1, 40, 40, dtype=torch.uint8)
    mask[:, 8:20, 10:30] = 1
    mask[:, 25:33, 5:15] = 2
    image = (mask == 2).float().repeat(3, 1, 1)
    augment = RandomAugmentImaged(
        "image",
        mask_keys="mask",
        prob=1,
        rotate_degrees=60,
        shift=0.2,
        flip=True,
        brightness=0,
        contrast=(1, 1),
        noise=0,
    )
    for seed in range(5):
        moved = augment.set_random_state(seed=seed)({"image": image, "mask": mask})
        assert moved["mask"].dtype == torch.uint8
        assert set(moved["mask"].unique().tolist()) <= {0, 1, 2}
        # away from the soft border the two agree
        assert ((moved["mask"][0] == 2)[moved["image"][0] > 0.75]).all()
        assert not ((moved["mask"][0] == 2)[moved["image"][0] < 0.25]).any()
        assert not torch.equal(moved["mask"], mask)


def test_where_nothing_is_drawn_a_mask_stays_and_a_missing_one_is_an_error_unless_allowed() -> None:
    mask = torch.ones(1, 8, 8, dtype=torch.uint8)
    still = RandomAugmentImaged("image", mask_keys="mask", prob=0)({"image": torch.rand(3, 8, 8), "mask": mask})
    assert torch.equal(still["mask"], mask)
    with pytest.raises(KeyError):
        RandomAugmentImaged("image", mask_keys="mask")({"image": torch.rand(3, 8, 8)})
    allowed = RandomAugmentImaged("image", mask_keys="mask", allow_missing_keys=True)
    assert set(allowed({"image": torch.rand(3, 8, 8)})) == {"image"}
