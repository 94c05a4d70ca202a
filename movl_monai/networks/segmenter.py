"""Segmentation network: prompt, frozen backbone, adapter, decoder."""

import logging

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.adapters import Adapter
from movl_monai.backbones import Backbone, map_channels
from movl_monai.errors import ConfigError

from .adapted import adapted_maps
from .trained_state import TrainedStateNetwork

__all__ = ["AdaptedSegmenter"]

_LOGGER = logging.getLogger(__name__)


class AdaptedSegmenter(TrainedStateNetwork):
    """Segment images with the feature maps of a frozen backbone, an adapter inside and a decoder after it.

    The state holds prompt, adapter and decoder, and the SHA-256 of the frozen weights; see
    :class:`~movl_monai.networks.TrainedStateNetwork`.

    Args:
        backbone: with ``forward_features``: images (B, 3, H, W) in [0, 1] to maps, finest first.
        head: maps to logits (B, num_classes, H_0, W_0), such as :class:`~movl_monai.heads.SegmentationHead`.
        prompt: (B, 3, H, W) to (B, 3, H, W), the identity at initialisation; None for no prompt.
        adapter: built for this backbone, which must be frozen; None for no adapter. It never changes ``self.backbone``.
        class_names: names of the classes in the order of the logits, the background first; None uses the names of the
            checkpoint.

    Raises:
        ConfigError: if head and backbone differ in their maps, class names and logits differ in number, or the adapter
            was built for another backbone.

    Reference:
        DVPT, arXiv 2307.09787 (segmentation); the decoder is our reading.

    Example:
        >>> from movl_monai.backbones import TimmBackbone, map_channels
        >>> from movl_monai.heads import SegmentationHead
        >>> backbone = TimmBackbone("test_efficientnet", image_size=64)
        >>> network = AdaptedSegmenter(backbone=backbone, head=SegmentationHead(map_channels(backbone), 2, width=16))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2, 64, 64])
    """

    task = "segmentation"

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        prompt: nn.Module | None = None,
        adapter: Adapter | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__(backbone=backbone, class_names=class_names)
        _check_head(head, channels=map_channels(backbone), class_names=class_names)
        self.prompt = nn.Identity() if prompt is None else prompt
        self.adapter = adapter
        self.head = head
        # not part of any state: its tensors belong to the backbone and the adapter
        self.adapted = adapted_maps(backbone, adapter)
        if adapter is not None:
            _LOGGER.info(
                "%s: %d trainable parameters, %.3f %% of %s.",
                adapter.settings(),
                adapter.num_parameters(),
                adapter.share_of_backbone(),
                backbone.spec.name,
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits of every pixel.

        Args:
            image: (B, 3, H, W), float32 in [0, 1].

        Returns:
            Logits (B, num_classes, H, W), float32, before softmax.
        """
        return self.decode(self.maps(image), [image.shape[2], image.shape[3]])

    def decode(self, maps: list[torch.Tensor], size: list[int]) -> torch.Tensor:
        """Compute the logits (B, num_classes, H, W) at a size (H, W) from the result of :meth:`maps`."""
        return F.interpolate(self.head(maps).float(), size=size, mode="bilinear", align_corners=False)

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Compute the head's input, maps (B, C_i, H_i, W_i), for images (B, 3, H, W), with prompt and adapter."""
        prompted = self.prompt(image)
        if self.adapted is None:
            return self.backbone.forward_features(prompted)
        return self.adapted(self.backbone.normalize(prompted))


def _check_head(head: nn.Module, *, channels: list[int], class_names: list[str] | None) -> None:
    expected = list(getattr(head, "in_channels", channels))
    if expected != channels:
        raise ConfigError(
            f"The head reads maps of {expected} channels, the backbone gives {channels}; set the head's in_channels to "
            "'$backbones.map_channels(@backbone)'."
        )
    num_classes = getattr(head, "num_classes", None)
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise ConfigError(
            f"{len(class_names)} class names {class_names} do not fit a head with {num_classes} classes (the "
            "background counts); give one name per class or leave class_names out."
        )
