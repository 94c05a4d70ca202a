"""Training steps of the bundles' networks, relative to plain loops over the same batches."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import nn
from torch.utils.data import DataLoader, Dataset

from movl_monai.adapters import DVPT, last_blocks
from movl_monai.backbones import Backbone, map_channels, prepare_frozen
from movl_monai.engines import FeatureSet, Stage, StagedTrainer, TokenSet, optimizer_groups
from movl_monai.heads import LinearHead, SegmentationHead
from movl_monai.losses import MoVLLoss, SegmentationLoss
from movl_monai.networks import AdaptedClassifier, AdaptedSegmenter

from .clock import Timing, compare, peak_memory, quiet_gc, synchronize
from .settings import Batch, BenchSettings, SyntheticImages, float_batches, make_network, synthetic_images

__all__ = [
    "MaskedImages",
    "adapted_network",
    "bare_adapter_step",
    "bare_segmenter_step",
    "bare_step",
    "make_trainer",
    "masked_images",
    "naive_step",
    "run_dvpt",
    "run_movl",
    "run_overhead",
    "run_prefix",
    "run_segmenter",
    "time_trainer",
    "uncached_step",
]

Step = Callable[[Batch], object]
MOVL_RATES = {"prompt": 3e-3, "head": 1e-3}
DVPT_RATES = {"adapter": 5e-4, "head": 1e-3}


def run_movl(settings: BenchSettings) -> dict[str, float]:
    """Compare one step of MoVL, ``movl_step_vs_naive``: ours relative to the naive loop.

    Ours runs on the prepared backbone (BatchNorm folded, channels last), from uint8 images, with the plain features in
    the cache, which is already filled, as at the start of a training. The naive loop is the straightforward one: timm's
    unprepared network (NCHW), a forward pass of the prompted images and, without graph, one of the plain images, with
    float images already on the device. Prompt, head, loss, optimiser, learning rates and batches are equal to ours, and
    so are the losses.
    """
    return _compare_movl("movl_step_vs_naive", settings, naive_step, prepare_other=False)


def run_overhead(settings: BenchSettings) -> dict[str, float]:
    """Compare one step of MoVL, ``trainer_overhead``: ours relative to the bare loop.

    The bare loop is ``cross_entropy(network(image), label).backward()`` on the same prepared network and batches, with
    the head fixed: forward, and backward to the prompt. Loading batches, uint8 to float, plain logits, discrepancy,
    gradients of the head, the check for NaN, Adam, learning rates and the engine's events are overhead.
    """
    return _compare_movl("trainer_overhead", settings, bare_step, prepare_other=True)


def run_dvpt(settings: BenchSettings) -> dict[str, float]:
    """Compare one step of DVPT, ``dvpt_step_vs_bare``: ours over the bare step of the plain backbone.

    Ours is a step of StagedTrainer with DVPT in all blocks, modules shared by three. The bare step is the frozen
    backbone's forward pass and cross entropy, and the backward pass to the input tokens of the first block. It has no
    adapter, optimiser or data, and is the minimum for any adapter in the first block.
    """
    settings, backbone = _smaller(settings), settings.transformer().to(settings.device)
    data = _images(backbone, settings)
    network = adapted_network(backbone, settings, blocks=None)
    return _compare("dvpt_step_vs_bare", settings, network, data, bare_adapter_step(network))


def run_prefix(settings: BenchSettings) -> dict[str, float]:
    """Compare one step of DVPT, ``prefix_cached_vs_uncached``: from cached tokens relative to from images.

    DVPT is in the last third of the blocks. Ours is a step of StagedTrainer that reads the tokens before them from the
    memory-mapped cache, which is already filled. The other loop runs the whole network, with the same loss, Adam and
    batches, and its float images are already on the device. Blocks before the adapter need no backward pass in either.
    """
    settings, backbone = _smaller(settings), settings.transformer().to(settings.device)
    data = _images(backbone, settings)
    ours, other = (adapted_network(backbone, settings, blocks=last_blocks(backbone)) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        tokens = TokenSet(
            data,
            ours,
            batch_size=settings.batch_size,
            device=settings.device,
            cache_dir=folder,
            progress=False,
        )
        size = tokens.values.nbytes  # fills the cache before timing
        figures = _compare("prefix_cached_vs_uncached", settings, ours, data, uncached_step(other), tokens=tokens)
        figures["prefix_cache_mb"] = size / 1e6
    return figures


def run_segmenter(settings: BenchSettings) -> dict[str, float]:
    """Compare one step of the segmentation bundle, ``segmenter_step_vs_bare``: ours over the bare loop.

    Ours is a step of StagedTrainer with the decoder on four frozen maps, two classes, from uint8 images and masks. The
    bare loop has its float images and masks on the device; it is the forward pass, the same loss, and the backward pass
    to the decoder. Loading batches, uint8 to float, the check for NaN, AdamW, learning rates and the engine's events
    are overhead.
    """
    settings = _smaller(settings)
    backbone = prepare_frozen(settings.backbone().to(settings.device))
    data = masked_images(settings, image_size=backbone.spec.image_size)
    head = SegmentationHead(map_channels(backbone), 2, seed=settings.seed)
    network = AdaptedSegmenter(backbone=backbone, head=head).to(settings.device)
    return _compare("segmenter_step_vs_bare", settings, network, data, bare_segmenter_step(network))


@dataclass(frozen=True)
class MaskedImages(Dataset[dict[str, Any]]):
    """Images in memory with the items of :class:`movl_monai.data.SegmentationDataset` that training needs.

    Args:
        images: uint8 (N, 3, H, W).
        masks: uint8 (N, H, W), classes.
    """

    images: torch.Tensor
    masks: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "mask": self.masks[index], "index": index}


def masked_images(settings: BenchSettings, *, image_size: int) -> MaskedImages:
    """Draw images whose masks are their bright pixels."""
    drawn = synthetic_images(settings.step_images, image_size=image_size, num_classes=2, seed=settings.seed)
    return MaskedImages(drawn.images, (drawn.images.float().mean(dim=1) > 127).to(torch.uint8))


def adapted_network(backbone: Backbone, settings: BenchSettings, *, blocks: Sequence[int] | None) -> AdaptedClassifier:
    """Return a network with DVPT in blocks of a backbone and a linear head that does not start at zero."""
    budget = min(height * width for height, width in backbone.token_path().layout.grids)
    adapter = DVPT(backbone, num_prompts=min(10, budget), bottleneck=20, share_every=3, blocks=blocks)
    head = LinearHead(backbone.spec.num_features, settings.num_classes, init="uniform", seed=settings.seed)
    return AdaptedClassifier(backbone=backbone, adapter=adapter, head=head).to(settings.device)


def make_trainer(
    network: AdaptedClassifier | AdaptedSegmenter,
    data: SyntheticImages | MaskedImages,
    settings: BenchSettings,
    *,
    steps: int,
    features: FeatureSet | None = None,
    tokens: TokenSet | None = None,
) -> StagedTrainer:
    """Build our trainer as in the bundle of the network, without validation and logging, for at least ``steps`` steps.

    The batches come in the data set's order, so that the other loop can use the same ones.
    """
    loader = DataLoader(data, batch_size=settings.batch_size)
    epochs = -(-steps // len(loader))
    optimizer, rates, loss_function = _updating(network)
    return StagedTrainer(
        device=settings.device,
        network=network,
        stages=[Stage(epochs=epochs, lr=rates, schedule="constant", name="bench")],
        max_epochs=epochs,
        optimizer=optimizer(optimizer_groups(network)),
        loss_function=loss_function,
        decollate=True,  # as in the bundles
        train_data_loader=loader,
        features=features,
        tokens=tokens,
    )


def naive_step(network: AdaptedClassifier) -> Callable[[Batch], torch.Tensor]:
    """Return MoVL's step in the straightforward loop: Adam, and two forward passes, one of them without graph.

    Returns:
        A function of a batch of float images and labels on the device, which updates prompt and head and returns the
        loss.
    """

    def plain_logits(image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network.head(network.backbone(image))

    return _updating_step(network, plain_logits)


def uncached_step(network: AdaptedClassifier) -> Callable[[Batch], torch.Tensor]:
    """Return DVPT's step from the images: forward, loss, backward, AdamW; it returns the loss."""
    return _updating_step(network, lambda image: None)


