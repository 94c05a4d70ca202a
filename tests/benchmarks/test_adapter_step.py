"""The two benchmarks of adapters compare equal work."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events

from benchmarks.adapter_step import adapted_network, adapter_trainer, bare_adapter_step, uncached_step
from benchmarks.parts import float_batches
from movl_monai.adapters import last_blocks
from movl_monai.engines import TokenSet
from tests.benchmarks.settings import tiny_settings
from tests.helpers import memory_dataset, tiny_vit


def test_a_step_from_cached_tokens_and_one_from_images_have_the_same_losses() -> None:
    settings, data = tiny_settings(), memory_dataset(8, num_classes=3, size=64)
    backbone = tiny_vit()
    ours, other = (adapted_network(backbone, settings, blocks=last_blocks(backbone)) for _ in range(2))
    losses: list[float] = []
    trainer = adapter_trainer(ours, data, settings, steps=6, tokens=TokenSet(data, ours, progress=False))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    step, batches = uncached_step(other), float_batches(data, settings)
    expected = [step(batches[index % len(batches)]).item() for index in range(6)]
    assert losses == pytest.approx(expected, rel=1e-2)
    assert len(set(losses)) == 6


def test_the_bare_step_runs_every_block_forward_and_backward_and_updates_nothing() -> None:
    settings, backbone = tiny_settings(), tiny_vit()
    network = adapted_network(backbone, settings, blocks=None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step = bare_adapter_step(network)
    image, label = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    reached: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.LayerNorm):
            output.register_hook(reached.append)

    # the path's blocks are others than the backbone's, whose layers they hold by their tensors only
    handle = torch.nn.modules.module.register_module_forward_hook(keep)
    try:
        step((image, label))
    finally:
        handle.remove()
    assert len(reached) == 2 * 6 + 1, "two LayerNorms in each of six blocks, and the last one"
    assert all(gradient.abs().sum() > 0 for gradient in reached)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
