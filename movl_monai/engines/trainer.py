"""One MONAI trainer for all strategies, which passes through the stages."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.transforms import Transform
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.optim import Optimizer

from movl_monai.errors import ConfigError, NonFiniteLossError
from movl_monai.networks import unwrap

from .features import FeatureSet, prepare_image_batch
from .instances import InstanceSet
from .linear_probe import HeadSolver, standardization
from .resume import Resume
from .stage import Stage, set_trainable_parts, stage_starts, total_epochs
from .target_probes import target_standardization
from .tokens import TokenSet

__all__ = ["StagedTrainer"]

_LOGGER = logging.getLogger(__name__)


class StagedTrainer(SupervisedTrainer):
    r"""Train a network through the stages of a strategy.

    At the start of a stage exactly its parts get gradients, and the optimiser's state is cleared. On demand the head is
    solved exactly; further training of the head keeps the L2 penalty of that solution.

    Every step computes :math:`L = \mathrm{CE}(p^+, y) + \lambda D(p^+, p^-)`. :math:`p^-` needs no gradient and the
    backbone is frozen. With deterministic preprocessing the plain features therefore come from ``features`` and only
    the head is applied again; otherwise they are computed from the same (augmented) images.

    Args:
        device: of the network.
        network: an :class:`~movl_monai.networks.AdaptedClassifier`, possibly inside DistributedDataParallel.
        stages: the strategy.
        optimizer: over :func:`~movl_monai.engines.optimizer_groups` of the network; the stages set its learning rates.
        loss_function: called as ``loss(logits, label, plain_logits)``; its attribute ``needs_plain`` is True if it
            reads the plain logits.
        train_data_loader: batches with ``image``, ``label`` and ``index``.
        max_epochs: must be the sum of the stages' epochs; MONAI's bundle properties require it in the config.
        features: plain features of the training set. They centre and scale the head's input; without them it is
            unchanged.
        cached_plain: whether row ``index`` of ``features`` is the plain feature of that image; False with random
            augmentation.
        tokens: cached tokens of the training set before the first adapted block, or the maps at a decoder's input
            (:class:`~movl_monai.engines.MapSet`), at which a step then starts. Values are rounded to float16 in the
            cache. Not possible with random augmentation or several processes.
        head_solver: sets the head in stages that request it, e.g. :class:`~movl_monai.engines.LinearProbe`.
        resume: keeps the state after every epoch; None keeps none.
        seed: every epoch starts from ``seed + epoch``, so that a resumed run draws the same numbers.
        clip_grad_norm: largest norm of the gradient of all trained parameters; None for no clipping.
        amp: "bf16", "fp16" or None. It needs a CUDA device, or for "bf16" a processor with bfloat16 instructions;
            elsewhere it is switched off with a warning. Evaluations are in float32.
        accumulation_steps: batches per optimiser step.
        compile: backend of ``torch.compile`` for the training step ("inductor"), or None for no compilation.
        inferer, train_handlers, postprocessing, key_train_metric, additional_metrics, decollate: as in MONAI.

    Raises:
        ConfigError: if ``max_epochs`` is not the sum of the stages, a stage trains a part that the network lacks or
            solves its head without ``head_solver``, the loss needs plain logits of a trained backbone, or cached tokens
            do not fit the settings.
        NonFiniteLossError: in ``run``, at the first loss that is NaN or infinite.

    Reference:
        MoVL, arXiv 2405.07411, figures 1 and 3.
    """

    def __init__(
        self,
        *,
        device: str | torch.device,
        network: nn.Module,
        stages: Sequence[Stage],
        optimizer: Optimizer,
        loss_function: Callable[..., torch.Tensor],
        train_data_loader: Any,
        max_epochs: int,
        features: FeatureSet | None = None,
        cached_plain: bool = True,
        tokens: TokenSet | None = None,
        head_solver: HeadSolver | None = None,
        resume: Resume | None = None,
        seed: int = 0,
        clip_grad_norm: float | None = None,
        amp: Literal["bf16", "fp16"] | None = None,
        accumulation_steps: int = 1,
        compile: str | None = None,
        inferer: Inferer | None = None,
        train_handlers: Sequence[Any] | None = None,
        postprocessing: Transform | None = None,
        key_train_metric: dict[str, Any] | None = None,
        additional_metrics: dict[str, Any] | None = None,
        decollate: bool = False,
    ) -> None:
        self.stages = list(stages)
        self.starts = stage_starts(self.stages)
        if max_epochs != total_epochs(self.stages):
            raise ConfigError(
                f"max_epochs must be the sum of the stages' epochs, {total_epochs(self.stages)}, got {max_epochs}."
            )
        _check_sampler(train_data_loader)
        _check_parts(network, self.stages, loss_function, head_solver)
        if tokens is not None:
            _check_tokens(network, cached_plain=cached_plain)
            tokens = tokens if tokens.fits() else None
        if tokens is not None:
            network = tokens.behind(network)
        self.tokens = tokens
        self.features = features
        self.cached_plain = cached_plain and features is not None
        self.head_solver = head_solver
        self.resume = resume
        self.seed = seed
        self.clip_grad_norm = clip_grad_norm
        # penalty of the solved head, kept in its further training; (K,) of K findings
        self.head_l2: float | torch.Tensor = 0.0
        self.kept_states: dict[str, dict[str, torch.Tensor]] = {}  # states of handlers, kept over a resume
        self._entered = -1
        self._plain: torch.Tensor | None = None
        handlers = [_StageHandler(), *(train_handlers or []), *([] if resume is None else [resume])]
        device = torch.device(device)
        self.amp_dtype = _amp_dtype(amp, device)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=_compiled(network, compile),
            optimizer=optimizer,
            loss_function=loss_function,
            prepare_batch=prepare_image_batch,
            inferer=inferer,
            postprocessing=postprocessing,
            key_train_metric=key_train_metric,
            additional_metrics=additional_metrics,
            train_handlers=handlers,
            decollate=decollate,
            accumulation_steps=accumulation_steps,
            optim_set_to_none=True,
        )
        self.scaler: Any = torch.amp.GradScaler("cuda") if self.amp_dtype is torch.float16 else None

    def run(self) -> None:  # type: ignore[override]
        """Train; a strategy without epochs (the exact linear probe) only starts, is validated and ends."""
        if self.state.max_epochs == 0:
            self.fire_event(Events.STARTED)
            self.fire_event(Events.COMPLETED)
            return
        super().run()

    def begin(self) -> None:
        """Load the kept state, if there is one, and enter the stage of the next epoch."""
        if self.resume is not None:
            self.resume.load(self)
        if self.features is not None and self.state.epoch == 0:
            self._standardize_head(self.features)
        self._enter_stage(self.state.epoch)

    def begin_epoch(self) -> None:
        """Seed the epoch and enter its stage."""
        epoch = self.state.epoch - 1  # ignite counts from 1
        self._enter_stage(epoch)
        if (
            self.stages[self._entered].refit_head
            and self.head_solver is not None
            and epoch > self.starts[self._entered]
        ):
            self.head_solver.apply(unwrap(self.network))
        torch.manual_seed(self.seed + epoch)
        loader: Any = self.data_loader
        for name in ("sampler", "dataset"):
            set_epoch = getattr(getattr(loader, name, None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
        self.network.train()

    def _standardize_head(self, features: FeatureSet) -> None:
        head = unwrap(self.network).head
        if hasattr(head, "set_standardization"):
            head.set_standardization(*standardization(features.values))  # type: ignore[operator]
        if getattr(head, "num_classes", 0) == 1:
            head.set_target(*target_standardization(features.labels))  # type: ignore[operator, union-attr]

    def _enter_stage(self, epoch: int) -> None:
        """Enter every stage that begins at or before ``epoch`` (from 0); stages resumed midway keep their state."""
        for index in range(self._entered + 1, len(self.stages)):
            if self.starts[index] > epoch:
                break
            stage = self.stages[index]
            set_trainable_parts(self.network, self.optimizer, {part for part, rate in stage.lr.items() if rate > 0})
            if self.starts[index] == epoch:
                self._begin_stage(stage)
            self._entered = index

    def _begin_stage(self, stage: Stage) -> None:
        _LOGGER.info("Stage '%s': %d epochs, learning rates %s.", stage.name, stage.epochs, dict(stage.lr))
        self.optimizer.state.clear()
        if stage.solve_head and self.head_solver is not None:
            self.head_l2 = self.head_solver.apply(unwrap(self.network))
            if isinstance(self.features, InstanceSet):  # a pooling may have a start, too
                self.features.warm_start(unwrap(self.network))

    def _set_learning_rates(self) -> None:
        stage, start = self.stages[self._entered], self.starts[self._entered]
        steps_per_epoch = int(self.state.epoch_length)
        factor = stage.lr_factor(self.state.iteration - 1 - start * steps_per_epoch, steps_per_epoch=steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = stage.lr.get(group["name"], 0.0) * factor * group.get("lr_scale", 1.0)

    def _plain_logits(self, image: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor | None:
        if not getattr(self.loss_function, "needs_plain", False):
            return None
        network = unwrap(self.network)
        with torch.no_grad():
            if self.cached_plain:
                if self._plain is None:
                    self._plain = self.features.values.to(self.state.device)  # type: ignore[union-attr]
                features = self._plain[torch.as_tensor(batch["index"]).to(self.state.device)]
            else:
                features = network.plain_features(image)  # type: ignore[operator]
            return network.head(features)  # type: ignore[operator]

    def _head_penalty(self) -> torch.Tensor | float:
        """Return the L2 penalty of the solved head, while the stage trains the head."""
        per_output = isinstance(self.head_l2, torch.Tensor)
        if not (per_output or self.head_l2) or self.stages[self._entered].lr.get("head", 0.0) <= 0:
            return 0.0
        weight: torch.Tensor = unwrap(self.network).head.weight  # type: ignore[union-attr, assignment]
        if isinstance(self.head_l2, torch.Tensor):
            return 0.5 * (self.head_l2.to(weight) * weight.square().sum(dim=1)).sum()
        return 0.5 * self.head_l2 * weight.square().sum()

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Any]) -> dict[str, torch.Tensor]:
        self._set_learning_rates()
        image, label = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.state.output = {Keys.IMAGE: image, Keys.LABEL: label}
        first, last = self._accumulation()
        if first:
            self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            logits = self.inferer(self._inputs(image, batchdata), self.network).float()
            self.state.output[Keys.PRED] = logits
            self.fire_event(IterationEvents.FORWARD_COMPLETED)
            loss = self.loss_function(logits, label, self._plain_logits(image, batchdata)) + self._head_penalty()
        self._check_finite(loss)
        self.state.output[Keys.LOSS] = loss
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        self._step(loss / self.accumulation_steps, last=last)
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def _inputs(self, image: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
        """Return the network's input: the images, or their cached tokens."""
        return image if self.tokens is None else self.tokens.rows(batch["index"], self.state.device)

    def _accumulation(self) -> tuple[bool, bool]:
        """Return True for the first, and True for the last batch of an optimiser step.

        The remaining batches of an epoch are a separate step.
        """
        steps_per_epoch = int(self.state.epoch_length)
        position = (self.state.iteration - 1) % steps_per_epoch
        last = (position + 1) % self.accumulation_steps == 0 or position + 1 == steps_per_epoch
        return position % self.accumulation_steps == 0, last

    def _step(self, loss: torch.Tensor, *, last: bool) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if not last:
            return
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _check_finite(self, loss: torch.Tensor) -> None:
        if not torch.isfinite(loss):
            stage = self.stages[self._entered].name
            raise NonFiniteLossError(
                f"The loss became {loss.item()} in stage '{stage}', epoch {self.state.epoch}, step "
                f"{self.state.iteration}. Expected a finite number. Lower the learning rates, clip gradients "
                "(clip_grad_norm), switch AMP off, or check the images of that step; training stopped and the best "
                "checkpoint so far was kept."
            )


