"""Paired comparison of two runs on the same test images: differences with intervals, and McNemar's test."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.data.kept_splits import LEARNED
from movl_monai.errors import MovlError
from movl_monai.metrics.classification_metrics import check_labeled, most_probable
from movl_monai.metrics.declared import CLASS_FIGURES, Decide, TaskFigures
from movl_monai.metrics.entries import Comparison, Difference, DrawnDifferences, McNemar, PairedTest
from movl_monai.metrics.intervals import Figures, PatientBootstrap, bootstrap_means
from movl_monai.metrics.masks import FIGURES
from movl_monai.metrics.matching import (
    DifferentTestSetsError,
    ImageNames,
    match_images,
    names_of_evaluation,
    read_image_names,
    refuse_learned,
)
from movl_monai.metrics.stored.cases import CASES_FILE, read_cases
from movl_monai.metrics.stored.outputs import StoredOutputs, find_outputs, read_outputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.weighted import WeightedFigures

__all__ = ["Weighted", "compare_cases", "compare_outputs", "compare_runs", "mcnemar", "paired_figures"]

Weighted = Callable[[Predictions, StoredOutputs], Figures]
"""Maps labelled images, and all outputs of their run, to the figures as a function of the images' weights."""


def compare_runs(
    run: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    name: str = "",
    strategy: str | None = None,
    **options: Any,
) -> Comparison:
    """Compare the stored outputs of two runs; see :func:`compare_outputs`.

    Args:
        run: a in the result: folder of a run or of its evaluation, or stored outputs.
        against: b in the result, given in the same way.
        name: name of ``against`` in the report.
        strategy: training strategy of ``against``, if known.
        options: options of :func:`compare_outputs`.

    Raises:
        MovlError: if outputs are missing or damaged, or images cannot be matched.
        DifferentTestSetsError: if the test images, their labels or the classes differ.
        LeakageError: if one of the runs learned from test images.
    """
    outputs, names = read_outputs(run), read_image_names(run)
    result = compare_outputs(
        outputs,
        read_outputs(against),
        names_a=names,
        names_b=read_image_names(against),
        name=name,
        strategy=strategy,
        **options,
    )
    folders = [find_outputs(path).parent for path in (run, against)]
    for section, part in _test_sections(outputs).items():
        refuse_learned(folders, part.ids, names, domain=section)
    return result


def compare_outputs(
    a: StoredOutputs,
    b: StoredOutputs,
    *,
    names_a: ImageNames | None = None,
    names_b: ImageNames | None = None,
    name: str = "",
    strategy: str | None = None,
    metrics: Sequence[str] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    weighted: Weighted | None = None,
    **resampling: Any,
) -> Comparison:
    """Compute differences a - b on the in-distribution test images and on each other domain.

    Images are matched by their ids or, if the salts differ, by their names.

    Args:
        a: outputs of one run.
        b: outputs of the other; its classes may be in another order.
        names_a: names behind the ids of a.
        names_b: names behind the ids of b.
        name: name of b in the report.
        strategy: training strategy of b, if known.
        metrics: names of :data:`~movl_monai.metrics.weighted.METRICS`; None takes all.
        figures: figures of a task that gives one of several classes, and its predicted class.
        weighted: figures of another task, in place of ``metrics`` and ``figures``; None for those.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Returns:
        ``name``, ``strategy``; ``sections``: for "id" and each "ood:<domain>" that both have, the entries of
        :func:`paired_figures` by metric; ``tests`` (only of classes): for each section ``n``, ``mcnemar``; ``notes``.

    Raises:
        DifferentTestSetsError: if the images or labels of a common section differ, there is no common section, or the
            classes differ.
        MovlError: if the images cannot be matched.
    """
    if a.task != b.task:
        raise DifferentTestSetsError(
            f"The runs are of different tasks, {a.task} and {b.task}, whose predictions are not of the same kind. "
            "Compare those of one task."
        )
    if sorted(a.class_names) != sorted(b.class_names):
        raise DifferentTestSetsError(
            f"The runs have different classes: {', '.join(a.class_names)} and {', '.join(b.class_names)}. "
            "Compare runs that were trained for the same ones."
        )
    b = _reordered(b, a.class_names)
    parts_a, parts_b = _test_sections(a), _test_sections(b)
    shared = [section for section in parts_a if section in parts_b]
    if not shared:
        raise DifferentTestSetsError(
            f"The runs share no test images: a has {', '.join(parts_a) or 'none'}, b has "
            f"{', '.join(parts_b) or 'none'}. Evaluate both on the same data set."
        )
    notes = [f"{section}: only one of the runs has it." for section in sorted(parts_a.keys() ^ parts_b.keys())]
    found_in: dict[str, dict[str, Difference]] = {}
    tests: dict[str, PairedTest] = {}
    for section in shared:
        one, two = _aligned(parts_a[section], parts_b[section], section, names_a, names_b)
        if weighted is None:
            pair: list[Figures] = [
                WeightedFigures(part.labels, part.logits, metrics=metrics, figures=figures) for part in (one, two)
            ]
            tests[section] = {
                "n": len(one),
                "mcnemar": mcnemar(one.labels, one.logits, two.logits, decide=figures.decide),
            }
        else:
            pair = [weighted(one, a), weighted(two, b)]
        found = _differences(*pair, patients=one.patients, **resampling)
        found_in[section] = found["metrics"]
        notes += [f"{section}: {note}" for note in found["notes"]]
        patients = [patient for patient in one.patients if patient is not None]
        if tests and len(set(patients)) < len(patients):
            notes.append(f"{section}: McNemar's test takes images as independent; several come from one patient.")
    entry: Comparison = {"name": name, "strategy": strategy, "sections": found_in, "notes": notes}
    return {**entry, "tests": tests} if tests else entry


