"""Figures of a classifier as pure functions of numpy arrays.

``labels`` are integers (N,) in [0, C). ``scores`` (N, C) are logits or probabilities, where only their order within a
row matters. Arguments named ``probabilities`` or ``logits`` must be of that kind. The predicted class is the first
largest score of a row. Everything is computed in float64. An undefined figure raises
:class:`~movl_monai.evaluation.UndefinedMetricError`; an undefined figure of a class is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.errors import MovlError

__all__ = [
    "NonFiniteLogitsError",
    "UndefinedMetricError",
    "accuracy",
    "auroc_per_class",
    "average_precision_per_class",
    "balanced_accuracy",
    "brier_score",
    "check_finite",
    "check_labeled",
    "class_mean",
    "confidence_and_hits",
    "confidence_bins",
    "confusion_matrix",
    "cross_entropy",
    "expected_calibration_error",
    "macro_auroc",
    "macro_average_precision",
    "mean_absolute_error",
    "median_grade",
    "most_probable",
    "quadratic_kappa",
    "refuse_probabilities",
    "sensitivity_per_class",
    "softmax",
    "specificity_per_class",
    "within_one",
]


def softmax(logits: ArrayLike) -> np.ndarray:
    """Compute the probabilities of logits (N, C), or (N, C, H, W) of pixels, float64.

    Example:
        >>> softmax([[0.0, 0.0]])
        array([[0.5, 0.5]])
    """
    from scipy.special import softmax as scipy_softmax

    return scipy_softmax(np.asarray(logits, dtype=np.float64), axis=1)


def most_probable(scores: ArrayLike) -> np.ndarray:
    """Return the class with the largest score of each image, the first of equal ones; int64 (N,)."""
    return np.asarray(scores).argmax(axis=1)


def median_grade(probabilities: ArrayLike) -> np.ndarray:
    r"""Return the median of the distribution over ordered classes of each image; int64 (N,).

    It is the smallest grade k with :math:`P(\text{grade} \le k) \ge 0.5`, and minimises the expected absolute error in
    grades. Rounding errors of up to 1e-9 do not move it.

    Args:
        probabilities: (N, C), in the order of the grades; rows add up to 1.

    Example:
        >>> median_grade([[0.4, 0.3, 0.3], [0.5, 0.1, 0.4]])
        array([1, 0])
    """
    below = np.cumsum(np.asarray(probabilities, dtype=np.float64), axis=1)
    below[:, -1] = 1.0
    return (below >= 0.5 - 1e-9).argmax(axis=1)


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of images whose predicted class is their label.

    Example:
        >>> accuracy([0, 1, 1], [[2, 1], [0, 3], [5, 4]])
        0.6666666666666666
    """
    label, score = _some(labels, scores)
    return float(np.mean(score.argmax(axis=1) == label))


