"""Exact probes of several findings (logistic, one against the rest) and of a number (ridge) on cached features."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F

from movl_monai.engines.class_weights import resolve_finding_weights
from movl_monai.engines.linear_probe import LinearProbe, ProbeFit
from movl_monai.errors import ConfigError, DataError

__all__ = ["FindingsProbe", "NumberProbe", "fit_findings", "fit_ridge", "target_scale", "target_standardization"]

_LOGGER = logging.getLogger(__name__)
_PENALTY = 0.5  # of l2 times the squared weights


def fit_findings(
    features: torch.Tensor,
    labels: torch.Tensor,
    *,
    l2: torch.Tensor,
    positive_weights: torch.Tensor | None = None,
    start: tuple[torch.Tensor, torch.Tensor] | None = None,
    tolerance: float = 1e-10,
    max_steps: int = 100,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Minimise the penalised binary cross entropy of K findings by Newton's method, all at once.

    .. math:: \frac{1}{n_k} \sum_{i : y_{ik} \text{ known}} c_k^{y_{ik}} \, \mathrm{BCE}(w_k z_i + b_k, y_{ik}) +
              \frac{\lambda_k}{2} \lVert w_k \rVert^2

    scikit-learn's ``LogisticRegression(C=1 / (n_k l2_k), class_weight={0: 1, 1: c_k})`` on the :math:`n_k` images with
    a known label has the same optimum. Each step solves with the Hessian by conjugate gradients, so that no matrix of
    all features is built, and is halved until the objective falls.

    Args:
        features: :math:`z`, (N, F), standardised, float64.
        labels: 1, 0 or NaN, (N, K).
        l2: :math:`\lambda` > 0, (K,).
        positive_weights: :math:`c` > 0, (K,); None for all ones.
        start: initial weight (K, F) and bias (K,).
        tolerance: largest entry of the gradient at the end.
        max_steps: limit on Newton steps; reaching it is logged.

    Returns:
        weight (K, F) and bias (K,), of the features' dtype and device.

    Raises:
        DataError: if a finding has no positive or no negative image.
    """
    known = ~labels.isnan()
    truth = labels.nan_to_num(0.0).to(features)
    if lacking := [k for k in range(labels.shape[1]) if len(truth[known[:, k], k].unique()) < 2]:
        raise DataError(
            f"The probe of finding {lacking[0]} (from 0) needs training images with and without it. Check the labels "
            "of the training split."
        )
    share = known.to(features) / known.sum(dim=0)
    if positive_weights is not None:
        share = share * torch.where(truth > 0, positive_weights.to(features), 1.0)
    rows = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    ridge = l2.to(features)[:, None] * torch.ones_like(rows[:1])
    ridge[:, -1] = 0.0
    solution = rows.new_zeros(labels.shape[1], rows.shape[1])
    if start is not None:
        solution = torch.cat([start[0], start[1][:, None]], dim=1).to(rows)
    value = _objective(rows, truth, share, ridge, solution)
    for _ in range(max_steps):
        probability = torch.sigmoid(rows @ solution.T)
        gradient = ((probability - truth) * share).T @ rows + ridge * solution
        if gradient.abs().max() <= tolerance:
            break
        curvature = probability * (1 - probability) * share
        step = _conjugate_gradients(rows, curvature, ridge, gradient)
        size = torch.ones_like(value)
        slope = (gradient * step).sum(dim=1)
        for _ in range(40):
            proposed = solution - size[:, None] * step
            found = _objective(rows, truth, share, ridge, proposed)
            worse = found > value - 1e-4 * size * slope + 1e-14 * value.abs()
            if not worse.any():
                break
            size = torch.where(worse, size / 2, size)
        else:
            size = torch.where(worse, torch.zeros_like(size), size)  # at the limit of rounding
            proposed = solution - size[:, None] * step
            found = _objective(rows, truth, share, ridge, proposed)
        if not size.any():
            break
        solution, value = proposed, found
    largest = float(gradient.abs().max())
    if not largest <= 1e-6:
        _LOGGER.warning("The probe of the findings stopped at a gradient of %.2g before it converged.", largest)
    return solution[:, :-1], solution[:, -1]