def compare_cases(
    run: Path, against: Path, *, domains: Mapping[str, str], name: str = "", **resampling: Any
) -> Comparison:
    """Compare the cases of two evaluations of a segmentation: differences a - b of the means, with common resamples.

    Cases are matched by their ids or, if the salts differ, by their names.

    Args:
        run: a in the result: folder of an evaluation.
        against: b in the result, given in the same way.
        domains: domain of each test section of ``run``.
        name: name of ``against`` in the report.
        resampling: ``rounds``, ``level`` and ``seed`` of the patient-clustered intervals.

    Raises:
        MovlError: if cases are missing or damaged, or cannot be matched.
        DifferentTestSetsError: if one evaluation has cases that the other lacks.
        LeakageError: if one of the runs learned from test cases.
    """
    folders = (run, against)
    names = [names_of_evaluation(folder) for folder in folders]
    one, two = ({row["case"]: row for row in read_cases(folder / CASES_FILE)} for folder in folders)
    ids = list(two)
    rows = match_images(list(one), ids, names_a=names[0], names_b=names[1])
    two = {case: two[ids[row]] for case, row in zip(one, rows, strict=True)}
    tested = [case for case, row in one.items() if row["split"] not in LEARNED]
    refuse_learned(folders, tested, names[0], domain="test")
    sections: dict[str, dict[str, Difference]] = {}
    notes: list[str] = []
    for key, domain in domains.items():
        cases = [case for case, row in one.items() if row["domain"] == domain and row["split"] not in ("train", "val")]
        columns = {
            figure: [np.array([float(part[case][figure] or "nan") for case in cases]) for part in (one, two)]
            for figure in FIGURES
        }
        differences = {figure: a - b for figure, (a, b) in columns.items()}
        patients = [one[case]["patient"] or None for case in cases]
        found = bootstrap_means(differences, patients=patients, **resampling)
        notes += [f"{key}: {note}" for note in found["notes"]]
        sections[key] = {
            figure: {
                "a": _mean(columns[figure][0]),
                "b": _mean(columns[figure][1]),
                # over the cases in which both have a value
                "difference": _mean(column),
                "interval": found["intervals"][figure],
            }
            for figure, column in differences.items()
        }
    return {"name": name, "strategy": None, "sections": sections, "notes": notes}


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def paired_figures(
    labels: ArrayLike,
    logits_a: ArrayLike,
    logits_b: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    metrics: Sequence[str] | None = None,
    figures: TaskFigures = CLASS_FIGURES,
    **resampling: Any,
) -> DrawnDifferences:
    """Compute differences a - b of the figures of two networks on the same images, with common resamples.

    Args:
        labels: integers (N,) in [0, C).
        logits_a: (N, C), before softmax, in the order of the labels.
        logits_b: as ``logits_a``, for the same images.
        patients: patient of each image, as in :func:`~movl_monai.evaluation.bootstrap_intervals`.
        metrics: names of :data:`~movl_monai.metrics.weighted.METRICS`; None takes all.
        figures: figures of the task, and its predicted class.
        resampling: ``rounds``, ``level``, ``seed``.

    Returns:
        ``metrics``: for each ``a``, ``b``, ``difference`` and ``interval`` of the difference, None if undefined; and
            the
        facts and ``notes`` of :class:`~movl_monai.evaluation.PatientBootstrap`.

    Example:
        >>> logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
        >>> found = paired_figures([0, 1, 0], logits, -logits, metrics=["accuracy"], rounds=10)
        >>> round(found["metrics"]["accuracy"]["difference"], 3)
        0.333
    """
    a, b = (WeightedFigures(labels, logits, metrics=metrics, figures=figures) for logits in (logits_a, logits_b))
    if a.num_classes != b.num_classes:
        raise ValueError(f"Both need the same classes, got {a.num_classes} and {b.num_classes} logits.")
    return _differences(a, b, patients=[None] * len(a.labels) if patients is None else patients, **resampling)


