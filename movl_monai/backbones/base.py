"""Base class of the backbones: a feature extractor for images in [0, 1] with its own normalisation, usually frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from movl_monai.errors import ConfigError

from .layers import Layers, read_layers
from .token_path import TokenPath, share_tensors

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "BackboneSpec", "digest_tensors"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# a second path through the encoder's tensors, which already have names
_READER = "layer_reader."


@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """Properties of a backbone and the source of its weights.

    Args:
        name: architecture, with every variant that changes the features for the same tensors ("resnet50_v1").
        image_size: side of its square images in pixels.
        mean: mean of R, G, B in [0, 1], which is subtracted.
        std: standard deviation of R, G, B, the divisor, > 0.
        num_features: length of the pooled feature vector.
        strides: side of the image over side of each map of ``forward_features``, finest first; all equal in a plain
            ViT.
        patch_size: side of a patch in pixels, or None for a network without patches.
        fixed_image_size: True if it accepts only images of ``image_size``.
        weights: source of the weights in words ("random, seed 0", "hub: ...", a file's name); never a full path.
        weights_sha256: of the weights' file, or None without one.
        license: licence of the weights, or None if unknown.
    """

    name: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_features: int
    strides: tuple[int, ...] = ()
    patch_size: int | None = None
    fixed_image_size: bool = False
    weights: str = "random"
    weights_sha256: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        for key in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, key))
            if len(values) != 3 or (key == "std" and min(values) <= 0):
                positive = " > 0" if key == "std" else ""
                raise ValueError(
                    f"{key} must be three numbers{positive} for images in [0, 1], got {values}; "
                    "divide values meant for 0..255 by 255."
                )
            object.__setattr__(self, key, values)
        if self.image_size < 1 or self.num_features < 1:
            raise ValueError(
                f"image_size and num_features must be at least 1, got {self.image_size} and {self.num_features}."
            )


class Backbone(nn.Module):
    r"""Feature extractor :math:`f` from images in [0, 1] to one feature vector each.

    .. math:: f(x) = \mathrm{encoder}((x - \mathrm{mean}) / \mathrm{std})

    In a frozen backbone no parameter requires a gradient, and the module is in eval mode, also after
    ``network.train()``; gradients still flow *through* it to the image. A backbone that is not frozen trains as usual,
    with two exceptions. It is in eval mode while none of its parameters requires a gradient (a stage has fixed it). A
    BatchNorm layer with fixed parameters keeps its running statistics.

    ``mean`` and ``std`` are buffers outside of the ``state_dict``: they belong to the spec.

    Args:
        encoder: normalised images (B, 3, H, W) to features (B, num_features).
        spec: its properties; see :class:`BackboneSpec`.
        frozen: freeze it permanently.
        batchnorm_eval: keep every BatchNorm layer in eval mode while the backbone trains.
        layers: source of the features: "last" for the encoder's own output; "all" or numbers from 0 for the blocks of a
            ViT (class token and mean of the image's tokens) or the maps of ``forward_features`` (their means), each
            brought to unit length and concatenated. It is part of ``spec.name`` and ``spec.num_features``.

    Raises:
        ConfigError: if the ``layers`` do not exist.

    Example:
        >>> spec = BackboneSpec(name="mean", image_size=2, mean=(0.5,) * 3, std=(0.5,) * 3, num_features=3)
        >>> backbone = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), spec)
        >>> backbone(torch.ones(1, 3, 2, 2))
        tensor([[1., 1., 1.]])
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class and cannot take them as strings
        mean: torch.Tensor
        std: torch.Tensor
        layers: Any
        layer_reader: Any

    def __init__(
        self,
        encoder: nn.Module,
        spec: BackboneSpec,
        *,
        frozen: bool = True,
        batchnorm_eval: bool = False,
        layers: Layers = "last",
    ) -> None:
        super().__init__()
        self.spec = spec
        self.frozen = frozen
        self.batchnorm_eval = batchnorm_eval
        self._stands_for: tuple[str, str] | None = None
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.encoder = encoder
        self._pooled = spec
        self._read(layers)
        self._register_state_dict_hook(_leave_out_reader)
        self.register_load_state_dict_post_hook(_forgive_reader)
        if frozen:
            self.requires_grad_(False)
        self.train(not frozen)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the pooled features, or the features of its ``layers``.

        Args:
            image: (B, 3, H, W), floating, in [0, 1].

        Returns:
            (B, num_features).

        Raises:
            TypeError: if the image is not floating (eager mode only).
            ValueError: if its shape is not (B, 3, H, W), or not the fixed size of a Transformer (eager mode only).
        """
        if self.layer_reader is not None:
            return self.layer_reader(self.normalize(image))
        return self.encoder(self.normalize(image))

    @torch.jit.ignore
    def forward_features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute feature maps, finest first.

        Args:
            image: as in :meth:`forward`.

        Returns:
            Maps (B, C_i, H_i, W_i), one per entry of ``spec.strides``.

        Raises:
            NotImplementedError: if this backbone only has pooled features.
        """
        raise NotImplementedError(
            f"{self.spec.name} gives pooled features only; use a ResNetBackbone or a TimmBackbone."
        )

    @torch.jit.ignore
    def token_path(self, *, own: bool = False) -> TokenPath:
        """Return the steps of a Transformer for an adapter, over modules that share this backbone's tensors.

        Args:
            own: use this backbone's modules themselves, which must then not be changed.

        Raises:
            ConfigError: if this backbone has no blocks that host adapters.
        """
        raise ConfigError(
            f"{self.spec.name} hosts no adapters: it hosts visual prompts in front of it and heads behind it. Adapters "
            "live in the blocks of ViTs and Swins (TimmBackbone) and of CLIP's ViTs (CLIPBackbone); choose such a "
            "backbone, or set the adapter to null."
        )

    @torch.jit.ignore
    def with_layers(self, layers: Layers) -> Backbone:
        """Return this backbone with other ``layers``; it shares all tensors with this one.

        Example:
            >>> from movl_monai.backbones import TimmBackbone
            >>> every = TimmBackbone("test_vit", image_size=64).with_layers("all")
            >>> every.spec.name, every.spec.num_features
            ('test_vit (layers=all)', 768)
        """
        twin = share_tensors(self)
        twin._read(layers)
        return twin.train(self.training)

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """Subtract ``mean`` and divide by ``std``, after checking the image's shape and type (eager mode only)."""
        if not torch.jit.is_scripting():
            self._check_image(image)
        return (image - self.mean) / self.std

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; the class describes when a backbone stays in eval mode."""
        trains = mode and not self.frozen and any(parameter.requires_grad for parameter in self.parameters())
        super().train(trains)
        if trains:
            for module in self.modules():
                if isinstance(module, _BatchNorm) and (self.batchnorm_eval or _is_fixed(module)):
                    module.eval()
        return self

    @torch.jit.ignore
    def content_sha256(self) -> str:
        """Hash everything that determines the features: name, mean and std, and all parameters and persistent buffers.

        Name and normalisation are included because the same tensors compute other features with other strides or
        another mean. The hash is computed anew at every call (about 0.1 s per 100 MB), so it is never stale. It does
        not depend on the device or the memory format.

        Returns:
            64 hexadecimal digits.
        """
        facts = json.dumps({"name": self.spec.name, "mean": self.spec.mean, "std": self.spec.std}, sort_keys=True)
        own = digest_tensors(self.state_dict(), facts.encode())
        if self._stands_for is not None and own == self._stands_for[0]:
            return self._stands_for[1]
        return own

    @torch.jit.ignore
    def stand_for(self, sha256: str) -> None:
        """Adopt the hash of another backbone that computes the same features from other tensors, e.g. unfolded ones.

        It applies to the present tensors: after any change :meth:`content_sha256` is their own hash again.
        """
        self._stands_for = None
        self._stands_for = (self.content_sha256(), sha256)

    @torch.jit.ignore
    def _read(self, layers: Layers) -> None:
        self.spec, self.layers = self._pooled, "last"
        # registered after the encoder, whose modules it runs, so that every tensor keeps its name there
        self.layer_reader = reader = read_layers(self, layers)
        if reader is not None:
            self.layers = "all" if len(reader.numbers) == reader.num_layers else list(reader.numbers)
            name = f"{self.spec.name} (layers={self.layers})"
            self.spec = replace(self.spec, name=name, num_features=reader.num_features)

    @torch.jit.unused
    def _check_image(self, image: torch.Tensor) -> None:
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return
        if not image.is_floating_point():
            raise TypeError(
                f"image must be floating with values in [0, 1], got {image.dtype}; "
                "for uint8 images use image.float() / 255."
            )
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(
                f"image must be (B, 3, H, W), got {tuple(image.shape)}; "
                "repeat a grey channel three times, add the batch axis to a single image."
            )
        size = self.spec.image_size
        if self.spec.fixed_image_size and tuple(image.shape[2:]) != (size, size):
            raise ValueError(
                f"{self.spec.name} was built for images of {size} x {size} pixels, "
                f"got {image.shape[2]} x {image.shape[3]}; resize the images or build it with their image_size."
            )


def digest_tensors(tensors: dict[str, torch.Tensor], header: bytes = b"") -> str:
    """Return the SHA-256 of ``header`` and of each tensor's name, dtype, shape and bytes, in order of names."""
    digest = hashlib.sha256(header)
    for part in _tensor_parts(sorted(tensors.items())):
        digest.update(part)
    return digest.hexdigest()


def _tensor_parts(items: Sequence[tuple[str, torch.Tensor]]) -> Iterator[bytes | memoryview]:
    for name, tensor in items:
        yield f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode()
        # as bytes, because numpy has no bfloat16
        yield memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def _leave_out_reader(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix + _READER)]:
        del state[key]


def _forgive_reader(_module: nn.Module, incompatible: Any) -> None:
    incompatible.missing_keys[:] = [key for key in incompatible.missing_keys if f".{_READER}" not in f".{key}"]


def _is_fixed(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
