"""Overhead of our trainer over the unavoidable work of a training step."""

from __future__ import annotations

from .parts import bare_step
from .settings import BenchSettings
from .step_clock import compare_with_trainer

__all__ = ["run"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``trainer_overhead``: ours relative to the bare loop.

    The bare loop is ``cross_entropy(network(image), label).backward()`` on the same prepared network and batches, with
    the head fixed: forward, and backward to the prompt. Loading batches, uint8 to float, plain logits, discrepancy,
    gradients of the head, the check for NaN, Adam, learning rates and the engine's events are overhead.
    """
    return compare_with_trainer("trainer_overhead", settings, bare_step, prepare_other=True)
