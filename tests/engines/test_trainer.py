"""The staged trainer: exactly the stage's parts change, the plain branch is right, resume is exact."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from torch.utils.data import DataLoader, DistributedSampler

from movl_monai.engines import (
    BestCheckpoint,
    FeatureSet,
    LinearProbe,
    MoreCandidates,
    Resume,
    SelectingEvaluator,
    Stage,
    StagedTrainer,
    ValidateStart,
    optimizer_groups,
    prepare_image_batch,
    total_epochs,
)
from movl_monai.errors import CheckpointMismatchError, ConfigError, NonFiniteLossError
from movl_monai.evaluation import BalancedAccuracy, NegativeCrossEntropy
from movl_monai.heads import LinearHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from movl_monai.runs.provenance import bundle_facts
from tests.helpers import IMAGE_SIZE, MemoryDataset, memory_dataset, tiny_backbone

JOINT = (Stage(epochs=2, lr={"prompt": 1e-2, "head": 1e-2}, name="joint"),)


def _network(*, frozen: bool = True) -> AdaptedClassifier:
    backbone = tiny_backbone(frozen=frozen)
    return AdaptedClassifier(
        backbone=backbone,
        prompt=PadPrompt(image_size=IMAGE_SIZE, width=4),
        head=LinearHead(backbone.spec.num_features, 2),
        class_names=["dark", "bright"],
    )


def _trainer(
    network: AdaptedClassifier,
    *,
    stages: Sequence[Stage] = JOINT,
    weight: float = 0.5,
    dataset: MemoryDataset | None = None,
    **options: object,
) -> StagedTrainer:
    dataset = dataset or memory_dataset()
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True, seed=0)
    settings = {"features": FeatureSet(dataset, network.backbone, progress=False), **options}
    settings.setdefault("optimizer", torch.optim.Adam(optimizer_groups(network)))
    return StagedTrainer(
        device="cpu",
        network=network,
        stages=stages,
        loss_function=MoVLLoss(weight=weight, discrepancy="kl"),
        train_data_loader=DataLoader(dataset, batch_size=8, sampler=sampler),
        max_epochs=total_epochs(stages),
        **settings,
    )


def _gradient_descent(network: AdaptedClassifier) -> torch.optim.Optimizer:
    """Plain steps, which carry the rounding of gradients on; Adam's first ones make a whole step of its sign."""
    return torch.optim.SGD(optimizer_groups(network), lr=1.0)


