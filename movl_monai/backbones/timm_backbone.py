"""Classification networks of timm as backbones."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from movl_monai.backbones.base import Backbone, BackboneSpec
from movl_monai.backbones.layers import Layers
from movl_monai.backbones.token_path import TokenLayout, TokenPath, share_tensors
from movl_monai.backbones.weights import Weights, as_weights_file, describe_weights, from_hub, load_weights, seeded
from movl_monai.errors import ConfigError

__all__ = ["TimmBackbone", "TimmSwinPath", "TimmViTPath", "four_maps", "map_strides", "timm_path"]

_LOGGER = logging.getLogger(__name__)


class TimmViTPath(TokenPath):
    """Plain ViT of timm: ViT, DeiT, DINO, DINOv2 and others of the class ``VisionTransformer``."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        depth = len(encoder.blocks)
        layout = TokenLayout(
            kind="sequence",
            widths=(int(encoder.embed_dim),) * depth,
            grids=(tuple(encoder.patch_embed.grid_size),) * depth,
            stages=(0,) * depth,
            num_prefix=int(encoder.num_prefix_tokens),
            num_features=num_features,
        )
        super().__init__(
            encoder,
            layout,
            entries=[nn.Identity() for _ in range(depth)],
            blocks=list(encoder.blocks),
            reads_tokens=encoder.attn_pool is None,
            # a distilled DeiT reads a second token before the image's tokens
            num_pooled=int(encoder.num_prefix_tokens)
            if encoder.attn_pool is None and encoder.global_pool == "token"
            else 0,
        )

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        tokens = self.encoder._pos_embed(self.encoder.patch_embed(image))
        return self.encoder.norm_pre(self.encoder.patch_drop(tokens))

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        return self.encoder.forward_head(self.encoder.norm(tokens))

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.read`."""
        return self.encoder.fc_norm(self.encoder.norm(tokens))


class TimmSwinPath(TokenPath):
    """Swin (version 1) of timm: stages of blocks on a map (B, H, W, d), with patch merging between them."""

    def __init__(self, encoder: Any, *, num_features: int) -> None:
        stages = [index for index, stage in enumerate(encoder.layers) for _ in stage.blocks]
        entries = [
            stage.downsample if number == 0 else nn.Identity()
            for stage in encoder.layers
            for number in range(len(stage.blocks))
        ]
        blocks = [block for stage in encoder.layers for block in stage.blocks]
        layout = TokenLayout(
            kind="map",
            widths=tuple(int(block.dim) for block in blocks),
            grids=tuple(tuple(block.input_resolution) for block in blocks),
            stages=tuple(stages),
            num_prefix=0,
            num_features=num_features,
        )
        super().__init__(encoder, layout, entries=entries, blocks=blocks, reads_tokens=False)

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.embed`."""
        return self.encoder.patch_embed(image)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :meth:`TokenPath.pool`."""
        return self.encoder.forward_head(self.encoder.norm(tokens))


def timm_path(encoder: nn.Module, *, name: str, num_features: int) -> TokenPath:
    """Return the steps of a network of timm.

    Raises:
        ConfigError: if it is neither a plain ViT nor a Swin of version 1.
    """
    from timm.models.swin_transformer import SwinTransformer
    from timm.models.vision_transformer import VisionTransformer

    # a subclass with other steps between the blocks must not be run by this loop
    if isinstance(encoder, VisionTransformer) and type(encoder).forward_features is VisionTransformer.forward_features:
        return TimmViTPath(encoder, num_features=num_features)
    if isinstance(encoder, SwinTransformer) and type(encoder).forward_features is SwinTransformer.forward_features:
        return TimmSwinPath(encoder, num_features=num_features)
    raise ConfigError(
        f"{name} ({type(encoder).__name__}) hosts no adapters: it hosts visual prompts in front of it and heads behind "
        "it. Adapters live in the blocks of plain ViTs (ViT, DeiT, DINO, DINOv2) and Swins of timm and of CLIP's "
        "ViTs; choose such a backbone, or set the adapter to null."
    )


