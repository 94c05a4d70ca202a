"""Classification of series, studies and patients: frozen backbone on every instance, pooling, head."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from movl_monai.backbones import Backbone
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.networks.trained_state import TrainedStateNetwork, decode_facts

__all__ = ["UnitClassifier"]


class UnitClassifier(TrainedStateNetwork):
    r"""Classify units of several images with the pooled features of a frozen backbone.

    .. math:: h_i = f(x_i) \qquad (g, a) = \mathrm{pool}(h_1, \dots, h_n) \qquad z = \mathrm{LP}(g)

    A unit is computed by itself, in passes of 32 instances, so that its result depends on no other unit of a batch. The
    head is called once with pooled features, as that of an :class:`~movl_monai.networks.AdaptedClassifier`.

    Args:
        backbone: :math:`f`, frozen, (B, 3, H, W) in [0, 1] to (B, num_features).
        pooling: instances (B, n, num_features) and mask (B, n) to features (B, num_features) and weights (B, n), such
            as :class:`~movl_monai.heads.MeanPooling`. One with ``combines`` computes the logits from those of the
            instances.
        head: LP, (B, num_features) to logits (B, num_classes).
        units: settings of the units (:class:`movl_monai.data.Units`), which a checkpoint states.
        prompt, adapter: must be None: nothing in front of the pooled features trains.
        class_names: names of the classes in the order of the logits; None uses the names of the checkpoint.
        task: what the logits are for, see :data:`movl_monai.data.targets.TASKS`; None for a classification.

    Raises:
        ConfigError: if the backbone is not frozen, there is a prompt or an adapter, or the head reads tokens or another
            number of features.
        CheckpointMismatchError: in ``load_state_dict``, for a checkpoint of other units.

    Example:
        >>> from movl_monai.backbones import ResNetBackbone
        >>> from movl_monai.data import Units
        >>> from movl_monai.heads import LinearHead, MeanPooling
        >>> backbone = ResNetBackbone("resnet18", weights=None, image_size=64)
        >>> parts = {"pooling": MeanPooling(), "head": LinearHead(512, 2), "units": Units(unit="study")}
        >>> UnitClassifier(backbone=backbone, **parts)(torch.rand(1, 5, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    if TYPE_CHECKING:  # TorchScript evaluates the annotations of a class
        combines: Any
        pooling: Any

    def __init__(
        self,
        *,
        backbone: Backbone,
        pooling: nn.Module,
        head: nn.Module,
        units: Any,
        prompt: nn.Module | None = None,
        adapter: nn.Module | None = None,
        class_names: list[str] | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__(backbone=backbone, class_names=class_names, task=task)
        _check_parts(backbone, head, prompt=prompt, adapter=adapter, class_names=class_names)
        self.pooling = pooling
        self.head = head
        self.unit = dict(units.facts())
        self.chunk = 32  # instances per pass of the backbone, so that volumes fit into memory
        # None or True, because TorchScript drops branches only by `is None`
        self.combines = True if getattr(pooling, "combines", False) else None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits of units.

        Args:
            image: (B, n, 3, H, W), float32 in [0, 1].

        Returns:
            Logits (B, num_classes), float32, before softmax.
        """
        return self.outputs(image)[0]

    def outputs(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits (B, num_classes) and the pooled features (B, num_features) of units."""
        logits: list[torch.Tensor] = []
        features: list[torch.Tensor] = []
        for number in range(image.shape[0]):
            found = self.from_instances(self.instance_features(image[number]).unsqueeze(0), None)
            logits.append(found[0])
            features.append(found[1])
        return torch.cat(logits), torch.cat(features)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the head's input, (B, num_features), for units (B, n, 3, H, W)."""
        return self.outputs(image)[1]

    def instance_features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the features (n, num_features) of instances (n, 3, H, W)."""
        if image.shape[0] <= self.chunk:
            return self.backbone(image)
        parts: list[torch.Tensor] = []
        for start in range(0, image.shape[0], self.chunk):
            parts.append(self.backbone(image[start : start + self.chunk]))
        return torch.cat(parts)

    def from_instances(
        self, instances: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute logits (B, num_classes), pooled features (B, num_features) and weights of the instances (B, n).

        Args:
            instances: features (B, n, num_features).
            mask: bool (B, n), False for padding; None for none.
        """
        held = torch.ones_like(instances[:, :, 0], dtype=torch.bool) if mask is None else mask
        features, weights = self.pooling(instances, held)
        logits = self.head(features)
        if self.combines is not None:
            logits, weights = self.pooling.combine(self.instance_logits(instances), held)
        return logits, features, weights

    def instance_logits(self, instances: torch.Tensor) -> torch.Tensor:
        """Compute the head's logits (B, n, num_classes) of each instance (B, n, num_features) by itself."""
        # not called, which would show the features of instances to hooks on the head
        return self.head.forward(instances.flatten(0, 1)).unflatten(0, [instances.shape[0], instances.shape[1]])

    @torch.jit.ignore
    @torch.inference_mode()
    def explain(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the weight (n,) of each instance of a unit (n, 3, H, W), and its own logits (n, num_classes)."""
        return self.explain_instances(self.instance_features(image))

    @torch.jit.ignore
    @torch.inference_mode()
    def explain_instances(self, instances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the same from the features (n, num_features) of the instances; hooks on the head do not run."""
        rows = instances.unsqueeze(0)
        mask, logits = torch.ones_like(rows[:, :, 0], dtype=torch.bool), self.instance_logits(rows)
        weights = self.pooling(rows, mask)[1] if self.combines is None else self.pooling.combine(logits, mask)[1]
        return weights[0], logits[0]

    @torch.jit.ignore
    def facts(self) -> dict[str, Any]:
        """Return the facts of the network for a checkpoint, with its unit."""
        said: dict[str, Any] = super().facts()
        return said | {"unit": self.unit}

    @torch.jit.ignore
    def set_extra_state(self, state: torch.Tensor) -> None:
        """Adopt the class names of a checkpoint, and refuse one of other units."""
        theirs = decode_facts(state).get("unit")
        if theirs != self.unit:
            raise CheckpointMismatchError(
                f"The checkpoint was trained on units {theirs}, this network is for {self.unit}. Use the same config "
                "files and settings as in training."
            )
        super().set_extra_state(state)


def _check_parts(
    backbone: Backbone, head: nn.Module, *, prompt: Any, adapter: Any, class_names: list[str] | None
) -> None:
    there = [name for name, part in (("a prompt", prompt), ("an adapter", adapter)) if part is not None]
    if there or not backbone.frozen:
        raise ConfigError(
            f"Series, studies and patients are classified on the frozen features of their images, got "
            f"{' and '.join(there) or 'a backbone that trains'}; leave that overlay out."
        )
    if getattr(head, "reads_tokens", False):
        raise ConfigError("A head that reads tokens is for single images; leave the overlay `head_query` out.")
    if getattr(head, "num_features", backbone.spec.num_features) != backbone.spec.num_features:
        raise ConfigError(
            f"The head reads another number of features than the backbone's {backbone.spec.num_features}."
        )
    count = getattr(head, "num_classes", None)
    if class_names is not None and count is not None and len(class_names) != count:
        raise ConfigError(f"{len(class_names)} class names do not fit a head with {count} classes; give one each.")
