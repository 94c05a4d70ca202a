"""Classification network: prompt, frozen backbone, adapter, head."""

import hashlib
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.adapters import Adapter
from movl_monai.backbones import Backbone
from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError
from movl_monai.networks.adapted import AdaptedPath
from movl_monai.networks.last_tokens import MapTokens
from movl_monai.networks.trained_state import TrainedStateNetwork

__all__ = ["AdaptedClassifier", "PromptedEncoder"]

_LOGGER = logging.getLogger(__name__)


class PromptedEncoder(nn.Module):
    """Compute the features of prompted images, for a prompt that does not train (the *random border* control).

    With it, the exact linear probe is solved on the network's actual input.

    Args:
        prompt: (B, 3, H, W) to (B, 3, H, W), without trainable parameters.
        backbone: a frozen backbone.

    Raises:
        ValueError: if the prompt has trainable parameters, which would change the features under the probe.
    """

    def __init__(self, *, prompt: nn.Module, backbone: Backbone) -> None:
        super().__init__()
        if any(True for _ in prompt.parameters()):
            raise ValueError("PromptedEncoder is for prompts that do not train; give the prompt `trainable=False`.")
        self.prompt = prompt
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) of images (B, 3, H, W) in [0, 1]."""
        return self.backbone(self.prompt(image))

    @torch.jit.ignore
    def content_sha256(self) -> str:
        """Return the SHA-256 of the backbone's content and the prompt's values."""
        digest = hashlib.sha256(self.backbone.content_sha256().encode())
        for name, value in sorted(self.prompt.state_dict().items()):
            digest.update(f"|{name}|{tuple(value.shape)}|".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


class AdaptedClassifier(TrainedStateNetwork):
    r"""Classify images with a frozen backbone, a visual prompt before it, an adapter inside and a head after it.

    .. math:: p^+ = \mathrm{LP}(f(\mathrm{VP}(x))) \qquad p^- = \mathrm{LP}(f(x))

    ``forward`` computes :math:`p^+`, with the adapter inside :math:`f`; :math:`p^-` is ``head(plain_features(image))``,
    without prompt and adapter.

    Args:
        backbone: :math:`f`, (B, 3, H, W) in [0, 1] to (B, num_features); it normalises inside.
        head: LP, (B, num_features) to logits (B, num_classes). A head with ``reads_tokens``
            (:class:`~movl_monai.heads.QueryHead`) also gets the tokens after the last block of the backbone, which must
            be frozen.
        prompt: VP, (B, 3, H, W) to (B, 3, H, W), the identity at initialisation; None for no prompt.
        adapter: built for this backbone, which must be frozen; None for no adapter. It never changes ``self.backbone``.
        class_names: names of the classes in the order of the logits; None uses the names of the checkpoint.
        task: what the logits are for, see :data:`movl_monai.data.targets.TASKS`; None for a classification.

    Raises:
        ConfigError: if head and backbone differ in their number of features, class names and logits differ in number,
            the adapter was built for another backbone, or the backbone lacks tokens for the head.

    Reference:
        MoVL, arXiv 2405.07411, figure 1.

    Example:
        >>> from movl_monai.backbones import ResNetBackbone
        >>> from movl_monai.heads import LinearHead
        >>> backbone = ResNetBackbone("resnet18", weights=None, image_size=64)
        >>> network = AdaptedClassifier(backbone=backbone, head=LinearHead(512, 2))
        >>> network(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class
        adapted: Any
        reads_tokens: Any

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        prompt: nn.Module | None = None,
        adapter: Adapter | None = None,
        class_names: list[str] | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(backbone=backbone, class_names=class_names, task=task)
        _check_head(head, num_features=backbone.spec.num_features, class_names=class_names, task=self.task)
        self.prompt = nn.Identity() if prompt is None else prompt
        self.adapter = adapter
        self.head = head
        # None or True, because TorchScript drops branches only by `is None`
        self.reads_tokens = True if getattr(head, "reads_tokens", False) else None
        # not part of any state: its tensors belong to the backbone and the adapter
        self.adapted = _adapted(backbone, adapter, head)
        if adapter is not None:
            _LOGGER.info(
                "%s: %d trainable parameters, %.3f %% of %s.",
                adapter.settings(),
                adapter.num_parameters(),
                adapter.share_of_backbone(),
                backbone.spec.name,
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits of prompted images.

        Args:
            image: (B, 3, H, W), float32 in [0, 1].

        Returns:
            Logits (B, num_classes), float32, before softmax.
        """
        return self.outputs(image)[0]

    def outputs(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits (B, num_classes) and the features (B, num_features) of images, in one pass."""
        return self.from_prompted(self.prompt(image))

    def from_prompted(self, prompted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the same as :meth:`outputs`, for images with their prompt, or without any."""
        if self.reads_tokens is not None:
            features, tokens = self.adapted.with_tokens(self.backbone.normalize(prompted))
            return self.head(features, tokens), features
        else:  # noqa: RET505 - TorchScript drops only the contents of a branch
            features = self._features(prompted)
            return self.head(features), features

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the head's input, (B, num_features), for images (B, 3, H, W), with prompt and adapter."""
        return self._features(self.prompt(image))

    def _features(self, prompted: torch.Tensor) -> torch.Tensor:
        if self.adapted is None:
            return self.backbone(prompted)
        return self.adapted(self.backbone.normalize(prompted))

    @torch.jit.ignore
    def resume(self, tokens: torch.Tensor, start: int) -> torch.Tensor:
        """Compute logits (B, num_classes) from the input tokens of block ``start``; see :class:`AdaptedPath`."""
        features, last = self.adapted.resume(tokens, start)
        return self.head(features) if self.reads_tokens is None else self.head(features, last)

    @torch.jit.ignore
    def prompt_attention(self, image: torch.Tensor) -> dict[int, torch.Tensor]:
        """Compute the attention of an adapter's dynamic prompts in images (B, 3, H, W); see :class:`AdaptedPath`."""
        if self.adapter is None or self.adapted is None:
            return {}
        with torch.no_grad():
            return self.adapted.prompt_attention(self.backbone.normalize(self.prompt(image)))

    @torch.jit.ignore
    def plain_features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, num_features) of images (B, 3, H, W) without prompt, adapter and graph."""
        with torch.no_grad():
            return self.backbone(image)


def _adapted(backbone: Backbone, adapter: Adapter | None, head: nn.Module) -> AdaptedPath | MapTokens | None:
    """Return the module for features, and for tokens of the head, if it differs from the backbone itself."""
    reads_tokens = bool(getattr(head, "reads_tokens", False))
    if not reads_tokens:
        return None if adapter is None else AdaptedPath(backbone, adapter)
    if not backbone.frozen:
        raise ConfigError(
            f"A {type(head).__name__} reads the tokens of a frozen backbone, {backbone.spec.name} trains "
            "(frozen=False); set frozen to true, or take a LinearHead."
        )
    try:
        width = backbone.token_path(own=True).layout.widths[-1]
    except ConfigError:  # not a Transformer with known blocks
        if adapter is not None:
            raise
        reader: AdaptedPath | MapTokens = MapTokens(backbone)
        width = reader.token_width
    else:
        reader = AdaptedPath(backbone, adapter, reads_tokens=True)
    if width != head.token_width:
        raise ConfigError(
            f"The head reads tokens of width {head.token_width}, {backbone.spec.name} gives {width}; set the head's "
            "token_width with movl_monai.networks.token_width."
        )
    return reader


def _check_head(head: nn.Module, *, num_features: int, class_names: list[str] | None, task: str) -> None:
    if task in ("multilabel", "regression") and getattr(head, "classes_only", False):
        raise ConfigError(
            f"A {type(head).__name__} gives each image one of several classes, and the task is {task}. Leave out the "
            "overlay that sets it (strategy_vp_only, head_ordinal), or the overlay of the task."
        )
    expected = getattr(head, "num_features", num_features)
    if expected != num_features:
        raise ConfigError(
            f"The head reads {expected} features, the backbone gives {num_features}; "
            "set the head's num_features to '$@backbone.spec.num_features'."
        )
    num_classes = getattr(head, "num_classes", None)
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise ConfigError(
            f"{len(class_names)} class names {class_names} do not fit a head with {num_classes} classes; "
            "give one name per class or leave class_names out."
        )
    if num_classes == 1 and not labels_of(task).number:
        raise ConfigError(
            f"A head with one output gives a number, and the task is {task}; give it two or more outputs."
        )
