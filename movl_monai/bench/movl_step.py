"""A training step of MoVL: our trainer against the naive loop with two forward passes."""

from __future__ import annotations

from .parts import naive_step
from .settings import BenchSettings
from .step_clock import compare_with_trainer

__all__ = ["run"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``movl_step_vs_naive``: ours over naive.

    Naive is the loop that one would write first: the network as timm builds it (BatchNorm unfolded, NCHW), a forward
    pass of the prompted images and, without graph, one of the plain images. Prompt, head, loss, optimiser, learning
    rates and batches are the same as ours, and so are the losses.
    """
    return compare_with_trainer("movl_step_vs_naive", settings, naive_step, prepare_other=False)
