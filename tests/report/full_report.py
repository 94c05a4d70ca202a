"""A report with every entry of schema version 2, for tests of the pages; its numbers are random."""

from __future__ import annotations

from typing import Any

import numpy as np

from movl_monai.evaluation import Predictions, build_report
from movl_monai.metrics.classification_metrics import softmax
from movl_monai.report.model_card import data_facts, model_card

NAMES = ["normal", "pneumonia", "effusion"]


def full_report(*, names: list[str] | None = None, domain: str = "scanner_b", group: str = "sex") -> dict[str, Any]:
    """A report on random predictions.

    Args:
        names: names of the three classes.
        domain: name of the OOD domain.
        group: name of the group column.
    """
    draw = np.random.default_rng(0)
    classes = list(names or NAMES)
    predictions = _predictions(draw, domain)
    report = build_report(predictions, class_names=classes, rounds=50, run_info={"seed": 0, "git_commit": "a" * 40})
    keys = ["id", f"ood:{domain}", "ood:hospital_c", "val"]
    report |= {
        "schema_version": 2,
        "calibration": _calibration(draw, keys),
        "operating_points": _operating_points(draw, keys, classes[1]),
        "ood_detection": _detection(draw, domain),
        "conformal": _conformal(draw, keys, classes),
        "abstention": _abstention(draw, keys),
        "groups": _groups(draw, keys[:3], group),
        "comparisons": [
            _comparison(draw, "linear_probe", [{"name": "linear probe"}], keys),
            _comparison(draw, "full_finetune", [{"name": "fine-tuning"}], keys),
        ],
        "explanations": {"pictures": [{"file": "gradcam.png", "about": "Grad-CAM of two cases"}], "notes": []},
        "files": {"report": "report.json", "figure": "figure.png", "page": "report.html"},
    }
    facts = data_facts(
        splits=predictions.splits,
        domains=predictions.domains,
        labels=predictions.labels.tolist(),
        patients=predictions.patients,
        class_names=classes,
    )
    report["model_card"] = model_card(report, data=facts, bundle={"bundle": "movl_classification"})
    return report


