"""Figures of every task, with their words for readers; those of classes and grades with their functions.

A new figure of a classification needs its row in :data:`DECLARED`, its name in :data:`FigureName` (and :data:`Metric`
if it has intervals) and in :class:`MetricFigures`. The report, its page, its tables and the comparisons of runs and
methods read them from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Protocol, TypedDict

import numpy as np

from movl_monai.metrics import classification_metrics as metrics
from movl_monai.metrics.rules import Rule, Share

__all__ = [
    "CLASS_FIGURES",
    "DECLARED",
    "Decide",
    "GRADE_FIGURES",
    "MASK_FIGURES",
    "MOVED",
    "Declared",
    "Figure",
    "FINDING_FIGURES",
    "FigureName",
    "LabeledScores",
    "Metric",
    "MetricFigures",
    "TaskFigures",
    "WeightedSums",
    "ratio",
]

MOVED = "_moved"
"""End of the name of a figure at thresholds that were moved on the validation images."""

Decide = Callable[[np.ndarray], np.ndarray]
"""Predicted classes, int64 (N,), of logits (N, C)."""

Metric = Literal[
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "auroc_weighted",
    "average_precision",
    "average_precision_weighted",
    "quadratic_kappa",
    "cross_entropy",
    "brier",
]
FigureName = Literal[
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "auroc_weighted",
    "average_precision",
    "average_precision_weighted",
    "quadratic_kappa",
    "cross_entropy",
    "brier",
    "ece",
]


class MetricFigures(TypedDict, total=False):
    """Figures by metric; a figure without a value is None."""

    accuracy: Share | None
    balanced_accuracy: Share | None
    auroc: Share | None
    auroc_weighted: Share | None
    average_precision: Share | None
    average_precision_weighted: Share | None
    quadratic_kappa: Annotated[float | None, Rule(least=-1, most=1)]
    cross_entropy: Annotated[float | None, Rule(least=0)]
    brier: Annotated[float | None, Rule(least=0, most=2)]
    ece: Share | None
    within_one: Share | None
    mean_absolute_error: Annotated[float | None, Rule(least=0)]


@dataclass(frozen=True, kw_only=True)
class LabeledScores:
    """Labelled images, and the figures of every class that several figures share.

    Args:
        labels: integers (N,) in [0, C).
        logits: (N, C), before softmax.
        probabilities: (N, C).
        predicted: predicted classes (N,).
        chosen: (N, C), 1 for the predicted class and 0 for the others.
        sensitivity: of each class against all others, (C,), NaN if undefined.
        specificity: as ``sensitivity``.
        auroc: as ``sensitivity``.
        average_precision: as ``sensitivity``.
        counts: images of each class, (C,).
    """

    labels: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    chosen: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    auroc: np.ndarray
    average_precision: np.ndarray
    counts: np.ndarray


class WeightedSums(Protocol):
    """Sums over R weightings of the same images, from which the resampled figures come."""

    @property
    def weights(self) -> np.ndarray:
        """Weight of each image, (N, R)."""

    @property
    def matrix(self) -> np.ndarray:
        """Label by predicted class, (C, C, R)."""

    @property
    def total(self) -> np.ndarray:
        """Sum of the weights, (R,)."""

    @property
    def losses(self) -> np.ndarray:
        """Cross entropy of each image, (N,)."""

    @property
    def squares(self) -> np.ndarray:
        """Brier score of each image, (N,)."""

    @property
    def areas(self) -> np.ndarray:
        """Area under the ROC curve of each class, (C, R)."""

    @property
    def precisions(self) -> np.ndarray:
        """Average precision of each class, (C, R)."""

    @property
    def sensitivities(self) -> np.ndarray:
        """Sensitivity of each class, (C, R)."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure as readers see it.

    Args:
        title: name in a table of figures.
        better: "↑" if larger is better, else "↓".
        definition: explanation for readers.
        column: heading in a table of methods; "" takes the title in lower case.
        words: name in a sentence; "" takes the heading.
        percent: True for a share of images, which sentences give in percent.
        chance: maps the number of classes to the figure of a guess; None if that is unknown.
        several: True for a figure of three and more classes; of two it repeats another.
    """

    title: str
    better: Literal["↑", "↓"]
    definition: str
    column: str = ""
    words: str = ""
    percent: bool = False
    chance: Callable[[int], float] | None = None
    several: bool = False

    @property
    def heading(self) -> str:
        """Heading in a table of methods."""
        return self.column or self.title.lower()

    @property
    def phrase(self) -> str:
        """Name in a sentence."""
        return self.words or self.heading


@dataclass(frozen=True, kw_only=True)
class Declared(Figure):
    """A figure of a classification.

    Args:
        title: see :class:`Figure`.
        better: see :class:`Figure`.
        definition: see :class:`Figure`.
        column: see :class:`Figure`.
        words: see :class:`Figure`.
        percent: see :class:`Figure`.
        chance: see :class:`Figure`.
        several: see :class:`Figure`.
        function: computes the figure, or raises :class:`~movl_monai.evaluation.UndefinedMetricError`.
        weighted: computes it for R weightings, (R,), NaN if undefined; None if it has no intervals.
    """

    function: Callable[[LabeledScores], float]
    weighted: Callable[[WeightedSums], np.ndarray] | None


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """The figures of a task, and those that each output shows.

    Args:
        declared: all figures by name, in the order of report.json.
        leading: figures of patient groups and of sentences about differences, the main figure first.
        table: figures of the table that an evaluation logs, and of the model card.
        compared: figures of a comparison of methods, in the order of its table.
        pictured: figures of charts.
        decide: predicted class of each image, for tasks that give one of several classes.
        outside: main figure of a comparison on other domains; "" takes the main figure.

    Example:
        >>> CLASS_FIGURES.main, CLASS_FIGURES.main_of("scanner_b"), CLASS_FIGURES.heading("accuracy_moved")
        ('balanced_accuracy', 'auroc', 'accuracy, moved threshold')
    """

    declared: Mapping[str, Figure]
    leading: tuple[str, ...]
    table: tuple[str, ...]
    compared: tuple[str, ...]
    pictured: tuple[str, ...]
    outside: str = ""
    decide: Decide = metrics.most_probable

    @property
    def main(self) -> str:
        """The figure that conclusions and pictures are about."""
        return self.leading[0]

    @property
    def listed(self) -> tuple[str, ...]:
        """The leading figures in the order of report.json."""
        return tuple(name for name in self.declared if name in self.leading)

    def main_of(self, domain: str) -> str:
        """Return the main figure of a comparison of methods on a domain, "id" or another."""
        return self.main if domain == "id" else self.outside or self.main

    def heading(self, name: str) -> str:
        """Return the heading of a figure of :attr:`compared` in a table of methods."""
        plain = name.removesuffix(MOVED)
        return self.declared[plain].heading + (", moved threshold" if plain != name else "")

    def titles(self, classes: int) -> dict[str, tuple[str, str, str]]:
        """Return title, better direction and definition of every figure that says something of so many classes."""
        return {
            name: (figure.title, figure.better, figure.definition)
            for name, figure in self.declared.items()
            if classes > 2 or not figure.several
        }


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def _weighted_kappa(sums: WeightedSums) -> np.ndarray:
    grades = np.arange(len(sums.matrix))
    penalty = (grades[:, None] - grades) ** 2
    observed = np.einsum("ij,ijr->r", penalty, sums.matrix)
    expected = np.einsum("ij,ir,jr->r", penalty, sums.matrix.sum(axis=1), sums.matrix.sum(axis=0))
    return 1 - ratio(observed * sums.total, expected)


# in the order of report.json
DECLARED: dict[FigureName, Declared] = {
    "accuracy": Declared(
        title="Accuracy",
        better="↑",
        definition="share of images whose most probable class is their label",
        words="share of right images",
        percent=True,
        function=lambda images: metrics.accuracy(images.labels, images.chosen),
        weighted=lambda sums: ratio(np.trace(sums.matrix), sums.total),
    ),
    "balanced_accuracy": Declared(
        title="Balanced accuracy",
        better="↑",
        definition="mean sensitivity of all classes",
        percent=True,
        chance=lambda classes: 1 / classes,
        function=lambda images: metrics.class_mean(images.sensitivity, "sensitivity"),
        weighted=lambda sums: sums.sensitivities.mean(axis=0),
    ),
    "auroc": Declared(
        title="AUROC",
        better="↑",
        definition="area under the ROC curve, each class against the rest, mean over the classes",
        column="macro AUROC",
        words="AUROC",
        chance=lambda classes: 0.5,
        function=lambda images: metrics.class_mean(images.auroc, "AUROC"),
        weighted=lambda sums: sums.areas.mean(axis=0),
    ),
    "auroc_weighted": Declared(
        title="AUROC, weighted",
        better="↑",
        definition="as AUROC, but classes count by their number of images",
        several=True,
        function=lambda images: metrics.class_mean(images.auroc, "AUROC", counts=images.counts),
        weighted=lambda sums: ratio((sums.areas * sums.matrix.sum(axis=1)).sum(axis=0), sums.total),
    ),
    "average_precision": Declared(
        title="Average precision",
        better="↑",
        definition="each class against the rest, mean over the classes",
        function=lambda images: metrics.class_mean(images.average_precision, "average precision"),
        weighted=lambda sums: sums.precisions.mean(axis=0),
    ),
    "average_precision_weighted": Declared(
        title="Average precision, weighted",
        better="↑",
        definition="classes count by their number of images",
        several=True,
        function=lambda images: metrics.class_mean(images.average_precision, "average precision", counts=images.counts),
        weighted=lambda sums: ratio((sums.precisions * sums.matrix.sum(axis=1)).sum(axis=0), sums.total),
    ),
    "quadratic_kappa": Declared(
        title="Quadratic kappa",
        better="↑",
        definition="agreement beyond chance; only means something for ordered classes",
        several=True,
        function=lambda images: metrics.quadratic_kappa(images.labels, images.chosen),
        weighted=_weighted_kappa,
    ),
    "cross_entropy": Declared(
        title="Cross entropy",
        better="↓",
        definition="mean negative log likelihood of the label, in nats",
        function=lambda images: metrics.cross_entropy(images.labels, images.logits),
        weighted=lambda sums: ratio(sums.losses @ sums.weights, sums.total),
    ),
    "brier": Declared(
        title="Brier score",
        better="↓",
        definition="squared distance of probabilities and label, summed over classes, 0 to 2",
        function=lambda images: metrics.brier_score(images.labels, images.probabilities),
        weighted=lambda sums: ratio(sums.squares @ sums.weights, sums.total),
    ),
    # no intervals: it is never negative, so resampling biases it upwards and its percentiles miss it
    "ece": Declared(
        title="Calibration error",
        better="↓",
        definition="expected calibration error (ECE) over 15 bins of equal width",
        function=lambda images: metrics.expected_calibration_error(
            images.labels, images.probabilities, predicted=images.predicted
        ),
        weighted=None,
    ),
}

CLASS_FIGURES = TaskFigures(
    declared=DECLARED,  # type: ignore[arg-type]  # its keys are the names of these figures alone
    leading=("balanced_accuracy", "accuracy", "auroc"),
    table=("accuracy", "balanced_accuracy", "auroc"),
    # a threshold that does not fit another scanner is no fault of the ranking
    compared=("auroc", "balanced_accuracy", f"balanced_accuracy{MOVED}", "accuracy", f"accuracy{MOVED}"),
    pictured=("balanced_accuracy", "auroc"),
    outside="auroc",
)
"""Figures of a classification."""

GRADE_FIGURES = replace(
    CLASS_FIGURES,
    leading=("quadratic_kappa", *CLASS_FIGURES.leading),
    compared=("quadratic_kappa", *CLASS_FIGURES.compared),
    outside="",
)
"""Figures of a classification whose classes are grades, led by the one that selects its checkpoint."""


def _weighted_distance(sums: WeightedSums, cost: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the mean of a function of the distance of label and predicted grade."""
    grades = np.arange(len(sums.matrix))
    return ratio(np.einsum("ij,ijr->r", cost(np.abs(grades[:, None] - grades)), sums.matrix), sums.total)


