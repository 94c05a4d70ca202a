"""Ensemble of classification networks: the mean of their calibrated probabilities."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import BackboneSpec
from movl_monai.errors import ConfigError

from .trained_state import TrainedStateNetwork

__all__ = ["EnsembleClassifier", "EnsembleHead"]


class EnsembleHead(nn.Module):
    r"""Compute the logarithm of the mean of calibrated probabilities.

    .. math:: \log \frac{1}{M} \sum_m \mathrm{softmax}(h_m(f_m) / T_m)

    The result is normalised: its softmax is the mean of the probabilities.

    Args:
        num_features: total number of features of all members' heads.
        num_classes: number of logits.
        temperatures: T_m > 0 of the M members.
    """

    temperatures: torch.Tensor

    def __init__(self, num_features: int, num_classes: int, *, temperatures: Sequence[float]) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes
        self.log_count = math.log(len(temperatures))
        self.register_buffer("temperatures", torch.tensor(list(temperatures), dtype=torch.float32))

    def forward(self, features: torch.Tensor, logits: list[torch.Tensor]) -> torch.Tensor:
        """Compute log-probabilities (B, num_classes), float32.

        Args:
            features: (B, sum of F_m), for hooks on the head's input.
            logits: of each member, (B, num_classes).
        """
        found: list[torch.Tensor] = []
        for number, one in enumerate(logits):
            found.append(F.log_softmax(one.float() / self.temperatures[number], dim=1))
        return torch.logsumexp(torch.stack(found), dim=0) - self.log_count


class EnsembleBackbone:
    """Backbones of an ensemble, for queries about a network's backbone; it computes nothing.

    Args:
        members: networks with a ``backbone``.

    Attributes:
        spec: the names joined by " + ", and the number of all features; each member normalises for itself.
        frozen: True if all are frozen.
        layers: "last"; the members' layers are in their names.
    """

    layers = "last"

    def __init__(self, members: Sequence[Any]) -> None:
        self.parts = [member.backbone for member in members]
        specs: list[BackboneSpec] = [part.spec for part in self.parts]
        hashes = {spec.weights_sha256 for spec in specs}
        self.spec = replace(
            specs[0],
            name=" + ".join(spec.name for spec in specs),
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            num_features=sum(spec.num_features for spec in specs),
            strides=(),
            patch_size=None,
            fixed_image_size=any(spec.fixed_image_size for spec in specs),
            weights=_joined([spec.weights for spec in specs]),
            weights_sha256=hashes.pop() if len(hashes) == 1 else None,
            license=_joined([spec.license or "unknown" for spec in specs]),
        )
        self.frozen = all(part.frozen for part in self.parts)

    def content_sha256(self) -> str:
        """Return the hash of the hashes of all backbones, in order."""
        return hashlib.sha256("|".join(part.content_sha256() for part in self.parts).encode()).hexdigest()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield all parameters; shared ones once per member."""
        for part in self.parts:
            yield from part.parameters()


class EnsembleClassifier(TrainedStateNetwork):
    """Classify images by the mean of the calibrated probabilities of several networks.

    All members have the same images and classes; each normalises inside. The state holds the trained tensors of every
    member, below ``members.<number>``, and the temperatures. Members are used, not copied.

    Args:
        members: :class:`~movl_monai.networks.AdaptedClassifier`, or ensembles themselves; at least two.
        temperatures: divisor of the logits of each member, > 0; None for 1, until a checkpoint with others is loaded.
        class_names: names of the classes in the order of the logits; None uses the names of the members.

    Raises:
        ConfigError: for fewer than two members, different classes, or a missing or non-positive temperature.

    Reference:
        Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS
        2017, equation 2; each member calibrated first, as in Rahaman and Thiery, Uncertainty Quantification and Deep
        Ensembles, NeurIPS 2021.

    Example:
        >>> from movl_monai.backbones import TimmBackbone
        >>> from movl_monai.heads import LinearHead
        >>> from movl_monai.networks import AdaptedClassifier
        >>> backbones = [TimmBackbone(name, image_size=64) for name in ("test_efficientnet", "test_vit")]
        >>> members = [AdaptedClassifier(backbone=one, head=LinearHead(one.spec.num_features, 2)) for one in backbones]
        >>> network = EnsembleClassifier(members=members, temperatures=[1.0, 2.0], class_names=["no", "yes"])
        >>> network(torch.rand(3, 3, 64, 64)).softmax(dim=1)[0]
        tensor([0.5000, 0.5000], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        *,
        members: Sequence[Any],
        temperatures: Sequence[float] | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        names = _class_names(members, class_names)
        _check_temperatures(members, temperatures)
        super().__init__(backbone=EnsembleBackbone(members), class_names=names, task=_task(members))  # type: ignore[arg-type]
        self.members = nn.ModuleList(members)
        self.head = EnsembleHead(
            self.backbone.spec.num_features,
            len(names) or 2,
            temperatures=[1.0] * len(members) if temperatures is None else temperatures,
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logarithm of the mean probability (B, num_classes), float32, of images (B, 3, H, W) in [0, 1]."""
        return self.outputs(image)[0]

    def outputs(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the log-probabilities (B, num_classes) and the features of all members, in one pass of each."""
        logits: list[torch.Tensor] = []
        features: list[torch.Tensor] = []
        for member in self.members:
            one, read = member.outputs(image)  # type: ignore[operator]
            logits.append(one)
            features.append(read.float())
        joined = torch.cat(features, dim=1)
        return self.head(joined, logits), joined

    def features(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the inputs of the members' heads, concatenated: (B, sum of their numbers of features)."""
        found: list[torch.Tensor] = []
        for member in self.members:
            found.append(member.features(image).float())  # type: ignore[operator]
        return torch.cat(found, dim=1)

    @torch.jit.ignore
    def facts(self) -> dict[str, Any]:
        """Return the facts of the network for a checkpoint; the parts of each member in one line."""
        said: dict[str, Any] = super().facts()
        parts = {f"member {number}": _described(member) for number, member in enumerate(self.members)}
        return said | {"parts": parts}


def _described(member: Any) -> str:
    facts = member.facts()
    parts = ", ".join(f"{name} {kind}" for name, kind in facts["parts"].items())
    return f"{facts['backbone']['name']} with {parts}"


def _joined(words: Sequence[str]) -> str:
    return " + ".join(dict.fromkeys(words))


def _class_names(members: Sequence[Any], class_names: Sequence[str] | None) -> list[str]:
    if len(members) < 2:
        raise ConfigError(f"An ensemble needs at least 2 members, got {len(members)}.")
    known = [list(names) for names in (class_names, *(member.class_names for member in members)) if names]
    if any(names != known[0] for names in known):
        raise ConfigError(f"The members of an ensemble must have the same classes in the same order, got {known}.")
    return known[0] if known else []


def _task(members: Sequence[Any]) -> str:
    tasks = sorted({str(member.task) for member in members})
    if len(tasks) > 1:
        raise ConfigError(f"The members of an ensemble must be for one task, got {', '.join(tasks)}.")
    return tasks[0]


def _check_temperatures(members: Sequence[Any], temperatures: Sequence[float] | None) -> None:
    if temperatures is None:
        return
    if len(temperatures) != len(members) or not all(0 < float(value) < math.inf for value in temperatures):
        raise ConfigError(
            f"An ensemble needs one temperature above 0 for each of its {len(members)} members, got "
            f"{list(temperatures)}."
        )