def confusion_matrix(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Count images by label (rows) and predicted class (columns); int64 (C, C)."""
    label, score = check_labeled(labels, scores)
    count = score.shape[1]
    pairs = label * count + score.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def sensitivity_per_class(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Recall of each class, TP / (TP + FN); NaN for a class without images. (C,)."""
    matrix = confusion_matrix(labels, scores)
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


def specificity_per_class(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """TN / (TN + FP) of each class against all others; NaN if all images are of that class. (C,)."""
    matrix = confusion_matrix(labels, scores)
    others = matrix.sum() - matrix.sum(axis=1)
    false_positives = matrix.sum(axis=0) - np.diag(matrix)
    return _ratio(others - false_positives, others)


def balanced_accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean sensitivity over all classes.

    Raises:
        UndefinedMetricError: if a class has no images; scikit-learn would silently average over the others.
    """
    return class_mean(sensitivity_per_class(labels, scores), "sensitivity")


def auroc_per_class(labels: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Area under the ROC curve of each class against all others; NaN if one side has no images. (C,).

    With two classes both are the area for the probability of the second one, as in scikit-learn.
    """
    from sklearn.metrics import roc_auc_score

    return _one_vs_rest(roc_auc_score, labels, probabilities, symmetric=True)


def macro_auroc(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean one-vs-rest AUROC over all classes.

    Raises:
        UndefinedMetricError: if a class has no images or all of them.
    """
    return class_mean(auroc_per_class(labels, probabilities), "AUROC")


def average_precision_per_class(labels: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Average precision of each class against all others; NaN if one side has no images. (C,)."""
    from sklearn.metrics import average_precision_score

    return _one_vs_rest(average_precision_score, labels, probabilities, symmetric=False)


def macro_average_precision(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean average precision over all classes, also when there are two.

    Raises:
        UndefinedMetricError: if a class has no images or all of them.
    """
    return class_mean(average_precision_per_class(labels, probabilities), "average precision")


def quadratic_kappa(labels: ArrayLike, scores: ArrayLike) -> float:
    """Cohen's kappa with quadratic weights; meaningful only for ordered classes, such as grades.

    Raises:
        UndefinedMetricError: if all labels and predictions are of one class, which gives 0 / 0.
    """
    from sklearn.metrics import cohen_kappa_score

    label, score = _some(labels, scores)
    predicted = score.argmax(axis=1)
    if len(np.union1d(label, predicted)) < 2:
        raise UndefinedMetricError("Kappa has no value where all labels and predictions are of one class.")
    return float(cohen_kappa_score(label, predicted, labels=np.arange(score.shape[1]), weights="quadratic"))


def mean_absolute_error(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Mean distance of labels and predicted grades (N,), in grades.

    Example:
        >>> mean_absolute_error([0, 1, 2], [0, 2, 0])
        1.0
    """
    return float(np.mean(_distances(labels, predicted)))


def within_one(labels: ArrayLike, predicted: ArrayLike) -> float:
    """Share of images whose predicted grade (N,) is at most one away from the label.

    Example:
        >>> within_one([0, 1, 2, 3], [0, 2, 0, 3])
        0.75
    """
    return float(np.mean(_distances(labels, predicted) <= 1))


def _distances(labels: ArrayLike, predicted: ArrayLike) -> np.ndarray:
    distances = np.abs(np.asarray(predicted, dtype=np.int64) - np.asarray(labels, dtype=np.int64))
    if not len(distances):
        raise UndefinedMetricError("There are no labeled images.")
    return distances


def cross_entropy(labels: ArrayLike, logits: ArrayLike) -> float:
    """Mean negative log likelihood of the labels, in nats, from logits."""
    from scipy.special import log_softmax

    label, score = _some(labels, logits)
    return float(-np.mean(log_softmax(score, axis=1)[np.arange(len(label)), label]))


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    r"""Brier's original score in [0, 2], :math:`\frac{1}{N} \sum_i \sum_c (p_{ic} - y_{ic})^2`.

    With two classes it is twice the score of the second class alone, which scikit-learn gives.
    """
    label, probability = _some(labels, probabilities)
    return float(np.mean(np.sum((probability - np.eye(probability.shape[1])[label]) ** 2, axis=1)))


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, num_bins: int = 15, predicted: np.ndarray | None = None
) -> float:
    r"""Expected calibration error: mean absolute difference of confidence and accuracy, in [0, 1].

    .. math:: \mathrm{ECE} = \sum_{b=1}^{B} \frac{n_b}{N} \left| \mathrm{acc}_b - \mathrm{conf}_b \right|

    over equal-width bins :math:`((b - 1) / B, b / B]` of the confidence, the probability of the predicted class.

    Args:
        labels: integers (N,) in [0, C).
        probabilities: (N, C).
        num_bins: B.
        predicted: predicted classes (N,); None takes the most probable ones.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 3.
    """
    label, probability = _some(labels, probabilities)
    confidence, correct = confidence_and_hits(label, probability, predicted)
    bins = confidence_bins(confidence, num_bins)
    # n_b (acc_b - conf_b) is the sum of the differences in the bin
    return float(np.abs(np.bincount(bins, weights=correct - confidence, minlength=num_bins)).sum() / len(label))


def confidence_and_hits(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each predicted class (N,), and whether it is the label; None: the most probable."""
    chosen = most_probable(probabilities) if predicted is None else predicted
    return probabilities[np.arange(len(chosen)), chosen], chosen == labels


def confidence_bins(confidence: np.ndarray, num_bins: int) -> np.ndarray:
    """Return the index in [0, num_bins) of the equal-width bin (low, high] of each confidence (N,) in [0, 1]."""
    return np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)


def class_mean(values: np.ndarray, name: str, *, counts: np.ndarray | None = None) -> float:
    """Mean over the classes.

    Args:
        values: value of each class (C,), NaN if undefined.
        name: name of the values, for the message.
        counts: number of images of each class (C,) as weights; None for equal weights (macro).

    Raises:
        UndefinedMetricError: if the value of a class is undefined.
    """
    missing = np.flatnonzero(np.isnan(values))
    if len(missing):
        raise UndefinedMetricError(
            f"{name} has no value for {len(missing)} of {len(values)} classes (no images with, or none without them)."
        )
    return float(np.average(values, weights=counts))


def _some(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    label, score = check_labeled(labels, scores)
    if not len(label):
        raise UndefinedMetricError("There are no labeled images.")
    return label, score


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _one_vs_rest(function: object, labels: ArrayLike, probabilities: ArrayLike, *, symmetric: bool) -> np.ndarray:
    label, probability = check_labeled(labels, probabilities)
    count = probability.shape[1]
    result = np.full(count, np.nan)
    for index in range(count):
        column = 1 if symmetric and count == 2 else index
        positive = label == column
        if positive.any() and not positive.all():
            result[index] = function(positive, probability[:, column])  # type: ignore[operator]
    return result


class NonFiniteLogitsError(MovlError):
    """A network gave NaN or infinite logits; no figure is computed from them."""


class UndefinedMetricError(MovlError):
    """A figure is undefined on these images, such as the AUROC of a single class; the message gives the reason."""


def check_finite(logits: np.ndarray) -> None:
    """Refuse logits with NaN or infinite values.

    Raises:
        NonFiniteLogitsError: with the number of affected rows.
    """
    bad = int((~np.isfinite(logits)).any(axis=tuple(range(1, logits.ndim))).sum())
    if bad:
        raise NonFiniteLogitsError(
            f"The logits of {bad} of {len(logits)} images are NaN or infinite; expected finite numbers. "
            "Train with lower learning rates or without AMP, or check the checkpoint and those images."
        )


def check_labeled(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Convert labels and scores to arrays and check them.

    Args:
        labels: integers (N,) in [0, C).
        scores: logits or probabilities (N, C), C >= 2.

    Returns:
        int64 (N,) and float64 (N, C).

    Raises:
        ValueError: if shapes or the range of the labels are invalid.
        NonFiniteLogitsError: if a score is NaN or infinite.
    """
    label, score = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if score.ndim != 2 or score.shape[1] < 2 or label.shape != score.shape[:1]:
        raise ValueError(f"Expected labels (N,) and scores (N, C) with C >= 2, got {label.shape} and {score.shape}.")
    if label.size and not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {label.dtype}.")
    if label.size and (label.min() < 0 or label.max() >= score.shape[1]):
        raise ValueError(
            f"labels must be in [0, {score.shape[1]}), the number of classes, got {label.min()} to {label.max()}; "
            "leave images without a label out."
        )
    check_finite(score)
    return label.astype(np.int64), score


def refuse_probabilities(logits: np.ndarray) -> None:
    """Refuse probabilities in place of logits: a second softmax would flatten them unnoticed.

    Raises:
        MovlError: if every row is in [0, 1] and sums to 1.
    """
    if len(logits) and ((logits >= 0) & (logits <= 1)).all() and np.allclose(logits.sum(axis=1), 1, rtol=0, atol=1e-5):
        raise MovlError(
            "`pred` must be logits, got probabilities (every row is in [0, 1] and sums to 1). "
            "Remove the softmax from the postprocessing of this evaluator."
        )
