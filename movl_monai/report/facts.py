"""Facts of a run in words: the one source of model cards and checklists, made from its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from movl_monai.report.model_card import NOT_STATED, model_card
from movl_monai.report.tasks import task_of
from movl_monai.report.words import domain_of, is_tested, percent, section_title, text_number

__all__ = ["AUTHOR", "Facts", "facts_of", "sections_of"]

AUTHOR: Final = "author"
"""In the place of a fact that the run does not know: its author has to give it."""

_FEW_CLASSES = 10

Facts = dict[str, str | None]
"""Sentences by name; None where the run does not know the fact."""


def facts_of(report: Mapping[str, Any]) -> Facts:
    """Return the facts of a run in words.

    Args:
        report: report of any task; those of earlier versions know less.

    Example:
        >>> facts = facts_of({"classes": ["no", "yes"], "run": {"seed": 3}, "id": None, "ood": {}})
        >>> facts["task"], facts["intended_use"], facts["weights"]
        ('Classification of images into no, yes.', 'not stated', None)
    """
    card = report.get("model_card") or model_card(report)
    return {**_of_card(report, card), **_of_figures(report), **_of_trust(report)}


def _of_card(report: Mapping[str, Any], card: Mapping[str, Any]) -> Facts:
    model, weights, run = card["model"], card["weights"], card["run"]
    backbone, size, name = model["backbone"], model["image_size"], model["bundle"]
    task = task_of(report)
    classes = ", ".join(map(str, card["classes"][task.per_pixel :]))
    parts = ", ".join(f"{part}: {_words(model[part])}" for part in ("prompt", "adapter", "head") if model[part])
    counted = None if model["trainable_percent"] is None else f"{model['trainable_percent']:.3g} % of the backbone's"
    versions = run.get("versions") or {}
    return {
        "name": None if name is None else f"{name} {model['bundle_version'] or ''}".strip(),
        "version": model["bundle_version"],
        "task": f"{task.goal} {classes}.",
        # cards of earlier versions had the restriction in its place
        "intended_use": card["intended_use"] if "notice" in card else NOT_STATED,
        "research_use": card.get("notice") or card["intended_use"],
        "technique": None if backbone is None else f"A pretrained network ({backbone}) adapted to medical images.",
        "classes": f"Classes: {', '.join(map(str, card['classes']))}.",
        "input": None if size is None else f"One image, RGB in [0, 1], resized to {_size(size)} px.",
        "preprocessing": None
        if size is None
        else f"Images are scaled to [0, 1] and resized to {_size(size)} px; models/run.json has every setting.",
        "output": task.output,
        "model": None if backbone is None else f"Backbone: {backbone}, {parts}.",
        "parameters": None
        if model["trainable_parameters"] is None
        else f"{model['trainable_parameters']:,} trained parameters" + (f", {counted}." if counted else "."),
        "weights": None
        if weights["source"] is None
        else f"Backbone: {weights['source']}; licence {weights['license'] or 'not known'}; "
        f"SHA-256 {weights['sha256'] or 'not known'}.",
        "training": _training(model["strategy"], run.get("seed")),
        "selection": _selection(report, card),
        "ensemble": None
        if backbone is None and model["head"] is None
        else f"Mean of the calibrated probabilities of {str(model['head']).count(' + ') + 1} networks."
        if " + " in str(model["head"])
        else "One network.",
        **_of_data(card["data"], report.get("id_domain", "id")),
        "software": ", ".join(f"{name} {number}" for name, number in versions.items() if number) or None,
        "code": None if run.get("git_commit") is None else f"movl_monai at commit {run['git_commit']}.",
        "checkpoint": None
        if run.get("checkpoint_sha256") is None
        else f"Trained state with SHA-256 {run['checkpoint_sha256']}.",
        "device": run.get("device"),
        "limits": " ".join(card["limits"]) or None,
        "unknown": " ".join(card["notes"]) or None,
        "kept_start": card.get("kept_start"),
    }


def _of_data(rows: Sequence[Mapping[str, Any]] | None, id_domain: str) -> Facts:
    if not rows:
        return dict.fromkeys(("data", "training_data", "test_data", "domains", "partitions", "balance"))
    trained = [row for row in rows if row["domain"] == id_domain and row["split"] == "train"]
    tested = [row for row in rows if row["domain"] != id_domain or row["split"] == "test"]
    disjoint = (
        "patients are known for all images, and one in two partitions is refused unless a setting allows it."
        if all(row["patients"] is not None for row in rows)
        else "patients are not known for all images."
    )
    domains = dict.fromkeys(str(row["domain"]) for row in rows)
    return {
        "data": _counts(rows),
        "training_data": _counts(trained),
        "test_data": _counts(tested),
        "domains": f"In-distribution domain: {id_domain}; "
        f"others: {', '.join(name for name in domains if name != id_domain) or 'none'}.",
        "partitions": f"{', '.join(dict.fromkeys(str(row['split'] or 'all') for row in rows))}; {disjoint}",
        "balance": _counts(trained) if trained and trained[0]["classes"] else None,
    }


def _of_figures(report: Mapping[str, Any]) -> Facts:
    figures = task_of(report).figures
    shown = [(name, figures.declared[name]) for name in figures.table]
    lines = {
        key: f"{section_title(key)} (n = {part['n']}): "
        + ", ".join(f"{one.title} {text_number(part[name], part['intervals'][name])}" for name, one in shown)
        + "."
        for key, part in sections_of(report).items()
    }
    internal, external = lines.get("id"), " ".join(line for key, line in lines.items() if key != "id")
    parts = list(sections_of(report).values())
    unlabeled = sum(part.get("n_unlabeled", 0) for part in parts)
    return {
        "metrics": f"{'; '.join(f'{one.title}: {one.definition}' for _, one in shown)}.",
        "figures": " ".join(lines.values()) or None,
        "internal": internal or "No test images of the training domain were evaluated.",
        "external": external or "No images of other domains were evaluated.",
        "uncertainty": _resampling(parts[0]["resampling"]) if parts else None,
        "events": _events(report),
        "confusion": _confusion(report.get("id"), report["classes"]),
        "missing": "Unreadable files are in no figure; ingest_report.csv names the reason of each. "
        f"Test images without a label, which are in no figure: {unlabeled}.",
        "groups": _groups(report.get("groups")),
    }


def sections_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the sections with test images."""
    others = {f"ood:{name}": part for name, part in (report.get("ood") or {}).items()}
    return {key: part for key, part in {"id": report.get("id"), **others}.items() if part}


