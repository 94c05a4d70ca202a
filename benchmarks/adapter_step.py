"""Training step of DVPT: relative to the smallest possible step, and with its frozen prefix cached."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from movl_monai.adapters import DVPT, last_blocks
from movl_monai.backbones import Backbone
from movl_monai.engines import Stage, StagedTrainer, TokenSet, optimizer_groups
from movl_monai.heads import LinearHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier

from .clock import compare
from .data import SyntheticImages, synthetic_images
from .memory import peak_memory
from .parts import Batch, float_batches
from .settings import BenchSettings
from .step_clock import time_trainer

__all__ = ["adapted_network", "adapter_trainer", "bare_adapter_step", "run_bare", "run_prefix", "uncached_step"]

LEARNING_RATES = {"adapter": 5e-4, "head": 1e-3}


def run_bare(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``dvpt_step_vs_bare``: ours over the bare step of the plain backbone.

    Ours is a step of StagedTrainer with DVPT in all blocks, modules shared by three. The bare step is the frozen
    backbone's forward pass and cross entropy, and the backward pass to the input tokens of the first block. It has no
    adapter, optimiser or data, and is the minimum for any adapter in the first block.
    """
    settings, backbone = _smaller(settings), settings.transformer().to(settings.device)
    data = _images(backbone, settings)
    network = adapted_network(backbone, settings, blocks=None)
    return _compare("dvpt_step_vs_bare", settings, data, network, bare_adapter_step(network))


def run_prefix(settings: BenchSettings) -> dict[str, float]:
    """Compare one step, ``prefix_cached_vs_uncached``: from cached tokens relative to from images.

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
        figures = _compare("prefix_cached_vs_uncached", settings, data, ours, uncached_step(other), tokens=tokens)
        figures["prefix_cache_mb"] = size / 1e6
    return figures


def adapted_network(backbone: Backbone, settings: BenchSettings, *, blocks: Sequence[int] | None) -> AdaptedClassifier:
    """Return a network with DVPT in blocks of a backbone and a linear head that does not start at zero."""
    budget = min(height * width for height, width in backbone.token_path().layout.grids)
    adapter = DVPT(backbone, num_prompts=min(10, budget), bottleneck=20, share_every=3, blocks=blocks)
    head = LinearHead(backbone.spec.num_features, settings.num_classes, init="uniform", seed=settings.seed)
    return AdaptedClassifier(backbone=backbone, adapter=adapter, head=head).to(settings.device)


def adapter_trainer(
    network: AdaptedClassifier,
    data: SyntheticImages,
    settings: BenchSettings,
    *,
    steps: int,
    tokens: TokenSet | None = None,
) -> StagedTrainer:
    """Build our trainer as in the bundle, without validation and logging, for at least ``steps`` steps."""
    loader = DataLoader(data, batch_size=settings.batch_size)
    epochs = -(-steps // len(loader))
    return StagedTrainer(
        device=settings.device,
        network=network,
        stages=[Stage(epochs=epochs, lr=LEARNING_RATES, schedule="constant", name="adapter")],
        max_epochs=epochs,
        optimizer=torch.optim.AdamW(optimizer_groups(network)),
        loss_function=MoVLLoss(),
        decollate=True,
        train_data_loader=loader,
        tokens=tokens,
    )


def bare_adapter_step(network: AdaptedClassifier) -> Callable[[Batch], None]:
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


def uncached_step(network: AdaptedClassifier) -> Callable[[Batch], torch.Tensor]:
    """Return a step from the images: forward, loss, backward, AdamW; it returns the loss."""
    groups = [{"params": getattr(network, part).parameters(), "lr": lr} for part, lr in LEARNING_RATES.items()]
    optimizer, loss_function = torch.optim.AdamW(groups), MoVLLoss()

    def step(batch: Batch) -> torch.Tensor:
        image, label = batch
        optimizer.zero_grad()
        loss: torch.Tensor = loss_function(network(image), label)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _smaller(settings: BenchSettings) -> BenchSettings:
    """Use the batch size for Transformers, with four batches, so that successive steps have different images."""
    size = settings.transformer_batch_size
    return replace(settings, batch_size=size, step_images=4 * size)


def _images(backbone: Backbone, settings: BenchSettings) -> SyntheticImages:
    size = backbone.spec.image_size
    return synthetic_images(settings.step_images, image_size=size, num_classes=settings.num_classes, seed=settings.seed)


def _compare(
    name: str,
    settings: BenchSettings,
    data: SyntheticImages,
    network: AdaptedClassifier,
    step: Callable[[Batch], object],
    *,
    tokens: TokenSet | None = None,
) -> dict[str, float]:
    batches = float_batches(data, settings)
    wanted = settings.warmup + settings.rounds + 1
    trainer = adapter_trainer(network, data, settings, steps=wanted, tokens=tokens)
    ours, other = time_trainer(trainer, step, batches, settings)
    one_epoch = adapter_trainer(network, data, settings, steps=1, tokens=tokens)
    memory = (
        peak_memory(one_epoch.run, device=settings.device),
        peak_memory(lambda: [step(batch) for batch in batches], device=settings.device),
    )
    return compare(name, ours=ours, other=other, memory=memory)
