"""Exact linear probe on cached features: the solution, its use as a head, and the choice of layers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import Backbone, Layers
from movl_monai.engines.class_weights import ClassWeights, resolve_class_weights
from movl_monai.engines.features import FeatureSet, FeaturesOf, extract_features
from movl_monai.errors import ConfigError, DataError, MovlError
from movl_monai.heads import LinearHead

__all__ = [
    "DEFAULT_L2_GRID",
    "HeadSolver",
    "LabelMappingFit",
    "LinearProbe",
    "LinearProbeSolution",
    "ProbeFit",
    "fit_linear_probe",
    "layer_losses",
    "standardization",
]

_LOGGER = logging.getLogger(__name__)
DEFAULT_L2_GRID = tuple(10.0**exponent for exponent in (1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3, -3.5, -4, -4.5, -5))


@dataclass(frozen=True)
class LinearProbeSolution:
    """An optimal linear probe: logits = weight ((f - mean) / scale) + bias, or those of an ordinal head.

    Args:
        weight: (num_classes, num_features), or (1, num_features) of an ordinal head or a number, float32.
        bias: (num_classes,), or (num_classes - 1,) of an ordinal head, float32.
        mean: (num_features,), float32.
        scale: positive scalar tensor.
        l2: the L2 strength; of several findings one for each.
        val_loss: mean cross entropy on the validation features (of a number the squared error), None without them.
        penalty: strength of the L2 penalty in further training, see :class:`HeadSolver`; None for none.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    l2: float | tuple[float, ...]
    val_loss: float | None
    penalty: float | torch.Tensor | None = None


@dataclass(frozen=True)
class ProbeFit:
    """Solution on standardised features, with the fields of :class:`LinearProbeSolution`."""

    weight: torch.Tensor
    bias: torch.Tensor
    l2: float | tuple[float, ...]
    val_loss: float
    penalty: float | torch.Tensor


def standardization(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the mean of features, and one scalar that brings them to unit variance.

    One scalar is used instead of one per dimension: dividing every dimension by its own deviation amplifies dimensions
    of pure noise, and was clearly worse on small medical sets.

    Args:
        features: (N, num_features).

    Returns:
        mean (num_features,) and scale (), the root of the variance averaged over dimensions; 1 for constant features.
    """
    mean = features.mean(dim=0)
    scale = (features - mean).square().mean().sqrt()
    return mean, torch.where(scale > 0, scale, torch.ones_like(scale))


def fit_linear_probe(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_classes: int,
    l2: float,
    class_weights: torch.Tensor | None = None,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 500,
    head: type[LinearHead] = LinearHead,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Minimise the penalised mean cross entropy with L-BFGS.

    .. math:: \frac{1}{\sum_i c_{y_i}} \sum_i c_{y_i} \mathrm{CE}(W z_i + b, y_i) + \frac{\lambda_2}{2} \lVert W
    \rVert^2

    scikit-learn's ``LogisticRegression(C=1 / (N l2))`` has the same optimum (for :math:`c = 1`). The bias is not
    penalised. For an :class:`~movl_monai.heads.OrdinalHead` the cross entropy is that of its log probabilities, whose
    optimum is unique, too.

    Args:
        features: :math:`z`, (N, num_features), already standardised; the problem is solved in their dtype (use
            float64).
        labels: :math:`y`, (N,), in 0 .. num_classes - 1.
        num_classes: at least 2.
        l2: :math:`\lambda_2` > 0.
        class_weights: :math:`c`, (num_classes,), positive; None for all ones.
        start: initial weight and bias; they affect the time, not the optimum.
        tolerance: largest absolute entry of the gradient at the end.
        max_iterations: limit on L-BFGS iterations; reaching it is logged.
        head: class of the head, which computes the logits.

    Returns:
        weight (num_classes, num_features) and bias (num_classes,), of the features' dtype and device; of an ordinal
        head (1, num_features) and (num_classes - 1,).

    Raises:
        DataError: if fewer than two classes occur in ``labels``.
        ValueError: if ``l2`` is not positive.
    """
    if l2 <= 0:
        raise ValueError(f"l2 must be > 0 so that the optimum is unique, got {l2}.")
    if len(labels.unique()) < 2:
        raise DataError(
            f"A linear probe needs images of at least two classes, got {len(labels)} images of {len(labels.unique())} "
            "class(es). Check the labels of the training split."
        )
    if start is None:
        empty = head(features.shape[1], num_classes)
        start = torch.zeros_like(empty.weight).to(features), torch.zeros_like(empty.bias).to(features)
    weight, bias = start[0].detach().clone(), start[1].detach().clone()
    weight.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    class_weights = None if class_weights is None else class_weights.to(features)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head.logits(features, weight, bias), labels, weight=class_weights)
        loss = loss + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
        closure()
    gradient = max(weight.grad.abs().max().item(), bias.grad.abs().max().item())  # type: ignore[union-attr]
    if not gradient <= 1e-4:
        _LOGGER.warning(
            "The linear probe with l2=%.3g stopped at a gradient of %.2g before it converged.", l2, gradient
        )
    return weight.detach(), bias.detach()