def _of_trust(report: Mapping[str, Any]) -> Facts:
    calibration, points = report.get("calibration") or {}, (report.get("operating_points") or {}).get("points") or []
    detection, abstention = report.get("ood_detection") or {}, report.get("abstention") or {}
    conformal, chosen = report.get("conformal") or {}, (report.get("ood_detection") or {}).get("chosen")
    temperature, pictures = calibration.get("temperature"), (report.get("explanations") or {}).get("pictures")
    compared = [str(one["name"]) for one in report.get("comparisons") or []]
    thresholds = [
        f"{point['class']} from {text_number(point['threshold'])} ({point['target']['metric']} of at least "
        f"{percent(point['target']['at_least'])} on {point['chosen_on']['split']})"
        for point in points
        if point["threshold"] is not None
    ]
    found = {
        "calibration": None
        if temperature is None
        else f"Temperature {temperature:.3g}, fitted on {_place(calibration['fitted_on'])}; {_ece(calibration)}",
        "thresholds": f"Operating points: {'; '.join(thresholds)}." if thresholds else None,
        "outside": None
        if chosen is None
        else f"Images are flagged as out-of-distribution by {chosen['score']}, with a threshold from "
        f"{_place(detection['threshold_from'])}"
        + "".join(f"; {name}: {percent(one['flagged'])} flagged" for name, one in detection["sets"].items())
        + ".",
        "prediction_sets": f"Prediction sets that aim at a coverage of {percent(1 - conformal['alpha'])}."
        if conformal.get("methods")
        else None,
        "abstention": None
        if abstention.get("threshold") is None
        else f"No answer below a confidence of {text_number(abstention['threshold'])}, chosen on "
        f"{_place(abstention['chosen_on'])} for an error rate of {percent(abstention['target_risk'])}.",
        "explanations": f"Pictures of the image regions that the network uses: {len(pictures)}." if pictures else None,
        "comparisons": f"Paired differences on the same test images to: {', '.join(compared)}." if compared else None,
    }
    return {**found, **task_of(report).trust_facts(report)}