def _differences(a: Figures, b: Figures, *, patients: Sequence[str | None], **resampling: Any) -> DrawnDifferences:
    """Compute differences a - b of figures of the same images, with common resamples."""
    bootstrap = PatientBootstrap(len(patients), patients, **resampling)

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        one, two = a(weights), b(weights)
        return {metric: one[metric] - two[metric] for metric in one}

    intervals = bootstrap.intervals(differences)
    once = np.ones((len(patients), 1))
    one, two = a(once), b(once)
    whole = {metric: (float(one[metric][0]), float(two[metric][0])) for metric in one}
    missing = [metric for metric, pair in whole.items() if np.isnan(pair).any()]
    if missing:
        bootstrap.notes.append(f"No value on these images for {', '.join(missing)}: a class has none, or all of them.")
    entries: dict[str, Difference] = {
        metric: {
            "a": _number(one),
            "b": _number(two),
            "difference": _number(one - two),
            "interval": intervals[metric],
        }
        for metric, (one, two) in whole.items()
    }
    return {"metrics": entries, **bootstrap.facts}


def mcnemar(labels: ArrayLike, logits_a: ArrayLike, logits_b: ArrayLike, *, decide: Decide = most_probable) -> McNemar:
    """McNemar's exact test for equal accuracy of two networks.

    Only images count on which one network is right and the other wrong. Under the null hypothesis, both cases are
    equally likely.

    Args:
        labels: integers (N,) in [0, C).
        logits_a: (N, C), before softmax.
        logits_b: (N, C), before softmax.
        decide: predicted class of each image.

    Returns:
        ``only_a``: number of images on which only a is right, ``only_b``, and the two-sided ``p_value``.

    Reference:
        McNemar: Note on the sampling error of the difference between correlated proportions, Psychometrika 12, 1947,
        with the binomial distribution in place of its approximation.

    Example:
        >>> mcnemar([0, 0, 0], [[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3)
        {'only_a': 3, 'only_b': 0, 'p_value': 0.25}
    """
    from scipy.stats import binomtest

    label, one = check_labeled(labels, logits_a)
    _, two = check_labeled(labels, logits_b)
    right_a, right_b = decide(one) == label, decide(two) == label
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return {"only_a": only_a, "only_b": only_b, "p_value": p_value}


def _test_sections(outputs: StoredOutputs) -> dict[str, Predictions]:
    """Return the labelled test images by section, without splits that selected the checkpoint or gave thresholds."""
    parts = {name: part.predictions.labeled() for name, part in outputs.sections().items()}
    return {name: part for name, part in parts.items() if len(part) and (name == "id" or name.startswith("ood:"))}


def _reordered(outputs: StoredOutputs, class_names: Sequence[str]) -> StoredOutputs:
    """Return outputs with the classes in the given order."""
    order = [outputs.class_names.index(name) for name in class_names]
    if order == sorted(order):
        return outputs
    given, labels = outputs.predictions, outputs.predictions.labels
    if labels.ndim == 2:
        labels = labels[:, order]
    elif labels.dtype.kind != "f":
        labels = np.append(np.argsort(order), -1)[labels]  # -1 stays -1
    predictions = Predictions(
        ids=given.ids,
        logits=given.logits[:, order],
        labels=labels,
        splits=given.splits,
        domains=given.domains,
        patients=given.patients,
        patient_ids=given.patient_ids,
    )
    return replace(outputs, predictions=predictions, class_names=list(class_names))


def _aligned(
    a: Predictions, b: Predictions, section: str, names_a: ImageNames | None, names_b: ImageNames | None
) -> tuple[Predictions, Predictions]:
    """Return the images of a and the same ones of b, in an order independent of the salts."""
    try:
        rows = match_images(a.ids, b.ids, names_a=names_a, names_b=names_b)
    except MovlError as error:
        raise type(error)(f"{section}: {error}") from error
    b = b.take(rows)
    same = (a.labels == b.labels) | (np.isnan(a.labels) & np.isnan(b.labels))
    differing = int((~(same if same.ndim == 1 else same.all(axis=1))).sum())
    if differing:
        raise DifferentTestSetsError(
            f"{section}: {differing} of {len(a)} images have another label in the other run. Evaluate both on the same "
            "data set."
        )
    if all(patient is None for patient in a.patients):
        a = _with_patients(a, b.patients)
    place = np.lexsort((*b.logits.T, *a.logits.T, *np.atleast_2d(a.labels.T)))
    return a.take(place), b.take(place)


def _with_patients(images: Predictions, patients: Sequence[str | None]) -> Predictions:
    return Predictions(ids=images.ids, logits=images.logits, labels=images.labels, patients=patients)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