class _Watch:
    """Notes the loss of every step."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def attach(self, engine: StagedTrainer) -> None:
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: self.losses.append(e.state.output["loss"].item())
        )


def _evaluator(network: AdaptedClassifier, *handlers: object, wrong_labels: bool = False) -> SupervisedEvaluator:
    data = memory_dataset(seed=1)
    data.labels = 1 - data.labels if wrong_labels else data.labels
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=8),
        network=network,
        prepare_batch=prepare_image_batch,
        key_val_metric={"negative_cross_entropy": NegativeCrossEntropy()},
        val_handlers=list(handlers),
    )


def _selecting_evaluator(network: AdaptedClassifier) -> SelectingEvaluator:
    return SelectingEvaluator(
        tie_break="negative_cross_entropy",
        device=torch.device("cpu"),
        val_data_loader=DataLoader(memory_dataset(seed=1), batch_size=8),
        network=network,
        prepare_batch=prepare_image_batch,
        key_val_metric={"balanced_accuracy": BalancedAccuracy()},
        additional_metrics={"negative_cross_entropy": NegativeCrossEntropy()},
    )


def _changed(before: dict[str, torch.Tensor], network: AdaptedClassifier) -> set[str]:
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name.split(".")[0] for name, value in after.items() if not torch.equal(before[name], value)}


def _snapshot(network: AdaptedClassifier) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in (*network.named_parameters(), *network.named_buffers())}


@pytest.mark.parametrize(
    ("stages", "parts"),
    [
        (JOINT, {"prompt", "head"}),
        ((Stage(epochs=1, lr={"head": 1e-2}),), {"head"}),
        ((Stage(epochs=0, solve_head=True, name="lp"), Stage(epochs=1, lr={"prompt": 1e-2})), {"prompt", "head"}),
        ((Stage(epochs=0, solve_head=True, name="lp"),), {"head"}),
    ],
)
def test_exactly_the_parts_of_the_strategy_change_and_the_backbone_never(
    stages: Sequence[Stage], parts: set[str]
) -> None:
    network, data = _network(), memory_dataset()
    before, sha = _snapshot(network), network.backbone.content_sha256()
    features = FeatureSet(data, network.backbone, progress=False)
    _trainer(network, stages=stages, head_solver=LinearProbe(features, features, num_classes=2)).run()
    assert _changed(before, network) == parts
    assert network.backbone.content_sha256() == sha


def test_a_stage_that_fixes_the_head_leaves_the_solved_probe_as_it_is() -> None:
    network, data = _network(), memory_dataset()
    features = FeatureSet(data, network.backbone, progress=False)
    probe = LinearProbe(features, features, num_classes=2)
    stages = (Stage(epochs=0, solve_head=True, name="lp"), Stage(epochs=1, lr={"prompt": 1e-1}))
    _trainer(network, stages=stages, head_solver=probe).run()
    assert torch.equal(network.head.weight, probe.solve().weight)
    assert network.prompt.delta().abs().max() > 0


def test_a_head_that_trains_on_keeps_the_l2_penalty_of_its_solution() -> None:
    stages = (Stage(epochs=0, solve_head=True, name="lp"), Stage(epochs=1, lr={"head": 1e-6}, name="on"))
    losses: list[float] = []
    network, data = _network(), memory_dataset()
    features = FeatureSet(data, network.backbone, progress=False)
    probe = LinearProbe(features, features, num_classes=2, l2=0.25)
    trainer = _trainer(network, stages=stages, head_solver=probe, weight=0.0, train_handlers=[_Watch(losses)])
    trainer.run()
    weight = probe.solve().weight
    with torch.no_grad():
        logits = network.head(features.values)
    unpenalized = torch.nn.functional.cross_entropy(logits, data.labels).item()
    assert sum(losses) / len(losses) == pytest.approx(unpenalized + 0.125 * weight.square().sum().item(), rel=1e-3)


def test_training_lowers_the_loss() -> None:
    losses: list[float] = []
    stages = (Stage(epochs=4, lr={"prompt": 1e-2, "head": 5e-2}),)
    _trainer(_network(), stages=stages, train_handlers=[_Watch(losses)]).run()
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize("discrepancy", ["kl", "mse", "l1", "cosine"])
def test_cached_and_recomputed_plain_features_give_the_same_losses(discrepancy: str) -> None:
    losses: dict[bool, list[float]] = {}
    for cached in (True, False):
        network, losses[cached] = _network(), []
        with torch.no_grad():  # away from p+ = p-, where l1 has no gradient and rounding decides its sign
            network.prompt.top.add_(0.3)
            network.head.weight.copy_(torch.linspace(-1, 1, network.head.weight.numel()).view_as(network.head.weight))
        trainer = _trainer(network, cached_plain=cached, train_handlers=[_Watch(losses[cached])])
        trainer.loss_function = MoVLLoss(weight=0.7, discrepancy=discrepancy)
        trainer.optimizer = _gradient_descent(network)
        trainer.run()
    assert losses[True] == pytest.approx(losses[False], abs=1e-5)
    assert len(losses[True]) == 6


def test_accumulating_two_half_batches_equals_one_whole_batch_to_rounding() -> None:
    results = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        network = _network()
        trainer = _trainer(
            network,
            accumulation_steps=accumulation,
            stages=(Stage(epochs=1, lr={"head": 1e-1}, schedule="constant"),),
            optimizer=_gradient_descent(network),
        )
        sampler = DistributedSampler(memory_dataset(), num_replicas=1, rank=0, shuffle=True, seed=0)
        trainer.data_loader = DataLoader(memory_dataset(), batch_size=batch_size, sampler=sampler)
        trainer.state.epoch_length = len(trainer.data_loader)
        trainer.run()
        results.append(network.head.weight.detach().clone())
    assert results[0].abs().max() > 0.01
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-4)


def test_a_compiled_network_trains_to_the_same_state_and_checkpoint_names() -> None:
    plain, compiled = _network(), _network()
    for network, backend in ((plain, None), (compiled, "eager")):
        _trainer(network, compile=backend, optimizer=_gradient_descent(network)).run()
    assert set(plain.state_dict()) == set(compiled.state_dict())
    assert plain.prompt.delta().abs().max() > 0
    for name, value in _snapshot(plain).items():
        torch.testing.assert_close(_snapshot(compiled)[name], value, atol=1e-5, rtol=1e-5)


def test_clipping_bounds_the_step_of_plain_gradient_descent() -> None:
    network = _network()
    trainer = _trainer(network, stages=(Stage(epochs=1, lr={"head": 1.0}, schedule="constant"),), clip_grad_norm=1e-3)
    trainer.optimizer = _gradient_descent(network)
    trainer.run()
    steps = len(trainer.data_loader)
    moved = torch.cat([network.head.weight.flatten(), network.head.bias]).norm().item()
    assert 0 < moved <= steps * 1e-3 * 1.001


def test_two_runs_with_one_seed_end_bit_for_bit_the_same() -> None:
    one, two = _network(), _network()
    _trainer(one).run()
    _trainer(two).run()
    assert all(torch.equal(value, dict(_snapshot(two))[name]) for name, value in _snapshot(one).items())


class _Killed(BaseException):
    pass


class _KillAt:
    """Dies in the middle of an epoch, as a killed process does: nothing after it runs."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def attach(self, engine: StagedTrainer) -> None:
        def kill(trainer: StagedTrainer) -> None:
            raise _Killed

        engine.add_event_handler(Events.ITERATION_COMPLETED(once=self.iteration), kill)