def bare_step(network: AdaptedClassifier) -> Step:
    """Return the smallest possible step: forward, cross entropy, backward to the prompt; nothing is updated."""
    network.head.requires_grad_(False)

    def step(batch: Batch) -> None:
        image, label = batch
        F.cross_entropy(network(image), label).backward()
        network.prompt.zero_grad()

    return step


def bare_adapter_step(network: AdaptedClassifier) -> Step:
    """Return forward and backward pass of the plain backbone, to the tokens before the first block."""
    path = network.backbone.token_path()

    def step(batch: Batch) -> None:
        image, label = batch
        with torch.no_grad():
            tokens = path.embed(network.backbone.normalize(image))
        tokens.requires_grad_()
        features = tokens
        for entry, block in zip(path.entries, path.blocks, strict=True):
            features = block(entry(features))
        weight, bias = network.head.weight.detach(), network.head.bias.detach()  # type: ignore[operator]
        F.cross_entropy(F.linear(path.pool(features), weight, bias), label).backward()

    return step


def bare_segmenter_step(network: AdaptedSegmenter) -> Step:
    """Return the smallest possible step: forward, loss, backward to the decoder; nothing is updated."""
    loss_function = SegmentationLoss()

    def step(batch: Batch) -> None:
        image, mask = batch
        loss_function(network(image), mask).backward()
        network.head.zero_grad()

    return step


