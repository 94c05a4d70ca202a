"""Image tower of a CLIP network as a backbone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones.base import Backbone, BackboneSpec
from movl_monai.backbones.clip_loading import CLIPSource, load_clip
from movl_monai.backbones.layers import Layers
from movl_monai.backbones.timm_backbone import four_maps, map_strides
from movl_monai.backbones.token_path import TokenLayout, TokenPath, share_tensors
from movl_monai.backbones.weights import Weights
from movl_monai.errors import ConfigError

__all__ = ["CLIPBackbone", "CLIPViTPath", "OpenAttention", "clip_path"]


class CLIPViTPath(TokenPath):
    """ViT of open_clip; ``pool`` ends with the projection, if the tower has one."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        blocks = list(encoder.transformer.resblocks)
        layout = TokenLayout(
            kind="sequence",
            widths=(int(encoder.transformer.width),) * len(blocks),
            grids=(tuple(encoder.grid_size),) * len(blocks),
            stages=(0,) * len(blocks),
            num_prefix=1,
            num_features=num_features,
        )
        super().__init__(
            encoder,
            layout,
            entries=[nn.Identity() for _ in blocks],
            blocks=blocks,
            reads_tokens=encoder.attn_pool is None,
            num_pooled=1 if encoder.attn_pool is None and encoder.pool_type == "tok" else 0,
        )

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        return self.encoder._embeds(image)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        pooled, _ = self.encoder._pool(tokens)
        return pooled if self.encoder.proj is None else pooled @ self.encoder.proj

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.read`."""
        normed = self.encoder.ln_post(tokens)
        return normed if self.encoder.proj is None else normed @ self.encoder.proj

    @torch.jit.ignore
    def open_attention(self) -> None:
        """Replace ``nn.MultiheadAttention``, which uses the weights of its layers without calling them."""
        for block in self.blocks:
            if isinstance(block.attn, nn.MultiheadAttention):
                block.attn = OpenAttention(block.attn)


class OpenAttention(nn.Module):
    """Equivalent of ``nn.MultiheadAttention``, with ``qkv`` and ``proj`` as layers that can be wrapped.

    Args:
        attention: batch-first self-attention with one width for queries, keys and values; its tensors are used, not
            copied.

    Raises:
        ConfigError: for any other attention.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        width = attention.embed_dim
        if attention.in_proj_weight is None or not attention.batch_first or attention.bias_k is not None:
            raise ConfigError("This attention has separate widths, added biases or the batch second; it is not hosted.")
        self.num_heads = attention.num_heads
        self.qkv = nn.Linear(width, 3 * width, bias=attention.in_proj_bias is not None, device="meta")
        self.qkv.weight = attention.in_proj_weight
        if attention.in_proj_bias is not None:
            self.qkv.bias = attention.in_proj_bias
        self.proj = attention.out_proj

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend within ``query`` (B, N, d), which is also key and value; returns (B, N, d) and None."""
        batch, count, width = query.shape
        parts = self.qkv(query).reshape(batch, count, 3, self.num_heads, width // self.num_heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width)), None


def clip_path(encoder: nn.Module, *, name: str, num_features: int) -> TokenPath:
    """Return the steps of an image tower of open_clip.

    Raises:
        ConfigError: if the tower is a ResNet or one of timm's.
    """
    from open_clip.transformer import VisionTransformer

    if type(encoder) is VisionTransformer:
        return CLIPViTPath(encoder, num_features=num_features)
    raise ConfigError(
        f"{name} ({type(encoder).__name__}) hosts no adapters: it hosts visual prompts in front of it and heads behind "
        "it. Adapters live in the blocks of CLIP's own ViTs (ViT-B-16, ViT-B-32) and of timm's ViTs and Swins; choose "
        "such a backbone, or set the adapter to null."
    )


class CLIPBackbone(Backbone):
    """Image tower of CLIP; the text tower is dropped after loading.

    The features are CLIP's image embeddings, not normalised to unit length. For zero-shot heads see
    :func:`~movl_monai.backbones.encode_class_names`.

    Args:
        name: open_clip's name of the network ("RN50", "ViT-B-32", "ViT-B-16").
        pretrained: None or "random" for random weights, a tag of open_clip ("openai") or "hub" for its first tag (both
            download), the path of a file, or a :class:`~movl_monai.backbones.WeightsFile`; see
            :class:`~movl_monai.backbones.clip_loading.CLIPSource`.
        projection: True for the embedding in the space shared with text, False for the pooled features before the
            projection (in an RN: before the last linear layer of its attention pool).
        quick_gelu: the activation; None uses the one of the tag or the name.
        config: open_clip's model configuration, a dictionary or a JSON file, for a network that open_clip does not
            know.
        image_size: side of the images in pixels, a multiple of the patch size, or of 32 for an RN; the tower accepts no
            other size. None uses the network's own.
        mean: mean of R, G, B in [0, 1]; None uses the mean of the weights, OpenAI's for files and random weights.
        std: standard deviation of R, G, B; None as for ``mean``.
        frozen: no gradients, and eval mode permanently; see :class:`~movl_monai.backbones.Backbone`.
        batchnorm_eval: keep BatchNorm in eval mode when not frozen.
        layers: "last", "all" or numbers; see :class:`~movl_monai.backbones.Backbone`.
        seed: of random weights.

    Raises:
        ConfigError: if the name is unknown, the image size does not fit, there is no projection to leave out, or the
            activation for a file is unknown.
        WeightsError: if the weights cannot be loaded or do not fit.

    Reference:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.

    Example:
        >>> tiny = {
        ...     "embed_dim": 16,
        ...     "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8},
        ...     "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
        ... }
        >>> backbone = CLIPBackbone("tiny", config=tiny)
        >>> backbone(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 16])
        >>> CLIPBackbone("tiny", config=tiny, projection=False)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        name: str = "RN50",
        *,
        pretrained: Weights = None,
        projection: bool = True,
        quick_gelu: bool | None = None,
        config: Mapping[str, Any] | str | Path | None = None,
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        frozen: bool = True,
        batchnorm_eval: bool = False,
        layers: Layers = "last",
        seed: int = 0,
    ) -> None:
        source = CLIPSource(
            name=name, pretrained=pretrained, quick_gelu=quick_gelu, config=config, image_size=image_size, seed=seed
        )
        settled = source.model_config()
        _check_image_size(name, settled["vision_cfg"])
        tower = load_clip(source).visual.eval()
        file = source.file()
        preprocess = tower.preprocess_cfg
        size = _side(preprocess["size"])
        if not projection:
            _drop_projection(name, tower)
        spec = BackboneSpec(
            name=_full_name(name, quick_gelu=settled["quick_gelu"], projection=projection),
            image_size=size,
            mean=mean or (file and file.mean) or preprocess["mean"],
            std=std or (file and file.std) or preprocess["std"],
            num_features=_num_features(tower, size),
            strides=_strides(tower),
            patch_size=_side(tower.patch_size) if hasattr(tower, "patch_size") else None,
            fixed_image_size=True,
            **source.facts(),
        )
        super().__init__(tower, spec, frozen=frozen, batchnorm_eval=batchnorm_eval, layers=layers)

    @torch.jit.ignore
    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute four feature maps: an RN's four stages, or a ViT's output at four depths after its last LayerNorm."""
        tower, x = self.encoder, self.normalize(image)
        if hasattr(tower, "trunk"):
            return four_maps(tower.trunk, x)
        # an attention pool comes before ln_post and changes the width
        norm = getattr(tower, "attn_pool", None) is None
        found = tower.forward_intermediates(  # type: ignore[operator]
            x, indices=_map_indices(tower), normalize_intermediates=norm, intermediates_only=True
        )
        return list(found["image_intermediates"])

    @torch.jit.ignore
    def token_path(self, *, own: bool = False) -> TokenPath:
        """Return the steps of a ViT tower; see :class:`~movl_monai.backbones.TokenPath`."""
        encoder = self.encoder if own else share_tensors(self.encoder)
        return clip_path(encoder, name=self.spec.name, num_features=self._pooled.num_features)


def _side(size: Any) -> int:
    return int(size[0]) if isinstance(size, (tuple, list)) else int(size)


def _check_image_size(name: str, vision: Mapping[str, Any]) -> None:
    size = _side(vision.get("image_size", 224))
    residual = isinstance(vision.get("layers", 12), (list, tuple))
    unit = 32 if residual else _side(vision.get("patch_size") or 16)
    if not vision.get("timm_model_name") and size % unit:
        below = size // unit * unit
        tries = " or ".join(str(option) for option in (below, below + unit) if option > 0)
        what = "32" if residual else f"patch_size={unit}"
        raise ConfigError(f"image_size must be a multiple of {what} for {name}, got {size}; try {tries}.")


def _full_name(name: str, *, quick_gelu: bool, projection: bool) -> str:
    name = f"{name}-quickgelu" if quick_gelu and not name.endswith("-quickgelu") else name
    return name if projection else f"{name} without projection"


def _drop_projection(name: str, tower: Any) -> None:
    if hasattr(tower, "attnpool"):
        # the attention pool needs its last layer, so it gets the identity
        width = tower.attnpool.c_proj.in_features
        tower.attnpool.c_proj = nn.Linear(width, width)
        nn.init.eye_(tower.attnpool.c_proj.weight)
        nn.init.zeros_(tower.attnpool.c_proj.bias)
    elif getattr(tower, "proj", None) is not None:
        tower.proj = None
    elif any(hasattr(getattr(tower, "head", None), part) for part in ("proj", "mlp")):
        kept = [(key, part) for key, part in tower.head.named_children() if key not in ("drop", "proj", "mlp")]
        tower.head = nn.Sequential(*[part for _, part in kept])
    else:
        raise ConfigError(f"The image tower of {name} has no projection to leave out; set projection to true.")


def _num_features(tower: Any, size: int) -> int:
    with torch.no_grad():
        return int(tower(torch.zeros(1, 3, size, size)).shape[-1])


def _map_indices(tower: Any) -> list[int]:
    if hasattr(tower, "attnpool"):
        return [1, 2, 3, 4]  # index 0 is the stem, as coarse as layer1
    depth = len(tower.transformer.resblocks)
    return sorted({max(0, round(depth * quarter / 4) - 1) for quarter in (1, 2, 3, 4)})


def _strides(tower: Any) -> tuple[int, ...]:
    if hasattr(tower, "trunk"):
        return map_strides(tower.trunk)
    if hasattr(tower, "attnpool"):
        return (4, 8, 16, 32)
    return (_side(tower.patch_size),) * len(_map_indices(tower))
