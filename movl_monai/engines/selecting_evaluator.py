"""Evaluator that selects a state by the key metric, a tie-break, and a comparison with the start."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys

from movl_monai.errors import ConfigError
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.weighted import METRICS, WeightedFigures

from .features import prepare_image_batch
from .tokens import TokenSet

__all__ = ["Selection", "SelectingEvaluator", "share_ahead"]

_LOGGER = logging.getLogger(__name__)
Selection = Literal["clear", "best"]
_LEVEL = 0.95


class SelectingEvaluator(SupervisedEvaluator):
    """Select by the key metric, then by a tie-break metric, then by the earliest epoch.

    On a small ``val`` many states have the same number of correct answers; a metric of the probabilities still
    distinguishes them. And among many states the highest metric may be due to chance. With ``selection="clear"`` a
    state is therefore selected only if it is ahead of the start of training, the first validated state, in 95 % of
    resamples of the patients. It is ahead by the key metric, or by cross entropy if the key metric is equal.

    ``state.best_tie_break`` is the tie-break of the best state, None before the first validation;
    ``state.first_logits`` (N, C) are the logits of the start.

    Args:
        tie_break: name of a metric in ``additional_metrics``, higher is better; None keeps the earliest of equals.
        selection: "clear" as above, for logits (C,) of classes; "best" compares only the metrics.
        patients: patient of each image of the loader, in its order, None for an unknown patient; None if all are
            unknown.
        tokens: cached tokens of the loader's images, at which validation then starts; their rows are the batch's
            ``index``. Values are rounded to float16 in the cache.
        options: of MONAI's ``SupervisedEvaluator``, except ``metric_cmp_fn``, which this class sets.

    Raises:
        ConfigError: if ``tie_break`` is not a metric of this evaluator, ``metric_cmp_fn`` is given, or ``selection``
            has another value or is "clear" with a key metric that cannot be resampled.
    """

    def __init__(
        self,
        *,
        tie_break: str | None = None,
        selection: Selection = "best",
        patients: Sequence[str | None] | None = None,
        tokens: TokenSet | None = None,
        **options: Any,
    ) -> None:
        known = list(options.get("additional_metrics") or {})
        if tie_break is not None and tie_break not in known:
            raise ConfigError(
                f"tie_break must be one of the additional_metrics ({', '.join(known) or 'none'}) or null, "
                f"got '{tie_break}'."
            )
        if "metric_cmp_fn" in options:
            raise ConfigError("SelectingEvaluator compares by itself; leave metric_cmp_fn out.")
        self.figure = _figure(selection, list(options.get("key_val_metric") or {}))
        self.patients = patients
        if tokens is not None and tokens.fits():
            options |= {"network": tokens.behind(options["network"]), "prepare_batch": _TokenBatch(tokens)}
        super().__init__(metric_cmp_fn=self._is_better, **options)
        self.tie_break = tie_break
        self.state.best_tie_break = None
        self.state.first_logits = None
        self._rows: list[tuple[np.ndarray, int]] = []
        if self.figure is not None:
            self.add_event_handler(Events.STARTED, lambda _: self._rows.clear())
            self.add_event_handler(Events.ITERATION_COMPLETED, self._keep_rows)
        # after MONAI's own comparison, which the base class registered
        self.add_event_handler(Events.EPOCH_COMPLETED, self._keep_best)

    def _is_better(self, current: float, best: float) -> bool:
        if current != best or self.tie_break is None or self.state.best_tie_break is None:
            better = current > best
        else:
            better = bool(self.state.metrics[self.tie_break] > self.state.best_tie_break)
        if not better or self.figure is None or self.state.first_logits is None:
            return better
        share = share_ahead(
            [label for _, label in self._rows],
            np.stack([logits for logits, _ in self._rows]),
            self.state.first_logits.numpy(),
            figure=self.figure,
            patients=self.patients,
        )
        clear = share >= _LEVEL
        _LOGGER.info(
            "On val this state is ahead of the start in %.1f %% of resamples of the patients%s.",
            100 * share,
            "" if clear else f"; it needs {100 * _LEVEL:.0f} % to be selected (--selection best takes it)",
        )
        return clear

    def _keep_rows(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for one in [output] if isinstance(output, dict) else output:
            logits, labels = torch.as_tensor(one[Keys.PRED]), torch.as_tensor(one[Keys.LABEL])
            for row, label in zip(logits.reshape(-1, logits.shape[-1]).float().cpu(), labels.reshape(-1), strict=True):
                self._rows.append((row.numpy(), int(label)))

    def _keep_best(self, engine: Engine) -> None:
        if self.tie_break is not None and self.state.best_metric_epoch == self.state.epoch:
            self.state.best_tie_break = float(self.state.metrics[self.tie_break])
        if self.figure is not None and self.state.first_logits is None:
            self.state.first_logits = torch.from_numpy(np.stack([logits for logits, _ in self._rows]))


class _TokenBatch:
    """Batch preparation that replaces images by their cached tokens."""

    def __init__(self, tokens: TokenSet) -> None:
        self.tokens = tokens

    def __call__(
        self, batchdata: dict[str, Any], device: str | torch.device = "cpu", non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        _, label = prepare_image_batch(batchdata, device, non_blocking, **kwargs)
        return self.tokens.rows(batchdata["index"], device), label


def share_ahead(
    labels: Sequence[int],
    logits: np.ndarray,
    others: np.ndarray,
    *,
    figure: str = "balanced_accuracy",
    patients: Sequence[str | None] | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> float:
    """Return the share of resamples of the patients in which one network is ahead of another on the same images.

    A network is ahead if it has the higher figure, or with equal figures the lower cross entropy. Resamples without a
    value of the figure, because a class is missing, are ignored.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        others: (N, C), of the other network.
        figure: a name of :data:`~movl_monai.metrics.weighted.METRICS`, higher is better.
        patients: patient of each image, as in :func:`~movl_monai.evaluation.bootstrap_intervals`.
        rounds: number of resamples.
        seed: of the draws.

    Returns:
        Share in [0, 1]; 0 if no resample has a value.

    Example:
        >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 2.0]])
        >>> share_ahead([0, 1, 0, 1], logits, logits / 2), share_ahead([0, 1, 0, 1], logits, logits)
        (1.0, 0.0)
    """
    names: Any = [figure, "cross_entropy"]
    one, two = (WeightedFigures(labels, values, metrics=names) for values in (logits, others))

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        a, b = one(weights), two(weights)
        return {name: a[name] - b[name] for name in names}

    found = PatientBootstrap(len(labels), patients, rounds=rounds, seed=seed).resample(differences)
    gain, loss = found[figure], found["cross_entropy"]
    defined = np.isfinite(gain)
    equal = np.isclose(gain, 0, atol=1e-12)
    ahead = np.where(equal, loss < 0, gain > 0)[defined]
    return float(ahead.mean()) if len(ahead) else 0.0


def _figure(selection: str, key_metrics: Sequence[str]) -> str | None:
    """Return the figure to resample for a clear choice, None for the best one."""
    if selection not in get_args(Selection):
        raise ConfigError(f"selection must be 'clear' or 'best', got {selection!r}.")
    if selection == "best":
        return None
    figure = key_metrics[0].removeprefix("val_") if key_metrics else ""
    if figure not in METRICS:
        raise ConfigError(
            f"selection='clear' resamples one of {', '.join(METRICS)}, the key metric is '{figure}'; "
            "set selection to 'best'."
        )
    return figure
