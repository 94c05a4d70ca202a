"""Types of the entries of a report that :mod:`movl_monai.metrics` computes; ``report_schema.json`` holds their ranges.

They are dictionaries, because report.json holds them as they are. An interval is [low, high], or None with the reason
in the ``notes`` of its entry.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from movl_monai.metrics.declared import MetricFigures

Interval = list[float]  # [low, high]
Intervals = dict[str, Interval | None]  # by name of the figure


class Place(TypedDict):
    """Images that a parameter comes from."""

    split: str
    n: int


class ThresholdPlace(Place):
    """Images that the threshold of an out-of-distribution score comes from."""

    target_id_kept: float


class Resampling(TypedDict):
    """Settings of a patient-clustered bootstrap."""

    resampled: str
    num_resampled: int
    rounds: int
    level: float
    seed: int


class ResamplingFacts(Resampling):
    """Settings of a bootstrap, and its notes for readers."""

    notes: list[str]


def settings_of(facts: ResamplingFacts) -> Resampling:
    """Return the settings of a bootstrap without its notes."""
    return {
        "resampled": facts["resampled"],
        "num_resampled": facts["num_resampled"],
        "rounds": facts["rounds"],
        "level": facts["level"],
        "seed": facts["seed"],
    }


class DrawnIntervals(ResamplingFacts):
    """Intervals of figures, with the facts of their bootstrap."""

    intervals: Intervals


class ClassIntervals(TypedDict):
    """Intervals of the figures of one class against all others."""

    sensitivity: Interval | None
    specificity: Interval | None
    auroc: Interval | None
    average_precision: Interval | None


class DrawnClassIntervals(ResamplingFacts):
    """Intervals of the figures of every class, with the facts of their bootstrap."""

    per_class: dict[str, ClassIntervals]


class ClassFigures(TypedDict):
    """Figures of one class against all others."""

    n: int
    sensitivity: float | None
    specificity: float | None
    auroc: float | None
    average_precision: float | None


class SectionFigures(MetricFigures):
    """Figures of one set of labelled images."""

    n: int
    per_class: dict[str, ClassFigures]
    confusion_matrix: list[list[int]]


class ClassificationFigures(SectionFigures):
    """Figures of one set of labelled images, with the reasons of missing ones."""

    notes: list[str]


class ReliabilityBin(TypedDict):
    """Mean confidence and accuracy of the images in one bin (low, high] of the confidence."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class CalibrationFigures(TypedDict):
    """Figures of probabilities, before or after scaling."""

    cross_entropy: float
    brier: float
    ece: float


class Change(TypedDict):
    """Figure after scaling minus figure before."""

    difference: float
    interval: Interval | None


class CalibrationChanges(TypedDict):
    """Changes of the figures that are means over images."""

    cross_entropy: Change
    brier: Change


class Reliability(TypedDict):
    """Bins before and after scaling."""

    before: list[ReliabilityBin]
    after: list[ReliabilityBin] | None


class CalibrationSection(TypedDict):
    """Calibration of one section; ``after`` and ``change`` are None without a temperature."""

    before: CalibrationFigures
    after: CalibrationFigures | None
    reliability: Reliability
    change: CalibrationChanges | None


class Calibration(TypedDict):
    """Entry ``calibration`` of a report."""

    temperature: float | None
    fitted_on: Place
    sections: dict[str, CalibrationSection]
    helps: dict[str, bool]
    warning: str
    notes: list[str]


class Target(TypedDict):
    """Smallest accepted value of a figure."""

    metric: Literal["sensitivity", "specificity"]
    at_least: float


class OperatingFigures(TypedDict):
    """Figures of one section at a threshold."""

    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None
    n_positive: int
    n_negative: int
    intervals: Intervals


OperatingPoint = TypedDict(  # "class" is a keyword
    "OperatingPoint",
    {
        "class": str,
        "target": Target,
        "threshold": float | None,
        "chosen_on": Place,
        "sections": dict[str, OperatingFigures],
        "notes": list[str],
    },
)


class OperatingPoints(TypedDict):
    """Entry ``operating_points`` of a report."""

    points: list[OperatingPoint]
    notes: list[str]


class SetFigures(TypedDict):
    """Coverage and size of the prediction sets of one section."""

    n: int
    coverage: float
    coverage_interval: Interval
    mean_size: float
    sizes: dict[str, int]
    per_class_coverage: dict[str, float | None]
    per_class_interval: Intervals


