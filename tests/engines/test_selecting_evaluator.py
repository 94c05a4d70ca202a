"""Selection: by the key metric, among equals by the tie-break, then the earliest; also over a resumed run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.metrics import Metric
from torch import nn

from movl_monai.engines import BestCheckpoint, SelectingEvaluator, prepare_image_batch
from movl_monai.errors import ConfigError


class _Given(Metric):
    """A metric whose value after each epoch is given."""

    def __init__(self, values: list[float]) -> None:
        super().__init__(output_transform=lambda output: output)
        self.values = iter(values)

    def reset(self) -> None: ...

    def update(self, output: object) -> None: ...

    def compute(self) -> float:
        return next(self.values)


def _run(scores: list[float], ties: list[float], *, tie_break: str | None = "tie", path: Path | None = None) -> int:
    network = _Counter()
    evaluator = SelectingEvaluator(
        tie_break=tie_break,
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.zeros(1, 3, 2, 2), "label": torch.zeros(1)}],
        network=network,
        prepare_batch=prepare_image_batch,
        key_val_metric={"score": _Given(scores)},
        additional_metrics={"tie": _Given(ties)},
        val_handlers=[] if path is None else [BestCheckpoint(path, network=network)],
    )
    for epoch in range(1, len(scores) + 1):
        network.epoch.fill_(epoch)
        evaluator.run(global_epoch=epoch)
    return evaluator.state.best_metric_epoch


class _Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("epoch", torch.zeros(()))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3))


@pytest.mark.parametrize(
    ("scores", "ties", "best"),
    [
        ([0.5, 0.7, 0.7, 0.6], [-1, -2, -1, 0], 3),  # the score first, then the tie-break
        ([0.7, 0.7, 0.7], [-1, -1, -1], 1),  # then the earliest
        ([0.7, 0.7, 0.8, 0.7], [-3, -2, -9, -1], 3),  # a better score wins with a worse tie-break
        ([0.0, 0.0], [-2, -1], 2),
        ([-5.0, -4.0, -4.0], [-1, -2, -1], 3),  # below MONAI's initial best metric of -1
    ],
)
def test_the_best_epoch_is_selected(scores: list[float], ties: list[float], best: int) -> None:
    assert _run(scores, ties) == best


def test_without_a_tie_break_the_earliest_of_equals_is_kept() -> None:
    assert _run([0.7, 0.7], [-2, -1], tie_break=None) == 1


def test_the_checkpoint_is_of_the_selected_epoch(tmp_path: Path) -> None:
    _run([0.5, 0.7, 0.7, 0.7], [-1, -2, -1, -3], path=tmp_path / "model.pt")
    assert torch.load(tmp_path / "model.pt", weights_only=True)["epoch"] == 3


def test_a_metric_that_is_not_there_and_a_second_comparison_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"tie_break must be one of the additional_metrics \(tie\).*'nll'"):
        _run([0.5], [0.5], tie_break="nll")
    with pytest.raises(ConfigError, match="leave metric_cmp_fn out"):
        SelectingEvaluator(metric_cmp_fn=lambda current, best: True)
