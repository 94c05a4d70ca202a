"""."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai.backbones import prepare_frozen
from movl_monai.engines import StagedTrainer
from movl_monai.errors import NonFiniteLossError
from movl_monai.experiments.compare import PeakMemory, Training, train_arm
from movl_monai.experiments.compare import training as training_module
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from tests.helpers import tiny_backbone

Finished = tuple[Comparison, Outcome]


def _train(comparison: Comparison, folder: Path, **options: Any) -> Training:
    setup = next(setup for setup in comparison.setups if setup.name == options.pop("arm", "joint"))
    settings = {
        "values": setup.defaults,
        "seed": 0,
        "cache_dir": comparison.cache_dir,
        "data_digest": "data",
        **options,
    }
    return train_arm(setup, comparison.training_data, folder=folder, **settings)


def test_a_training_that_is_done_is_read_and_not_done_again(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison, _ = finished
    first = _train(comparison, tmp_path)
    monkeypatch.setattr(training_module, "_train", lambda *_, **__: pytest.fail("it ran again"))
    assert _train(comparison, tmp_path) == first
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["model.pt", "run.json", "splits.csv"]


def test_other_values_or_another_seed_are_another_training(finished: Finished, tmp_path: Path) -> None:
    comparison, _ = finished
    first = _train(comparison, tmp_path)
    other = _train(comparison, tmp_path, seed=1)
    assert other.settings != first.settings
    assert json.loads((tmp_path / "training.json").read_text())["settings"] == other.settings


def test_a_training_killed_between_epochs_ends_as_one_that_was_not(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison, _ = finished
    whole = _train(comparison, tmp_path / "whole")
    begin = StagedTrainer.begin_epoch
    epochs: list[int] = []

    def killed(trainer: StagedTrainer) -> None:
        epochs.append(trainer.state.epoch)
        if epochs == [1, 2]:
            raise KeyboardInterrupt
        begin(trainer)

    monkeypatch.setattr(StagedTrainer, "begin_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        _train(comparison, tmp_path / "killed")
    before = json.loads((tmp_path / "killed/seconds.json").read_text())["seconds"]
    resumed = _train(comparison, tmp_path / "killed")
    assert epochs == [1, 2, 2]
    measured = {"train_seconds", "peak_memory"}
    assert {k: v for k, v in asdict(resumed).items() if k not in measured} == {
        k: v for k, v in asdict(whole).items() if k not in measured
    }
    assert resumed.train_seconds > before
    one, other = (tmp_path / name / "models/model.pt" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


def test_trained_parameters_are_those_of_the_parts_that_change(finished: Finished, tmp_path: Path) -> None:
    comparison, _ = finished
    head = comparison.training_data.images.labels.unique().numel()
    probe = _train(comparison, tmp_path / "probe", arm="linear_probe")
    joint = _train(comparison, tmp_path / "joint")
    size, width = 32, round(0.13 * 32)
    border = 3 * (size**2 - (size - 2 * width) ** 2)
    assert joint.trainable_parameters == probe.trainable_parameters + border
    assert probe.trainable_parameters % head == 0
    backbone = sum(value.numel() for value in prepare_frozen(tiny_backbone()).parameters())
    assert joint.backbone_percent == pytest.approx(100 * joint.trainable_parameters / backbone)
    assert probe.epochs == 0


def test_a_diverged_training_is_a_record_and_no_crash(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(trainer: StagedTrainer) -> None:
        raise NonFiniteLossError("The loss became nan.")

    monkeypatch.setattr(StagedTrainer, "begin_epoch", diverge)
    comparison, _ = finished
    record = _train(comparison, tmp_path)
    assert record.failed == "The loss became nan."
    assert record.score is None
    assert _train(comparison, tmp_path) == record


def test_a_damaged_record_is_trained_again(finished: Finished, tmp_path: Path) -> None:
    comparison, _ = finished
    first = _train(comparison, tmp_path)
    for content in ("{", "[]", json.dumps({"settings": first.settings, "unknown": 1})):
        (tmp_path / "training.json").write_text(content, encoding="utf-8")
        assert _train(comparison, tmp_path).score == first.score


def test_the_peak_holds_what_was_allocated_and_freed_again() -> None:
    with PeakMemory("cpu", interval=0.001) as idle:
        pass
    with PeakMemory("cpu", interval=0.001) as memory:
        block = torch.ones(20_000_000)  # 80 MB
        threading.Event().wait(0.05)
        del block
    assert memory.peak - idle.peak > 60_000_000


def test_the_sampling_ends_with_the_block_also_after_an_error() -> None:
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="inside"), PeakMemory("cpu"):
        raise RuntimeError("inside")
    assert threading.active_count() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine")
def test_on_cuda_it_is_the_memory_of_tensors_there() -> None:
    with PeakMemory("cuda") as memory:
        torch.ones(1_000_000, device="cuda")
    assert memory.kind == "cuda"
    assert memory.peak >= 4_000_000
