"""Metrics that select a checkpoint of a segmenter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from ignite.exceptions import NotComputableError

from movl_monai.errors import MovlError
from movl_monai.evaluation import MeanCaseDice, NegativePixelCrossEntropy, NonFiniteLogitsError, mask_figures


def _logits(classes: torch.Tensor, num_classes: int = 3) -> torch.Tensor:
    return 4.0 * F.one_hot(classes, num_classes).permute(0, 3, 1, 2).float()


def _masks(count: int, *, seed: int) -> torch.Tensor:
    return torch.randint(0, 3, (count, 6, 5), generator=torch.Generator().manual_seed(seed))


def _run(metric: Any, batches: list[tuple[Any, Any]]) -> float:
    """Return the metric of an engine over batches and their outputs."""
    outputs = iter(batches)

    def step(engine: Engine, _: Any) -> Any:
        engine.state.batch, output = next(outputs)
        return output

    engine = Engine(step)
    metric.attach(engine, "figure")
    engine.run([0] * len(batches), max_epochs=1)
    return engine.state.metrics["figure"]


@pytest.mark.parametrize("decollated", [False, True])
def test_dice_counts_the_slices_of_a_case_together(decollated: bool) -> None:
    truth, predicted = _masks(5, seed=0), _masks(5, seed=1)
    cases = ["v", "v", "w", "w", "w"]
    batches = []
    for rows in (slice(0, 3), slice(3, 5)):
        output: Any = {"pred": _logits(predicted[rows]), "label": truth[rows]}
        batch: Any = {"case": cases[rows]}
        if decollated:
            output = [{key: value[k] for key, value in output.items()} for k in range(len(truth[rows]))]
            batch = [{"case": name} for name in batch["case"]]
        batches.append((batch, output))
    expected = np.mean(
        [
            mask_figures(truth[rows].numpy(), predicted[rows].numpy(), num_classes=3)["dice"].mean()
            for rows in (slice(0, 2), slice(2, 5))
        ]
    )
    assert _run(MeanCaseDice(), batches) == pytest.approx(expected, abs=1e-6)


def test_without_cases_every_image_is_a_case_of_its_own() -> None:
    truth, predicted = _masks(5, seed=0), _masks(5, seed=1)
    parts = (slice(0, 3), slice(3, 5))
    batches = [({}, {"pred": _logits(predicted[rows]), "label": truth[rows]}) for rows in parts]
    named = [({"case": list("abcde")[rows]}, output) for rows, (_, output) in zip(parts, batches, strict=True)]
    assert _run(MeanCaseDice(), batches) == _run(MeanCaseDice(), named)


def test_a_class_in_neither_mask_is_right() -> None:
    truth = torch.zeros(1, 6, 5, dtype=torch.int64)
    assert _run(MeanCaseDice(), [({"case": ["a"]}, {"pred": _logits(truth), "label": truth})]) == 1.0


def test_cross_entropy_is_that_of_torch_over_all_pixels() -> None:
    truth = _masks(5, seed=0)
    logits = torch.randn(5, 3, 6, 5, generator=torch.Generator().manual_seed(2))
    batches = [({}, {"pred": logits[rows], "label": truth[rows]}) for rows in (slice(0, 3), slice(3, 5))]
    expected = -float(F.cross_entropy(logits, truth))
    assert _run(NegativePixelCrossEntropy(), batches) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", [MeanCaseDice, NegativePixelCrossEntropy])
def test_nan_no_masks_and_no_images_are_errors(metric: type) -> None:
    truth = _masks(2, seed=0)
    with pytest.raises(NonFiniteLogitsError):
        _run(metric(), [({}, {"pred": _logits(truth) * torch.nan, "label": truth})])
    with pytest.raises(MovlError, match="has no 'label'"):
        _run(metric(), [({}, {"pred": _logits(truth)})])
    with pytest.raises(NotComputableError):
        metric().compute()
