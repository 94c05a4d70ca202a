"""Rules for every corruption: the result is an image, severity means distance, and draws belong to the image."""

from __future__ import annotations

import inspect
import pickle
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose
from torch.utils.data import DataLoader

import movl_monai.transforms.corruptions as corruptions
from movl_monai.data.decode import to_uint8
from movl_monai.phantom.anatomy import draw_nodules
from movl_monai.phantom.scanner import SCANNERS, render
from movl_monai.transforms import LoadMedicalImage, QuantizeImage, ResizeImage
from movl_monai.transforms.corruptions import (
    CORRUPTIONS,
    AddGaussianNoised,
    Corruption,
    InvertPolarity,
)

SIZE = 96
NAMES = list(CORRUPTIONS)
DRAWING = {"gaussian_noise", "quantum_noise", "motion", "gamma", "text", "field_of_view"}


@cache
def radiograph(patient: int) -> torch.Tensor:
    stored = render(
        SCANNERS[0], seed=0, patient=patient, image=0, size=SIZE, lesions=draw_nodules if patient % 2 == 0 else None
    ).pixels
    grey = torch.from_numpy(stored.astype(np.float32))
    low, high = torch.aminmax(grey)
    return ((grey - low) / (high - low)).expand(3, -1, -1).contiguous()


def colored(patient: int) -> torch.Tensor:
    return torch.stack([radiograph(patient)[0], radiograph(patient + 1)[0] ** 2, 1 - radiograph(patient)[0]])


def severities(name: str) -> range:
    return range(1, len(CORRUPTIONS[name].parameters) + 1)


def distance(name: str, severity: int, *, patients: int = 6) -> float:
    corrupt = CORRUPTIONS[name](severity=severity)
    pairs = [(corrupt(radiograph(patient), str(patient)), radiograph(patient)) for patient in range(patients)]
    return float(np.mean([(a - b).square().mean().sqrt().item() for a, b in pairs]))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_becomes_an_image_and_the_given_one_stays_as_it_is(name: str) -> None:
    for image in (radiograph(0), colored(0)[:, : SIZE - 7], torch.zeros(3, 5, 9), torch.ones(3, 1, 1)):
        before = image.clone()
        for severity in severities(name):
            result = CORRUPTIONS[name](severity=severity)(image, "id")
            assert (result.shape, result.dtype) == (image.shape, torch.float32)
            assert 0 <= result.min() <= result.max() <= 1
            to_uint8(QuantizeImage()(result))  # data sets take these values
        assert torch.equal(image, before)


@settings(max_examples=25)
@given(st.sampled_from(NAMES), st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31), st.text(max_size=5))
def test_any_size_seed_and_id_give_an_image(name: str, rows: int, columns: int, seed: int, image_id: str) -> None:
    image = torch.rand(3, rows, columns, generator=torch.Generator().manual_seed(seed))
    result = CORRUPTIONS[name](severity=severities(name)[-1], seed=seed)(image, image_id)
    assert result.shape == image.shape
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_severity_zero_is_the_image_and_the_others_are_farther_and_farther_from_it(name: str) -> None:
    assert torch.equal(CORRUPTIONS[name](severity=0)(radiograph(0)), radiograph(0))
    distances = [distance(name, severity) for severity in severities(name)]
    assert distances[0] > 1 / 512  # more than rounding to 256 grey levels
    assert all(a < b for a, b in pairwise(distances))


def test_severity_means_distance_on_real_radiographs_too(test_data: Path) -> None:
    folder = test_data / "data" / "cxr_pneumonia" / "id" / "test"
    chain = Compose([LoadMedicalImage(), ResizeImage(128), QuantizeImage()])
    images = [
        chain(sorted((folder / kind).iterdir())[number]) for kind in ("normal", "pneumonia") for number in range(3)
    ]
    for name in NAMES:
        distances = []
        for severity in severities(name):
            corrupt = CORRUPTIONS[name](severity=severity)
            changes = [corrupt(image, str(number)) - image for number, image in enumerate(images)]
            distances.append(float(torch.stack(changes).square().mean().sqrt()))
        assert all(a < b for a, b in pairwise(distances)), name


