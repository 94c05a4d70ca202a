from __future__ import annotations

from typing import Any

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.space import Dimension, parse_space


@pytest.mark.parametrize(
    ("kind", "bounds", "value"),
    [
        ("log", (1e-3, 1e-1), 0.02),
        ("linear", (0.5, 1.0), 0.5),
        ("integer", (0, 9), 9),
        ("choice", ("kl", "mse"), "mse"),
        ("share_of_image", (0.03, 0.2), 17),
    ],
)
def test_a_value_survives_the_way_to_what_is_drawn_and_back(kind: Any, bounds: tuple[Any, ...], value: Any) -> None:
    part = Dimension(kind=kind, bounds=bounds)
    assert part.value(part.drawn(value, image_size=128), image_size=128) == value


@pytest.mark.parametrize("size", [32, 128, 224])
def test_a_share_of_the_image_is_a_valid_width_for_every_size(size: int) -> None:
    part = Dimension(kind="share_of_image", bounds=(0.03, 0.2))
    widths = [part.value(share, image_size=size) for share in (0.03, 0.1, 0.2)]
    assert all(1 <= width < size / 2 for width in widths)


@pytest.mark.parametrize(
    ("kind", "bounds", "value"),
    [("log", (1e-3, 1e-1), 0.2), ("choice", ("kl",), "mse"), ("share_of_image", (0.03, 0.2), 30)],
)
def test_a_value_outside_of_the_range_is_refused(kind: Any, bounds: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(ConfigError, match="outside of the search range"):
        Dimension(kind=kind, bounds=bounds).drawn(value, image_size=64)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"lr": [1e-3, 1e-1]}, "one entry such as"),
        ({"lr": {"normal": [0, 1]}}, "must be one of log"),
        ({"lr": {"log": [0, 1]}}, "above 0"),
        ({"lr": {"linear": [2, 1]}}, "low < high"),
        ({"lr": {"log": 3}}, "cannot be used"),
        ({"lr": {"choice": []}}, "one or more values"),
    ],
)
def test_a_bad_range_is_refused_with_the_name_of_its_id(definition: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_space(definition)
    assert "'lr'" in str(caught.value)


def test_a_share_needs_the_size_of_the_images() -> None:
    with pytest.raises(ConfigError, match="image_size"):
        Dimension(kind="share_of_image", bounds=(0.03, 0.2)).value(0.1)
