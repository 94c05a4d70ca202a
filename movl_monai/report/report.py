"""Report of an evaluation: figures for each section with intervals, and the entries on trust."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.entries import settings_of
from movl_monai.metrics.intervals import bootstrap_means
from movl_monai.metrics.masks import FIGURES, NO_DISTANCES
from movl_monai.metrics.stored.cases import Case, case_sections
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions
from movl_monai.metrics.subgroups import mask_groups
from movl_monai.report.cards import card_sections, front_matter
from movl_monai.report.entries import (
    DataRow,
    MaskClassFigures,
    MaskFigures,
    MaskReport,
    MaskSection,
    MaskSections,
    Report,
    ResamplingOptions,
)
from movl_monai.report.html import render_html
from movl_monai.report.model_card import data_facts, model_card, model_card_markdown
from movl_monai.report.options import ReportOptions
from movl_monai.report.sections.charts import draw_charts
from movl_monai.report.sections.title import run_name
from movl_monai.report.table import render_table
from movl_monai.report.tasks import CLASSIFICATION, SEGMENTATION, Task, task_named, task_of
from movl_monai.report.words import domain_of, is_tested

__all__ = [
    "EMPTY_RULES",
    "SCHEMA_VERSION",
    "build_mask_report",
    "build_report",
    "report_of_outputs",
    "write_files",
    "write_report",
]

SCHEMA_VERSION = 2
EMPTY_RULES = (
    "Neither truth nor prediction has a pixel of a class: Dice and IoU are 1, the other figures have no value.",
    "Only the prediction has: Dice, IoU and precision are 0, sensitivity and the distances have no value.",
    "Only the truth has: Dice, IoU and sensitivity are 0, precision and the distances have no value.",
    "A figure without a value is left out of the means; how many cases have one is given beside it.",
)


def build_report(
    predictions: Predictions,
    *,
    class_names: Sequence[str],
    id_domain: str = "id",
    run_info: Mapping[str, Any] | None = None,
    **options: Any,
) -> Report:
    """Compute the report of predictions alone; entries that need features, groups or far images are empty with a note.

    Args:
        predictions: all images; their order does not matter.
        class_names: names in the order of the logits.
        id_domain: the in-distribution domain; every other domain becomes an entry of ``ood``.
        run_info: result of :func:`~movl_monai.evaluation.run_info`.
        options: options of :class:`~movl_monai.evaluation.ReportOptions`.

    Returns:
        as :func:`report_of_outputs`.

    Raises:
        ValueError: if class names and logits do not match.
    """
    outputs = StoredOutputs(
        predictions=predictions,
        class_names=class_names,
        id_domain=id_domain,
        facts={"run": dict(run_info or {})},
    )
    return report_of_outputs(outputs, options=ReportOptions(**options))


def report_of_outputs(outputs: StoredOutputs, *, options: ReportOptions | None = None) -> Report:
    """Compute the report of stored outputs.

    Args:
        outputs: all images; their order does not matter. ``facts`` may hold ``run`` and ``bundle``.
        options: options of the report; None takes those in the facts, or else the defaults.

    Returns:
        JSON-able, without non-finite numbers; described by :func:`~movl_monai.report.schema.report_schema`:
        ``schema_version``, ``id``, ``ood`` (one entry per domain), ``val`` and ``calibration_section`` (if there are
        such images), the entries of :func:`~movl_monai.report.trust_entries.trust_entries`, ``comparisons``,
        ``explanations``, ``model_card``, ``classes``, ``id_domain``, ``far_domains``, ``options``, ``run``, ``notes``.
        A section has the entries of :func:`~movl_monai.evaluation.classification_figures`, ``n_unlabeled``,
        ``n_patients``, ``intervals`` (a pair or None each), ``per_class_intervals`` and ``resampling``. ``id`` is None
        without such images.
    """
    options = ReportOptions.from_facts(outputs.facts) if options is None else options
    outputs = outputs.take(_order(outputs.predictions))
    predictions, names = outputs.predictions, list(outputs.class_names)
    notes: list[str] = []
    task = task_named(outputs.task)

    def section(images: StoredOutputs, name: str) -> dict[str, Any]:
        found = task.section(images, options.resampling, outputs)
        notes.extend(f"{name}: {note}" for note in found["notes"])
        return found

    figures: Any = _sections(task, outputs.sections(), section, id_domain=outputs.id_domain, notes=notes)
    data = data_facts(
        splits=predictions.splits,
        domains=predictions.domains,
        labels=predictions.labels.tolist(),
        patients=predictions.patients,
        class_names=names,
        id_domain=outputs.id_domain,
    )
    run = jsonable(dict(outputs.facts.get("run") or {}), where="run", notes=notes)
    shown = {"run": run, "classes": names, "id_domain": outputs.id_domain, "id": figures["id"], "ood": figures["ood"]}
    report: Any = {
        "schema_version": SCHEMA_VERSION,
        # a report that names no task is of a classification, as in older versions
        **({} if task is CLASSIFICATION else {"task": task.name}),
        **figures,
        **task.trust(outputs, options),
        "comparisons": [],
        "explanations": {"pictures": [], "notes": []},
        "classes": names,
        "id_domain": outputs.id_domain,
        "far_domains": list(outputs.far_domains),
        "options": jsonable(dict(vars(options))),
        "run": run,
        "notes": notes,
        "model_card": model_card(shown, data=data, bundle=outputs.facts.get("bundle"), limit=task.limit),
    }
    plain: Report = jsonable(report)
    return plain


def _order(predictions: Predictions) -> np.ndarray:
    """Return an order of the images independent of the loader and the salt of the ids, as resampling depends on it."""
    columns, labels = np.asarray(predictions.logits).T[::-1], np.atleast_2d(predictions.labels.T)
    places = list(zip(predictions.domains, predictions.splits, strict=True))
    numbers = {place: number for number, place in enumerate(sorted(set(places)))}
    return np.lexsort((*columns, *labels, [numbers[place] for place in places]))


def _sections(
    task: Task, parts: Mapping[str, Any], section: Callable[[Any, str], Any], *, id_domain: str, notes: list[str]
) -> dict[str, Any]:
    """Return the sections with figures of a report, and note which rows are no test or in no figure.

    Args:
        task: task of the report.
        parts: non-empty images or cases by section.
        section: computes a section from its images or cases and its name.
        id_domain: the in-distribution domain.
        notes: notes of the report, to which those on sections are added.
    """
    figures: dict[str, Any] = {"id": section(parts["id"], "id") if "id" in parts else None}
    others = {domain_of(key): part for key, part in parts.items() if key.startswith("ood:")}
    figures["ood"] = {name: section(part, f"ood {name}") for name, part in others.items()}
    if "val" in parts:
        figures["val"] = section(parts["val"], "val")
        notes.append(f"val: the checkpoint was selected on these {task.unit}; their figures are not a test result.")
    if "calibration" in parts:
        figures["calibration_section"] = section(parts["calibration"], "calibration")
    if "id" not in parts:
        notes.append(f"id: no test {task.unit} of the domain '{id_domain}' were evaluated.")
    if "train" in parts:
        count = f"{len(parts['train'])} training {task.unit}"
        notes.append(f"train: {count} are in {task.results} and in none of the figures.")
    return figures


def write_report(
    folder: str | os.PathLike[str],
    report: Report,
    predictions: Predictions,
    *,
    prompt_picture: np.ndarray | None = None,
    attention_picture: bytes | None = None,
    kept: Mapping[str, bytes] | None = None,
) -> Report:
    """Write report.json, report.html, MODEL_CARD.md, model_card.json, tables (CSV), charts and pictures (PNG).

    Each file is written atomically. predictions.csv names images and patients by salted ids, and no file of this folder
    holds a path.

    Args:
        folder: folder of the report, created if missing.
        report: result of :func:`build_report`.
        predictions: the images it was built from.
        prompt_picture: picture of the visual prompt, uint8 (H, W, 3).
        attention_picture: attention maps of the dynamic prompts, a PNG.
        kept: further PNGs by file name; may include "prompt.png" and "attention.png".

    Returns:
        the report with ``files``: the written files, by kind.

    Raises:
        MovlError: if the folder cannot be written.
    """
    pictures = dict(kept or {})
    if prompt_picture is not None:
        pictures["prompt.png"] = _png(prompt_picture)
    if attention_picture is not None:
        pictures["attention.png"] = attention_picture
    task = task_of(report)
    pictures |= task.pictures(predictions, report)
    tables = {f"{name}.csv": render_table(rows, style="csv") for name, rows in task.tables(report).items() if rows}
    results = task.results_text(predictions, report)
    return write_files(folder, report, results=results, tables=tables, pictures=pictures)


_AnyReport = TypeVar("_AnyReport", Report, MaskReport)


def write_files(
    folder: str | os.PathLike[str],
    report: _AnyReport,
    *,
    results: str,
    tables: Mapping[str, str] | None = None,
    pictures: Mapping[str, bytes] | None = None,
    keys: Mapping[str, str] | None = None,
) -> _AnyReport:
    """Write the files of a report of any task, each atomically: page, model cards, results, tables, charts, JSON.

    Args:
        folder: folder of the report, created if missing.
        report: the report.
        results: text of the task's file of results.
        tables: CSV texts by file name.
        pictures: PNGs by file name, besides the charts.
        keys: names of pictures in ``files``; None takes the stems.

    Returns:
        the report with ``files``: the written files, by kind.

    Raises:
        MovlError: if the folder cannot be written.
    """
    target, task = Path(folder), task_of(report)
    drawn = {**(pictures or {}), **draw_charts(report, task.figures)}
    files = {"report": "report.json", Path(task.results).stem: task.results, "page": "report.html"}
    files |= {f"{Path(name).stem}_table": name for name in tables or {}}
    files |= {(keys or {}).get(name, Path(name).stem): name for name in drawn}
    files |= {"model_card": "MODEL_CARD.md", "model_card_sections": "model_card.json"}
    complete: _AnyReport = {**report, "files": files}
    write_atomically(target / task.results, results.encode())
    card = front_matter(complete) + model_card_markdown(complete, task.figures)
    write_atomically(target / "MODEL_CARD.md", card.encode())
    write_atomically(target / "model_card.json", to_json(card_sections(complete)).encode())
    for name, text in (tables or {}).items():
        write_atomically(target / name, text.encode())
    for name, content in drawn.items():
        write_atomically(target / name, content)
    write_atomically(target / "report.html", render_html(complete, drawn, name=run_name(target)).encode())
    # written last: if it exists, the other files are of the same run
    write_atomically(target / "report.json", to_json(complete).encode())
    return complete


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"prompt_picture must be uint8 (H, W, 3), got {picture.dtype} {picture.shape}.")
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


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
    parts = case_sections(ordered, id_domain=id_domain)
    notes: list[str] = []

    def section(part: Sequence[Case], name: str) -> MaskSection:
        return _mask_section(part, name, class_names, notes, {"rounds": rounds, "level": level, "seed": seed})

    found: Any = _sections(SEGMENTATION, parts, section, id_domain=id_domain, notes=notes)
    figures = cast(MaskSections, found)
    tested = {name: part for name, part in parts.items() if is_tested(name)}
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


def _mask_section(
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
