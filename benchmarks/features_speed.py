"""Feature extraction relative to a plain torch loop."""

from __future__ import annotations

import torch

from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.engines import extract_features

from .clock import compare, interleave
from .data import synthetic_images
from .memory import peak_memory
from .parts import Batch, float_batches
from .settings import BenchSettings

__all__ = ["run"]


@torch.no_grad()
def plain_loop(backbone: Backbone, batches: list[Batch]) -> torch.Tensor:
    """Compute features (N, num_features) of float batches in the straightforward way."""
    return torch.cat([backbone(image).cpu() for image, _ in batches])


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare the features of the same images, ``features_vs_torch``: ours relative to the plain loop.

    Ours: ``extract_features`` on the prepared backbone, from uint8 images on the CPU. Plain: timm's unprepared
        backbone, under ``torch.no_grad()``, with its float images already on the device.
    """
    device = settings.device
    backbone = settings.backbone().to(device)
    prepared = prepare_frozen(backbone)
    data = synthetic_images(
        settings.feature_images,
        image_size=backbone.spec.image_size,
        num_classes=settings.num_classes,
        seed=settings.seed,
    )
    batches = float_batches(data, settings)
    actions = {
        "ours": lambda: extract_features(
            prepared, data.images, batch_size=settings.batch_size, device=device, progress=False
        ),
        "other": lambda: plain_loop(backbone, batches),
    }
    timings = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=device)
    memory = [peak_memory(action, device=device) for action in actions.values()]
    return compare("features_vs_torch", ours=timings["ours"], other=timings["other"], memory=memory)
