"""Types of the entries of a report that :mod:`movl_monai.metrics` computes, with the rules of its schema.

They are dictionaries, because report.json holds them as they are. An interval is [low, high], or None with the reason
in the ``notes`` of its entry.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from movl_monai.metrics.declared import MetricFigures
from movl_monai.metrics.rules import Count, Free, Interval, Nullable, Rule, Share

Intervals = dict[str, Interval | None]  # by name of the figure


class Place(TypedDict):
    """Images that a parameter comes from."""

    split: str
    n: Count


class ThresholdPlace(Place):
    """Images that the threshold of an out-of-distribution score comes from."""

    target_id_kept: Share


class Resampling(TypedDict):
    """Settings of a patient-clustered bootstrap."""

    resampled: str
    num_resampled: Count
    rounds: Count
    level: Share
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

    n: Count
    sensitivity: Share | None
    specificity: Share | None
    auroc: Share | None
    average_precision: Share | None


class SectionFigures(MetricFigures):
    """Figures of one set of labelled images."""

    n: Count
    per_class: dict[str, ClassFigures]
    confusion_matrix: Annotated[list[list[Count]], Rule(about="Rows are labels, columns predictions.")]


class ThresholdFigures(TypedDict):
    """Figures of the question whether a grade is at least another; ``n`` counts the images whose label is."""

    n: Count
    sensitivity: Share | None
    specificity: Share | None
    auroc: Share | None
    intervals: Intervals


class GradeFigures(TypedDict):
    """Errors in grades, and the figures of every threshold of grades."""

    distances: Annotated[dict[str, Count], Rule(about="Images by predicted grade minus label.")]
    at_least: dict[str, ThresholdFigures]
    notes: list[str]


class ClassificationFigures(SectionFigures):
    """Figures of one set of labelled images, with the reasons of missing ones."""

    notes: list[str]


class ReliabilityBin(TypedDict):
    """Mean confidence and accuracy of the images in one bin (low, high] of the confidence."""

    low: float
    high: float
    n: Count
    confidence: Share | None
    accuracy: Share | None


class CalibrationFigures(TypedDict):
    """Figures of probabilities, before or after scaling."""

    cross_entropy: Nullable
    brier: Nullable
    ece: Share


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
    change: Annotated[CalibrationChanges | None, Free]


class Calibration(TypedDict):
    """Entry ``calibration`` of a report."""

    temperature: Annotated[float | None, Rule(above=0)]
    fitted_on: Place
    sections: dict[str, CalibrationSection]
    helps: dict[str, bool]
    warning: str
    notes: list[str]


class Target(TypedDict):
    """Smallest accepted value of a figure."""

    metric: Literal["sensitivity", "specificity"]
    at_least: Share


class OperatingFigures(TypedDict):
    """Figures of one section at a threshold."""

    sensitivity: Share | None
    specificity: Share | None
    ppv: Share | None
    npv: Share | None
    n_positive: Count
    n_negative: Count
    intervals: Intervals


OperatingPoint = TypedDict(  # "class" is a keyword
    "OperatingPoint",
    {
        "class": str,
        "target": Target,
        "threshold": float | None,
        "chosen_on": Place,
        "sections": dict[str, OperatingFigures],
        "notes": Annotated[list[str], Free],
    },
)


class OperatingPoints(TypedDict):
    """Entry ``operating_points`` of a report."""

    points: list[OperatingPoint]
    notes: list[str]


class FindingThreshold(TypedDict):
    """Probability from which a finding is called positive; None with the reason in ``notes``."""

    threshold: float | None
    chosen_on: Place
    notes: list[str]


class SetFigures(TypedDict):
    """Coverage and size of the prediction sets of one section."""

    n: Count
    coverage: Share
    coverage_interval: Interval
    mean_size: Annotated[float, Rule(least=0)]
    sizes: Annotated[dict[str, Count], Rule(about="Number of sets by size.")]
    per_class_coverage: dict[str, Share | None]
    per_class_interval: Annotated[Intervals, Free]


class ConformalSets(TypedDict):
    """Prediction sets of one method; without thresholds if it could not be fitted."""

    randomised: Annotated[bool, Free]
    per_class: Annotated[bool, Free]
    notes: Annotated[list[str], Free]
    threshold: float | None
    thresholds: dict[str, float | None] | None
    sections: dict[str, SetFigures]


class Conformal(TypedDict):
    """Entry ``conformal`` of a report."""

    alpha: Share
    smallest_alpha: Share | None
    calibrated_on: Place
    methods: dict[str, ConformalSets]
    notes: list[str]


class NumberIntervalSection(TypedDict):
    """Coverage and width of the intervals of one section, in the unit of the number."""

    n: Count
    coverage: Share
    coverage_interval: Interval
    width: Annotated[float, Rule(least=0)]


class NumberIntervals(TypedDict):
    """Entry ``number_intervals`` of a report of a regression; without a half width if it could not be fitted."""

    alpha: Share
    smallest_alpha: Share | None
    half_width: Annotated[float | None, Rule(least=0)]
    calibrated_on: Place
    sections: dict[str, NumberIntervalSection]
    notes: list[str]


class AnsweredFigures(TypedDict):
    """Share of answered images, and their error rate, at a threshold of the confidence."""

    coverage: float
    risk: float | None
    intervals: Intervals


class AbstentionSection(TypedDict):
    """Risk-coverage curve of one section."""

    n: Count
    coverage: list[Share]
    risk: list[Share]
    aurc: Share
    aurc_interval: Annotated[Interval | None, Rule(needed=False)]
    excess_aurc: Annotated[float, Free]
    at_threshold: Annotated[AnsweredFigures | None, Free]


class Abstention(TypedDict):
    """Entry ``abstention`` of a report."""

    target_risk: Share
    threshold: Share | None
    chosen_on: Place
    sections: dict[str, AbstentionSection]
    notes: list[str]


class OODScoreFigures(TypedDict):
    """Figures of one out-of-distribution score on one set."""

    auroc: Share
    aupr: Share
    fpr95: Share
    auroc_interval: Interval | None
    aupr_interval: Annotated[Interval | None, Free]
    fpr95_interval: Annotated[Interval | None, Free]


class ChosenScore(TypedDict):
    """Score that flags images, with its threshold and the size of its arrays."""

    score: str
    threshold: float
    bytes: Annotated[int, Free]


class NotResampled(TypedDict):
    """Settings of a bootstrap that was not drawn."""


class OODSet(TypedDict):
    """Detection of the images of one other domain; a score that could not be fitted is None."""

    kind: Annotated[Literal["near", "far"], Rule(about="near: the same task elsewhere; far: images of another kind")]
    n: Count
    share_outside: Annotated[float | None, Free]
    scores: dict[str, OODScoreFigures | None]
    flagged: Share | None
    resampling: Annotated[Resampling | NotResampled, Free]


class OODDetection(TypedDict):
    """Entry ``ood_detection`` of a report."""

    fitted_on: Place
    threshold_from: ThresholdPlace
    chosen: ChosenScore | None
    sets: dict[str, OODSet]
    n_id: Annotated[int, Free]
    id_flagged: Share | None
    definitions: Annotated[dict[str, str], Free]
    notes: list[str]


class GroupFacts(TypedDict):
    """Size of a group."""

    n: Count
    n_patients: int | None
    small: bool


class Group(GroupFacts, MetricFigures):
    """Figures of one patient group, those that were asked for."""

    intervals: Intervals


class GradeGroup(GroupFacts):
    """Figures of grades of one patient group."""

    quadratic_kappa: Annotated[float | None, Rule(least=-1, most=1)]
    within_one: Share | None
    accuracy: Share | None
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
GroupColumn = Annotated[
    dict[str, dict[str, Group] | dict[str, MainGap] | list[str]],
    Rule(like=dict[str, dict[str, Group]], keys={"gaps": dict[str, Any], "notes": list[str]}),
]
GradeGroupColumn = Annotated[
    dict[str, dict[str, GradeGroup] | dict[str, MainGap] | list[str]],
    Rule(like=dict[str, dict[str, GradeGroup]], keys={"gaps": dict[str, Any], "notes": list[str]}),
]
MaskGroupColumn = dict[str, dict[str, MaskGroup] | dict[str, GroupGap] | list[str]]
# by column, and "notes"
Groups = Annotated[
    dict[str, GroupColumn | list[str]],
    Rule(like=dict[str, GroupColumn], keys={"notes": list[str]}, needs=("notes",)),
]
GradeGroups = Annotated[
    dict[str, GradeGroupColumn | list[str]],
    Rule(like=dict[str, GradeGroupColumn], keys={"notes": list[str]}, needs=("notes",)),
]
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
    # stages of the other run, its name, or None; missing if it cannot be compared
    strategy: NotRequired[Annotated[object, Rule(needed=True)]]
    sections: dict[str, dict[str, Difference]]
    tests: NotRequired[Annotated[dict[str, PairedTest], Free]]  # of a classification
    notes: list[str]
