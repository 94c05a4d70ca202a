"""Model card: data, weights, training, intended use and limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from movl_monai.metrics.declared import TaskFigures
from movl_monai.report.entries import DataRow, KeptStart, ModelCard, ModelFacts
from movl_monai.report.table import figure_rows, render_table

__all__ = ["NOT_STATED", "data_facts", "model_card", "model_card_markdown", "plain_text"]

NOTICE = "Research only. Not a medical device; not for diagnosis, screening or treatment of patients."
NOT_STATED = "not stated"
"""Intended use of a run whose bundle states none."""
KEPT_START = (
    "THE START WAS KEPT: no epoch of training was better on val than the state before the first step of training."
)
ONLY_CLASSES = "It only knows the classes listed: an image of anything else gets one of them as well."
_FEW = 100  # figures on fewer labelled test images are called rough
_SPLITS = ("train", "val", "calibration", "test", "")
_RUN = (
    *("seed", "git_commit", "git_modified", "device", "checkpoint_sha256"),
    *("checkpoint_file_sha256", "checkpoint_bytes", "versions", "threshold_selected_on"),
)


def model_card(
    report: Mapping[str, Any],
    *,
    data: Sequence[DataRow] | None = None,
    bundle: Mapping[str, Any] | None = None,
    limit: str = ONLY_CLASSES,
) -> ModelCard:
    """Collect the facts of a card; unknown facts are None, and ``notes`` names them.

    Args:
        report: report with ``run`` (:func:`~movl_monai.evaluation.run_info`), ``classes``, ``id_domain``, ``id``,
            ``ood``.
        data: result of :func:`data_facts`; None if only the evaluated images are known.
        bundle: result of :func:`~movl_monai.runs.provenance.bundle_facts`.
        limit: sentence on other contents of images.

    Returns:
        JSON-able: ``notice``; ``intended_use`` as the bundle states it, or "not stated"; ``kept_start``, a sentence, if
        training kept the state before its first step; ``model``: bundle, backbone, parts, strategy, parameters;
        ``weights``: ``source``, ``license``, ``sha256``;
        ``classes``; ``data``: images and patients by domain and split; ``run``: seed, commit, versions, checkpoint;
        ``limits``: sentences; ``notes``.

    Reference:
        Mitchell et al., Model Cards for Model Reporting, FAT* 2019. The figures are in the report and not repeated.

    Example:
        >>> card = model_card({"run": {"seed": 3}, "classes": ["no", "yes"], "id": None, "ood": {}})
        >>> card["run"]["seed"], card["weights"]["license"], card["notes"][0]
        (3, None, 'The backbone and where its weights come from are not known.')
    """
    run = report.get("run") or {}
    backbone = run.get("backbone") or {}
    kept: KeptStart = {}
    if (start := (bundle or {}).get("kept_start")) is not None:
        held = "what was solved before it" if start == "solved" else "an untrained head"
        kept["kept_start"] = f"{KEPT_START} This model holds {held}."
    card: ModelCard = {
        "notice": NOTICE,
        "intended_use": str((bundle or {}).get("intended_use") or NOT_STATED),
        **kept,
        "model": _model_facts(run, bundle or {}),
        "weights": {
            "source": backbone.get("weights"),
            "license": backbone.get("license"),
            "sha256": run.get("weights_sha256") or backbone.get("weights_sha256"),
        },
        "classes": list(report.get("classes", ())),
        "data": None if data is None else list(data),
        "run": {name: run[name] for name in _RUN if name in run},
        "limits": [],
        "notes": [],
    }
    card["limits"], card["notes"] = _limits(report, card, limit), _notes(card)
    return card


def _model_facts(run: Mapping[str, Any], bundle: Mapping[str, Any]) -> ModelFacts:
    backbone, overlays = run.get("backbone") or {}, bundle.get("overlays")
    parts = {name: run.get(name) for name in ("prompt", "adapter", "head")}
    if backbone:  # the network is known, so a missing part is "none" and not unknown
        parts = {name: part or "none" for name, part in parts.items()}
    return {
        "bundle": bundle.get("bundle"),
        "bundle_version": bundle.get("bundle_version"),
        "overlays": "none" if overlays == [] else overlays,
        "backbone": backbone.get("name"),
        "image_size": backbone.get("image_size"),
        "prompt": parts["prompt"],
        "adapter": parts["adapter"],
        "head": parts["head"],
        "strategy": run.get("strategy"),
        "trainable_parameters": run.get("trainable_parameters"),
        "backbone_parameters": run.get("backbone_parameters"),
        "trainable_percent": run.get("trainable_percent"),
    }


def data_facts(
    *,
    splits: Sequence[str | None],
    domains: Sequence[str],
    labels: Sequence[Any],
    patients: Sequence[str | None],
    class_names: Sequence[str],
    id_domain: str = "id",
) -> list[DataRow]:
    """Count images and patients by domain and split, without names of files and patients.

    Args:
        splits: split of each image; "" or None for none.
        domains: domain of each image.
        labels: position in ``class_names`` of each image's class, -1 or None for none; of findings a list of 1, 0 and
            NaN; of a regression a float, NaN for none.
        patients: identifier of each image's patient.
        class_names: names of the classes.
        id_domain: domain that comes first.

    Returns:
        rows with ``domain``, ``split``, ``images``, ``patients`` (None if any is unknown), ``classes`` (images by
        class), ``unlabeled``.

    Example:
        >>> facts = {"splits": ["val", "val"], "domains": ["id", "id"], "labels": [1, -1], "patients": ["a", "a"]}
        >>> data_facts(**facts, class_names=["no", "yes"])
        [{'domain': 'id', 'split': 'val', 'images': 2, 'patients': 1, 'classes': {'no': 0, 'yes': 1}, 'unlabeled': 1}]
    """
    columns = zip(domains, splits, labels, patients, strict=True)
    parts: dict[tuple[str, str], list[tuple[list[int], str | None]]] = {}
    for domain, split, label, patient in columns:
        parts.setdefault((str(domain), split or ""), []).append((_numbers(label), patient or None))
    rows: list[DataRow] = []
    for domain, split in sorted(parts, key=lambda place: (place[0] != id_domain, place[0], _place(place[1]))):
        members = parts[domain, split]
        counts = Counter(label for labels, _ in members for label in labels)
        known = {patient for _, patient in members}
        rows.append(
            {
                "domain": domain,
                "split": split,
                "images": len(members),
                "patients": None if None in known else len(known),
                "classes": {str(name): counts[index] for index, name in enumerate(class_names)},
                "unlabeled": counts[-1],
            }
        )
    return rows


def _numbers(label: Any) -> list[int]:
    """Return the positions of the names that a label counts for; -1 if it is unknown."""
    if isinstance(label, (list, tuple)):
        known = [value for value in label if not np.isnan(value)]
        return [number for number, value in enumerate(label) if value == 1] if known else [-1]
    if isinstance(label, float):
        return [-1 if np.isnan(label) else 0]
    return [-1 if label is None else int(label)]


def model_card_markdown(report: Mapping[str, Any], figures: TaskFigures) -> str:
    """Return the text of MODEL_CARD.md: the card of a report with its figures.

    Args:
        report: report with ``model_card``; without one, the card is made from the report.
        figures: figures of its task.
    """
    card = report.get("model_card") or model_card(report)
    lines = ["# Model card", "", *([f"**{card['kept_start']}**", ""] if card.get("kept_start") else [])]
    lines += [f"**{plain_text(card.get('notice') or card['intended_use'])}**", ""]
    lines += ["## Intended use", "", plain_text(card["intended_use"]), ""]
    lines += ["## Model", "", *_list(card["model"]), "", "## Weights", "", *_list(card["weights"]), "", "## Data", ""]
    lines += [f"Classes: {', '.join(map(plain_text, card['classes']))}.", ""]
    if card["data"]:
        lines += [_table([{**row, "classes": _classes(row)} for row in card["data"]]), ""]
    lines += ["## Figures", "", "Intervals in brackets; how they were made is in report.html.", ""]
    lines += [_table(figure_rows(report, figures.table)), ""]
    lines += ["## Limits", "", *(f"- {plain_text(text)}" for text in card["limits"]), ""]
    lines += ["## Run", "", *_list(card["run"]), ""]
    notes = [f"- {plain_text(text)}" for text in card["notes"]]
    return "\n".join([*lines, *(["## Not known", "", *notes, ""] if notes else [])])


def _place(split: str) -> int:
    return _SPLITS.index(split) if split in _SPLITS else len(_SPLITS)


def _limits(report: Mapping[str, Any], card: ModelCard, limit: str) -> list[str]:
    limits = [
        limit,
        "The intervals cover other patients of the same kind, not another training run or wrong labels.",
    ]
    section, others = report.get("id"), report.get("ood") or {}
    if not others:
        limits.append("It was not evaluated on external images; other scanners and sites are unknown ground.")
    for name, part in {"internal test": section, **others}.items():
        if part and 0 < part["n"] < _FEW:
            limits.append(f"Only {part['n']} labeled test images ({name}): the figures are rough.")
        intervals = (part or {}).get("intervals") or {}
        chance = 1 / len(card["classes"]) if "balanced_accuracy" in intervals else 0.5
        interval = intervals.get("balanced_accuracy", intervals.get("auroc"))
        if interval and interval[0] <= chance:
            limits.append(f"On the test images ({name}) it is not clearly better than guessing.")
    if not section:
        limits.append("There was no internal test: it was not evaluated on test images of the training domain.")
    if str(card["weights"]["source"] or "").startswith("random"):
        limits.append("The backbone has random weights: a test of the machinery, not of a model.")
    return limits


def _notes(card: ModelCard) -> list[str]:
    notes = []
    if card["model"]["backbone"] is None:
        notes.append("The backbone and where its weights come from are not known.")
    elif card["weights"]["license"] is None:
        notes.append("The licence of the weights is not known; ask before passing them on.")
    if card["data"] is None:
        notes.append("Counts of the data by split were not stored; evaluate again with this version of movl_monai.")
    elif not any(row["split"] == "train" for row in card["data"]):
        notes.append("The training images are not counted: they were not part of this evaluation.")
    if card["run"].get("git_commit") is None:
        notes.append("The commit of the code is not known: it was installed and not run from a checkout.")
    elif card["run"].get("git_modified"):
        notes.append("The code differed from the commit.")
    return notes


def _classes(row: Mapping[str, Any]) -> str:
    counts = [f"{name} {count}" for name, count in row["classes"].items() if count]
    return ", ".join([*counts, *([f"no label {row['unlabeled']}"] if row.get("unlabeled") else [])]) or "-"


def _list(facts: Mapping[str, Any]) -> list[str]:
    return [f"- {name.replace('_', ' ')}: {_text(value)}" for name, value in facts.items()]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_text, value))
    return "not known" if value is None else plain_text(value)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    # render_table escapes the bars itself
    safe = [
        {key: plain_text(value, "|") if isinstance(value, str) else value for key, value in row.items()} for row in rows
    ]
    return render_table(safe, style="markdown").rstrip()


def plain_text(value: Any, left: str = "") -> str:
    """Return text of Markdown that neither ends a line nor starts markup.

    Args:
        value: as text.
        left: marks that are escaped elsewhere.

    Example:
        >>> plain_text("a|b\\n`c`")
        'a\\\\|b \\\\`c\\\\`'
    """
    text = " ".join(str(value).split())
    for mark in ("\\", "<", "`", "*", "](", "|"):
        text = text if mark in left else text.replace(mark, f"\\{mark}")
    return text
