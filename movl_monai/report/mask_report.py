"""Report of a segmentation: figures with intervals for the ID test cases, each OOD domain, and val."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.files import jsonable
from movl_monai.metrics.entries import settings_of
from movl_monai.metrics.intervals import bootstrap_means
from movl_monai.metrics.masks import FIGURES, NO_DISTANCES
from movl_monai.metrics.stored.cases import Case, case_sections
from movl_monai.metrics.subgroups import mask_groups
from movl_monai.report.entries import (
    DataRow,
    MaskClassFigures,
    MaskFigures,
    MaskReport,
    MaskSection,
    MaskSections,
    ResamplingOptions,
)
from movl_monai.report.model_card import data_facts, model_card
from movl_monai.report.report import SCHEMA_VERSION

__all__ = ["EMPTY_RULES", "build_mask_report"]

EMPTY_RULES = (
    "Neither truth nor prediction has a pixel of a class: Dice and IoU are 1, the other figures have no value.",
    "Only the prediction has: Dice, IoU and precision are 0, sensitivity and the distances have no value.",
    "Only the truth has: Dice, IoU and sensitivity are 0, precision and the distances have no value.",
    "A figure without a value is left out of the means; how many cases have one is given beside it.",
)


def build_mask_report(
    cases: Sequence[Case],
    *,
    class_names: Sequence[str],
    id_domain: str = "id",
    run_info: Mapping[str, Any] | None = None,
    bundle: Mapping[str, Any] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> MaskReport:
    """Compute all figures of an evaluation.

    Args:
        cases: all images and volumes; their order does not matter.
        class_names: names, the background first.
        id_domain: the in-distribution domain; every other one becomes an entry of ``ood``.
        run_info: result of :func:`~movl_monai.evaluation.run_info`.
        bundle: see :func:`~movl_monai.report.model_card.model_card`.
        rounds: number of resamples of the intervals.
        level: confidence level of the intervals.
        seed: seed of the resampling.

    Returns:
        JSON-able: ``schema_version``, ``task`` ("segmentation"), ``id``, ``ood``, ``val``, ``classes``, ``id_domain``,
        ``empty_masks`` (the rules), ``groups`` (of :func:`~movl_monai.metrics.subgroups.mask_groups`),
        ``model_card``, ``run``, ``notes``. A section has ``n`` (cases), ``n_images``, ``n_patients``; for each figure
        its mean over the cases (of the mean over a case's classes); ``dice_median`` and ``dice_quartiles``;
        ``n_defined``: number of cases with a value; ``distance_unit``; ``per_class``; ``intervals``; ``resampling``;
        ``notes``. ``id`` is None without such cases.
    """
    # resampling depends on the order, so sort independently of the loader and the salt of the ids
    ordered = sorted(
        cases, key=lambda case: [*(float(np.nan_to_num(case.mean(f), nan=-1)) for f in FIGURES), case.images]
    )
    inside, others, val, train = case_sections(ordered, id_domain=id_domain)
    notes: list[str] = []

    def section(part: Sequence[Case], name: str) -> MaskSection:
        return _section(part, name, class_names, notes, {"rounds": rounds, "level": level, "seed": seed})

    figures: MaskSections = {
        "id": section(inside, "id") if inside else None,
        "ood": {name: section(part, f"ood {name}") for name, part in others.items()},
    }
    if val:
        figures["val"] = section(val, "val")
        notes.append("val: the checkpoint was selected on these cases; their figures are not a test result.")
    if not inside:
        notes.append(f"id: no test cases of the domain '{id_domain}' were evaluated.")
    if train:
        notes.append(f"train: {len(train)} training cases are in cases.csv and in none of the figures.")
    tested = {"id": inside, **{f"ood:{name}": part for name, part in others.items()}}
    tested = {name: part for name, part in tested.items() if part}
    names = [str(name) for name in class_names]
    run = jsonable(dict(run_info or {}), where="run", notes=notes)
    shown = {"run": run, "classes": names, "id": figures["id"], "ood": figures["ood"]}
    report: MaskReport = {
        "schema_version": SCHEMA_VERSION,
        "task": "segmentation",
        **figures,
        "classes": names,
        "id_domain": id_domain,
        "empty_masks": list(EMPTY_RULES),
        "run": run,
        "notes": notes,
        "groups": mask_groups(tested, rounds=rounds, level=level, seed=seed),
        "model_card": model_card(shown, data=_data(ordered, id_domain), bundle=bundle),
    }
    plain: MaskReport = jsonable(report)
    return plain


def _data(cases: Sequence[Case], id_domain: str) -> list[DataRow]:
    """Return the counts of cases for the model card; masks have no class label."""
    rows = data_facts(
        splits=[case.split for case in cases],
        domains=[case.domain for case in cases],
        labels=[None] * len(cases),
        patients=[case.patient for case in cases],
        class_names=(),
        id_domain=id_domain,
    )
    return [{**row, "unlabeled": 0} for row in rows]


def _section(
    cases: Sequence[Case], name: str, class_names: Sequence[str], notes: list[str], options: ResamplingOptions
) -> MaskSection:
    values = {figure: np.array([case.mean(figure) for case in cases]) for figure in FIGURES}
    patients = [case.patient for case in cases]
    is_volumes = any(case.images > 1 for case in cases)
    result = bootstrap_means(values, patients=patients, unit="volumes" if is_volumes else "images", **options)
    own_notes = [*result["notes"], *_notes(cases)]
    notes.extend(f"{name}: {note}" for note in own_notes)
    quartiles = np.quantile(values["dice"], [0.25, 0.5, 0.75])
    return {
        "n": len(cases),
        "n_images": sum(case.images for case in cases),
        "n_patients": len({patient for patient in patients if patient is not None}) or None,
        **_means(values),
        "dice_median": float(quartiles[1]),
        "dice_quartiles": [float(quartiles[0]), float(quartiles[2])],
        "n_defined": {figure: int((~np.isnan(column)).sum()) for figure, column in values.items()},
        "distance_unit": _unit(cases),
        "per_class": {str(label): _of_class(cases, number) for number, label in enumerate(class_names[1:])},
        "intervals": result["intervals"],
        "resampling": settings_of(result),
        "notes": own_notes,
    }


def _of_class(cases: Sequence[Case], number: int) -> MaskClassFigures:
    columns = {figure: np.array([case.figures[figure][number] for case in cases]) for figure in FIGURES}
    return {"n": sum(bool(case.present[number]) for case in cases), **_means(columns)}


def _means(columns: Mapping[str, np.ndarray]) -> MaskFigures:
    return {
        "dice": _mean(columns["dice"]),
        "iou": _mean(columns["iou"]),
        "sensitivity": _mean(columns["sensitivity"]),
        "precision": _mean(columns["precision"]),
        "hd95": _mean(columns["hd95"]),
        "asd": _mean(columns["asd"]),
    }


def _mean(values: np.ndarray) -> float | None:
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _unit(cases: Sequence[Case]) -> str:
    units = {"mm" if case.in_mm else "pixels" for case in cases if case.has_distances} or {"mm"}
    return units.pop() if len(units) == 1 else "mixed"


def _notes(cases: Sequence[Case]) -> list[str]:
    notes = []
    if _unit(cases) == "pixels":
        notes.append("The files tell no pixel spacing, so that the distances are in pixels and not in mm.")
    elif _unit(cases) == "mixed":
        count = sum(not case.in_mm for case in cases)
        notes.append(
            f"{count} of {len(cases)} files tell no pixel spacing: their distances are in pixels, the others' in mm, "
            "and the means over both mean little."
        )
    if irregular := sum(not case.has_distances for case in cases):
        notes.append(
            f"Distances (HD95, ASD) of {irregular} of {len(cases)} cases are {NO_DISTANCES}, as their slices have "
            "gaps or unequal distances, or are shifted as by a tilted gantry; the means leave them out."
        )
    if incomplete := sum(not case.complete for case in cases):
        notes.append(f"{incomplete} volumes lack slices that could not be read; see the ingest report.")
    if empty := sum(not case.present.any() for case in cases):
        notes.append(f"{empty} of {len(cases)} cases have a truth without any foreground.")
    return notes