class _StageHandler:
    """Call the trainer at its start and at the start of every epoch, before all other handlers."""

    def attach(self, engine: Engine) -> None:
        """Register both callbacks."""
        engine.add_event_handler(Events.STARTED, lambda trainer: trainer.begin())
        engine.add_event_handler(Events.EPOCH_STARTED, lambda trainer: trainer.begin_epoch())


def _compiled(network: nn.Module, backend: str | None) -> nn.Module:
    compiled: Any = network if backend is None else torch.compile(network, backend=backend)
    return compiled


def _amp_dtype(amp: str | None, device: torch.device) -> torch.dtype | None:
    dtypes = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if amp not in dtypes:
        raise ConfigError(f"amp must be 'bf16', 'fp16' or null, got {amp!r}.")
    if amp is not None and device.type != "cuda" and not (amp == "bf16" and _computes_bf16(device)):
        warnings.warn(
            f"amp={amp!r} is switched off on this '{device.type}' device. It needs a CUDA device, or for 'bf16' a "
            "processor with bfloat16 instructions; on others it can be many times slower than float32.",
            stacklevel=3,
        )
        return None
    return dtypes[amp]


def _computes_bf16(device: torch.device) -> bool:
    """Return True if the processor multiplies bfloat16 matrices in hardware (AVX-512 BF16 or AMX)."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _check_sampler(loader: Any) -> None:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    world = torch.distributed.get_world_size()
    if world > 1 and getattr(getattr(loader, "sampler", None), "num_replicas", None) != world:
        raise ConfigError(
            f"{world} processes train together, but the training loader has no DistributedSampler for {world} "
            "replicas: every process would see all images. Add the overlay multi_gpu_train.json."
        )


def _check_tokens(network: nn.Module, *, cached_plain: bool) -> None:
    if unwrap(network) is not network:
        raise ConfigError("Cached tokens work in one process; leave the token cache or multi_gpu_train.json out.")
    if not cached_plain:
        raise ConfigError(
            "With random augmentation (cached_plain=False) every image has other tokens in every epoch; leave the "
            "token cache or the augmentation out."
        )


def _check_parts(
    network: nn.Module, stages: Sequence[Stage], loss_function: Callable[..., torch.Tensor], solver: HeadSolver | None
) -> None:
    if solver is None and (named := [stage.name for stage in stages if stage.solve_head or stage.refit_head]):
        raise ConfigError(f"The stages {named} solve the head, but the trainer got no head_solver; give it one.")
    trains_backbone = any(stage.lr.get("backbone", 0) > 0 for stage in stages)
    if trains_backbone and getattr(unwrap(network).backbone, "frozen", False):
        raise ConfigError("A stage trains the backbone, but it is frozen; set the backbone's `frozen` to false.")
    if trains_backbone and getattr(loss_function, "needs_plain", False):
        raise ConfigError(
            "The discrepancy loss compares with the plain images' logits of a frozen backbone, but a stage trains the "
            "backbone. Set the loss's weight (lambda) to 0 for this strategy."
        )
    if getattr(unwrap(network), "reads_tokens", None) and getattr(loss_function, "needs_plain", False):
        raise ConfigError(
            "The discrepancy loss compares with logits of plain features, and this head reads tokens too. Set "
            "discrepancy_weight to 0, or take a LinearHead."
        )
