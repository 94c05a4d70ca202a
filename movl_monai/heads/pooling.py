"""Pooling of the features of a unit's instances: mean, maximum, noisy-or, gated attention."""

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError

__all__ = ["AttentionPooling", "MaxPooling", "MeanPooling", "NoisyOrPooling", "make_pooling"]


class MeanPooling(nn.Module):
    """Compute the mean of the instances.

    All poolings here read padded instances with a mask, do not depend on the order of the instances, and give for a
    single instance its own features.

    Example:
        >>> instances, mask = torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]])
        >>> MeanPooling()(instances, mask)
        (tensor([[2.]]), tensor([[0.5000, 0.5000, 0.0000]]))
    """

    def forward(self, instances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute pooled features and the weight of each instance.

        Args:
            instances: (B, n, F).
            mask: bool (B, n), False for padding; each unit has an instance.

        Returns:
            Features (B, F) and weights (B, n), at least 0, with sum 1.
        """
        return _mean(instances, mask)


class MaxPooling(nn.Module):
    """Compute the maximum of each feature over the instances; see :class:`MeanPooling`.

    The weight of an instance is the share of features whose maximum it holds (the first of equals).
    """

    def forward(self, instances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute pooled features (B, F) and weights (B, n); see :meth:`MeanPooling.forward`."""
        hidden = instances.masked_fill(~mask.unsqueeze(2), float("-inf"))
        highest = hidden.argmax(dim=1, keepdim=True)
        numbers = torch.arange(instances.shape[1], device=instances.device).reshape(1, -1, 1)
        return hidden.amax(dim=1), (numbers == highest).to(instances.dtype).mean(dim=2)


class NoisyOrPooling(nn.Module):
    r"""Predict a finding if any instance shows it: independent causes.

    .. math:: P(y = 1) = 1 - \prod_i (1 - \sigma(z_i + b)) \qquad \log(1 - P) = -\sum_i \log(1 + e^{z_i + b})

    with :math:`z_i` the head's logit of the finding in instance i: of several findings each logit, of two classes that
    of the second minus that of the first. :math:`b`, one number per finding, is 0 at initialisation.
    :meth:`warm_start` sets it so that a head solved on mean features fits the training units: the product over many
    instances would otherwise be near 1. A unit with one instance and :math:`b = 0` has the probability of its instance.

    The pooled features, for OOD detection, are the mean. The weight of an instance is its share of
    :math:`-\log(1 - P)`, averaged over the findings.

    Args:
        num_classes: number of logits.
        each: whether each logit is a finding of its own; False for two classes.

    Raises:
        ConfigError: for more than two classes of which one is true.

    Reference:
        Pearl, Probabilistic Reasoning in Intelligent Systems, 1988, section 4.3.2; as pooling in Zhang et al., Multiple
        Instance Boosting for Object Detection, NeurIPS 2005.
    """

    def __init__(self, num_classes: int, *, each: bool = False) -> None:
        super().__init__()
        if not each and num_classes != 2:
            raise ConfigError(
                "pooling noisy_or is for two classes, the second of which any image can show, or for several findings; "
                f"got {num_classes} classes. Choose the pooling attention, mean or max."
            )
        self.each = each
        self.combines = True
        self.bias = nn.Parameter(torch.zeros(num_classes if each else 1))

    def forward(self, instances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute mean features (B, F), and equal weights (B, n), which :meth:`combine` replaces."""
        return _mean(instances, mask)

    def combine(self, logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits of units from those of their instances.

        Args:
            logits: (B, n, num_classes).
            mask: bool (B, n).

        Returns:
            Logits (B, num_classes), and weights (B, n).
        """
        parts = F.softplus(self._of_findings(logits) + self.bias) * mask.unsqueeze(2)
        total = parts.sum(dim=1).clamp_min(1e-30)
        odds = total + torch.log(-torch.expm1(-total))
        weights = (parts / total.unsqueeze(1)).mean(dim=2)
        return (odds if self.each else torch.cat([torch.zeros_like(odds), odds], dim=1)), weights

    def _of_findings(self, logits: torch.Tensor) -> torch.Tensor:
        return logits if self.each else logits[:, :, 1:] - logits[:, :, :1]

    @torch.jit.ignore
    @torch.no_grad()
    def warm_start(self, logits: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor) -> None:
        """Set the bias at which the mean predicted probability of each finding is its frequency.

        Args:
            logits: of instances, (N, n, num_classes).
            mask: bool (N, n).
            labels: int64 (N,), or float32 (N, num_classes) of findings, NaN for unknown ones.
        """
        values = self._of_findings(logits).double()
        truth = labels.double() if self.each else labels.double().unsqueeze(1)
        known = ~truth.isnan() & (truth >= 0)
        frequency = (torch.where(known, truth, 0).sum(dim=0) / known.sum(dim=0).clamp_min(1)).clamp(1e-3, 1 - 1e-3)
        low, high = torch.full_like(frequency, -60.0), torch.full_like(frequency, 60.0)
        for _ in range(60):  # bisection: the mean rises with the bias
            middle = (low + high) / 2
            total = (F.softplus(values + middle) * mask.unsqueeze(2)).sum(dim=1)
            mean = torch.where(known, -torch.expm1(-total), 0).sum(dim=0) / known.sum(dim=0).clamp_min(1)
            low, high = torch.where(mean < frequency, middle, low), torch.where(mean < frequency, high, middle)
        self.bias.copy_((low + high) / 2)

    @torch.jit.ignore
    def settings(self) -> str:
        """Return a description of the settings that a checkpoint must share."""
        return f"NoisyOrPooling(each={self.each})"


class AttentionPooling(nn.Module):
    r"""Compute a weighted mean of the instances by gated attention.

    .. math:: a_i = \frac{\exp\{w^\top (\tanh(V \hat h_i) \odot \sigma(U \hat h_i))\}}
              {\sum_j \exp\{w^\top (\tanh(V \hat h_j) \odot \sigma(U \hat h_j))\}}, \qquad f = \sum_i a_i h_i

    with :math:`\hat h` the features at zero mean and unit variance, so that one learning rate fits all backbones. w is
    zero at initialisation: the start is the mean.

    Args:
        num_features: number of features of an instance.
        width: rows of U and V.
        seed: of U and V.

    Raises:
        ConfigError: if a size is below 1.

    Reference:
        Ilse, Tomczak and Welling, Attention-based Deep Multiple Instance Learning, ICML 2018, arXiv 1802.04712,
        equation 9. Deviations: standardised input; zero start of w.
    """

    def __init__(self, num_features: int, *, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        if num_features < 1 or width < 1:
            raise ConfigError(
                f"num_features and width of the attention must be at least 1, got {num_features}, {width}."
            )
        self.num_features, self.width = num_features, width
        generator, bound = torch.Generator().manual_seed(seed), num_features**-0.5
        content, gate = (
            torch.empty(width, num_features).uniform_(-bound, bound, generator=generator) for _ in range(2)
        )
        self.content, self.gate = nn.Parameter(content), nn.Parameter(gate)
        self.score = nn.Parameter(torch.zeros(1, width))

    def forward(self, instances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute pooled features (B, F) and the attention (B, n); see :meth:`MeanPooling.forward`."""
        standardized = F.layer_norm(instances, [self.num_features])
        hidden = torch.tanh(F.linear(standardized, self.content)) * torch.sigmoid(F.linear(standardized, self.gate))
        scores = F.linear(hidden, self.score).squeeze(2).masked_fill(~mask, float("-inf"))
        weights = scores.softmax(dim=1)
        return (weights.unsqueeze(2) * instances).sum(dim=1), weights

    @torch.jit.ignore
    def settings(self) -> str:
        """Return a description of the settings that a checkpoint must share."""
        return f"AttentionPooling(width={self.width})"


def make_pooling(
    name: str, *, num_features: int, num_classes: int, task: str = "classification", width: int = 64
) -> nn.Module:
    """Return a pooling by its name in a config.

    Args:
        name: "mean", "max", "noisy_or" or "attention".
        num_features: number of features of an instance.
        num_classes: number of logits.
        task: of the network; of several findings each logit is one.
        width: of the attention.

    Raises:
        ConfigError: for another name, or noisy-or with other than two classes or several findings.
    """
    if name == "noisy_or":
        return NoisyOrPooling(num_classes, each=labels_of(task).several)
    if name == "attention":
        return AttentionPooling(num_features, width=width)
    plain = {"mean": MeanPooling, "max": MaxPooling}
    if name not in plain:
        raise ConfigError(f"pooling must be mean, max, noisy_or or attention, got {name!r}.")
    return plain[name]()


def _mean(instances: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    held = mask.to(instances.dtype)
    count = held.sum(dim=1, keepdim=True)
    return (instances * held.unsqueeze(2)).sum(dim=1) / count, held / count