STAGES = (
    Stage(epochs=0, solve_head=True, name="lp"),
    Stage(epochs=2, lr={"prompt": 1e-2}, name="vp"),
    Stage(epochs=2, lr={"prompt": 1e-2, "head": 1e-2}, name="joint"),
)


def _run_with_validation(folder: Path, *, kill_at: int | None = None, resume: bool = True) -> AdaptedClassifier:
    network, data = _network(), memory_dataset()
    features = FeatureSet(data, network.backbone, progress=False)
    evaluator = _evaluator(network, BestCheckpoint(folder / "model.pt", network=network))
    handlers: list[object] = [
        MoreCandidates(evaluator, interpolate=[0.5], average_last=3),
        ValidateStart(evaluator),
        ValidationHandler(interval=1, validator=evaluator),
    ]
    if kill_at is not None:
        handlers.append(_KillAt(kill_at))
    _trainer(
        network,
        stages=STAGES,
        head_solver=LinearProbe(features, features, num_classes=2),
        resume=Resume(folder / "last.pt", evaluator=evaluator, enabled=resume),
        train_handlers=handlers,
    ).run()
    return network


@pytest.mark.parametrize("kill_at", [2, 5, 7, 11])
def test_a_killed_and_resumed_run_ends_as_one_that_was_not(tmp_path: Path, kill_at: int) -> None:
    whole = _run_with_validation(tmp_path / "whole")
    with pytest.raises(_Killed):
        _run_with_validation(tmp_path / "killed", kill_at=kill_at)
    resumed = _run_with_validation(tmp_path / "killed")
    assert all(torch.equal(value, _snapshot(resumed)[name]) for name, value in _snapshot(whole).items())
    assert (tmp_path / "whole/model.pt").read_bytes() == (tmp_path / "killed/model.pt").read_bytes()


def test_a_kept_state_of_another_strategy_is_refused_and_ignored_without_resume(tmp_path: Path) -> None:
    resume = Resume(tmp_path / "last.pt")
    _trainer(_network(), resume=resume).run()
    other = (Stage(epochs=3, lr={"head": 1e-2}),)
    with pytest.raises(CheckpointMismatchError, match=r"other settings: stages joint there, stage now\."):
        _trainer(_network(), stages=other, resume=Resume(tmp_path / "last.pt")).run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["kept_states"]  # as of an earlier version, which kept no start
    torch.save(state, tmp_path / "earlier.pt")
    with pytest.raises(CheckpointMismatchError, match="an earlier version"):
        _trainer(_network(), resume=Resume(tmp_path / "earlier.pt")).run()
    _trainer(_network(), stages=other, resume=Resume(tmp_path / "last.pt", enabled=False)).run()


def test_a_resumed_run_knows_the_best_state_and_what_decided_between_equals(tmp_path: Path) -> None:
    network = _network()
    evaluator = _selecting_evaluator(network)
    _trainer(
        network,
        train_handlers=[ValidationHandler(interval=1, validator=evaluator)],
        resume=Resume(tmp_path / "last.pt", evaluator=evaluator),
    ).run()
    again = _selecting_evaluator(network)
    _trainer(network, resume=Resume(tmp_path / "last.pt", evaluator=again)).begin()
    for name in ("best_metric", "best_metric_epoch", "best_tie_break"):
        assert getattr(again.state, name) == getattr(evaluator.state, name)
    assert again.state.best_tie_break < 0