@pytest.mark.parametrize("name", NAMES)
def test_a_grey_image_stays_grey_and_channels_of_a_colored_one_differ(name: str) -> None:
    for severity in severities(name):
        grey = CORRUPTIONS[name](severity=severity)(radiograph(1), "id")
        assert torch.equal(grey[0], grey[1])
        assert torch.equal(grey[0], grey[2])
        color = CORRUPTIONS[name](severity=severity)(colored(1), "id")
        assert not torch.equal(color[0], color[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_and_id_give_the_same_image_and_others_another_where_something_is_drawn(name: str) -> None:
    def corrupted(seed: int, image_id: str) -> torch.Tensor:
        return CORRUPTIONS[name](severity=severities(name)[-1], seed=seed)(radiograph(0), image_id)

    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - it must be left alone
    first = corrupted(0, "a")
    assert torch.equal(corrupted(0, "a"), first)
    others = [(seed, image_id) for seed in range(4) for image_id in "abc"][1:]
    differing = [not torch.equal(corrupted(*other), first) for other in others]
    assert any(differing) == (name in DRAWING)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == legacy).all()  # noqa: NPY002


def test_noises_of_one_seed_and_id_are_not_the_same_draws() -> None:
    grey = torch.full((3, 32, 32), 0.5)
    first, second = (CORRUPTIONS[name]()(grey, "a")[0].flatten() for name in ("gaussian_noise", "quantum_noise"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


class Items(torch.utils.data.Dataset):
    def __init__(self, name: str) -> None:
        self.transform = getattr(corruptions, f"{CORRUPTIONS[name].__name__}d")("image", seed=4)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        return self.transform({"image": radiograph(index), "id": f"{index:03x}", "label": index})


def test_draws_do_not_depend_on_the_order_the_batch_or_the_workers() -> None:
    items = Items("gaussian_noise")
    expected = torch.stack([items[index]["image"] for index in range(6)])
    backwards = torch.stack([items[index]["image"] for index in reversed(range(6))]).flip(0)
    assert torch.equal(backwards, expected)
    for loader in (DataLoader(items, batch_size=4), DataLoader(items, batch_size=1, num_workers=2)):
        assert torch.equal(torch.cat([batch["image"] for batch in loader]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_has_the_options_of_the_array_form_and_does_the_same(name: str) -> None:
    array = CORRUPTIONS[name]
    twin = getattr(corruptions, f"{array.__name__}d")
    assert {array.__name__, twin.__name__} <= set(corruptions.__all__)
    options, twins = (inspect.signature(part).parameters for part in (array, twin))
    assert {key: twins[key].default for key in options} == {key: value.default for key, value in options.items()}
    item = {"image": radiograph(0), "other": radiograph(0), "key": "0a", "label": 1}
    result = pickle.loads(pickle.dumps(twin(["image", "other"], severity=1, seed=5, id_key="key")))(item)
    assert torch.equal(result["image"], array(severity=1, seed=5)(radiograph(0), "0a"))
    assert torch.equal(result["other"], result["image"])
    assert (result["label"], result["key"]) == (1, "0a")


def test_an_item_without_an_id_and_a_missing_key_are_refused_unless_allowed() -> None:
    with pytest.raises(ValueError, match="needs an id under 'id'"):
        AddGaussianNoised("image")({"image": radiograph(0)})
    with pytest.raises(KeyError):
        AddGaussianNoised("image")({"id": "a"})
    assert AddGaussianNoised("image", allow_missing_keys=True)({"id": "a"}) == {"id": "a"}


@pytest.mark.parametrize("severity", [-1, 6, 2.0, "3"])
def test_other_severities_are_refused(severity: object) -> None:
    with pytest.raises(ValueError, match=r"severity of gamma must be a whole number from 0 \(unchanged\) to 5, got"):
        CORRUPTIONS["gamma"](severity=severity)  # type: ignore[arg-type]


def test_inversion_has_one_form() -> None:
    assert list(severities("inversion")) == [1]
    with pytest.raises(ValueError, match=r"from 0 \(unchanged\) to 1, got 3"):
        InvertPolarity(severity=3)
    torch.testing.assert_close(InvertPolarity()(InvertPolarity()(radiograph(0))), radiograph(0), rtol=0, atol=1e-7)
    assert {len(part.parameters) for name, part in CORRUPTIONS.items() if name != "inversion"} == {5}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 4, 4), r"floating \(3, H, W\) in \[0, 1\], got torch.float32 \(1, 4, 4\)"),
        (torch.zeros(2, 3, 4, 4), "one image at a time"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "got torch.uint8"),
        (torch.full((3, 4, 4), 1.5), r"in \[0, 1\], got values from 1.5 to 1.5"),
        (torch.full((3, 4, 4), float("nan")), "got values from nan to nan"),
    ],
)
def test_what_is_no_image_is_refused(image: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CORRUPTIONS["contrast"]()(image)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be a whole number >= 0, got -1"):
        CORRUPTIONS["text"](seed=-1)


def test_a_result_of_the_base_class_outside_of_the_range_is_clamped_and_its_channels_are_its_own() -> None:
    class Bright(Corruption):
        name = "bright"
        parameters = (1.0,)
        meaning = "brightness"

        def _corrupt(self, pixels: torch.Tensor, parameter: float, generator: np.random.Generator) -> torch.Tensor:
            return pixels + parameter

    result = Bright(severity=1)(torch.full((3, 2, 2), 0.5))
    assert torch.equal(result, torch.ones(3, 2, 2))
    result[0] = 0
    assert torch.equal(result[1:], torch.ones(2, 2, 2))


def test_the_readme_names_them_with_their_parameters() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "images.md").read_text(encoding="utf-8")
    listed = re.findall(
        r"^\| `(\w+)` \| `(\w+)\(d\)` \| (.+?): ([\d., of]+) \|$", text.split("## Corruptions")[1], re.M
    )
    assert [(name, array) for name, array, *_ in listed] == [(key, part.__name__) for key, part in CORRUPTIONS.items()]
    for name, _, meaning, values in listed:
        # "2 of 0.08" is two words of this size
        found = [tuple(float(word) for word in reversed(value.split(" of "))) for value in values.split(", ")]
        expected = [value if isinstance(value, tuple) else (value,) for value in CORRUPTIONS[name].parameters]
        assert (meaning.split(":")[0], found) == (CORRUPTIONS[name].meaning.split(":")[0], expected)
