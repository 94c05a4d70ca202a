"""Training step of MoVL: our trainer relative to the naive loop with two forward passes."""

from __future__ import annotations

from .parts import naive_step
from .settings import BenchSettings
from .step_clock import compare_with_trainer

__all__ = ["run"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``movl_step_vs_naive``: ours relative to the naive loop.

    The naive loop is the straightforward one: timm's unprepared network (BatchNorm unfolded, NCHW), a forward pass of
    the prompted images and, without graph, one of the plain images. Prompt, head, loss, optimiser, learning rates and
    batches are equal to ours, and so are the losses.
    """
    return compare_with_trainer("movl_step_vs_naive", settings, naive_step, prepare_other=False)
