"""Head for grades: one linear score of an image, and thresholds that divide it into ordered classes."""

import torch
import torch.nn.functional as F
from torch import nn

from .linear import LinearHead

__all__ = ["OrdinalHead"]


class OrdinalHead(LinearHead):
    r"""Compute the log probabilities of ordered classes from one score: cumulative logits with proportional odds.

    .. math:: P(y \le k) = \sigma(\theta_k - w^\top (f - m) / s), \quad \theta_1 < \dots < \theta_{C-1}

    with :math:`\sigma` the logistic function. All classes share one direction :math:`w`, so that few images of a grade
    are enough if its neighbours have more, and a prediction between two grades is never a third, distant one.

    The outputs are :math:`\log P(y = k)`. They serve as logits: softmax leaves them as they are, and the cross entropy
    is the likelihood of the model. Their free energy is 0 for every image, so the OOD score "energy" says nothing.

    The bias holds the free numbers of the thresholds, :math:`\theta_1 = b_1` and
    :math:`\theta_{k} = \theta_{k-1} + \log(1 + e^{b_k})`, which keeps them in order. At the start the weight is zero.

    Args:
        num_features: number of features of the backbone.
        num_classes: number of grades, at least 2, numbered from 0 in their order.

    Raises:
        ValueError: if a size is too small.

    Reference:
        McCullagh, Regression Models for Ordinal Data, Journal of the Royal Statistical Society B 42, 1980.

    Example:
        >>> head = OrdinalHead(4, 3)
        >>> head(torch.zeros(2, 4)).exp().sum(dim=1).round(decimals=4)
        tensor([1., 1.], grad_fn=<RoundBackward1>)
    """

    classes_only = True
    log_probabilities = True

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__(num_features, num_classes)
        if num_classes < 2:
            raise ValueError(
                f"An OrdinalHead needs two or more grades, got {num_classes}. For a number leave head_ordinal out."
            )
        self.weight = nn.Parameter(torch.zeros(1, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes - 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute log probabilities.

        Args:
            features: (B, num_features).

        Returns:
            Log probabilities of the grades (B, num_classes).
        """
        return _log_probabilities(F.linear((features - self.mean) / self.scale, self.weight), self.bias)

    @staticmethod
    def logits(features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Compute log probabilities (B, num_classes) of standardised features (B, num_features).

        Args:
            features: (B, num_features).
            weight: (1, num_features).
            bias: (num_classes - 1,).
        """
        return _log_probabilities(F.linear(features, weight), bias)


def _log_probabilities(score: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return log P(y = k), (B, C), for scores (B, 1) and the free numbers of the thresholds (C - 1,).

    With a = theta_k - s, b = theta_(k-1) - s and a - b = log(1 + exp(b_k)):
    log(sigma(a) - sigma(b)) = log sigma(a) + log sigma(-b) + log sigma(b_k), which loses no digits.
    """
    thresholds = torch.cat([bias[:1], bias[:1] + F.softplus(bias[1:]).cumsum(dim=0)])
    odds = thresholds - score
    none, ends = torch.zeros_like(score), torch.zeros_like(bias[:1])
    upper = torch.cat([F.logsigmoid(odds), none], dim=1)
    lower = torch.cat([none, F.logsigmoid(-odds)], dim=1)
    return upper + lower + torch.cat([ends, F.logsigmoid(bias[1:]), ends])
