"""Networks, trainers and loops of the sections."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from movl_monai.backbones import Backbone
from movl_monai.engines import FeatureSet, Stage, StagedTrainer, optimizer_groups, standardization
from movl_monai.heads import LinearHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt

from .data import SyntheticImages
from .settings import BenchSettings

__all__ = ["Batch", "bare_step", "float_batches", "make_network", "make_trainer", "naive_step"]

Batch = tuple[torch.Tensor, torch.Tensor]
LEARNING_RATES = {"prompt": 3e-3, "head": 1e-3}


def make_network(backbone: Backbone, settings: BenchSettings, features: torch.Tensor) -> AdaptedClassifier:
    """Return a backbone with a border prompt before and a linear head after it, on the settings' device.

    The head does not start at zero, because no gradient would then reach the prompt.

    Args:
        backbone: shared, not copied.
        settings: sizes and seed.
        features: plain features (N, num_features), for the centre and scale of the head's input.
    """
    spec = backbone.spec
    head = LinearHead(spec.num_features, settings.num_classes, init="uniform", seed=settings.seed)
    head.set_standardization(*standardization(features))
    prompt = PadPrompt(image_size=spec.image_size, width=settings.prompt_width)
    return AdaptedClassifier(backbone=backbone, prompt=prompt, head=head).to(settings.device)


def float_batches(data: SyntheticImages, settings: BenchSettings) -> list[Batch]:
    """Return all batches of a data set, on the device, as float32 images in [0, 1] and labels."""
    return [
        (image.to(settings.device).float() / 255, label.to(settings.device))
        for image, label in zip(
            data.images.split(settings.batch_size), data.labels.split(settings.batch_size), strict=True
        )
    ]


def make_trainer(
    network: AdaptedClassifier, data: SyntheticImages, features: FeatureSet, settings: BenchSettings, *, steps: int
) -> StagedTrainer:
    """Build our trainer as in the bundle, without validation and logging, for at least ``steps`` steps.

    The batches come in the data set's order, so that the other loop can use the same ones.
    """
    loader = DataLoader(data, batch_size=settings.batch_size)
    epochs = -(-steps // len(loader))
    return StagedTrainer(
        device=settings.device,
        network=network,
        stages=[Stage(epochs=epochs, lr=LEARNING_RATES, schedule="constant", name="joint")],
        max_epochs=epochs,
        optimizer=torch.optim.Adam(optimizer_groups(network)),
        loss_function=MoVLLoss(weight=1.0),
        decollate=True,  # as in the bundles
        train_data_loader=loader,
        features=features,
    )


def naive_step(network: AdaptedClassifier) -> Callable[[Batch], torch.Tensor]:
    """Return the step of the straightforward loop: Adam, and two forward passes, one of them without graph.

    Returns:
        A function of a batch of float images and labels on the device, which updates prompt and head and returns the
        loss.
    """
    loss_function = MoVLLoss(weight=1.0)
    groups = [{"params": getattr(network, part).parameters(), "lr": lr} for part, lr in LEARNING_RATES.items()]
    optimizer = torch.optim.Adam(groups)

    def step(batch: Batch) -> torch.Tensor:
        image, label = batch
        optimizer.zero_grad()
        logits = network(image)
        with torch.no_grad():
            plain_logits = network.head(network.backbone(image))
        loss: torch.Tensor = loss_function(logits, label, plain_logits)
        loss.backward()
        optimizer.step()
        return loss

    return step


def bare_step(network: AdaptedClassifier) -> Callable[[Batch], None]:
    """Return the smallest possible step: forward, cross entropy, backward to the prompt; nothing is updated."""
    network.head.requires_grad_(False)

    def step(batch: Batch) -> None:
        image, label = batch
        F.cross_entropy(network(image), label).backward()
        network.prompt.zero_grad()

    return step