_GRADES: dict[str, Declared] = {
    "quadratic_kappa": replace(
        DECLARED["quadratic_kappa"],
        definition="agreement of label and predicted grade beyond chance; an error counts by the square of its grades",
        several=False,
        chance=lambda classes: 0.0,
    ),
    "within_one": Declared(
        title="Within one grade",
        better="↑",
        definition="share of images whose predicted grade is at most one away from the label",
        percent=True,
        function=lambda images: metrics.within_one(images.labels, images.predicted),
        weighted=lambda sums: _weighted_distance(sums, lambda distance: (distance <= 1).astype(np.float64)),
    ),
    "mean_absolute_error": Declared(
        title="Mean absolute error",
        better="↓",
        definition="mean distance of label and predicted grade, in grades",
        column="mean absolute error (smaller is better)",
        words="mean absolute error",
        function=lambda images: metrics.mean_absolute_error(images.labels, images.predicted),
        weighted=lambda sums: _weighted_distance(sums, lambda distance: distance.astype(np.float64)),
    ),
    **{str(name): figure for name, figure in DECLARED.items() if name != "quadratic_kappa"},
    "accuracy": replace(DECLARED["accuracy"], definition="share of images whose predicted grade is their label"),
}

ORDINAL_FIGURES = TaskFigures(
    declared=_GRADES,
    leading=("quadratic_kappa", "within_one", "accuracy"),
    table=("quadratic_kappa", "within_one", "mean_absolute_error"),
    compared=("quadratic_kappa", "within_one", "mean_absolute_error", "accuracy", "balanced_accuracy", "auroc"),
    pictured=("quadratic_kappa", "within_one"),
    decide=lambda logits: metrics.median_grade(metrics.softmax(logits)),
)
"""Figures of grades; the predicted grade is the median of the distribution."""