def test_the_state_before_the_first_step_is_a_candidate_and_recorded(tmp_path: Path) -> None:
    network = _network()
    (tmp_path / "run.json").write_text('{"bundle": "b"}')
    start = copy.deepcopy(network.state_dict())
    evaluator = _evaluator(network, BestCheckpoint(tmp_path / "model.pt", network=network), wrong_labels=True)
    harmful = (
        Stage(epochs=1, lr={"head": 1.0}),
    )  # its training is wrong for this validation set: the start stays best
    handlers = [ValidateStart(evaluator), ValidationHandler(interval=1, validator=evaluator)]
    _trainer(network, stages=harmful, train_handlers=handlers, features=None, cached_plain=False).run()
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert evaluator.state.best_metric_epoch == 0
    assert torch.equal(saved["head.weight"], start["head.weight"])
    facts = bundle_facts(tmp_path / "model.pt")
    assert (facts["bundle"], facts["kept_start"]) == ("b", "untrained")


@pytest.mark.parametrize(
    ("stages", "wrong_labels", "start"),
    [(STAGES[:1], False, None), (STAGES[:2], True, "solved"), ((Stage(epochs=2, lr={"head": 1e-2}),), False, None)],
)
def test_the_record_says_which_start_was_kept(
    tmp_path: Path, stages: tuple[Stage, ...], wrong_labels: bool, start: str | None
) -> None:
    network, data = _network(), memory_dataset()
    (tmp_path / "run.json").write_text('{"bundle": "b", "kept_start": "untrained"}')
    features = FeatureSet(data, network.backbone, progress=False)
    evaluator = _evaluator(network, BestCheckpoint(tmp_path / "model.pt", network=network), wrong_labels=wrong_labels)
    _trainer(
        network,
        stages=stages,
        head_solver=LinearProbe(features, features, num_classes=2),
        train_handlers=[ValidateStart(evaluator), ValidationHandler(interval=1, validator=evaluator)],
    ).run()
    assert bundle_facts(tmp_path / "model.pt")["kept_start"] == start


def test_a_loss_that_is_not_finite_stops_and_names_the_step() -> None:
    network = _network()
    trainer = _trainer(network, weight=0.0)
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))
    with pytest.raises(
        NonFiniteLossError, match=r"became nan in stage 'joint', epoch 1, step 1\. .*Lower the learning rates"
    ):
        trainer.run()


def test_impossible_wirings_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_epochs must be the sum of the stages' epochs, 2, got 3"):
        StagedTrainer(
            device="cpu",
            network=_network(),
            stages=JOINT,
            optimizer=None,  # type: ignore[arg-type]
            loss_function=MoVLLoss(),
            train_data_loader=[],
            max_epochs=3,
        )
    with pytest.raises(ConfigError, match="solve the head, but the trainer got no head_solver"):
        _trainer(_network(), stages=(Stage(epochs=0, solve_head=True),))
    backbone_stage = (Stage(epochs=1, lr={"backbone": 1e-3}),)
    with pytest.raises(ConfigError, match="the backbone, but it is frozen"):
        _trainer(_network(), stages=backbone_stage)
    with pytest.raises(ConfigError, match=r"Set the loss's weight \(lambda\) to 0"):
        _trainer(_network(frozen=False), stages=backbone_stage, weight=1.0)
    with pytest.raises(ConfigError, match=r"trains \['adapter'\], but this network can only train"):
        _trainer(_network(), stages=(Stage(epochs=1, lr={"adapter": 1.0}),)).run()


@pytest.mark.parametrize(
    ("amp", "capable", "used"), [("bf16", False, False), ("fp16", True, False), ("bf16", True, True)]
)
def test_amp_on_a_cpu_needs_bf16_instructions(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, amp: str, capable: bool, used: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    trainer = _trainer(_network(), amp=amp)
    assert (trainer.amp_dtype is torch.bfloat16) == used
    assert any(f"amp='{amp}' is switched off" in str(found.message) for found in recwarn) != used


def test_full_fine_tuning_changes_the_backbone_and_its_buffers() -> None:
    network = _network(frozen=False)
    before = _snapshot(network)
    stages = (Stage(epochs=1, lr={"backbone": 1e-3, "head": 1e-3}),)
    _trainer(network, stages=stages, weight=0.0, features=None).run()
    assert _changed(before, network) == {"backbone", "head"}
