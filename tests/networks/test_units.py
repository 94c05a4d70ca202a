"""Networks for units: batches, chunks, single images, checkpoints, and training on cached instances."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from movl_monai.data import Units
from movl_monai.engines import InstanceSet, LinearProbe, Stage, StagedTrainer, cached_features, optimizer_groups
from movl_monai.errors import CheckpointMismatchError, ConfigError
from movl_monai.heads import LinearHead, make_pooling
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier, UnitClassifier
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone

NAMES = ["mean", "max", "noisy_or", "attention"]
STUDY = Units(unit="study")


def _network(name: str, *, start: bool = False, units: Units = STUDY) -> UnitClassifier:
    backbone = tiny_backbone()
    features = backbone.spec.num_features
    head = LinearHead(features, 2, init="zeros" if start else "uniform")
    pooling = make_pooling(name, num_features=features, num_classes=2, width=8)
    network = UnitClassifier(backbone=backbone, pooling=pooling, head=head, units=units, class_names=["no", "yes"])
    if not start and name == "attention":
        pooling.score.data.normal_()  # type: ignore[union-attr, operator]
    return network.eval()


@dataclass
class _Bags(torch.utils.data.Dataset):
    """Units of 1 to 3 images whose brightness tells the class."""

    images: torch.Tensor
    labels: torch.Tensor
    ranges: list[range]

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[:0, 0, 0, 0], "label": int(self.labels[index]), "index": index}


def _bags(count: int = 12) -> _Bags:
    ends = torch.tensor([1 + number % 3 for number in range(count)]).cumsum(0).tolist()
    ranges = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    labels = torch.arange(count) % 2
    data = memory_dataset(ends[-1])
    bright = torch.cat([labels[unit].repeat(len(rows)) for unit, rows in enumerate(ranges)])
    order = torch.cat([torch.nonzero(data.labels == one)[number % 5] for number, one in enumerate(bright)])
    return _Bags(data.images[order], labels, ranges)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_of_one_image_equals_the_image(name: str) -> None:
    network, image = _network(name), torch.rand(5, 3, IMAGE_SIZE, IMAGE_SIZE)
    plain = AdaptedClassifier(backbone=network.backbone, head=network.head).eval()
    with torch.no_grad():
        logits, features = network.outputs(image[:, None])
        expected, own = plain.outputs(image)
    torch.testing.assert_close(logits.softmax(dim=1), expected.softmax(dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(features, own, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_does_not_depend_on_its_batch_or_on_chunks(name: str) -> None:
    network, image = _network(name), torch.rand(3, 7, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        together = network(image)
        assert all(torch.equal(network(image[number : number + 1])[0], together[number]) for number in range(3))
        turned = network(image[:, torch.randperm(7)])
        network.chunk = 3
        torch.testing.assert_close(network(image), together, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned, together, atol=1e-5, rtol=1e-5)
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(image), together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_cached_instances_give_the_networks_results(name: str) -> None:
    network, data = _network(name), _bags()
    cached = cached_features(data, network.backbone, progress=False)
    assert isinstance(cached, InstanceSet)
    with torch.no_grad():
        found = cached.behind(network)(cached.rows(torch.tensor([2, 0, 4])))
        pooled = cached.pooled(network)
        for row, unit in enumerate((2, 0, 4)):
            rows = data.ranges[unit]
            logits, features = network.outputs(data.images[None, rows.start : rows.stop].float() / 255)
            torch.testing.assert_close(found[row], logits[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(pooled[unit], features[0], atol=1e-5, rtol=1e-5)


def test_instances_per_step_draws_that_many_of_each() -> None:
    network, data = _network("mean"), _bags(6)
    cached = InstanceSet(data, network.backbone, instances_per_step=2, progress=False)
    rows = cached.rows(torch.arange(6))
    assert rows[:, :, -1].sum(dim=1).tolist() == [1, 2, 2, 1, 2, 2]
    drawn = {tuple(cached.rows(torch.tensor([2]))[0, :, 0].tolist()) for _ in range(20)}
    assert 1 < len(drawn) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_training_starts_at_the_exact_probe_of_the_pooled_features(name: str) -> None:
    network, data = _network(name, start=True), _bags(30)
    cached = InstanceSet(data, network.backbone, progress=False)
    trains = name in ("noisy_or", "attention")
    stages = [Stage(epochs=0, solve_head=True)]
    stages += [Stage(epochs=1, lr={"pooling": 1e-3, "head": 1e-3})] if trains else []
    solver = LinearProbe(cached, cached, num_classes=2)
    trainer = StagedTrainer(
        device="cpu",
        network=network,
        stages=stages,
        max_epochs=int(trains),
        optimizer=torch.optim.Adam(optimizer_groups(network)),
        loss_function=MoVLLoss(weight=0),
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=8),
        features=cached,
        tokens=cached,
        head_solver=solver,
    )
    trainer.begin()
    solution = solver.solve(network)
    torch.testing.assert_close(network.head.weight, solution.weight)
    with torch.no_grad():
        right = cached.behind(network)(cached.rows(torch.arange(30))).argmax(dim=1) == data.labels
    assert right.float().mean() > 0.9
    if not trains:
        return
    before = {key: value.clone() for key, value in network.state_dict().items()}
    trainer.run()
    changed = {key.split(".")[0] for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    assert changed == {"pooling", "head"}


def test_a_checkpoint_holds_the_unit_and_fits_no_other() -> None:
    network, stream = _network("attention"), io.BytesIO()
    torch.save(network.state_dict(), stream)
    state = torch.load(io.BytesIO(stream.getvalue()), weights_only=True)
    assert not any(key.startswith("backbone") for key in state)
    again = _network("attention", start=True)
    again.load_state_dict(state)
    image = torch.rand(1, 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        assert torch.equal(again(image), network(image))
    with pytest.raises(CheckpointMismatchError, match="trained on units"):
        _network("attention", units=Units(unit="patient")).load_state_dict(state)
    with pytest.raises(CheckpointMismatchError, match="has the parts"):
        _network("mean").load_state_dict(state)
    plain = AdaptedClassifier(backbone=network.backbone, head=LinearHead(network.backbone.spec.num_features, 2))
    with pytest.raises(CheckpointMismatchError, match="has the parts"):
        plain.load_state_dict(state)


def test_parts_that_train_before_the_pooling_are_refused() -> None:
    network = _network("mean")
    parts: dict[str, Any] = {
        "backbone": network.backbone,
        "pooling": network.pooling,
        "head": network.head,
        "units": STUDY,
    }
    with pytest.raises(ConfigError, match="got a prompt"):
        UnitClassifier(**parts, prompt=PadPrompt(image_size=IMAGE_SIZE, width=4))
    with pytest.raises(ConfigError, match="a backbone that trains"):
        UnitClassifier(**{**parts, "backbone": tiny_backbone(frozen=False)})
    with pytest.raises(ConfigError, match="instances_per_step is for"):
        cached_features(memory_dataset(4), network.backbone, instances_per_step=2)