_MASKS = {
    "dice": Figure(
        title="Dice",
        better="↑",
        definition="twice the common area over the sum of both areas, 0 to 1",
        column="Dice",
        words="mean Dice",
    ),
    "iou": Figure(title="IoU", better="↑", definition="common area over the united area, 0 to 1", column="IoU"),
    "sensitivity": Figure(title="Sensitivity", better="↑", definition="share of the true area that was found"),
    "precision": Figure(title="Precision", better="↑", definition="share of the predicted area that is true"),
    "hd95": Figure(
        title="HD95",
        better="↓",
        definition="95th percentile of the distances between the two outlines, the larger of both directions",
        column="HD95 (smaller is better)",
        words="HD95",
    ),
    "asd": Figure(
        title="Average surface distance",
        better="↓",
        definition="mean distance from either outline to the other",
    ),
}
MASK_FIGURES = TaskFigures(
    declared=_MASKS,
    leading=("dice", "iou", "hd95"),
    table=tuple(_MASKS),
    compared=("dice", "iou", "hd95"),
    pictured=("dice",),
)
"""Figures of a segmentation."""

_AT_THRESHOLDS = "at the thresholds chosen on val"
_FINDINGS = {
    "auroc": Figure(
        title="AUROC",
        better="↑",
        definition="area under the ROC curve of each finding, mean over the findings with a value",
        column="macro AUROC",
        words="AUROC",
        chance=lambda classes: 0.5,
    ),
    "average_precision": Figure(
        title="Average precision",
        better="↑",
        definition="of each finding, mean over the findings with a value",
        column="macro average precision",
        words="average precision",
    ),
    "sensitivity": Figure(
        title="Sensitivity",
        better="↑",
        definition=f"share of images with a finding that are called positive {_AT_THRESHOLDS}, mean over the findings",
        percent=True,
    ),
    "specificity": Figure(
        title="Specificity",
        better="↑",
        definition=f"share of images without a finding that are called negative {_AT_THRESHOLDS}, mean over the "
        "findings",
        percent=True,
    ),
    "micro_auroc": Figure(
        title="AUROC, micro",
        better="↑",
        definition="area under the ROC curve of all known pairs of image and finding",
        column="micro AUROC",
    ),
    "micro_average_precision": Figure(
        title="Average precision, micro",
        better="↑",
        definition="of all known pairs of image and finding",
        column="micro average precision",
    ),
    "micro_sensitivity": Figure(
        title="Sensitivity, micro",
        better="↑",
        definition=f"share of all positive labels that are called positive {_AT_THRESHOLDS}",
        percent=True,
    ),
    "micro_specificity": Figure(
        title="Specificity, micro",
        better="↑",
        definition=f"share of all negative labels that are called negative {_AT_THRESHOLDS}",
        percent=True,
    ),
    "micro_f1": Figure(
        title="F1, micro",
        better="↑",
        definition=f"harmonic mean of sensitivity and positive predictive value over all known pairs, {_AT_THRESHOLDS}",
    ),
    "exact_match": Figure(
        title="Exact match",
        better="↑",
        definition="share of images with all labels known of which every call is right",
        percent=True,
    ),
    "cross_entropy": Figure(
        title="Cross entropy",
        better="↓",
        definition="mean negative log likelihood of the known labels, in nats",
    ),
}
FINDING_FIGURES = TaskFigures(
    declared=_FINDINGS,
    leading=("auroc", "average_precision", "sensitivity", "specificity"),
    table=("auroc", "average_precision", "sensitivity", "specificity", "micro_f1"),
    compared=("auroc", "average_precision", "micro_auroc", "sensitivity", "specificity"),
    pictured=("auroc", "average_precision"),
)
"""Figures of several findings per image."""

