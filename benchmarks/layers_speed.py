"""Features of all layers relative to the features of the last one."""

from __future__ import annotations

import torch

from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.backbones.layers import read_layers

from .clock import compare, interleave
from .data import synthetic_images
from .memory import peak_memory
from .settings import BenchSettings

__all__ = ["run"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare forward passes over the same batch, ``layers_vs_last`` and ``layers_cnn_vs_last``.

    Ours: class token and mean patch of every block of a plain ViT, and the mean of every stage of a CNN. Other: the
    pooled features of the same modules. Both run without a graph, on float images that are already on the device.
    """
    return {
        **_compare("layers_vs_last", settings.transformer(), settings.transformer_batch_size, settings),
        **_compare("layers_cnn_vs_last", settings.backbone(), settings.batch_size, settings),
    }


@torch.no_grad()
def _compare(name: str, backbone: Backbone, batch_size: int, settings: BenchSettings) -> dict[str, float]:
    device = settings.device
    last = prepare_frozen(backbone).to(device)
    every = read_layers(last, "all")
    size = last.spec.image_size
    data = synthetic_images(batch_size, image_size=size, num_classes=settings.num_classes, seed=settings.seed)
    image = last.normalize(data.images.to(device).float() / 255)
    actions = {"ours": lambda: every(image), "other": lambda: last.encoder(image)}  # type: ignore[misc]
    timings = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=device)
    memory = [peak_memory(action, device=device) for action in actions.values()]
    return compare(name, ours=timings["ours"], other=timings["other"], memory=memory)
