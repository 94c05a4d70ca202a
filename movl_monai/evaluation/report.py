"""The report of an evaluation: figures with intervals for the ID test images, each OOD domain, and val."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.evaluation.classification import classification_figures
from movl_monai.evaluation.figure import draw_figure
from movl_monai.evaluation.files import jsonable, to_json, write_atomically
from movl_monai.evaluation.html import render_html
from movl_monai.evaluation.predictions import Predictions, predictions_csv, sections
from movl_monai.evaluation.uncertainty import bootstrap_intervals

__all__ = ["SCHEMA_VERSION", "build_report", "write_report"]

SCHEMA_VERSION = 1


def build_report(
    predictions: Predictions,
    *,
    class_names: Sequence[str],
    id_domain: str = "id",
    run_info: Mapping[str, Any] | None = None,
    rounds: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all figures of an evaluation.

    Args:
        predictions: all images; the order changes nothing.
        class_names: names in the order of the logits.
        id_domain: the in-distribution domain; every other domain becomes an entry of ``ood``.
        run_info: what :func:`~movl_monai.evaluation.run_info` collected.
        rounds: resamples of the intervals.
        level: probability that an interval is to cover.
        seed: of the resampling.

    Returns:
        JSON-able, free of numbers that are not finite: ``schema_version``, ``id``, ``ood`` (one entry per domain),
        ``val`` (if there are such images), ``classes``, ``id_domain``, ``run``, ``notes``. A section has the entries of
        :func:`~movl_monai.evaluation.classification_figures`, ``n_unlabeled``, ``n_patients``, ``intervals`` (a pair
        or None each) and ``resampling``. ``id`` is None without such images.

    Raises:
        ValueError: if class names and logits do not fit.
    """
    # resampling depends on the order, so it gets one that neither the loader nor the salt of the ids can change
    columns = np.asarray(predictions.logits).T[::-1]
    parts = sections(predictions.take(np.lexsort((*columns, np.asarray(predictions.labels)))), id_domain=id_domain)
    notes: list[str] = []

    def section(images: Predictions, name: str) -> dict[str, Any]:
        return _section(images, name, class_names, notes, rounds=rounds, level=level, seed=seed)

    report: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    report["id"] = section(parts.id, "id") if len(parts.id) else None
    report["ood"] = {name: section(parts.ood[name], f"ood {name}") for name in sorted(parts.ood)}
    if len(parts.val):
        report["val"] = section(parts.val, "val")
        notes.append("val: the checkpoint was selected on these images; their figures are not a test result.")
    if len(parts.id) == 0:
        notes.append(f"id: no test images of the domain '{id_domain}' were evaluated.")
    if len(parts.train):
        notes.append(f"train: {len(parts.train)} training images are in predictions.csv and in none of the figures.")
    report |= {"classes": [str(name) for name in class_names], "id_domain": id_domain}
    report |= {"run": jsonable(dict(run_info or {}), where="run", notes=notes), "notes": notes}
    return dict(jsonable(report))


def write_report(
    folder: str | os.PathLike[str],
    report: Mapping[str, Any],
    predictions: Predictions,
    *,
    prompt_picture: np.ndarray | None = None,
    attention_picture: bytes | None = None,
) -> dict[str, Any]:
    """Write report.json, predictions.csv, figure.png, report.html, and prompt.png and attention.png if there are.

    Each file appears whole or not at all. predictions.csv names images and patients by salted ids, and no file of this
    folder holds a path.

    Args:
        folder: made if it is missing.
        report: what :func:`build_report` gave.
        predictions: the images it was built from.
        prompt_picture: what the prompt adds, uint8 (H, W, 3).
        attention_picture: what the dynamic prompts looked at, a PNG.

    Returns:
        the report with ``files``: what was written, by kind.

    Raises:
        MovlError: if the folder cannot be written.
    """
    target, names = Path(folder), list(report["classes"])
    files = {"report": "report.json", "predictions": "predictions.csv", "figure": "figure.png", "page": "report.html"}
    pictures: dict[str, bytes] = {}
    if prompt_picture is not None:
        files["prompt"] = "prompt.png"
        pictures["prompt.png"] = _png(prompt_picture)
    if attention_picture is not None:
        files["attention"] = "attention.png"
        pictures["attention.png"] = attention_picture
    pictures["figure.png"] = draw_figure(_figure_columns(predictions, report["id_domain"]), names)
    complete = {**report, "files": files}
    write_atomically(target / "predictions.csv", predictions_csv(predictions, names).encode())
    for name, content in pictures.items():
        write_atomically(target / name, content)
    write_atomically(target / "report.html", render_html(complete, pictures).encode())
    # the last one: where it is, the others are of the same run
    write_atomically(target / "report.json", to_json(complete).encode())
    return complete


def _section(
    images: Predictions, name: str, class_names: Sequence[str], notes: list[str], **options: Any
) -> dict[str, Any]:
    known = images.labeled()
    figures = classification_figures(known.labels, known.logits, class_names=class_names)
    result = bootstrap_intervals(known.labels, known.logits, patients=known.patients, **options)
    own_notes = [*figures.pop("notes"), *result.pop("notes")]
    if len(images) > len(known):
        own_notes.append(f"{len(images) - len(known)} images without a label are in none of the figures.")
    notes.extend(f"{name}: {note}" for note in own_notes)
    patients = {patient for patient in known.patients if patient is not None}
    figures["n_unlabeled"] = len(images) - len(known)
    figures["n_patients"] = len(patients) or None
    return {**figures, "intervals": result.pop("intervals"), "resampling": result, "notes": own_notes}


def _figure_columns(predictions: Predictions, id_domain: str) -> dict[str, Predictions]:
    parts = sections(predictions, id_domain=id_domain)
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