class TimmBackbone(Backbone):
    """Network of timm without its classifier: CNNs, ViTs, Swins and other hierarchies.

    Args:
        name: timm's name, with or without the weights' tag ("vit_small_patch14_dinov2.lvd142m").
        weights: None or "random" for random weights, "hub" for timm's own (downloads), a file in timm's names with or
            without the classifier, or a :class:`~movl_monai.backbones.WeightsFile` such as
            :func:`~movl_monai.backbones.embedded_efficientnet_lite0`.
        image_size: side of the images in pixels; None uses the size of timm's weights. A Transformer is built for it
            and accepts no other size, so it must be a multiple of the patch size. The position embeddings of a plain
            ViT are interpolated from the size of the weights, which is logged; features get worse with the distance
            from that size.
        mean: mean of R, G, B in [0, 1]; None uses the file's, or else that of timm's weights.
        std: standard deviation of R, G, B; None as for ``mean``.
        frozen: no gradients, and eval mode permanently; see :class:`~movl_monai.backbones.Backbone`.
        batchnorm_eval: keep BatchNorm in eval mode when not frozen.
        layers: "last", "all" or numbers; see :class:`~movl_monai.backbones.Backbone`.
        drop_path: stochastic depth rate in [0, 1) in training; only for a backbone that is not frozen.
        model_options: further arguments of ``timm.create_model``, e.g. ``{"global_pool": "avg"}``.
        seed: of random weights.

    Raises:
        ConfigError: if the name is unknown (the message has the nearest names), the network cannot be built for
            ``image_size``, or ``drop_path`` is set on a frozen backbone.
        WeightsError: if the weights cannot be loaded or do not fit.

    Reference:
        Wightman, PyTorch Image Models (timm).

    Example:
        >>> backbone = TimmBackbone("test_vit", image_size=64)
        >>> backbone(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 64])
        >>> [tuple(feature_map.shape[1:]) for feature_map in backbone.forward_features(torch.rand(2, 3, 64, 64))]
        [(64, 4, 4), (64, 4, 4), (64, 4, 4), (64, 4, 4)]
    """

    def __init__(
        self,
        name: str,
        *,
        weights: Weights = None,
        image_size: int | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        frozen: bool = True,
        batchnorm_eval: bool = False,
        layers: Layers = "last",
        drop_path: float = 0.0,
        model_options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if frozen and drop_path:
            raise ConfigError(
                f"drop_path does nothing in a frozen backbone, got {drop_path}; set it to 0 or frozen=False."
            )
        config = _pretrained_config(name)
        size = image_size or config.input_size[-1]
        options = dict(model_options or {}) | ({"drop_path_rate": drop_path} if drop_path else {})
        if config.fixed_input_size:
            options["img_size"] = size
            named = re.search(r"patch(\d+)", name)  # most names tell it, so that nothing is downloaded in vain
            _check_image_size(name, size, int(named[1]) if named else None)
        encoder = _build(name, weights=weights, options=options, seed=seed)
        patch_size = _patch_size(encoder) if config.fixed_input_size else None
        _check_image_size(name, size, patch_size)
        file = as_weights_file(weights)
        if file is not None:
            dropped = load_weights(
                encoder, file, head=_head_names(config.classifier), adapt=lambda given: _fit_positions(given, encoder)
            )
            _LOGGER.info("%s: loaded %s, left out %s", name, file.name, dropped or "nothing")
        found = describe_weights(weights, seed=seed, hub=f"timm {config.architecture}.{config.tag}")
        spec = BackboneSpec(
            name=_full_name(name, model_options or {}),
            image_size=size,
            mean=mean or (file and file.mean) or config.mean,
            std=std or (file and file.std) or config.std,
            num_features=int(getattr(encoder, "head_hidden_size", None) or encoder.num_features),
            strides=map_strides(encoder),
            patch_size=patch_size,
            fixed_image_size=bool(config.fixed_input_size and not options.get("dynamic_img_size")),
            **({"license": config.license} if weights == "hub" else {}) | found,
        )
        super().__init__(encoder, spec, frozen=frozen, batchnorm_eval=batchnorm_eval, layers=layers)

    @torch.jit.ignore
    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute four feature maps: a hierarchy's last four stages, or a plain ViT's output at four depths.

        A plain ViT's maps come from blocks at a quarter, a half, three quarters and the end of its depth, after its
        last LayerNorm, without the class token. All four have the patches' resolution.
        """
        return four_maps(self.encoder, self.normalize(image))

    @torch.jit.ignore
    def token_path(self, *, own: bool = False) -> TokenPath:
        """Return the steps of a plain ViT or a Swin; see :class:`~movl_monai.backbones.TokenPath`."""
        encoder = self.encoder if own else share_tensors(self.encoder)
        return timm_path(encoder, name=self.spec.name, num_features=self._pooled.num_features)


def _fit_positions(given: dict[str, torch.Tensor], encoder: Any) -> dict[str, torch.Tensor]:
    """Interpolate a file's position embeddings to the encoder's grid, as timm does for its downloads."""
    from timm.layers import resample_abs_pos_embed

    own, stored = getattr(encoder, "pos_embed", None), given.get("pos_embed")
    if own is None or stored is None or stored.ndim != 3 or stored.shape == own.shape or not _is_plain_vit(encoder):
        return given
    grid = encoder.patch_embed.grid_size
    prefix = own.shape[1] - grid[0] * grid[1]
    side = math.isqrt(stored.shape[1] - prefix) if stored.shape[1] > prefix else 0
    if stored.shape[2] != own.shape[2] or side**2 + prefix != stored.shape[1]:
        return given  # another architecture, which the comparison of the shapes reports
    _LOGGER.info("Position embeddings interpolated from %d x %d to %d x %d patches.", side, side, *grid)
    return given | {"pos_embed": resample_abs_pos_embed(stored, list(grid), num_prefix_tokens=prefix)}


def four_maps(encoder: Any, image: torch.Tensor) -> list[torch.Tensor]:
    """Return up to four maps (B, C_i, H_i, W_i) of a timm network for normalised images, finest first."""
    plain = _is_plain_vit(encoder)
    return list(
        encoder.forward_intermediates(
            image, indices=_map_indices(encoder), norm=plain, output_fmt="NCHW", intermediates_only=True
        )
    )


def map_strides(encoder: Any) -> tuple[int, ...]:
    """Return the strides of the maps of :func:`four_maps`; () if the network has no maps."""
    reductions = [int(info["reduction"]) for info in getattr(encoder, "feature_info", [])]
    if not reductions or not hasattr(encoder, "forward_intermediates"):
        return ()
    return tuple(reductions[index] for index in _map_indices(encoder))


def _is_plain_vit(encoder: Any) -> bool:
    reductions = {info["reduction"] for info in encoder.feature_info}
    return hasattr(encoder, "patch_embed") and len(reductions) == 1


def _map_indices(encoder: Any) -> list[int]:
    depth = len(encoder.feature_info)
    if _is_plain_vit(encoder):
        return sorted({max(0, round(depth * quarter / 4) - 1) for quarter in (1, 2, 3, 4)})
    return list(range(depth))[-4:]


def _pretrained_config(name: str) -> Any:
    import timm

    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # neither a name nor a name with a tag
        pass
    known = timm.list_models(pretrained=True) + timm.list_models()
    near = list(dict.fromkeys(difflib.get_close_matches(name, known, n=5, cutoff=0.5)))
    raise ConfigError(
        f"timm has no model {name!r}; the nearest names are {', '.join(near) or 'none'}. "
        "timm.list_models('*vit*') lists what there is."
    )


def _build(name: str, *, weights: Weights, options: dict[str, Any], seed: int) -> Any:
    import timm

    def create(pretrained: bool) -> nn.Module:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)

    if weights == "hub":
        return from_hub(name, lambda: create(True))
    try:
        with seeded(seed):
            return create(False)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"timm cannot build {name} with {options} ({error}); choose another image_size or other model_options."
        ) from error


def _full_name(name: str, options: Mapping[str, Any]) -> str:
    """Return the name without the weights' tag, with the options, which may change the features."""
    described = ", ".join(f"{key}={options[key]}" for key in sorted(options))
    return name.split(".")[0] + (f" ({described})" if described else "")


def _patch_size(encoder: Any) -> int | None:
    patch = getattr(getattr(encoder, "patch_embed", None), "patch_size", None)
    return int(patch[0]) if isinstance(patch, (tuple, list)) else patch


def _check_image_size(name: str, size: int, patch_size: int | None) -> None:
    if patch_size is not None and size % patch_size:
        below = size // patch_size * patch_size
        options = [str(option) for option in (below, below + patch_size) if option > 0]
        raise ConfigError(
            f"image_size must be a multiple of patch_size={patch_size} for {name}, got {size}; "
            f"try {' or '.join(options)}."
        )


def _head_names(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    return (*names, "fc", "classifier", "head.fc")
