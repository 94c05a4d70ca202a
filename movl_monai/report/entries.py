"""Types of report.json; those of the entries on trust are in :mod:`movl_monai.metrics.entries`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from movl_monai.metrics.entries import (
    Abstention,
    Calibration,
    ClassIntervals,
    Comparison,
    Conformal,
    FindingThreshold,
    GradeFigures,
    GradeGroups,
    Groups,
    Intervals,
    MaskGroups,
    NumberIntervals,
    OODDetection,
    OperatingPoints,
    Resampling,
    SectionFigures,
)
from movl_monai.metrics.rules import Count, Free, Interval, Rule, Share

_NEEDED = Rule(needed=True, free=True)


class ResamplingOptions(TypedDict):
    """Options of all functions with intervals."""

    rounds: int
    level: float
    seed: int


class Section(SectionFigures):
    """Figures of one set of images, with their intervals."""

    n_unlabeled: Count
    n_patients: Annotated[int | None, Rule(least=1)]
    intervals: Intervals
    per_class_intervals: Annotated[dict[str, ClassIntervals], Rule(like=dict[str, Intervals])]
    resampling: Resampling
    notes: list[str]


class Sections(TypedDict):
    """Sections with figures; ``id`` is None without such images."""

    id: Section | None
    ood: dict[str, Section]
    val: NotRequired[Section]
    calibration_section: NotRequired[Section]


class TrustEntries(TypedDict):
    """Entries on trust in the network."""

    calibration: Calibration
    operating_points: OperatingPoints
    ood_detection: OODDetection
    conformal: Conformal
    abstention: Abstention
    groups: Groups


class Picture(TypedDict):
    """File of a picture, and a sentence about it."""

    file: str
    about: str


class Explanations(TypedDict):
    """Pictures of the image regions that the network uses."""

    pictures: list[Picture]
    notes: list[str]


class DataRow(TypedDict):
    """Number of images and patients of one domain and split; ``patients`` is None if any is unknown."""

    domain: str
    split: str
    images: int
    patients: int | None
    classes: dict[str, int]
    unlabeled: int


class Weights(TypedDict):
    """Origin of the backbone's weights; None if unknown."""

    source: str | None
    license: str | None
    sha256: str | None


class ModelFacts(TypedDict):
    """Bundle and parts of a model; None if unknown."""

    bundle: str | None
    bundle_version: str | None
    overlays: list[str] | str | None
    backbone: str | None
    image_size: int | list[int] | None
    prompt: Any  # a part is described by its name and options
    adapter: Any
    head: Any
    strategy: Any
    trainable_parameters: int | None
    backbone_parameters: int | None
    trainable_percent: float | None


class KeptStart(TypedDict, total=False):
    """Sentence of a run that kept the state before its first step."""

    kept_start: Annotated[str, Free]


class ModelCard(KeptStart):
    """Entry ``model_card`` of a report."""

    notice: Annotated[str, Free]  # the restriction to research
    intended_use: str
    model: Annotated[ModelFacts, _NEEDED]
    weights: Annotated[Weights, _NEEDED]
    classes: Annotated[list[str], _NEEDED]
    data: Annotated[list[DataRow] | None, _NEEDED]
    run: Annotated[Mapping[str, Any], _NEEDED]  # those facts of the run that are known
    limits: Annotated[list[str], _NEEDED]
    notes: list[str]


class Report(Sections, TrustEntries):
    """Report of a classification, schema version 2; ``files`` is added when it is written."""

    schema_version: Annotated[int, Rule(only=2)]
    comparisons: list[Comparison]
    explanations: Explanations
    classes: Annotated[list[str], Rule(shortest=2, about="In the order of the logits.")]
    id_domain: str
    far_domains: list[str]
    options: Mapping[str, Any]  # the fields of ReportOptions, as stored
    run: Mapping[str, Any]
    notes: list[str]
    model_card: ModelCard
    files: NotRequired[Annotated[dict[str, str], Rule(needed=True)]]


class GradeSection(Section):
    """Figures of one set of images with grades, whose predicted grade is the median."""

    grades: GradeFigures


class GradeReport(TypedDict):
    """Report of grades, schema version 2; ``files`` is added when it is written."""

    schema_version: Annotated[int, Rule(only=2)]
    task: Literal["ordinal"]
    id: GradeSection | None
    ood: dict[str, GradeSection]
    val: NotRequired[GradeSection]
    calibration_section: NotRequired[GradeSection]
    calibration: Calibration
    operating_points: OperatingPoints
    ood_detection: OODDetection
    conformal: Conformal
    abstention: Abstention
    groups: GradeGroups
    comparisons: list[Comparison]
    explanations: Explanations
    classes: Annotated[list[str], Rule(shortest=2, about="The grades in their order, that of the logits.")]
    id_domain: str
    far_domains: list[str]
    options: Mapping[str, Any]
    run: Mapping[str, Any]
    notes: list[str]
    model_card: ModelCard
    files: NotRequired[Annotated[dict[str, str], Rule(needed=True)]]


