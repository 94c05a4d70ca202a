"""Saliency maps: Grad-CAM for feature maps, attention rollout for plain ViTs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.adapters.vpt import ReplaceTokens
from movl_monai.backbones.clip_backbone import OpenAttention
from movl_monai.errors import ConfigError

__all__ = ["Method", "attention_rollout", "attention_weights", "grad_cam", "look", "roll_out"]

Method = Literal["Grad-CAM", "attention rollout"]


def look(network: Any, image: torch.Tensor, classes: torch.Tensor) -> tuple[Method, torch.Tensor]:
    """Compute saliency maps of a classifier with the method that suits its backbone.

    The network is left unchanged: no hooks, no gradients, every module in its previous mode.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier`.
        image: (B, 3, H, W), float32 in [0, 1].
        classes: (B,), class of each image for Grad-CAM; rollout ignores it.

    Returns:
        name of the method, and maps (B, h, w) >= 0, float32; only ratios within a map are meaningful.

    Raises:
        ConfigError: if neither method is applicable.
    """
    with _in_eval_mode(network):
        if _is_plain_vit(network.backbone):
            return "attention rollout", attention_rollout(network, image)
        return "Grad-CAM", grad_cam(network, image, classes)


def grad_cam(
    network: Any,
    image: torch.Tensor,
    classes: torch.Tensor,
    *,
    layer: nn.Module | None = None,
) -> torch.Tensor:
    r"""Compute Grad-CAM from the last feature map.

    .. math:: L^c = \mathrm{ReLU}\Big(\sum_k \alpha_k^c A^k\Big), \qquad
              \alpha_k^c = \frac{1}{hw} \sum_{ij} \frac{\partial y^c}{\partial A^k_{ij}}

    The graph begins at the map A and ends at the logit :math:`y^c`. A frozen backbone is therefore no obstacle, and no
    parameter's ``grad`` is touched. MONAI's ``GradCAM`` gives the same map, but needs gradients through the whole
    network, clears the gradients of its parameters and leaves its hooks in it.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier` in eval mode.
        image: (B, 3, H, W), float32 in [0, 1].
        classes: (B,), c for each image.
        layer: layer with the output A, (B, K, h, w), or (B, h, w, K) in Swins; None finds the last one with a map of
            more than one pixel.

    Returns:
        (B, h, w) >= 0, float32.

    Raises:
        ConfigError: if no layer gives a map, or the last one is followed by more than pooling and the head.

    Reference:
        Selvaraju et al., Grad-CAM, ICCV 2017, arXiv 1610.02391, equations 1 and 2.
    """
    layer = _last_map_layer(network, image[:1]) if layer is None else layer
    kept: list[torch.Tensor] = []

    def start_graph(_module: nn.Module, _args: Any, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().clone().requires_grad_())
        return kept[-1].clone()  # later layers may change it in place

    handle = layer.register_forward_hook(start_graph)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            logits = network(image.clone())
            score = logits.gather(1, classes.to(logits.device)[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, kept[-1])
    finally:
        handle.remove()
    maps = kept[-1].detach()
    if getattr(network.backbone.encoder, "output_fmt", "NCHW") == "NHWC":  # attribute of timm
        maps, gradient = maps.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    return F.relu((gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)).float()


@torch.no_grad()
def attention_rollout(network: Any, image: torch.Tensor) -> torch.Tensor:
    r"""Compute attention rollout: the share of each image token in the tokens that the features are read from.

    .. math:: \tilde A = \hat A_L \cdots \hat A_1, \qquad \hat A_\ell = \tfrac{1}{2} (A_\ell + I)

    :math:`A_\ell` is the mean over heads. Appended tokens of an adapter hold no image content when they enter. Transfer
    between tokens by an adapter outside the blocks' attention is not followed. The map does not depend on the class.
    For a backbone that is read at several layers, the rollout ends at the last block.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier` with a plain ViT, in eval mode.
        image: (B, 3, H, W), float32 in [0, 1].

    Returns:
        (B, h, w) >= 0, float32; the part missing to a sum of 1 stayed in the class token or came from appended tokens.

    Raises:
        ConfigError: if the ViT's attention is of an unknown kind, or it pools by attention.

    Reference:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 3.
    """
    adapted = network.adapted
    path = network.backbone.token_path() if adapted is None else adapted.path  # token_path() returns a copy
    layout = path.layout
    if not path.reads_tokens:
        raise ConfigError(f"{network.backbone.spec.name} pools its tokens by attention, which rollout does not follow.")
    found: list[torch.Tensor] = []

    def keep(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        found.append(attention_weights(layer, args[0]).mean(dim=1))

    handles = [block.attn.register_forward_pre_hook(keep) for block in path.blocks]
    try:
        (path if adapted is None else adapted)(network.backbone.normalize(network.prompt(image)))
    finally:
        for handle in handles:
            handle.remove()
    fresh = [False] * layout.depth if adapted is None else [isinstance(hook, ReplaceTokens) for hook in adapted.hooks]
    height, width = layout.grids[0]
    own = layout.num_prefix + height * width
    rolled = roll_out(found, num_tokens=own, fresh=fresh)
    read = list(range(path.num_pooled)) or list(range(layout.num_prefix, own))
    if adapted is not None and adapted.averages_appended:
        read += range(own, rolled.shape[1])
    return rolled[:, read, layout.num_prefix : own].mean(dim=1).unflatten(1, (height, width)).float()


def roll_out(attentions: Sequence[torch.Tensor], *, num_tokens: int, fresh: Sequence[bool] = ()) -> torch.Tensor:
    """Multiply the attention matrices of all blocks, each averaged with the identity (the skip connection).

    Args:
        attentions: attention of each block, (B, N, N), rows summing to 1; N may grow by tokens appended at the end.
        num_tokens: number of tokens before the first block.
        fresh: for each block, whether the appended tokens are replaced there; by default they never are.

    Returns:
        (B, N, num_tokens): share of each first token in each last one.

    Example:
        >>> roll_out([torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])], num_tokens=2)
        tensor([[[0.5000, 0.5000],
                 [0.0000, 1.0000]]])
    """
    rows = torch.eye(num_tokens).to(attentions[0]).expand(len(attentions[0]), -1, -1)
    for number, weights in enumerate(attentions):
        count = num_tokens if number < len(fresh) and fresh[number] else rows.shape[1]
        rows = F.pad(rows[:, :count], [0, 0, 0, weights.shape[1] - count])
        rows = 0.5 * (weights @ rows + rows)
    return rows


def attention_weights(layer: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Compute the weights (B, heads, N, N) of a self-attention layer for tokens (B, N, d).

    Raises:
        ConfigError: if it is neither timm's plain attention nor ``nn.MultiheadAttention`` with the batch first.
    """
    from timm.layers.attention import Attention

    parts: Any = layer
    if isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None and layer.batch_first:
        qkv = F.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
    elif isinstance(layer, (Attention, OpenAttention)):
        qkv = parts.qkv(tokens)
    else:
        raise ConfigError(f"Rollout does not know the attention {type(layer).__name__}; expected timm's or CLIP's own.")
    query, key, _ = qkv.unflatten(2, (3, parts.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if isinstance(layer, Attention):
        query, key = parts.q_norm(query), parts.k_norm(key)
    return (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)


def _is_plain_vit(backbone: Any) -> bool:
    try:
        return bool(backbone.token_path().layout.kind == "sequence")
    except ConfigError:  # the backbone hosts no adapters, so it is neither a plain ViT nor a Swin
        return False


@torch.no_grad()
def _last_map_layer(network: Any, image: torch.Tensor) -> nn.Module:
    """Find the layer with the last map of more than one pixel that is followed only by pooling and the head."""
    ended: list[nn.Module] = []

    def note(layer: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4 and sorted(output.shape[1:])[1] > 1:
            ended.append(layer)
        elif isinstance(output, torch.Tensor) and output.ndim == 3:
            ended.clear()  # after a sequence of tokens, features are not read from an earlier map

    parts = [part for part in (network.backbone, network.adapted) if part is not None]
    handles = [layer.register_forward_hook(note) for part in parts for layer in part.modules()]
    try:
        network(image)
    finally:
        for handle in handles:
            handle.remove()
    if not ended:
        raise ConfigError(
            f"No layer of {network.backbone.spec.name} gives a map of more than one pixel to its pooling, for images "
            f"of {tuple(image.shape[2:])}, so Grad-CAM has nothing to show; use larger images or another backbone."
        )
    return ended[-1]


@contextmanager
def _in_eval_mode(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
