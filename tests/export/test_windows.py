"""Sliding windows built from plain data equal those of the run's inferer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from movl_monai.errors import ConfigError
from movl_monai.export.preprocessing import describe_inferer, window_logits


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"overlap": 0.5, "mode": "gaussian", "sigma_scale": 0.4},
        {"overlap": (0.25, 0.5), "mode": "gaussian", "sigma_scale": (0.2, 0.5)},
        {"padding_mode": "reflect"},
        {"cval": 0.7},
    ],
)
def test_windows_from_plain_data_give_what_the_inferer_gives(options: dict[str, Any]) -> None:
    inferer = SlidingWindowInferer(roi_size=(16, 24), sw_batch_size=3, **options)
    # depends on where in its window a pixel lies, so that weights of windows count
    network = nn.Sequential(nn.Conv2d(3, 2, 5, padding=2), nn.InstanceNorm2d(2)).eval()
    image = torch.rand(2, 3, 40, 20)
    with torch.inference_mode():
        expected: Any = inferer(image, network)
        found, features = window_logits(
            lambda part: network(torch.from_numpy(part)).numpy(), image.numpy(), describe_inferer(inferer) or {}
        )
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    assert features is None


def test_whole_images_have_no_windows_and_other_inferers_are_refused() -> None:
    assert describe_inferer(SimpleInferer()) is None

    class Own(SimpleInferer):
        """An inferer of another kind."""

    with pytest.raises(ConfigError, match="is a Own; expected monai's SimpleInferer or SlidingWindowInferer"):
        describe_inferer(Own())
