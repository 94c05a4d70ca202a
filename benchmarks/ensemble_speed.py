"""Ensemble of two backbones relative to its members, one after the other."""

from __future__ import annotations

import torch

from movl_monai.backbones import prepare_frozen
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier, EnsembleClassifier

from .clock import compare, interleave
from .data import synthetic_images
from .memory import peak_memory
from .settings import BenchSettings

__all__ = ["run"]


@torch.no_grad()
def run(settings: BenchSettings) -> dict[str, float]:
    """Compare forward passes over the same batch, ``ensemble_vs_sum``.

    Ours: the mean of the calibrated probabilities of a CNN and a plain ViT. Other: the logits of the one, then the
        logits of the other. Both run without a graph, on float images that are already on the device.
    """
    device, classes = settings.device, settings.num_classes
    backbones = [prepare_frozen(make()).to(device) for make in (settings.transformer, settings.backbone)]
    members = [
        AdaptedClassifier(backbone=one, head=LinearHead(one.spec.num_features, classes, init="uniform"))
        for one in backbones
    ]
    network = EnsembleClassifier(members=members, temperatures=[0.8, 1.3]).to(device).eval()
    size = backbones[0].spec.image_size
    data = synthetic_images(settings.transformer_batch_size, image_size=size, num_classes=classes, seed=settings.seed)
    image = data.images.to(device).float() / 255
    actions = {"ours": lambda: network(image), "other": lambda: [member(image) for member in members]}
    timings = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=device)
    memory = [peak_memory(action, device=device) for action in actions.values()]
    return compare("ensemble_vs_sum", ours=timings["ours"], other=timings["other"], memory=memory)
