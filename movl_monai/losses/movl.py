"""Loss of MoVL: cross entropy, plus the discrepancy between prompted and plain prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["Discrepancy", "MoVLLoss", "discrepancy_cosine", "discrepancy_kl", "discrepancy_l1", "discrepancy_mse"]

Discrepancy = Literal["kl", "mse", "l1", "cosine"]


def discrepancy_kl(logits: torch.Tensor, plain_logits: torch.Tensor) -> torch.Tensor:
    r"""Kullback-Leibler divergence of the prompted from the plain prediction, mean over the batch.

    .. math:: \frac{1}{B} \sum_i \sum_c p^-_{ic} \log (p^-_{ic} / p^+_{ic})

    Args:
        logits: prompted, (B, C).
        plain_logits: plain, (B, C).

    Returns:
        Scalar >= 0, in nats.
    """
    return F.kl_div(logits.log_softmax(dim=1), plain_logits.log_softmax(dim=1), reduction="batchmean", log_target=True)


def discrepancy_mse(logits: torch.Tensor, plain_logits: torch.Tensor) -> torch.Tensor:
    """Squared difference of the softmax probabilities, summed over classes, mean over the batch; in [0, 2]."""
    return (logits.softmax(dim=1) - plain_logits.softmax(dim=1)).square().sum(dim=1).mean()


def discrepancy_l1(logits: torch.Tensor, plain_logits: torch.Tensor) -> torch.Tensor:
    """Absolute difference of the softmax probabilities, summed over classes, mean over the batch; in [0, 2]."""
    return (logits.softmax(dim=1) - plain_logits.softmax(dim=1)).abs().sum(dim=1).mean()


def discrepancy_cosine(logits: torch.Tensor, plain_logits: torch.Tensor) -> torch.Tensor:
    """One minus the cosine between the two vectors of softmax probabilities, mean over the batch; in [0, 1]."""
    return (1 - F.cosine_similarity(logits.softmax(dim=1), plain_logits.softmax(dim=1), dim=1)).mean()


_DISCREPANCIES = {
    "kl": discrepancy_kl,
    "mse": discrepancy_mse,
    "l1": discrepancy_l1,
    "cosine": discrepancy_cosine,
}


class MoVLLoss(nn.Module):
    r"""Cross entropy of the prompted prediction, plus a penalty on its distance from the plain prediction.

    .. math:: L = \mathrm{CE}(p^+, y) + \lambda \, D(p^+, p^-)

    with :math:`p^+` the prediction on the prompted and :math:`p^-` on the plain image, the latter outside the graph.
    All four :math:`D` compare softmax *probabilities*, so a constant added to all logits changes nothing, sum over
    classes (``mse``, ``l1``, ``kl``) and average over the batch:

    - ``kl``: :math:`\mathrm{KL}(p^- \Vert p^+)`, the plain prediction is the reference (as a teacher is in
      distillation).
    - ``mse``: :math:`\lVert p^+ - p^- \rVert_2^2`, ``l1``: :math:`\lVert p^+ - p^- \rVert_1`,
      ``cosine``: :math:`1 - \cos(p^+, p^-)`.

    Args:
        weight: :math:`\lambda` >= 0; 0 leaves cross entropy, and needs no plain prediction.
        discrepancy: form of :math:`D`.
        class_weights: weight of every class in the cross entropy, positive, (C,); None for all ones. The batch is then
            averaged with the weights of its labels, as in ``torch.nn.CrossEntropyLoss``. :math:`D` is not weighted.
        label_smoothing: in [0, 1], of the cross entropy.

    Attributes:
        needs_plain: True if ``forward`` needs ``plain_logits``.

    Raises:
        ValueError: if an option is out of range; in ``forward``, if ``plain_logits`` are needed and missing, or of
            another shape.

    Reference:
        MoVL, arXiv 2405.07411, figure 1: categorisation loss and discrepancy loss. The forms of D, its direction and
        lambda are our reading.

    Example:
        >>> loss = MoVLLoss(weight=1.0)
        >>> logits = torch.zeros(4, 2)
        >>> loss(logits, torch.tensor([0, 1, 0, 1]), plain_logits=logits)
        tensor(0.6931)
    """

    class_weights: torch.Tensor | None

    def __init__(
        self,
        *,
        weight: float = 0.0,
        discrepancy: Discrepancy = "kl",
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.distance = discrepancy_of(discrepancy, weight)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}.")
        self.weight = float(weight)
        self.discrepancy = discrepancy
        self.label_smoothing = float(label_smoothing)
        self.needs_plain = self.weight > 0
        self.register_buffer("class_weights", positive_weights(class_weights))

    def forward(
        self, logits: torch.Tensor, target: torch.Tensor, plain_logits: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            logits: prompted, (B, C), before softmax.
            target: labels (B,), int64 in 0 .. C - 1.
            plain_logits: of the plain images, (B, C); detached here. Not used while ``weight`` is 0.

        Returns:
            scalar.
        """
        class_weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        loss = F.cross_entropy(logits, target, weight=class_weights, label_smoothing=self.label_smoothing)
        if not self.needs_plain:
            return loss
        return loss + self.weight * self.distance(logits, check_plain(plain_logits, logits, self.weight))


def discrepancy_of(name: str, weight: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the discrepancy of a name, for a checked weight.

    Raises:
        ValueError: for another name, or a weight that is negative or not finite.
    """
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight (lambda) must be finite and >= 0, got {weight}.")
    if name not in _DISCREPANCIES:
        raise ValueError(f"discrepancy must be one of {sorted(_DISCREPANCIES)}, got {name!r}.")
    return _DISCREPANCIES[name]


def positive_weights(class_weights: Sequence[float] | None) -> torch.Tensor | None:
    """Return the weights as a tensor.

    Raises:
        ValueError: if one is not positive and finite.
    """
    values = None if class_weights is None else torch.tensor([float(value) for value in class_weights])
    if values is not None and not bool(((values > 0) & values.isfinite()).all()):
        raise ValueError(f"class_weights must be positive and finite, one per class, got {list(class_weights or [])}.")
    return values


def check_plain(plain_logits: torch.Tensor | None, logits: torch.Tensor, weight: float) -> torch.Tensor:
    """Return the plain logits outside the graph.

    Raises:
        ValueError: if they are missing or of another shape than ``logits``.
    """
    if plain_logits is None:
        raise ValueError(
            f"With weight={weight} the loss compares with the plain prediction: pass plain_logits "
            "(the head applied to the features of the unprompted images), or set weight to 0."
        )
    if plain_logits.shape != logits.shape:
        raise ValueError(
            f"plain_logits must have the shape of logits {tuple(logits.shape)}, got {tuple(plain_logits.shape)}."
        )
    return plain_logits.detach()