def _updating(
    network: AdaptedClassifier | AdaptedSegmenter,
) -> tuple[type[torch.optim.Adam], dict[str, float], nn.Module]:
    """Return optimiser, learning rates and loss, as in the bundle of the network."""
    if isinstance(network, AdaptedSegmenter):
        return torch.optim.AdamW, {"head": 1e-3}, SegmentationLoss()
    if network.adapter is None:
        return torch.optim.Adam, MOVL_RATES, MoVLLoss(weight=1.0)
    return torch.optim.AdamW, DVPT_RATES, MoVLLoss()


def _updating_step(
    network: AdaptedClassifier, plain_logits: Callable[[torch.Tensor], torch.Tensor | None]
) -> Callable[[Batch], torch.Tensor]:
    optimizer_class, rates, loss_function = _updating(network)
    optimizer = optimizer_class(
        [{"params": getattr(network, part).parameters(), "lr": rate} for part, rate in rates.items()]
    )

    def step(batch: Batch) -> torch.Tensor:
        image, label = batch
        optimizer.zero_grad()
        loss: torch.Tensor = loss_function(network(image), label, plain_logits(image))
        loss.backward()
        optimizer.step()
        return loss

    return step


def time_trainer(
    trainer: StagedTrainer, other: Step, batches: Sequence[Batch], settings: BenchSettings
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

    def __init__(self, other: Step, batches: Sequence[Batch], settings: BenchSettings) -> None:
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


def _compare_movl(
    name: str, settings: BenchSettings, make_step: Callable[[AdaptedClassifier], Step], *, prepare_other: bool
) -> dict[str, float]:
    """Compare a step of StagedTrainer with a step of another loop, whose backbone is the prepared one or timm's."""
    backbone = settings.backbone().to(settings.device)
    prepared = prepare_frozen(backbone)
    data = _images(backbone, settings)
    features = FeatureSet(data, prepared, batch_size=settings.batch_size, device=settings.device, progress=False)
    network = make_network(prepared, settings, features.values)
    step = make_step(make_network(prepared if prepare_other else backbone, settings, features.values))
    return _compare(name, settings, network, data, step, features=features)


def _compare(
    name: str,
    settings: BenchSettings,
    network: AdaptedClassifier | AdaptedSegmenter,
    data: SyntheticImages | MaskedImages,
    step: Step,
    *,
    features: FeatureSet | None = None,
    tokens: TokenSet | None = None,
) -> dict[str, float]:
    """Time a step of our trainer alternately with another loop's, and measure the memory of one epoch of both."""
    batches = float_batches(data, settings)

    def trainer(steps: int) -> StagedTrainer:
        return make_trainer(network, data, settings, steps=steps, features=features, tokens=tokens)

    ours, other = time_trainer(trainer(settings.warmup + settings.rounds + 1), step, batches, settings)
    memory = (
        peak_memory(trainer(1).run, device=settings.device),
        peak_memory(lambda: [step(batch) for batch in batches], device=settings.device),
    )
    return compare(name, ours=ours, other=other, memory=memory)


def _smaller(settings: BenchSettings) -> BenchSettings:
    """Use the batch size for Transformers, with four batches, so that successive steps have different images."""
    size = settings.transformer_batch_size
    return replace(settings, batch_size=size, step_images=4 * size)


def _images(backbone: Backbone, settings: BenchSettings) -> SyntheticImages:
    size = backbone.spec.image_size
    return synthetic_images(settings.step_images, image_size=size, num_classes=settings.num_classes, seed=settings.seed)