def _predictions(draw: np.random.Generator, domain: str) -> Predictions:
    """300 images, two per patient: three quarters of the test set are right, fewer in the other domain."""
    count = 300
    places = [("id", "test"), ("id", "val"), (domain, "test"), ("hospital_c", "")]
    chosen = [places[index * len(places) // count] for index in range(count)]
    labels = np.arange(count) % 3
    logits = draw.normal(size=(count, 3))
    logits[np.arange(count), labels] += [
        2.0 if place == "id" else 0.2 if place == domain else 1.0 for place, _ in chosen
    ]
    return Predictions(
        ids=[f"{index:012x}" for index in range(count)],
        logits=logits,
        labels=labels,
        domains=[place for place, _ in chosen],
        splits=[split for _, split in chosen],
        patients=[f"Smith-{index // 2}" for index in range(count)],
        patient_ids=[f"{index // 2:012x}" for index in range(count)],
    )


def _around(draw: np.random.Generator, value: float) -> list[float]:
    low, high = value - draw.uniform(0.02, 0.06), value + draw.uniform(0.02, 0.06)
    return [max(0.0, float(low)), min(1.0, float(high))]


def _bins(draw: np.random.Generator, bend: float) -> list[dict[str, Any]]:
    bins = []
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        count = 0 if low < 0.4 else int(draw.integers(3, 60))
        center = (low + high) / 2
        accuracy = float(np.clip(center - bend * (center - 0.35) + draw.normal(0, 0.03), 0, 1))
        known = {"confidence": center, "accuracy": accuracy} if count else {"confidence": None, "accuracy": None}
        bins.append({"low": low, "high": high, "n": count, **known})
    return bins


def _calibration(draw: np.random.Generator, keys: list[str]) -> dict[str, Any]:
    sections = {}
    for key in keys:
        names = ("cross_entropy", "brier", "ece")
        before, after = ({name: float(draw.uniform(0.05, 0.5)) for name in names} for _ in range(2))
        bend = 0.5 if key.startswith("ood") else 0.15
        sections[key] = {
            "before": before,
            "after": after,
            "reliability": {"before": _bins(draw, bend), "after": _bins(draw, bend / 2)},
        }
    helps = {key: not key.startswith("ood") for key in keys}
    text = "A temperature fitted on 'val' may make probabilities worse where the data differ from it."
    return {
        "temperature": 1.37,
        "fitted_on": {"split": "val", "n": 120},
        "sections": sections,
        "helps": helps,
        "warning": f"{text} Here it does in: {keys[1]}.",
        "notes": ["val: the temperature was fitted on these images; what they gain is not a test result."],
    }


def _operating_points(draw: np.random.Generator, keys: list[str], name: str) -> dict[str, Any]:
    sections = {}
    for key in keys:
        values = {figure: float(draw.uniform(0.6, 0.97)) for figure in ("sensitivity", "specificity", "ppv", "npv")}
        intervals = {figure: _around(draw, value) for figure, value in values.items()}
        sections[key] = {**values, "n_positive": 61, "n_negative": 139, "intervals": intervals}
    target, source = {"metric": "sensitivity", "at_least": 0.95}, {"split": "val", "n": 120}
    points = [
        {"class": name, "target": target, "threshold": 0.2341, "chosen_on": source, "sections": sections},
        {
            "class": name,
            "target": {"metric": "specificity", "at_least": 0.999},
            "threshold": None,
            "chosen_on": source,
            "sections": {},
            "notes": ["val has 40 negatives: a specificity of 99.9 % cannot be told from them."],
        },
    ]
    return {"points": points, "notes": []}


def _detection(draw: np.random.Generator, domain: str) -> dict[str, Any]:
    names = ("msp", "energy", "max_logit", "mahalanobis", "relative_mahalanobis", "knn", "vim")
    sets = {}
    for name, kind, level in ((domain, "near", 0.7), ("abdominal_ct", "far", 0.95)):
        scores = {}
        for score in names:
            value = float(np.clip(level + draw.normal(0, 0.05), 0.5, 0.999))
            numbers = {"auroc": value, "aupr": float(value * 0.9), "fpr95": float(1 - value)}
            scores[score] = {**numbers, "auroc_interval": _around(draw, value)}
        sets[name] = {"kind": kind, "n": 150, "scores": scores, "flagged": float(level - 0.1)}
    return {
        "fitted_on": {"split": "train", "n": 500},
        "threshold_from": {"split": "val", "n": 120, "target_id_kept": 0.95},
        "chosen": {"score": "knn", "threshold": 12.5},
        "sets": sets,
        "id_flagged": 0.06,
        "n_id": 75,
        "notes": [],
    }


def _conformal(draw: np.random.Generator, keys: list[str], classes: list[str]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for method in ("lac", "aps", "lac_per_class"):
        sections = {}
        for key in keys:
            coverage = float(draw.uniform(0.7, 0.8) if key.startswith("ood") else draw.uniform(0.88, 0.93))
            sections[key] = {
                "coverage": coverage,
                "coverage_interval": _around(draw, coverage),
                "mean_size": float(draw.uniform(1, 2)),
                "sizes": {"0": 3, "1": 140, "2": 45, "3": 12},
                "per_class_coverage": {name: float(draw.uniform(0.7, 0.95)) for name in classes},
            }
        methods[method] = {"threshold": 0.83, "sections": sections}
    small = ["9 images of a class are too few for a coverage of 95 % in each; the smallest possible is 19."]
    methods["aps_per_class"] = {"threshold": None, "sections": {}, "notes": small}
    return {"alpha": 0.1, "calibrated_on": {"split": "calibration", "n": 90}, "methods": methods, "notes": []}


def _abstention(draw: np.random.Generator, keys: list[str]) -> dict[str, Any]:
    sections = {}
    for key, worst in zip(keys, (0.12, 0.4, 0.3, 0.1), strict=True):
        coverage = np.arange(1, 101) / 100
        risk = worst * softmax(np.stack([coverage * 3, np.ones(100)], axis=1))[:, 0] + draw.normal(0, 0.002, 100)
        risk = np.clip(risk, 0, 1)
        sections[key] = {"coverage": coverage.tolist(), "risk": risk.tolist(), "aurc": float(risk.mean())}
        found = {"coverage": 0.7, "risk": float(risk[69])}
        sections[key]["at_threshold"] = {**found, "intervals": {name: _around(draw, found[name]) for name in found}}
    source = {"split": "val", "n": 120}
    return {"target_risk": 0.05, "threshold": 0.81, "chosen_on": source, "sections": sections, "notes": []}


def _groups(draw: np.random.Generator, keys: list[str], column: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in keys:
        found[key] = {}
        for value, count in (("F", 92), ("M", 101), ("", 7)):
            figures = {name: float(draw.uniform(0.7, 0.95)) for name in ("accuracy", "balanced_accuracy", "auroc")}
            intervals: dict[str, Any] = {name: _around(draw, number) for name, number in figures.items()}
            if count < 10:
                figures["auroc"], intervals["auroc"] = None, None  # type: ignore[assignment]
            found[key][value] = {"n": count, "n_patients": count // 2, "small": count < 20}
            found[key][value] |= {**figures, "intervals": intervals}
    gap = {"metric": "balanced_accuracy", "largest": 0.08, "between": ["F", "M"], "interval": [-0.02, 0.17]}
    none = {"metric": "balanced_accuracy", "largest": None, "notes": ["one group only has all classes."]}
    found["gaps"] = {keys[0]: gap, keys[1]: none, keys[2]: gap}
    return {column: found, "notes": ["7 images tell no value."]}


def _comparison(draw: np.random.Generator, name: str, strategy: Any, keys: list[str]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    for key in keys:
        sections[key] = {}
        for metric in ("accuracy", "balanced_accuracy", "auroc"):
            a, difference = float(draw.uniform(0.7, 0.95)), float(draw.normal(0.01, 0.02))
            interval = [difference - 0.03, difference + 0.03]
            sections[key][metric] = {"a": a, "b": a - difference, "difference": difference, "interval": interval}
    return {"name": name, "strategy": strategy, "sections": sections, "notes": []}
