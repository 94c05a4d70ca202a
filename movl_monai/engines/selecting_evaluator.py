"""Evaluator that selects a state by the key metric and a comparison with the start, and candidates between states."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator, SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys
from numpy.typing import ArrayLike
from torch import nn

from movl_monai.errors import ConfigError
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.selecting import SELECTING, selecting_figure
from movl_monai.networks import unwrap

from .features import prepare_image_batch
from .tokens import TokenSet

__all__ = ["MoreCandidates", "SelectingEvaluator", "Selection", "share_ahead"]

_LOGGER = logging.getLogger(__name__)
Selection = Literal["clear", "best"]
_LEVEL = 0.95
State = dict[str, torch.Tensor]


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
        selection: "clear" as above; "best" compares only the metrics.
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
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []
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
            np.stack([label for _, label in self._rows]),
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
            rows = logits.reshape(-1, logits.shape[-1]).float().cpu().numpy()
            known = labels.reshape(len(rows), *labels.shape[logits.ndim - 1 :]).cpu().numpy()
            self._rows += zip(rows, known, strict=True)

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
    labels: ArrayLike,
    logits: np.ndarray,
    others: np.ndarray,
    *,
    figure: str = "balanced_accuracy",
    patients: Sequence[str | None] | None = None,
    rounds: int = 1000,
    seed: int = 0,
) -> float:
    """Return the share of resamples of the patients in which one network is ahead of another on the same images.

    A network is ahead if it has the higher figure, or with equal figures the lower cross entropy, for a number the
    lower squared error. Resamples without a value of the figure, because a class is missing, are ignored.

    Args:
        labels: integers (N,) in [0, C); of several findings 1, 0 and NaN (N, C), of a number (N,).
        logits: (N, C), before softmax or sigmoid; of a number (N, 1).
        others: (N, C), of the other network.
        figure: a name of :data:`~movl_monai.metrics.selecting.SELECTING`, higher is better.
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
    one, two = (selecting_figure(figure, labels, values) for values in (logits, others))

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: a - b for name, a, b in zip(("gain", "loss"), one(weights), two(weights), strict=True)}

    found = PatientBootstrap(len(logits), patients, rounds=rounds, seed=seed).resample(differences)
    gain, loss = found["gain"], found["loss"]
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
    if figure not in SELECTING:
        raise ConfigError(
            f"selection='clear' resamples one of {', '.join(SELECTING)}, the key metric is '{figure}'; "
            "set selection to 'best'."
        )
    return figure


class MoreCandidates:
    r"""Validate further states after the last epoch; the evaluator's checkpoint keeps a better one.

    .. math:: \theta_\alpha = (1 - \alpha)\, \theta_{\text{start}} + \alpha\, \theta_{\text{end}}

    The start is the state before the first step; if the head is solved there, it is the exact probe with an identity
    prompt or adapter. The end is the mean over the last epochs, or the last epoch alone; that mean is also a candidate.
    All trained tensors are mixed.

    Attach it before :class:`~movl_monai.engines.ValidateStart`, which reports the selected state at the end of
    training.

    Args:
        validator: the validation engine.
        interpolate: the factors :math:`\alpha`, each in (0, 1); empty for no such candidates.
        average_last: number of last epochs in the mean; 0 or 1 uses the last epoch alone.
        solve_head: add the end with its head solved again as a candidate, by the trainer's head solver, on the features
            of the trained prompt or adapter; it takes one more pass over the training and validation images.

    Raises:
        ConfigError: for factors out of range, or a negative number of epochs.

    Reference:
        Wortsman et al. (WiSE-FT), arXiv 2109.01903, equation 1, here for the tensors that were trained; Izmailov et al.
        (SWA), arXiv 1803.05407, here with the schedule of the stage instead of a constant rate.
    """

    def __init__(
        self,
        validator: Evaluator,
        *,
        interpolate: Sequence[float] = (),
        average_last: int = 0,
        solve_head: bool = False,
    ) -> None:
        self.validator = validator
        self.interpolate = [float(factor) for factor in interpolate]
        self.average_last = int(average_last)
        self.solve_head = solve_head
        if any(not 0 < factor < 1 for factor in self.interpolate):
            raise ConfigError(
                f"interpolate must be numbers between 0 (the start) and 1 (the end), got {list(interpolate)}; both "
                "ends are candidates anyway."
            )
        if self.average_last < 0:
            raise ConfigError(f"average_last must be a number of epochs, at least 0, got {average_last}.")

    def attach(self, engine: Engine) -> None:
        """Keep the start, sum up the last epochs, and validate the candidates at the end of training."""
        engine.add_event_handler(Events.STARTED, self._keep_start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._validate)

    def _keep_start(self, trainer: Any) -> None:
        if self.interpolate and trainer.state.epoch == 0:
            trainer.kept_states["start"] = _copied(trainer.network)

    def _add(self, trainer: Any) -> None:
        number = trainer.state.epoch - max(0, trainer.state.max_epochs - self.average_last)
        if self.average_last < 2 or number < 1:
            return
        mean = trainer.kept_states.setdefault("mean", {})
        for name, value in _tensors(trainer.network).items():
            old = mean.get(name)
            mean[name] = value.clone() if old is None else torch.lerp(old.to(value), value, 1 / number)

    def _validate(self, trainer: Any) -> None:
        if not trainer.state.max_epochs or not trainer.state.epoch:
            return
        last = _copied(trainer.network)
        start, mean = trainer.kept_states.get("start"), trainer.kept_states.get("mean")
        end, name = (last, "the last epoch") if mean is None else (mean, f"the mean of {self.average_last} epochs")
        candidates: list[tuple[str, State]] = [] if mean is None else [(name, mean)]
        if start is not None:
            candidates += [
                (f"{factor:g} of the way from the start to {name}", _mixed(start, end, factor))
                for factor in self.interpolate
            ]
        if self.solve_head:
            if trainer.head_solver is None:
                raise ConfigError("A head can be solved again by a trainer with a head_solver, this one has none.")
            _load(trainer.network, end)
            trainer.head_solver.apply(unwrap(trainer.network))
            candidates.append((f"{name} with its head solved again", _copied(trainer.network)))
        for number, (what, state) in enumerate(candidates, start=trainer.state.epoch + 1):
            _LOGGER.info("Validating %s (shown as epoch %d of the validation).", what, number)
            _load(trainer.network, state)
            self.validator.run(global_epoch=number)
            if self.validator.state.best_metric_epoch == number:
                _LOGGER.info("The best on val so far is %s.", what)
        _load(trainer.network, last)


def _tensors(network: nn.Module) -> State:
    """Return the trained floating-point tensors of the checkpoint; they share the network's memory."""
    return {name: value for name, value in unwrap(network).state_dict().items() if value.is_floating_point()}


def _copied(network: nn.Module) -> State:
    return {name: value.clone() for name, value in _tensors(network).items()}


def _mixed(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], factor: float) -> State:
    return {name: torch.lerp(value, end[name].to(value), factor) for name, value in start.items()}


@torch.no_grad()
def _load(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    for name, value in _tensors(network).items():
        value.copy_(state[name])