def _objective(
    rows: torch.Tensor, truth: torch.Tensor, share: torch.Tensor, ridge: torch.Tensor, solution: torch.Tensor
) -> torch.Tensor:
    """Return the objective of each finding, (K,)."""
    losses = F.binary_cross_entropy_with_logits(rows @ solution.T, truth, reduction="none")
    return (losses * share).sum(dim=0) + _PENALTY * (ridge * solution.square()).sum(dim=1)


def _conjugate_gradients(
    rows: torch.Tensor, curvature: torch.Tensor, ridge: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """Return H^-1 g of each finding (K, F + 1), with H = rows^T curvature rows + ridge, for a diagonal start."""
    scale = (rows.square().T @ curvature).T + ridge
    step = torch.zeros_like(gradient)
    rest = gradient.clone()
    ready = rest / scale
    direction, size = ready.clone(), (rest * ready).sum(dim=1)
    goal = torch.minimum(0.01 * size, size.square()).maximum(1e-24 * size)  # exact only near the optimum
    for _ in range(2 * gradient.shape[1] + 20):
        image = ((rows @ direction.T) * curvature).T @ rows + ridge * direction
        bend = (direction * image).sum(dim=1)
        alpha = torch.where((size > goal) & (bend > 0), size / bend.clamp(min=1e-300), 0.0)
        if not alpha.any():
            break
        step += alpha[:, None] * direction
        rest -= alpha[:, None] * image
        ready = rest / scale
        new = (rest * ready).sum(dim=1)
        direction = ready + torch.where(size > 0, new / size.clamp(min=1e-300), 0.0)[:, None] * direction
        size = new
    return step


class FindingsProbe(LinearProbe):
    """Solve one logistic probe for each finding exactly, with the L2 strength of each chosen on the validation set.

    Args:
        options: of :class:`LinearProbe`; ``num_classes`` is the number of findings, ``class_weights`` "balanced" for
            negative / positive images of each finding, or the weights of their positive images.

    Raises:
        DataError: if a finding has no positive or no negative training image.
    """

    def _fit(
        self, train: torch.Tensor, labels: torch.Tensor, val: torch.Tensor, val_labels: torch.Tensor, head: Any
    ) -> ProbeFit:
        count = self.num_classes
        given = resolve_finding_weights(self.class_weights, labels.cpu(), count)
        weights = None if given is None else torch.tensor(given, dtype=torch.float64)
        start, solutions, losses = None, [], []
        known = ~val_labels.isnan()
        truth = val_labels.nan_to_num(0.0).double()
        for l2 in (grid := sorted(self.l2, reverse=True)):
            strength = torch.full((count,), l2, dtype=torch.float64)
            start = fit_findings(train, labels, l2=strength, positive_weights=weights, start=start, tolerance=1e-6)
            loss = F.binary_cross_entropy_with_logits(val @ start[0].T + start[1], truth, reduction="none")
            solutions.append(start)
            losses.append((loss * known).sum(dim=0))
        table = torch.stack(losses)
        # a finding without labels in val takes the strength that is best for the others
        table = torch.where(known.any(dim=0), table, table.sum(dim=1, keepdim=True))
        best = table.argmin(dim=0).tolist()
        weight = torch.stack([solutions[place][0][k] for k, place in enumerate(best)])
        bias = torch.stack([solutions[place][1][k] for k, place in enumerate(best)])
        chosen = tuple(grid[place] for place in best)
        strength = torch.tensor(chosen, dtype=torch.float64)
        weight, bias = fit_findings(train, labels, l2=strength, positive_weights=weights, start=(weight, bias))
        val_loss = float(sum(losses[place][k] for k, place in enumerate(best)) / known.sum().clamp(min=1))
        _LOGGER.info(
            "Probes of %d findings solved: l2 = %s chosen on val (binary cross entropy %.4f).",
            *(count, ", ".join(f"{value:.3g}" for value in chosen), val_loss),
        )
        # further training averages over all known labels, in which a finding has this share
        shares = (~labels.isnan()).sum(dim=0).double() / (~labels.isnan()).sum()
        return ProbeFit(weight, bias, chosen, val_loss, strength * shares.cpu())


class NumberProbe(LinearProbe):
    """Solve ridge regression of a number exactly, with the L2 strength chosen on the validation set.

    The numbers are standardised with mean and deviation of the training images, and the head's output turned back.

    Args:
        options: of :class:`LinearProbe`; ``num_classes`` is 1, and ``class_weights`` must be None.

    Raises:
        ConfigError: for class weights.
    """

    def apply(self, network: torch.nn.Module) -> float | torch.Tensor:
        """Solve, load the solution and the training numbers' mean and deviation, and return the L2 strength."""
        head: Any = network.head
        head.set_target(*target_standardization(self.train.labels))
        return super().apply(network)

    def _fit(
        self, train: torch.Tensor, labels: torch.Tensor, val: torch.Tensor, val_labels: torch.Tensor, head: Any
    ) -> ProbeFit:
        _refuse_weights(self.class_weights)
        mean, scale = target_standardization(labels)
        targets, wanted = ((values.double() - mean) / scale for values in (labels, val_labels))
        known, seen = ~targets.isnan(), ~wanted.isnan()
        weights, biases = fit_ridge(train[known], targets[known], l2=self.l2)
        errors = (val[seen] @ weights.T + biases - wanted[seen][:, None]).square().mean(dim=0)
        best = int(errors.nan_to_num(torch.inf).argmin())
        loss = float(errors[best])
        _LOGGER.info(
            "Ridge probe solved: l2 = %.3g chosen on val (root mean squared error %.4g).",
            *(self.l2[best], loss**0.5 * float(scale)),
        )
        return ProbeFit(weights[best][None], biases[best][None], self.l2[best], loss, self.l2[best])


def fit_ridge(features: torch.Tensor, targets: torch.Tensor, *, l2: Any) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Minimise the penalised mean squared error for each L2 strength, by one singular value decomposition.

    .. math:: \frac{1}{n} \sum_i (w z_i + b - y_i)^2 + \frac{\lambda_2}{2} \lVert w \rVert^2

    scikit-learn's ``Ridge(alpha=n l2 / 2)`` has the same optimum.

    Args:
        features: :math:`z`, (n, F), float64.
        targets: :math:`y`, (n,), float64.
        l2: L strengths > 0.

    Returns:
        weights (L, F) and biases (L,).
    """
    center, middle = features.mean(dim=0), targets.mean()
    left, values, right = torch.linalg.svd(features - center, full_matrices=False)
    strengths = torch.tensor(l2, dtype=features.dtype, device=features.device)[:, None] * len(features) / 2
    shrunk = values / (values.square() + strengths) * (left.T @ (targets - middle))
    weights = shrunk @ right
    return weights, middle - weights @ center


def target_standardization(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of the known numbers (N,), float64; the deviation of equal numbers is 1.

    Raises:
        DataError: if no number is known.
    """
    known = labels[~labels.isnan()].double()
    if not len(known):
        raise DataError("No training image has a number; check the labels of the training split.")
    deviation = known.std(correction=0)
    return known.mean(), torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def target_scale(labels: torch.Tensor, class_weights: Any = None) -> float:
    """Return the deviation of the training numbers (N,), for the loss.

    Raises:
        ConfigError: for class weights, which numbers have none of.
    """
    _refuse_weights(class_weights)
    return float(target_standardization(labels)[1])


def _refuse_weights(class_weights: Any) -> None:
    if class_weights is not None:
        raise ConfigError(
            f"class_weights are weights of classes, and numbers have none; got {class_weights!r}, give null."
        )