def _training(strategy: Any, seed: Any) -> str | None:
    if not strategy:
        return None
    stages = [stage if isinstance(stage, Mapping) else {"name": stage} for stage in _list(strategy)]
    return f"Stages: {'; '.join(_stage(stage) for stage in stages)}. Seed: {'not known' if seed is None else seed}."


def _stage(stage: Mapping[str, Any]) -> str:
    rates = ", ".join(f"{part} {rate:.3g}" for part, rate in (stage.get("lr") or {}).items())
    words = [f"epochs {stage['epochs']}"] if stage.get("epochs") else []
    words += [f"learning rates {rates}"] if rates else []
    words += ["head solved exactly"] if stage.get("solve_head") else []
    return f"{stage.get('name') or 'training'} ({', '.join(words)})" if words else str(stage.get("name"))


def _selection(report: Mapping[str, Any], card: Mapping[str, Any]) -> str | None:
    rows = [row for row in card["data"] or [] if row["split"] == "val"]
    val = sum(row["images"] for row in rows) or (report.get("val") or {}).get("n")
    if not val:
        return None
    return f"The best state on val ({val} images) was kept. {card.get('kept_start') or ''}".strip()


def _counts(rows: Sequence[Mapping[str, Any]]) -> str | None:
    texts = []
    for row in rows:
        classes = ", ".join(f"{name} {count}" for name, count in row["classes"].items())
        patients = "an unknown number of" if row["patients"] is None else row["patients"]
        texts.append(
            f"{row['domain']}, {row['split'] or 'all'}: {row['images']} images of {patients} patients"
            + (f" ({classes})" if classes else "")
        )
    return f"{'; '.join(texts)}." if texts else None


def _events(report: Mapping[str, Any]) -> str | None:
    texts = [
        f"{section_title(key)}: {part['n']} ("
        + ", ".join(f"{name} {one['n']}" for name, one in part["per_class"].items())
        + ")"
        for key, part in sections_of(report).items()
        if part.get("per_class")
    ]
    return f"{'; '.join(texts)}." if texts else None


def _confusion(section: Mapping[str, Any] | None, classes: Sequence[str]) -> str | None:
    matrix = (section or {}).get("confusion_matrix")
    if not matrix:
        return None
    if len(classes) > _FEW_CLASSES:
        return "Confusion matrices of all tests are in report.json."
    rows = [
        f"{label} as " + ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
        for label, counts in zip(classes, matrix, strict=True)
    ]
    return f"Internal test, label and prediction: {'; '.join(rows)}."


def _groups(groups: Mapping[str, Any] | None) -> str | None:
    columns = {name: part for name, part in (groups or {}).items() if isinstance(part, Mapping)}
    texts = []
    for name, part in columns.items():
        gap = (part.get("gaps") or {}).get("id") or {}
        found = "" if gap.get("largest") is None else f" (largest gap {gap['largest']:.3f})"
        texts.append(f"{name}{found}")
    return f"Figures of every group of: {', '.join(texts)}." if texts else None


def _resampling(facts: Mapping[str, Any]) -> str:
    return (
        f"{percent(facts['level'], digits=0)} bootstrap intervals, {facts['rounds']} resamples of "
        f"{facts['num_resampled']} {facts['resampled']}."
    )


def _ece(calibration: Mapping[str, Any]) -> str:
    texts = [
        f"{section_title(key)}: expected calibration error {text_number(part['before']['ece'])}"
        + (f", after it {text_number(part['after']['ece'])}" if part["after"] else "")
        for key, part in calibration["sections"].items()
        if is_tested(key)
    ]
    return "; ".join(texts) + "."


def _place(place: Mapping[str, Any]) -> str:
    return f"{place['n']} images of {domain_of(str(place['split']))}"


def _size(size: Any) -> str:
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return f"{height} x {width}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(
            [str(value.get("name", "")), *(f"{key} {part}" for key, part in value.items() if key != "name")]
        )
    return str(value)


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
