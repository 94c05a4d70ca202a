"""Report of an evaluation: figures for each section with intervals, and the entries on trust."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.files import jsonable, to_json, write_atomically
from movl_monai.metrics.classification import section_figures
from movl_monai.metrics.entries import settings_of
from movl_monai.metrics.intervals import bootstrap_class_intervals, bootstrap_intervals
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions, predictions_csv, sections
from movl_monai.report.entries import Report, ResamplingOptions, Section, Sections
from movl_monai.report.figure import draw_figure
from movl_monai.report.html import render_html
from movl_monai.report.model_card import data_facts, model_card, model_card_markdown
from movl_monai.report.options import ReportOptions
from movl_monai.report.report_tables import report_tables
from movl_monai.report.sections.charts import draw_charts
from movl_monai.report.table import render_table
from movl_monai.report.trust_entries import trust_entries

__all__ = ["SCHEMA_VERSION", "build_report", "report_of_outputs", "write_report"]

SCHEMA_VERSION = 2


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
        JSON-able, without non-finite numbers; described by ``report_schema.json`` beside this module:
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
    figures = _figures(outputs, options, notes)
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
    report: Report = {
        "schema_version": SCHEMA_VERSION,
        **figures,
        **trust_entries(outputs, options),
        "comparisons": [],
        "explanations": {"pictures": [], "notes": []},
        "classes": names,
        "id_domain": outputs.id_domain,
        "far_domains": list(outputs.far_domains),
        "options": jsonable(dict(vars(options))),
        "run": run,
        "notes": notes,
        "model_card": model_card(shown, data=data, bundle=outputs.facts.get("bundle")),
    }
    plain: Report = jsonable(report)
    return plain


def _order(predictions: Predictions) -> np.ndarray:
    """Return an order of the images independent of the loader and the salt of the ids, as resampling depends on it."""
    columns = np.asarray(predictions.logits).T[::-1]
    places = list(zip(predictions.domains, predictions.splits, strict=True))
    numbers = {place: number for number, place in enumerate(sorted(set(places)))}
    return np.lexsort((*columns, predictions.labels, [numbers[place] for place in places]))


def _figures(outputs: StoredOutputs, options: ReportOptions, notes: list[str]) -> Sections:
    parts = sections(outputs.predictions, id_domain=outputs.id_domain, far_domains=outputs.far_domains)

    def section(images: Predictions, name: str) -> Section:
        return _section(images, name, outputs.class_names, notes, options.resampling)

    figures: Sections = {
        "id": section(parts.id, "id") if len(parts.id) else None,
        "ood": {name: section(parts.ood[name], f"ood {name}") for name in sorted(parts.ood)},
    }
    if len(parts.val):
        figures["val"] = section(parts.val, "val")
        notes.append("val: the checkpoint was selected on these images; their figures are not a test result.")
    if len(parts.calibration):
        figures["calibration_section"] = section(parts.calibration, "calibration")
    if len(parts.id) == 0:
        notes.append(f"id: no test images of the domain '{outputs.id_domain}' were evaluated.")
    if len(parts.train):
        notes.append(f"train: {len(parts.train)} training images are in predictions.csv and in none of the figures.")
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
    """Write report.json, report.html, MODEL_CARD.md, tables (CSV), charts and pictures (PNG).

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
    target, names = Path(folder), list(report["classes"])
    pictures = dict(kept or {})
    if prompt_picture is not None:
        pictures["prompt.png"] = _png(prompt_picture)
    if attention_picture is not None:
        pictures["attention.png"] = attention_picture
    pictures["figure.png"] = draw_figure(_figure_columns(predictions, report), names)
    pictures |= draw_charts(report)
    tables = {f"{name}.csv": render_table(rows, style="csv") for name, rows in report_tables(report).items() if rows}
    files = {"report": "report.json", "predictions": "predictions.csv", "page": "report.html"}
    files |= {f"{Path(name).stem}_table": name for name in tables} | {Path(name).stem: name for name in pictures}
    files["model_card"] = "MODEL_CARD.md"
    complete: Report = {**report, "files": files}
    write_atomically(target / "predictions.csv", predictions_csv(predictions, names).encode())
    write_atomically(target / "MODEL_CARD.md", model_card_markdown(complete).encode())
    for name, text in tables.items():
        write_atomically(target / name, text.encode())
    for name, content in pictures.items():
        write_atomically(target / name, content)
    write_atomically(target / "report.html", render_html(complete, pictures).encode())
    # written last: if it exists, the other files are of the same run
    write_atomically(target / "report.json", to_json(complete).encode())
    return complete


def _section(
    images: Predictions, name: str, class_names: Sequence[str], notes: list[str], options: ResamplingOptions
) -> Section:
    known = images.labeled()
    figures, reasons = section_figures(known.labels, known.logits, class_names=class_names)
    drawn = bootstrap_intervals(known.labels, known.logits, patients=known.patients, **options)
    classes = bootstrap_class_intervals(
        known.labels, known.logits, class_names=class_names, patients=known.patients, **options
    )
    own_notes = list(dict.fromkeys([*reasons, *drawn["notes"], *classes["notes"]]))
    if len(images) > len(known):
        own_notes.append(f"{len(images) - len(known)} images without a label are in none of the figures.")
    notes.extend(f"{name}: {note}" for note in own_notes)
    patients = {patient for patient in known.patients if patient is not None}
    return {
        **figures,
        "n_unlabeled": len(images) - len(known),
        "n_patients": len(patients) or None,
        "intervals": drawn["intervals"],
        "per_class_intervals": classes["per_class"],
        "resampling": settings_of(drawn),
        "notes": own_notes,
    }


def _figure_columns(predictions: Predictions, report: Report) -> dict[str, Predictions]:
    far = report.get("far_domains", ())
    parts = sections(predictions, id_domain=report["id_domain"], far_domains=far)
    columns = {"in-distribution (ID)": parts.id} if len(parts.id) or not parts.ood else {}
    columns |= {f"out-of-distribution (OOD): {name}": parts.ood[name] for name in sorted(parts.ood)}
    return {title: part.labeled() for title, part in columns.items()}


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"prompt_picture must be uint8 (H, W, 3), got {picture.dtype} {picture.shape}.")
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()
