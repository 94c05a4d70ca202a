"""Tests of the metrics for validation, in MONAI's evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from ignite.exceptions import NotComputableError
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from sklearn import metrics as sk

from movl_monai.errors import ConfigError, DataError, MovlError
from movl_monai.evaluation import (
    BalancedAccuracy,
    MacroAUROC,
    NegativeCrossEntropy,
    NonFiniteLogitsError,
    QuadraticKappa,
    key_metric,
)
from movl_monai.metrics.classification_metrics import softmax
from tests.evaluation.data import random_logits


class Echo(torch.nn.Module):
    """A network whose logits are its input."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def evaluate(metrics: dict[str, Any], labels: np.ndarray, logits: np.ndarray, **options: Any) -> SupervisedEvaluator:
    data = [
        {"image": torch.tensor(row, dtype=torch.float64), "label": int(label)}
        for row, label in zip(logits, labels, strict=True)
    ]
    key, *others = metrics
    engine = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(data, batch_size=7),
        network=Echo(),
        key_val_metric={key: metrics[key]},
        additional_metrics={name: metrics[name] for name in others},
        **options,
    )
    engine.run()
    return engine


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("num_classes", [2, 3])
def test_metrics_of_an_evaluator_equal_those_of_scikit_learn(num_classes: int, decollate: bool) -> None:
    labels, logits = random_logits(40, num_classes)
    wanted = {"bacc": BalancedAccuracy(), "auroc": MacroAUROC(), "ll": NegativeCrossEntropy()}
    engine = evaluate(wanted, labels, logits, decollate=decollate)
    scores = softmax(logits)
    auroc = sk.roc_auc_score(labels, scores[:, 1] if num_classes == 2 else scores, multi_class="ovr")
    assert engine.state.metrics["bacc"] == pytest.approx(
        sk.balanced_accuracy_score(labels, logits.argmax(axis=1)), abs=1e-6
    )
    assert engine.state.metrics["auroc"] == pytest.approx(auroc, abs=1e-6)
    assert engine.state.metrics["ll"] == pytest.approx(-sk.log_loss(labels, scores), abs=1e-6)
    assert engine.state.best_metric == engine.state.metrics["bacc"]


def test_output_transform_of_monai_gives_the_same() -> None:
    labels, logits = random_logits(20, 2)
    both = {"a": BalancedAccuracy(), "b": BalancedAccuracy(output_transform=from_engine(["pred", "label"]))}
    found = evaluate(both, labels, logits).state.metrics
    assert found["a"] == found["b"]


def test_evaluator_keeps_the_higher_log_likelihood_as_the_best() -> None:
    labels, logits = random_logits(20, 2)
    engine = evaluate({"ll": NegativeCrossEntropy()}, labels, 5 - 10 * np.eye(2)[labels])
    worst = engine.state.best_metric
    engine.data_loader = torch.utils.data.DataLoader(
        [{"image": torch.tensor(row), "label": int(label)} for row, label in zip(logits, labels, strict=True)]
    )
    engine.run()
    assert worst == pytest.approx(-10, abs=1e-3)
    assert engine.state.best_metric > worst


def test_metric_starts_anew_after_reset() -> None:
    metric = BalancedAccuracy()
    metric.update((torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])))
    metric.reset()
    metric.update((torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1])))
    assert metric.compute() == 1.0


def test_missing_class_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    labels, logits = np.array([0, 1]), np.array([[2.0, 1, 0], [2, 1, 0]])
    assert evaluate({"bacc": BalancedAccuracy()}, labels, logits).state.metrics["bacc"] == 0.5
    assert "only 2 of 3 classes have images" in caplog.text


def test_one_class_gives_nan_beside_a_key_metric_that_has_a_value() -> None:
    both = {"bacc": BalancedAccuracy(), "auroc": MacroAUROC()}
    assert np.isnan(evaluate(both, np.array([0, 0]), np.array([[2.0, 1], [0, 1]])).state.metrics["auroc"])


def test_one_class_cannot_select_by_auroc() -> None:
    with pytest.raises(DataError, match="cannot select a checkpoint"):
        evaluate({"auroc": MacroAUROC()}, np.array([0, 0]), np.array([[2.0, 1], [0, 1]]))


@pytest.mark.parametrize("metric", [BalancedAccuracy, MacroAUROC, NegativeCrossEntropy])
def test_logits_that_are_not_finite_stop_the_validation(metric: type) -> None:
    with pytest.raises(NonFiniteLogitsError, match="1 of 2 images"):
        evaluate({"key": metric()}, np.array([0, 1]), np.array([[1.0, 0], [np.nan, 0]]))


def test_probabilities_are_refused() -> None:
    with pytest.raises(MovlError, match="got probabilities"):
        evaluate({"ll": NegativeCrossEntropy()}, np.array([0, 1]), np.array([[0.25, 0.75], [0.5, 0.5]]))


def test_metric_without_images_is_not_computable() -> None:
    with pytest.raises(NotComputableError, match="saw no images"):
        BalancedAccuracy().compute()


def test_quadratic_kappa_equals_that_of_scikit_learn() -> None:
    labels, logits = random_logits(40, 4)
    engine = evaluate(key_metric("ordinal", class_names=["0", "1", "2", "3"]), labels, logits)
    expected = sk.cohen_kappa_score(labels, logits.argmax(axis=1), weights="quadratic")
    assert engine.state.metrics["val_quadratic_kappa"] == pytest.approx(expected, abs=1e-6)
    assert engine.state.best_metric == engine.state.metrics["val_quadratic_kappa"]


def test_quadratic_kappa_of_images_of_one_class_cannot_select() -> None:
    labels, logits = np.zeros(5, dtype=int), np.tile([3.0, 1.0], (5, 1))
    with pytest.raises(DataError, match="qk has no value on the validation images"):
        evaluate({"qk": QuadraticKappa()}, labels, logits)


def test_classes_without_an_order_are_selected_by_balanced_accuracy() -> None:
    assert isinstance(key_metric("nominal", class_names=["cat", "dog"])["val_balanced_accuracy"], BalancedAccuracy)


@pytest.mark.parametrize("names", [["mild", "severe"], ["0", "1.5"], ["1", "0"], ["0", "0"]])
def test_ordinal_classes_that_are_not_growing_integers_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match="the classes must be integers in growing order .*set label_order to"):
        key_metric("ordinal", class_names=names)


def test_an_unknown_order_of_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="label_order must be 'nominal' or 'ordinal', got 'ordered'"):
        key_metric("ordered", class_names=["0", "1"])  # type: ignore[arg-type]
