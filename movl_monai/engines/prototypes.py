"""Initialise the appended tokens of an adapter at prototypes of the image tokens of the same block."""

from __future__ import annotations

import logging
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

from movl_monai.errors import ConfigError
from movl_monai.networks import unwrap

from .features import prepare_image_batch

__all__ = ["PromptStart", "start_prompts"]

_LOGGER = logging.getLogger(__name__)
PromptStart = Literal["random", "kmeans", "farthest"]
_IMAGES = 64
_TOKENS = 4096
_BATCH = 16


@torch.inference_mode()
def start_prompts(
    network: nn.Module,
    dataset: Any,
    *,
    start: PromptStart = "random",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> None:
    """Initialise the tokens that an adapter appends before its first block.

    Up to 4096 tokens of up to 64 training images at the input of that block, without class token and registers, are
    grouped around m centres.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier` whose adapter appends tokens (DVPT, VPT); changed in
            place.
        dataset: training images, with ``images`` (N, 3, H, W) uint8.
        start: "random" leaves them unchanged; "kmeans" uses the centres of k-means; "farthest" starts with the token
            nearest to the mean and repeatedly adds the token farthest from the chosen ones.
        seed: of the choice of images and tokens, and of k-means.
        device: of the network.

    Raises:
        ConfigError: for another value of ``start``, or prototypes for a network that appends no tokens.

    Reference:
        Wang et al., Revisiting the Power of Prompt for Visual Tuning (SPT), ICML 2024, arXiv 2402.02382: prompts
        initialised at prototypes of patch embeddings. Our reading: only tokens before the first adapted block.
    """
    if start not in get_args(PromptStart):
        raise ConfigError(f"prompt_start must be one of {', '.join(get_args(PromptStart))}, got {start!r}.")
    if start == "random":
        return
    inner: Any = unwrap(network)
    adapter = getattr(inner, "adapter", None)
    prompts = None if adapter is None else adapter.first_prompts()
    if prompts is None:
        raise ConfigError(
            f"prompt_start={start!r} sets tokens that an adapter appends, and this network appends none; set "
            "prompt_start to 'random', or take DVPT or VPT in a plain ViT."
        )
    tokens = _image_tokens(inner.to(device), dataset.images, seed=seed, device=device)
    if len(tokens) < len(prompts):
        raise ConfigError(f"{len(prompts)} prompts need as many image tokens to start at, got {len(tokens)}.")
    centres = _kmeans(tokens, len(prompts), seed) if start == "kmeans" else _farthest(tokens, len(prompts))
    prompts.data.copy_(torch.from_numpy(centres))
    _LOGGER.info("%d appended tokens start at prototypes (%s) of %d image tokens.", len(prompts), start, len(tokens))


def _image_tokens(network: Any, images: torch.Tensor, *, seed: int, device: str | torch.device) -> np.ndarray:
    """Return tokens (T, d), float32, of images before the first adapted block."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:_IMAGES]
    path, first, rows = network.adapted.path, network.adapter.first_block, []
    for part in chosen.split(_BATCH):
        image, _ = prepare_image_batch({"image": images[part]}, device)
        tokens = path.embed(network.backbone.normalize(network.prompt(image)))
        for number in range(first):
            tokens = path.blocks[number](path.entries[number](tokens))
        rows.append(tokens[:, path.layout.num_prefix :].flatten(0, 1).float().cpu())
    found = torch.cat(rows)
    return found[torch.randperm(len(found), generator=generator)[:_TOKENS]].numpy()


def _kmeans(tokens: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    centres: np.ndarray = KMeans(count, n_init=1, random_state=seed).fit(tokens).cluster_centers_
    return centres.astype(np.float32)


def _farthest(tokens: np.ndarray, count: int) -> np.ndarray:
    chosen = [int(np.square(tokens - tokens.mean(axis=0)).sum(axis=1).argmin())]
    nearest = np.full(len(tokens), np.inf, dtype=np.float32)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.square(tokens - tokens[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return tokens[chosen]