_NUMBERS = {
    "mae": Figure(
        title="Mean absolute error",
        better="↓",
        definition="mean distance of prediction and number, in its unit",
        column="MAE (smaller is better)",
        words="mean absolute error",
    ),
    "rmse": Figure(
        title="Root mean squared error",
        better="↓",
        definition="root of the mean squared error, in the unit of the number",
        column="RMSE (smaller is better)",
        words="root mean squared error",
    ),
    "r2": Figure(
        title="R²",
        better="↑",
        definition="share of the variance of the numbers that the predictions explain; below 0 worse than their mean",
        column="R²",
        words="R²",
    ),
    "pearson": Figure(
        title="Correlation",
        better="↑",
        definition="Pearson's correlation of predictions and numbers",
    ),
    "bias": Figure(
        title="Bias",
        better="↓",
        definition="mean of prediction minus number, in its unit; 0 is best",
    ),
    "agreement_low": Figure(
        title="Limit of agreement, lower",
        better="↑",
        definition="bias minus 1.96 standard deviations of the errors (Bland and Altman)",
    ),
    "agreement_high": Figure(
        title="Limit of agreement, upper",
        better="↓",
        definition="bias plus 1.96 standard deviations of the errors (Bland and Altman)",
    ),
}
NUMBER_FIGURES = TaskFigures(
    declared=_NUMBERS,
    leading=("mae", "r2"),
    table=("mae", "rmse", "r2", "pearson", "bias"),
    compared=("mae", "rmse", "r2"),
    pictured=("mae", "r2"),
)
"""Figures of a regression."""
