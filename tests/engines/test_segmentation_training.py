"""The staged trainer on masks: exactly the stage's parts change, masks are learned, resume is exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.handlers import ValidationHandler
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from movl_monai.adapters import DVPT
from movl_monai.backbones import Backbone, map_channels
from movl_monai.engines import (
    BestCheckpoint,
    Resume,
    SelectingEvaluator,
    Stage,
    StagedTrainer,
    ValidateStart,
    optimizer_groups,
    prepare_image_batch,
    total_epochs,
)
from movl_monai.evaluation import MeanCaseDice, NegativePixelCrossEntropy
from movl_monai.heads import SegmentationHead
from movl_monai.losses import SegmentationLoss
from movl_monai.networks import AdaptedSegmenter, load_checkpoint
from tests.helpers import IMAGE_SIZE, tiny_backbone, tiny_swin

HEAD = (Stage(epochs=3, lr={"head": 1e-2}, name="decoder"),)


@dataclass
class Squares(Dataset):
    """Bright squares on noise, with their masks."""

    images: torch.Tensor
    masks: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"image": self.images[index], "mask": self.masks[index], "index": index, "case": str(index)}


def _squares(count: int = 16, *, seed: int = 0) -> Squares:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    for mask, (top, left) in zip(masks, torch.randint(0, 16, (count, 2), generator=generator).tolist(), strict=True):
        mask[top : top + 16, left : left + 16] = 1
    noise = torch.randint(0, 60, (count, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
    return Squares((noise + 180 * masks[:, None]).to(torch.uint8), masks)


def _network(
    make: Callable[..., Backbone] = tiny_backbone, *, adapter: bool = False, **options: object
) -> AdaptedSegmenter:
    backbone = make(**options)
    return AdaptedSegmenter(
        backbone=backbone,
        adapter=DVPT(backbone, num_prompts=2, bottleneck=4) if adapter else None,
        head=SegmentationHead(map_channels(backbone), 2, width=16),
        class_names=["background", "square"],
    )


def _trainer(network: AdaptedSegmenter, *, stages: Sequence[Stage] = HEAD, **options: object) -> StagedTrainer:
    data = _squares()
    return StagedTrainer(
        device="cpu",
        network=network,
        stages=stages,
        optimizer=torch.optim.AdamW(optimizer_groups(network)),
        loss_function=SegmentationLoss(),
        train_data_loader=DataLoader(
            data, batch_size=4, sampler=DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
        ),
        max_epochs=total_epochs(stages),
        **options,  # type: ignore[arg-type]
    )


def _evaluator(network: AdaptedSegmenter, *handlers: object) -> SelectingEvaluator:
    return SelectingEvaluator(
        tie_break="negative_cross_entropy",
        device=torch.device("cpu"),
        val_data_loader=DataLoader(_squares(8, seed=1), batch_size=4),
        network=network,
        prepare_batch=prepare_image_batch,
        key_val_metric={"dice": MeanCaseDice()},
        additional_metrics={"negative_cross_entropy": NegativePixelCrossEntropy()},
        val_handlers=list(handlers),
    )


def _snapshot(network: AdaptedSegmenter) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in (*network.named_parameters(), *network.named_buffers())}


@pytest.mark.parametrize(
    ("adapter", "frozen", "stages", "parts"),
    [
        (False, True, HEAD, {"head"}),
        (True, True, (Stage(epochs=1, lr={"adapter": 1e-2, "head": 1e-2}),), {"adapter", "head"}),
        (True, True, (Stage(epochs=1, lr={"head": 1e-2}), Stage(epochs=1, lr={"adapter": 1e-2})), {"adapter", "head"}),
        (False, False, (Stage(epochs=1, lr={"backbone": 1e-3, "head": 1e-2}),), {"backbone", "head"}),
    ],
)
def test_a_stage_changes_exactly_its_parts(
    adapter: bool, frozen: bool, stages: Sequence[Stage], parts: set[str]
) -> None:
    network = _network(tiny_swin if adapter else tiny_backbone, adapter=adapter, frozen=frozen)
    before = _snapshot(network)
    _trainer(network, stages=stages).run()
    changed = {name.split(".")[0] for name, value in _snapshot(network).items() if not torch.equal(before[name], value)}
    assert changed - {"adapted"} == parts


def test_masks_are_learned_and_the_best_state_is_kept(tmp_path: Path) -> None:
    network = _network()
    evaluator = _evaluator(network, BestCheckpoint(tmp_path / "model.pt", network=network))
    seen: list[float] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: seen.append(engine.state.metrics["dice"]))
    handlers = [ValidateStart(evaluator), ValidationHandler(1, evaluator)]
    _trainer(network, stages=(Stage(epochs=6, lr={"head": 1e-2}),), train_handlers=handlers).run()
    assert len(seen) == 7
    assert seen[-1] > 0.7 > seen[0]
    fresh = _network()
    fresh.load_state_dict(load_checkpoint(tmp_path / "model.pt"))
    evaluator = _evaluator(fresh)
    evaluator.run()
    assert evaluator.state.metrics["dice"] == pytest.approx(max(seen), abs=1e-6)
    assert (tmp_path / "model.pt").stat().st_size < 40_000


def test_a_resumed_run_ends_as_one_that_was_left_alone(tmp_path: Path) -> None:
    whole = _network()
    _trainer(whole).run()
    halved = _network()
    trainer = _trainer(halved, resume=Resume(tmp_path / "last.pt"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda engine: engine.terminate())
    trainer.run()
    resumed = _network()
    _trainer(resumed, resume=Resume(tmp_path / "last.pt")).run()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_two_runs_with_one_seed_are_the_same_and_decollation_changes_nothing() -> None:
    states = []
    for decollate in (False, True):
        network = _network()
        _trainer(network, decollate=decollate).run()
        states.append(network.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