class FindingRates(TypedDict):
    """Figures of one finding; those of calls are at its threshold, None with the reason in the notes."""

    n: Annotated[int, Rule(least=0, about="Images with a known label of the finding.")]
    n_positive: Count
    prevalence: Share | None
    auroc: Share | None
    average_precision: Share | None
    sensitivity: Share | None
    specificity: Share | None


class Cooccurrence(TypedDict):
    """Number of images with both of two findings, in the order of ``classes``; the diagonal counts those with one."""

    labels: list[list[Count]]
    predicted: list[list[Count]]


class FindingSection(TypedDict):
    """Figures of one set of images with findings: means over the findings, and those over all pairs (micro)."""

    n: Count
    n_unlabeled: Count
    n_patients: Annotated[int | None, Rule(least=1)]
    auroc: Share | None
    average_precision: Share | None
    sensitivity: Share | None
    specificity: Share | None
    micro_auroc: Share | None
    micro_average_precision: Share | None
    micro_sensitivity: Share | None
    micro_specificity: Share | None
    micro_f1: Share | None
    exact_match: Share | None
    cross_entropy: Annotated[float | None, Rule(least=0)]
    per_class: dict[str, FindingRates]
    per_class_intervals: dict[str, ClassIntervals]
    cooccurrence: Cooccurrence
    intervals: Intervals
    resampling: Resampling
    notes: list[str]


class FindingTrust(TypedDict):
    """Entries on trust in the calls of one finding, as of a classification into negative and positive."""

    threshold: FindingThreshold
    calibration: Calibration
    conformal: Conformal
    abstention: Abstention


class FindingsTrust(TypedDict):
    """Entries on trust in a network for several findings."""

    findings: dict[str, FindingTrust]
    operating_points: OperatingPoints
    ood_detection: OODDetection
    groups: Annotated[Groups, _NEEDED]  # with the leading figures of the task


class ImageReport(TypedDict):
    """Entries that the reports of all tasks of whole images have."""

    schema_version: Annotated[int, Rule(only=2)]
    comparisons: list[Comparison]
    explanations: Explanations
    id_domain: str
    far_domains: list[str]
    options: Mapping[str, Any]
    run: Mapping[str, Any]
    notes: list[str]
    model_card: ModelCard
    files: NotRequired[Annotated[dict[str, str], Rule(needed=True)]]


class FindingReport(FindingsTrust, ImageReport):
    """Report of several findings per image, schema version 2."""

    task: Literal["multilabel"]
    classes: Annotated[list[str], Rule(shortest=2, about="The findings, in the order of the logits.")]
    id: FindingSection | None
    ood: dict[str, FindingSection]
    val: NotRequired[FindingSection]
    calibration_section: NotRequired[FindingSection]


class NumberSection(TypedDict):
    """Figures of one set of images with numbers, in the unit of the number."""

    n: Count
    n_unlabeled: Count
    n_patients: Annotated[int | None, Rule(least=1)]
    mae: Annotated[float | None, Rule(least=0)]
    rmse: Annotated[float | None, Rule(least=0)]
    r2: Annotated[float | None, Rule(most=1)]
    pearson: Annotated[float | None, Rule(least=-1, most=1)]
    bias: float | None
    agreement_low: float | None
    agreement_high: float | None
    label_mean: float | None
    label_sd: float | None
    intervals: Intervals
    resampling: Resampling
    notes: list[str]


class NumberTrust(TypedDict):
    """Entries on trust in a regression."""

    number_intervals: NumberIntervals
    ood_detection: OODDetection
    groups: Annotated[Groups, _NEEDED]  # with the leading figures of the task


class NumberReport(NumberTrust, ImageReport):
    """Report of a regression, schema version 2."""

    task: Literal["regression"]
    classes: Annotated[list[str], Rule(shortest=1, longest=1, about="The name of the number.")]
    id: NumberSection | None
    ood: dict[str, NumberSection]
    val: NotRequired[NumberSection]
    calibration_section: NotRequired[NumberSection]


class MaskFigures(TypedDict):
    """Mean figures of a segmentation over cases; None without a case that has a value."""

    dice: float | None
    iou: float | None
    sensitivity: float | None
    precision: float | None
    hd95: float | None
    asd: float | None


class MaskClassFigures(MaskFigures):
    """Mean figures of one class over the cases."""

    n: int


class MaskSection(MaskFigures):
    """Mean figures over the cases of one section, with their intervals."""

    n: int
    n_images: int
    n_patients: int | None
    dice_median: float
    dice_quartiles: Interval
    n_defined: dict[str, int]
    distance_unit: str
    per_class: dict[str, MaskClassFigures]
    intervals: Intervals
    resampling: Resampling
    notes: list[str]


class MaskSections(TypedDict):
    """Sections with figures; ``id`` is None without such cases."""

    id: MaskSection | None
    ood: dict[str, MaskSection]
    val: NotRequired[MaskSection]


class MaskReport(MaskSections):
    """Report of a segmentation; ``files`` is added when it is written."""

    schema_version: int
    task: Literal["segmentation"]
    classes: list[str]
    id_domain: str
    empty_masks: list[str]
    run: Mapping[str, Any]
    notes: list[str]
    groups: MaskGroups | None
    model_card: ModelCard
    files: NotRequired[dict[str, str]]
