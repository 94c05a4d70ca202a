"""saturate: clamp's values, and a gradient that leads back inside."""

from __future__ import annotations

import pytest
import torch

from movl_monai.prompts import PadPrompt
from movl_monai.prompts.base import saturate


def test_saturate_has_the_values_of_clamp() -> None:
    image = torch.linspace(-1, 2, 301, requires_grad=True)
    assert torch.equal(saturate(image), image.clamp(0, 1))


@pytest.mark.parametrize(
    ("value", "gradient", "expected"),
    [
        (-0.5, 1.0, 0.0),
        (-0.5, -1.0, -1.0),
        (0.0, 1.0, 0.0),
        (0.0, -1.0, -1.0),
        (0.5, 1.0, 1.0),
        (0.5, -1.0, -1.0),
        (1.0, 1.0, 1.0),
        (1.0, -1.0, 0.0),
        (1.5, 1.0, 1.0),
        (1.5, -1.0, 0.0),
    ],
)
def test_saturate_stops_the_gradient_only_where_a_step_would_lead_further_out(
    value: float, gradient: float, expected: float
) -> None:
    image = torch.tensor([value], requires_grad=True)
    saturate(image).backward(torch.tensor([gradient]))
    assert image.grad.item() == expected


def test_saturate_propagates_nan_so_that_training_can_stop_on_it() -> None:
    image = torch.tensor([0.5, 0.0], requires_grad=True)
    saturate(image).backward(torch.tensor([float("nan"), float("nan")]))
    assert bool(image.grad.isnan().any())


def test_prompt_on_black_images_learns_to_be_bright_and_comes_back_from_below_zero() -> None:
    prompt = PadPrompt(image_size=8, width=2)
    torch.nn.init.constant_(prompt.top, -0.1)
    optimizer = torch.optim.SGD(prompt.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        (prompt(torch.zeros(1, 3, 8, 8)) - 0.7).square().sum().backward()
        optimizer.step()
    assert bool((prompt(torch.zeros(1, 3, 8, 8))[:, :, :2] > 0.5).all())


def test_saturate_in_a_script_and_in_a_trace_has_the_same_values() -> None:
    image = torch.linspace(-1, 2, 31)
    assert torch.equal(torch.jit.script(saturate)(image), image.clamp(0, 1))
    assert torch.equal(torch.jit.trace(saturate, image)(image), image.clamp(0, 1))


def test_saturate_exports_as_a_plain_clamp() -> None:
    program = torch.export.export(PadPrompt(image_size=8, width=2), (torch.rand(1, 3, 8, 8),))
    operations = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert any("clamp" in operation for operation in operations)
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(program.module()(image), image)
