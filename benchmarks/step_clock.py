"""Time a step of our trainer alternately with a step of another loop, on the same batches."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events

from movl_monai.backbones import prepare_frozen
from movl_monai.engines import FeatureSet, StagedTrainer
from movl_monai.networks import AdaptedClassifier

from .clock import Timing, compare, quiet_gc, synchronize
from .data import synthetic_images
from .memory import peak_memory
from .parts import Batch, float_batches, make_network, make_trainer
from .settings import BenchSettings

__all__ = ["compare_with_trainer", "time_trainer"]

Step = Callable[[Batch], object]


def compare_with_trainer(
    name: str, settings: BenchSettings, make_step: Callable[[AdaptedClassifier], Step], *, prepare_other: bool
) -> dict[str, float]:
    """Compare a step of StagedTrainer with a step of another loop.

    Ours runs on the prepared backbone (BatchNorm folded, channels last), from uint8 images, with the plain features in
    the cache, which is already filled, as at the start of a training. The other loop has its float images on the
    device.

    Args:
        name: key of the ratio.
        settings: sizes and rounds.
        make_step: makes the other loop's step from its network.
        prepare_other: whether the other loop's network has the prepared backbone too, instead of timm's.

    Returns:
        Keys of :func:`~benchmarks.compare`.
    """
    backbone = settings.backbone().to(settings.device)
    prepared = prepare_frozen(backbone)
    data = synthetic_images(
        settings.step_images,
        image_size=backbone.spec.image_size,
        num_classes=settings.num_classes,
        seed=settings.seed,
    )
    features = FeatureSet(data, prepared, batch_size=settings.batch_size, device=settings.device, progress=False)
    network = make_network(prepared, settings, features.values)
    step = make_step(make_network(prepared if prepare_other else backbone, settings, features.values))
    batches = float_batches(data, settings)
    trainer = make_trainer(network, data, features, settings, steps=settings.warmup + settings.rounds + 1)
    ours, other = time_trainer(trainer, step, batches, settings)
    one_epoch = make_trainer(network, data, features, settings, steps=1)
    memory = (
        peak_memory(one_epoch.run, device=settings.device),
        peak_memory(lambda: [step(batch) for batch in batches], device=settings.device),
    )
    return compare(name, ours=ours, other=other, memory=memory)


def time_trainer(
    trainer: StagedTrainer, other: Step, batches: list[Batch], settings: BenchSettings
) -> tuple[Timing, Timing]:
    """Run a trainer and, before each of its steps, one step of another loop on the same batch; time both.

    A step of the trainer is everything between the requests for two batches: loading, events, learning rates, forward,
    loss, backward, optimiser, checks.

    Returns:
        Timings of the trainer's and the other loop's steps, ``settings.rounds`` of each.

    Raises:
        ValueError: if the trainer ends too early; it needs one step more than it times.
    """
    clock = _StepClock(other, batches, settings)
    clock.attach(trainer)
    with quiet_gc():
        trainer.run()
    wanted = settings.warmup + settings.rounds
    if len(clock.ours) < wanted:
        raise ValueError(f"The trainer must run for at least {wanted + 1} steps, timed were {len(clock.ours)}.")
    window = slice(settings.warmup, wanted)
    return Timing(tuple(clock.ours[window])), Timing(tuple(clock.other[window]))


class _StepClock:
    """Handler that runs and times another loop between two steps of the trainer."""

    def __init__(self, other: Step, batches: list[Batch], settings: BenchSettings) -> None:
        self.step = other
        self.batches = batches
        self.device = settings.device
        self.steps = settings.warmup + settings.rounds
        self.ours: list[float] = []
        self.other: list[float] = []
        self._start: float | None = None

    def attach(self, engine: Engine) -> None:
        """Read the clock before each batch is loaded."""
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._between_steps)

    def _between_steps(self, engine: Any) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self._start is not None:
            self.ours.append(now - self._start)
        if len(self.ours) == self.steps:
            engine.terminate()
            return
        gc.collect()
        start = time.perf_counter()
        self.step(self.batches[len(self.other) % len(self.batches)])
        synchronize(self.device)
        self.other.append(time.perf_counter() - start)
        self._start = time.perf_counter()
