"""Selection: by the key metric, among equals by the tie-break, then the earliest; also over a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from ignite.metrics import Metric
from torch import nn

from movl_monai.engines import BestCheckpoint, SelectingEvaluator, prepare_image_batch
from movl_monai.engines.selecting_evaluator import share_ahead
from movl_monai.errors import ConfigError
from movl_monai.evaluation import NegativeCrossEntropy, key_metric


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


class _Fixed(nn.Module):
    """Gives the logits of a state, whatever the images."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.zeros(1, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits


def _state(wrong: int, *, sure: float = 3.0, count: int = 60) -> torch.Tensor:
    """Logits for labels 0, 1, 0, 1, ..., of which the first `wrong` are mistaken."""
    right = torch.where(torch.arange(count) < wrong, -sure, sure) * (1 - 2 * (torch.arange(count) % 2))
    return torch.stack([right, -right], dim=1) / 2


@pytest.mark.parametrize(
    ("states", "selected"),
    [
        ([_state(8), _state(7)], {"best": 2, "clear": 1}),  # one image more may be chance
        ([_state(8), _state(3)], {"best": 2, "clear": 2}),
        ([_state(8), _state(7), _state(3), _state(2)], {"best": 4, "clear": 4}),
        ([_state(8), _state(3), _state(5)], {"best": 2, "clear": 2}),
        ([_state(8), _state(9)], {"best": 1, "clear": 1}),
        ([_state(8), _state(8, sure=1.0)], {"best": 2, "clear": 1}),  # less wrong where wrong, less right where right
        ([_state(8), _state(8) * (1 - 0.7 * (torch.arange(60) < 8))[:, None]], {"best": 2, "clear": 2}),
        ([_state(8), _state(8)], {"best": 1, "clear": 1}),
    ],
)
@pytest.mark.parametrize("selection", ["best", "clear"])
def test_the_start_is_replaced_where_a_paired_bootstrap_says_so(
    states: list[torch.Tensor], selected: dict[str, int], selection: Literal["best", "clear"]
) -> None:
    network, labels = _Fixed(), torch.arange(60) % 2
    evaluator = SelectingEvaluator(
        selection=selection,
        tie_break="val_negative_cross_entropy",
        device=torch.device("cpu"),
        val_data_loader=[{"image": torch.zeros(60, 3, 2, 2), "label": labels}],
        network=network,
        prepare_batch=prepare_image_batch,
        key_val_metric=key_metric("nominal", class_names=["a", "b"]),
        additional_metrics={"val_negative_cross_entropy": NegativeCrossEntropy()},
    )
    for epoch, logits in enumerate(states, start=1):
        network.logits = logits
        evaluator.run(global_epoch=epoch)
    assert evaluator.state.best_metric_epoch == selected[selection]


def test_a_gain_in_one_patient_alone_is_not_clear() -> None:
    """All five images that got better are of one patient, and a third of the resamples miss this patient."""
    labels, start, trained = [n % 2 for n in range(60)], _state(8).numpy(), _state(3).numpy()
    one = ["p" if n in range(3, 8) else str(n) for n in range(60)]
    assert share_ahead(labels, trained, start) > 0.95
    assert 0.5 < share_ahead(labels, trained, start, patients=one) < 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selection": "sure"}, "selection must be 'clear' or 'best', got 'sure'"),
        ({"selection": "clear", "key_val_metric": {"val_dice": _Given([1.0])}}, "set selection to 'best'"),
    ],
)
def test_a_selection_that_cannot_be_made_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectingEvaluator(**options)