class LinearProbe:
    """Solve the linear probe of a network's head exactly, with the L2 strength chosen on the validation set.

    The head is solved on the features of the given network, with its prompt and its adapter. While these are still the
    identity, the cached plain features are used.

    Args:
        train: the plain features of the training images (:class:`~movl_monai.engines.FeatureSet`; for :meth:`solve` any
            object with ``values`` and ``labels``).
        val: the plain features for the choice of the L2 strength; never the test set.
        num_classes: number of logits.
        l2: L2 strengths to try, from strong to weak (each starts from the solution of the previous one), or one number.
        class_weights: "balanced" for N / (num_classes * count), a sequence of numbers, or None.
        device: of the computation in float64 ("mps" has no float64; use "cpu").

    Raises:
        DataError: if a class is missing in the training labels.

    Reference:
        LP of MoVL (arXiv 2405.07411); the exact solution on frozen features is our reading.
    """

    def __init__(
        self,
        train: Any,
        val: Any,
        *,
        num_classes: int,
        l2: float | Sequence[float] = DEFAULT_L2_GRID,
        class_weights: ClassWeights = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.train = train
        self.val = val
        self.num_classes = num_classes
        self.l2 = (float(l2),) if isinstance(l2, (int, float)) else tuple(float(value) for value in l2)
        if not self.l2 or min(self.l2) <= 0:
            raise ValueError(f"l2 must be one or more numbers > 0, got {self.l2}.")
        self.class_weights = class_weights
        self.device = device

    def solve(self, network: nn.Module | None = None) -> LinearProbeSolution:
        """Solve for every L2 strength and return the solution with the smallest cross entropy on ``val``.

        Args:
            network: source of the features, by its ``features``; None uses the plain features.
        """
        values, val_values = _features_of(network, self.train, self.val)
        mean, scale = standardization(values.double())
        train = ((values.double() - mean) / scale).to(self.device)
        val = ((val_values.double() - mean) / scale).to(self.device)
        labels, val_labels = self.train.labels.to(self.device), self.val.labels.to(self.device)
        basis = _row_space(train)
        if basis is not None:
            train, val = train @ basis, val @ basis
        own = type(getattr(network, "head", None))
        fit = self._fit(train, labels, val, val_labels, own if issubclass(own, LinearHead) else LinearHead)
        weight = fit.weight if basis is None else fit.weight @ basis.T
        return LinearProbeSolution(
            weight.float().cpu(), fit.bias.float().cpu(), mean.float(), scale.float(), fit.l2, fit.val_loss, fit.penalty
        )

    def _fit(
        self,
        train: torch.Tensor,
        labels: torch.Tensor,
        val: torch.Tensor,
        val_labels: torch.Tensor,
        head: type[LinearHead],
    ) -> ProbeFit:
        """Solve on standardised features (N, F) for every L2 strength, and return the best solution on val."""
        best, start = None, None
        for l2 in sorted(self.l2, reverse=True):
            start = fit_linear_probe(
                train,
                labels,
                num_classes=self.num_classes,
                l2=l2,
                class_weights=self._weights(labels),
                start=start,
                head=head,
            )
            loss = F.cross_entropy(head.logits(val, *start), val_labels).item()
            if best is None or loss < best[0]:
                best = (loss, l2, start)
        if best is None:
            raise MovlError("The linear probe has no finite validation loss; check the features for NaN.")
        loss, l2, (weight, bias) = best
        _LOGGER.info("Linear probe solved: l2 = %.3g chosen on val (cross entropy %.4f).", l2, loss)
        return ProbeFit(weight, bias, l2, loss, l2)

    def apply(self, network: nn.Module) -> float | torch.Tensor:
        """Solve, load the solution into the network's head, and return the L2 strength for its further training."""
        solution = self.solve(network)
        head: Any = network.head
        head.load_solution(solution.weight, solution.bias, solution.mean, solution.scale)
        return solution.penalty if solution.penalty is not None else 0.0

    def _weights(self, labels: torch.Tensor) -> torch.Tensor | None:
        weights = resolve_class_weights(self.class_weights, labels.cpu(), self.num_classes)
        return None if weights is None else torch.tensor(weights, dtype=torch.float64)


def _row_space(features: torch.Tensor) -> torch.Tensor | None:
    """Return an orthonormal basis (num_features, N) of the rows; None without many more features than images.

    The optimum lies in the span of the training rows and the penalty is the same in every orthonormal basis, so the
    problem in N coordinates has the same solution. It is much smaller for features of all layers.
    """
    count, width = features.shape
    return torch.linalg.qr(features.T).Q if width > 4 * count else None


def _features_of(network: Any, *sets: Any) -> list[torch.Tensor]:
    """Return the network's features of data sets, or the plain features if the network does not change them."""
    if hasattr(sets[0], "pooled"):  # of units
        return [one.pooled(network) for one in sets]
    if hasattr(network, "features") and isinstance(sets[0], FeatureSet):
        own = FeaturesOf(network)
        few = sets[0].extract(own, 4)
        if not torch.allclose(few, sets[0].values[: len(few)], rtol=1e-5, atol=1e-5 * float(few.abs().max())):
            _LOGGER.info("The head is solved on the features of this network, which differ from the plain ones.")
            return [one.extract(own) for one in sets]
    return [one.values for one in sets]


class HeadSolver(Protocol):
    """Solver of a network's head from training images."""

    def apply(self, network: nn.Module) -> float | torch.Tensor:
        """Set ``network.head``; return the L2 strength for its further training, 0 for none, or one per output (K,)."""


class LabelMappingFit:
    """Fit the label mapping of a :class:`~movl_monai.heads.MappedHead` on prompted training images.

    At the start the prompt is the identity, which gives the usual mapping on plain images. With the stage's
    ``refit_head`` the mapping follows the prompt (ILM-VP and BLM fit once per epoch).

    Args:
        dataset: training images, with ``images`` and ``labels``.
        batch_size: images per forward pass.
        device: of the network.

    Raises:
        ConfigError: in ``apply``, if the network's head has no label mapping.

    Reference:
        Bahng et al., arXiv 2203.17274; Chen et al. (ILM-VP), arXiv 2211.11635.
    """

    def __init__(self, dataset: Any, *, batch_size: int = 32, device: str | torch.device = "cpu") -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.device = device

    def apply(self, network: nn.Module) -> float:
        """Fit the mapping of ``network.head`` on the features of the prompted images."""
        head: Any = network.head
        if not hasattr(head, "fit"):
            raise ConfigError(f"A label mapping needs a MappedHead, this network has a {type(head).__name__}.")
        features = extract_features(
            FeaturesOf(network), self.dataset.images, batch_size=self.batch_size, device=self.device, progress=False
        )
        head.fit(features.to(self.device), torch.as_tensor(self.dataset.labels).to(self.device))
        return 0.0


def layer_losses(
    backbone: Backbone,
    train: Any,
    val: Any,
    *,
    num_classes: int,
    candidates: Mapping[str, Layers] | None = None,
    l2: float | Sequence[float] = DEFAULT_L2_GRID,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> dict[str, float]:
    """Compute the cross entropy on ``val`` of the exact linear probe for several ``layers`` of a frozen backbone.

    The layers with the smallest value are the ``--layers`` for training. Each candidate costs a forward pass over all
    images and a linear probe.

    Args:
        backbone: frozen; its own ``layers`` are ignored.
        train: data set for fitting, with ``images`` (N, 3, H, W) uint8 and ``labels`` (N,).
        val: data set for the choice, in the same form; never the test set.
        num_classes: number of logits.
        candidates: layers by name; None compares "last", "all" and the last third ("last_third").
        l2: L2 strengths to try for each.
        device: of backbone and probe.
        progress: show a progress bar.

    Returns:
        Cross entropy by name, smallest first.

    Raises:
        ConfigError: if the layers do not exist.
    """
    if candidates is None:
        count = backbone.with_layers("all").layer_reader.num_layers
        third = list(range(count - max(1, round(count / 3)), count))
        candidates = {"last": "last", "all": "all", "last_third": third}
    losses = {}
    for name, layers in candidates.items():
        encoder = backbone.with_layers(layers)
        sets = (FeatureSet(data, encoder, device=device, progress=progress) for data in (train, val))
        solution = LinearProbe(*sets, num_classes=num_classes, l2=l2, device=device).solve()
        losses[name] = float(solution.val_loss)  # type: ignore[arg-type]
        _LOGGER.info("layers=%s: cross entropy %.4f on val.", layers, losses[name])
    return dict(sorted(losses.items(), key=lambda entry: entry[1]))
