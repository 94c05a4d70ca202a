"""Windows as transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from movl_monai.readers import MedicalImageError
from movl_monai.transforms import ApplyVOIWindow, ApplyVOIWindowd, HUWindows, HUWindowsd


def test_hu_windows_make_one_channel_each() -> None:
    hu = torch.linspace(-1024, 3071, 64).reshape(1, 8, 8)
    result = HUWindows(["lungs", "mediastinum", [1800, 400]])(hu)
    assert result.shape == (3, 8, 8)
    assert result.dtype == torch.float32
    for channel, (width, level) in zip(result, [(1500, -600), (350, 50), (1800, 400)], strict=True):
        torch.testing.assert_close(channel, ApplyVOIWindow(center=level, width=width)(hu)[0])


def test_one_hu_window_is_repeated_to_three_channels() -> None:
    result = HUWindows(["brain"])(torch.linspace(-10, 100, 16).reshape(1, 4, 4))
    assert torch.equal(result[0], result[1])
    assert torch.equal(result[0], result[2])
    assert result.shape == (3, 4, 4)


def test_hu_windows_keep_a_volume_a_volume() -> None:
    assert HUWindows()(np.zeros((1, 4, 5, 6), dtype=np.int16)).shape == (3, 4, 5, 6)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4), (1,)])
def test_hu_windows_refuse_other_than_one_channel(shape: tuple[int, ...]) -> None:
    with pytest.raises(MedicalImageError, match=r"must have shape \(1, \.\.\.\)"):
        HUWindows()(torch.zeros(shape))


def test_dictionary_twins_equal_the_array_forms_and_keep_the_rest() -> None:
    hu = torch.randn(1, 4, 4) * 300
    data = {"image": hu, "label": 3}
    windowed = ApplyVOIWindowd("image", center=40, width=400, function="SIGMOID")(data)
    assert torch.equal(windowed["image"], ApplyVOIWindow(center=40, width=400, function="SIGMOID")(hu))
    channels = HUWindowsd("image", ["liver"])(data)
    assert torch.equal(channels["image"], HUWindows(["liver"])(hu))
    assert channels["label"] == windowed["label"] == 3
    assert data["image"] is hu


def test_dictionary_twins_may_miss_keys_only_when_told() -> None:
    assert HUWindowsd("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}
    with pytest.raises(KeyError, match="image"):
        ApplyVOIWindowd("image", center=0, width=2)({"label": 1})