class ConformalSets(TypedDict):
    """Prediction sets of one method; without thresholds if it could not be fitted."""

    randomised: bool
    per_class: bool
    notes: list[str]
    threshold: float | None
    thresholds: dict[str, float | None] | None
    sections: dict[str, SetFigures]


class Conformal(TypedDict):
    """Entry ``conformal`` of a report."""

    alpha: float
    smallest_alpha: float | None
    calibrated_on: Place
    methods: dict[str, ConformalSets]
    notes: list[str]


class AnsweredFigures(TypedDict):
    """Share of answered images, and their error rate, at a threshold of the confidence."""

    coverage: float
    risk: float | None
    intervals: Intervals


class AbstentionSection(TypedDict):
    """Risk-coverage curve of one section."""

    n: int
    coverage: list[float]
    risk: list[float]
    aurc: float
    aurc_interval: Interval | None
    excess_aurc: float
    at_threshold: AnsweredFigures | None


class Abstention(TypedDict):
    """Entry ``abstention`` of a report."""

    target_risk: float
    threshold: float | None
    chosen_on: Place
    sections: dict[str, AbstentionSection]
    notes: list[str]


class OODScoreFigures(TypedDict):
    """Figures of one out-of-distribution score on one set."""

    auroc: float
    aupr: float
    fpr95: float
    auroc_interval: Interval | None
    aupr_interval: Interval | None
    fpr95_interval: Interval | None


class ChosenScore(TypedDict):
    """Score that flags images, with its threshold and the size of its arrays."""

    score: str
    threshold: float
    bytes: int


class NotResampled(TypedDict):
    """Settings of a bootstrap that was not drawn."""


class OODSet(TypedDict):
    """Detection of the images of one other domain; a score that could not be fitted is None."""

    kind: Literal["near", "far"]
    n: int
    share_outside: float | None
    scores: dict[str, OODScoreFigures | None]
    flagged: float | None
    resampling: Resampling | NotResampled


class OODDetection(TypedDict):
    """Entry ``ood_detection`` of a report."""

    fitted_on: Place
    threshold_from: ThresholdPlace
    chosen: ChosenScore | None
    sets: dict[str, OODSet]
    n_id: int
    id_flagged: float | None
    definitions: dict[str, str]
    notes: list[str]


class GroupFacts(TypedDict):
    """Size of a group."""

    n: int
    n_patients: int | None
    small: bool


class Group(GroupFacts, MetricFigures):
    """Figures of one patient group, those that were asked for."""

    intervals: Intervals


class MaskGroup(GroupFacts):
    """Mean figures of a segmentation of one patient group."""

    dice: float | None
    iou: float | None
    hd95: float | None
    intervals: Intervals


class GroupGap(TypedDict):
    """Largest difference of a figure between two groups, the better one first; None without two groups."""

    metric: str
    largest: float | None
    between: list[str] | None
    interval: Interval | None
    small: bool
    notes: list[str]


class MainGap(GroupGap):
    """Gap of the first metric that has one, and the gaps of all metrics."""

    all: dict[str, GroupGap]


class GroupComparison(TypedDict):
    """Figures of the groups of one set of images, and their largest gaps."""

    groups: dict[str, Group]
    gap: MainGap
    notes: list[str]


# by section the groups by value; "gaps" by section; "notes"
GroupColumn = dict[str, dict[str, Group] | dict[str, MainGap] | list[str]]
MaskGroupColumn = dict[str, dict[str, MaskGroup] | dict[str, GroupGap] | list[str]]
# by column, and "notes"
Groups = dict[str, GroupColumn | list[str]]
MaskGroups = dict[str, MaskGroupColumn | list[str]]


class Difference(TypedDict):
    """Figure of two runs on the same images, and their difference a - b."""

    a: float | None
    b: float | None
    difference: float | None
    interval: Interval | None


class DrawnDifference(Difference, ResamplingFacts):
    """Difference of one metric, with the facts of its bootstrap."""

    metric: str


class DrawnDifferences(ResamplingFacts):
    """Differences by metric, with the facts of their bootstrap."""

    metrics: dict[str, Difference]


class McNemar(TypedDict):
    """Images on which only one of two networks is right, and the two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


class PairedTest(TypedDict):
    """McNemar's test on one section."""

    n: int
    mcnemar: McNemar


class Comparison(TypedDict):
    """Entry of ``comparisons``: differences to another run on the same images or cases."""

    name: str
    strategy: NotRequired[object]  # stages of the other run, its name, or None; missing if it cannot be compared
    sections: dict[str, dict[str, Difference]]
    tests: NotRequired[dict[str, PairedTest]]  # of a classification
    notes: list[str]
