"""Several findings for each image: each present or absent, as a classification of two classes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.special import expit

from movl_monai.fonts import legible_names
from movl_monai.metrics.calibration import calibration_report
from movl_monai.metrics.conformal import conformal_report
from movl_monai.metrics.declared import FINDING_FIGURES
from movl_monai.metrics.entries import Abstention, ClassIntervals, FindingThreshold, OperatingPoint, settings_of
from movl_monai.metrics.findings import (
    FindingFigures,
    called,
    cooccurrence,
    finding_labels,
    finding_sections,
    finding_thresholds,
    of_finding,
    threshold_logit,
)
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.operating_points import operating_points_report
from movl_monai.metrics.selective import abstention_report
from movl_monai.metrics.stored.outputs import StoredOutputs
from movl_monai.metrics.stored.predictions import Predictions, sections
from movl_monai.metrics.subgroups import group_report
from movl_monai.report.classification_task import NO_ANSWER_OUTSIDE, NO_ANSWER_UNSURE
from movl_monai.report.entries import FindingRates, FindingsTrust, FindingTrust, ResamplingOptions
from movl_monai.report.figure import draw_curves
from movl_monai.report.image_task import ImageTask, section_facts
from movl_monai.report.options import ReportOptions
from movl_monai.report.sections.figures import score_names
from movl_monai.report.sections.findings import (
    draw_findings,
    facts_on_findings,
    finding_tables,
    finding_words,
    findings_trust_table,
    notes_on_findings,
    trust_of_findings,
)
from movl_monai.report.sections.first_screen import tested_sections
from movl_monai.report.trust_entries import NO_GROUPS, calibrated_on, feature_detection, shown_sections

__all__ = ["MULTILABEL", "NO_FINDING", "Multilabel"]

NO_FINDING = "No finding"
_SIDES = ("negative", "positive")
_MOST_SAID = 4  # findings in a line below a picture
_SET_METHODS = ("lac", "lac_per_class")


class Multilabel(ImageTask):
    """Several findings for each image, from logits (B, K) with a sigmoid each."""

    name = "multilabel"
    figures = FINDING_FIGURES
    page = "multilabel"
    goal = "Detection in images of the findings"
    output = "One logit per finding, from it a probability, and the finding is called positive from a threshold on."
    limit = "It only knows the findings listed: anything else in an image goes unreported."
    row_entries = (
        *("id", "status", "reason", "detail", "answer", "format", "modality", "frame", "rows", "columns"),
        *("findings", "positive", "probabilities", "calibrated", "prediction_sets"),
        *("ood_score", "outside", "abstain"),
    )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Compute the probability of each finding, (N, K); those of an image are independent of each other."""
        return expit(np.asarray(logits, dtype=np.float64))

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the findings that are more likely than not, bool (N, K)."""
        return probabilities >= 0.5

    def weighted(
        self, images: Predictions, outputs: StoredOutputs, *, metrics: Sequence[str] | None = None
    ) -> FindingFigures:
        """Return the figures of labelled images as a function of their weights, at the thresholds chosen on val."""
        limits = [one["threshold"] for one in _thresholds(outputs).values()]
        return FindingFigures(finding_labels(images), images.logits, thresholds=limits, metrics=metrics)

    def section(self, images: StoredOutputs, options: ResamplingOptions, outputs: StoredOutputs) -> dict[str, Any]:
        """Compute a :class:`~movl_monai.report.entries.FindingSection` of the labelled images."""
        known, names = images.predictions.labeled(), images.class_names
        figures = self.weighted(known, outputs)
        bootstrap = PatientBootstrap(len(known), known.patients, **options)
        intervals = bootstrap.intervals(figures, why="no finding had images on both sides")
        once = np.ones((len(known), 1))
        own = PatientBootstrap(len(known), known.patients, **options)
        drawn = own.intervals(partial(_by_finding, figures, names), why="one side had no images")
        values = {name: column[:, 0] for name, column in figures.per_finding(once).items()}
        rates = {str(name): _rates(figures, values, index) for index, name in enumerate(names)}
        pairs = ~np.isnan(figures.truth) & ~np.isnan(figures.calls)
        return {
            **section_facts(images, known),
            **{name: _number(value[0]) for name, value in figures(once).items()},
            "per_class": rates,
            "per_class_intervals": {name: _intervals_of(drawn, name) for name in rates},
            "cooccurrence": {
                "labels": cooccurrence(figures.truth, ~np.isnan(figures.truth)),
                "predicted": cooccurrence(figures.calls, pairs),
            },
            "intervals": intervals,
            "resampling": settings_of(bootstrap.facts),
            "notes": list(dict.fromkeys([*_gaps(rates, _thresholds(outputs)), *bootstrap.notes, *own.notes])),
        }

    def trust(self, outputs: StoredOutputs, options: ReportOptions) -> Mapping[str, Any]:
        """Compute :class:`~movl_monai.report.entries.FindingsTrust`."""
        parts, chosen = shown_sections(outputs), _thresholds(outputs)
        points: list[OperatingPoint] = []
        notes: list[str] = []
        findings: dict[str, FindingTrust] = {}
        targets = [(point["metric"], point["at_least"]) for point in options.operating_points]
        for index, name in enumerate(chosen):
            views = finding_sections(parts, index)
            found = operating_points_report(
                views, class_names=[f"no {name}", name], targets=targets, **options.resampling
            )
            points += found["points"]
            notes += [f"{name}: {note}" if "no labeled images" in note else note for note in found["notes"]]
            findings[name] = {
                "threshold": chosen[name],
                "calibration": calibration_report(views, **options.resampling),
                "conformal": conformal_report(
                    views,
                    class_names=_SIDES,
                    calibrated_on=calibrated_on(outputs),
                    alpha=options.alpha,
                    methods=_SET_METHODS,
                    level=options.level,
                    seed=options.seed,
                ),
                "abstention": _abstention(parts, index, chosen[name], options),
            }
        leading = FINDING_FIGURES.leading
        groups = group_report(
            parts,
            metrics=leading,
            weighted=lambda images: self.weighted(images, outputs, metrics=leading),
            small_below=options.small_group,
            **options.resampling,
        )
        if not outputs.groups:
            groups["notes"] = [*groups["notes"], NO_GROUPS]
        entries: FindingsTrust = {
            "findings": findings,
            "operating_points": {"points": points, "notes": list(dict.fromkeys(notes))},
            "ood_detection": feature_detection(outputs, options),
            "groups": groups,
        }
        return entries

    def results_text(self, predictions: Predictions, report: Mapping[str, Any]) -> str:
        """Return the text of predictions.csv: labels, calls and probabilities of every finding."""
        class_names = list(report["classes"])
        limits = [report["findings"][name]["threshold"]["threshold"] for name in class_names]
        calls = called(predictions.logits, limits)
        labels, probabilities = finding_labels(predictions), self.probabilities(predictions.logits)
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        columns = [f"{kind}{name}" for kind in ("label_", "positive_", "probability_") for name in class_names]
        writer.writerow(["id", *columns, "split", "domain", "patient"])
        for row, image_id in enumerate(predictions.ids):
            known = ["" if np.isnan(value) else int(value) for value in labels[row]]
            said = ["" if np.isnan(value) else "yes" if value else "no" for value in calls[row]]
            numbers = [repr(float(value)) for value in probabilities[row]]
            tail = [column[row] or "" for column in (predictions.splits, predictions.domains, predictions.patient_ids)]
            writer.writerow([image_id, *known, *said, *numbers, *tail])
        return stream.getvalue()

    def pictures(self, predictions: Predictions, report: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the ROC curves, and the AUROC of every finding."""
        parts = sections(predictions, id_domain=report["id_domain"], far_domains=report.get("far_domains", ()))
        columns = {"Internal test (ID)": parts.id} if len(parts.id) or not parts.ood else {}
        columns |= {f"External test: {name}": parts.ood[name] for name in sorted(parts.ood)}
        names = list(report["classes"])
        curves = {
            title: {name: _curve(part, index) for index, name in enumerate(names)} for title, part in columns.items()
        }
        chart = draw_findings(report)
        return {"figure.png": draw_curves(curves)} | ({} if chart is None else {"findings.png": chart})

    def tables(self, report: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of its tables."""
        return finding_tables(report)

    def words(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sentences of the first screen."""
        return {**finding_words(report), "trust": findings_trust_table(report)}

    def page_values(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the variables of its sections."""
        return {
            "scores": score_names(report),
            "tested": tested_sections(report),
            "trust_notes": notes_on_findings(report),
            "trust_rows": list(trust_of_findings(report)),
        }

    def trust_facts(self, report: Mapping[str, Any]) -> dict[str, str | None]:
        """Return facts of model cards on temperatures, thresholds, prediction sets and abstention of the findings."""
        return facts_on_findings(report)

    def answers(
        self, logits: np.ndarray, features: np.ndarray | None, *, class_names: Sequence[str], trust: Any = None
    ) -> list[dict[str, Any]]:
        """Return the calls of each image with their probabilities, and the judgement of a trust record.

        Args:
            logits: (N, K), before the sigmoid.
            features: (N, F), the input of the head; None if unknown.
            class_names: the K findings.
            trust: a :class:`~movl_monai.evaluation.trust_record.TrustRecord`, or None.

        Returns:
            for each image ``answer`` (the positive findings, "No finding", or a sentence with the reason why there is
            none), ``findings`` (names of the positive ones), ``positive`` (K; None where it does not answer: outside,
            not sure enough, or no threshold), ``probabilities`` (K) of the raw logits, and from the trust record, None
            if unknown: ``calibrated`` (K; None if the image is outside), ``prediction_sets`` (K: "positive",
            "negative", "both" or "none"), ``ood_score``, ``outside``, ``abstain`` (no finding is answered). Without a
            trust record a finding is positive from 0.5 on.
        """
        values = np.asarray(logits, dtype=np.float64)
        probabilities = self.probabilities(values)
        image = None if trust is None else trust.apply(values, features)
        judged = [_judge(values[:, index], part) for index, part in enumerate(() if trust is None else trust.findings)]
        rows = []
        for number in range(len(values)):
            outside = None if image is None or image.outside is None else bool(image.outside[number])
            positive: list[bool | None] = [bool(call) for call in self.decide(probabilities[number])]
            if judged:
                positive = [part["positive"][number] for part in judged]
            if outside:
                positive = [None] * len(positive)
            findings = [name for name, call in zip(class_names, positive, strict=True) if call]
            unsure = [name for name, call in zip(class_names, positive, strict=True) if call is None]
            rows.append(
                {
                    "answer": _answer(findings, unsure, outside=bool(outside), count=len(positive)),
                    "findings": findings,
                    "positive": positive,
                    "probabilities": probabilities[number].tolist(),
                    "calibrated": None if outside else _column(judged, "calibrated", number),
                    "prediction_sets": _column(judged, "set", number),
                    "ood_score": None if image is None or image.ood_scores is None else float(image.ood_scores[number]),
                    "outside": outside,
                    "abstain": len(unsure) == len(positive) if judged or outside is not None else None,
                }
            )
        return rows

    def said(self, row: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
        """Return the lines below the picture of an image: the positive findings, then those without an answer."""
        names = legible_names(class_names)
        values = row.get("calibrated") or row["probabilities"]
        columns = list(zip(names, row["positive"], values, strict=True))
        silent = [name for name, call, _ in columns if call is None]
        if len(silent) == len(columns):
            return [str(row["answer"])]
        found = [name if value is None else f"{name} {value:.2f}" for name, call, value in columns if call]
        kind = "calibrated" if row.get("calibrated") else "not calibrated"
        said = f"Positive: {_listed(found)} ({kind})" if found else "No other finding" if silent else NO_FINDING
        return [said, *([f"No answer for {_listed(silent)}"] if silent else [])]

    def names_in(self, row: Mapping[str, Any]) -> list[str]:
        """Return the positive findings of a row of predictions."""
        return list(row.get("findings") or ())


def _listed(texts: Sequence[str]) -> str:
    """Return the first texts, as many as fit below a picture, and the number of the others."""
    more = len(texts) - _MOST_SAID
    return ", ".join(texts[:_MOST_SAID]) + (f" and {more} more" if more > 0 else "")


def _thresholds(outputs: StoredOutputs) -> dict[str, FindingThreshold]:
    val = outputs.sections().get("val")
    return finding_thresholds(None if val is None else val.predictions, outputs.class_names)


def _by_finding(figures: FindingFigures, names: Sequence[str], weights: np.ndarray) -> dict[str, np.ndarray]:
    columns = figures.per_finding(weights)
    return {f"{figure} of {name}": column[row] for row, name in enumerate(names) for figure, column in columns.items()}


def _rates(figures: FindingFigures, values: Mapping[str, np.ndarray], index: int) -> FindingRates:
    truth = figures.truth[:, index]
    known, positive = int((~np.isnan(truth)).sum()), int((truth == 1).sum())
    return {
        "n": known,
        "n_positive": positive,
        "prevalence": positive / known if known else None,
        "auroc": _number(values["auroc"][index]),
        "average_precision": _number(values["average_precision"][index]),
        "sensitivity": _number(values["sensitivity"][index]),
        "specificity": _number(values["specificity"][index]),
    }


def _intervals_of(drawn: Mapping[str, Any], name: str) -> ClassIntervals:
    return {
        "sensitivity": drawn[f"sensitivity of {name}"],
        "specificity": drawn[f"specificity of {name}"],
        "auroc": drawn[f"auroc of {name}"],
        "average_precision": drawn[f"average_precision of {name}"],
    }


def _gaps(rates: Mapping[str, FindingRates], chosen: Mapping[str, FindingThreshold]) -> list[str]:
    """Return the reasons why findings have no value."""
    reasons = {
        "no known label": [name for name, one in rates.items() if not one["n"]],
        "no positive image": [name for name, one in rates.items() if one["n"] and not one["n_positive"]],
        "no negative image": [name for name, one in rates.items() if one["n"] and one["n_positive"] == one["n"]],
    }
    notes = [
        f"{', '.join(names)}: {reason} here, so no AUROC; the means are over the other findings."
        for reason, names in reasons.items()
        if names
    ]
    missing: dict[str, list[str]] = {}
    for name, one in chosen.items():
        if one["threshold"] is None:
            missing.setdefault(one["notes"][0].removeprefix("No threshold: "), []).append(name)
    return notes + [
        f"{', '.join(names)}: no threshold, so neither sensitivity nor specificity. {reason}"
        for reason, names in missing.items()
    ]


def _abstention(
    parts: Mapping[str, StoredOutputs], index: int, chosen: FindingThreshold, options: ReportOptions
) -> Abstention:
    if chosen["threshold"] is None:
        return {
            "target_risk": options.target_risk,
            "threshold": None,
            "chosen_on": chosen["chosen_on"],
            "sections": {},
            "notes": list(chosen["notes"]),
        }
    views = finding_sections(parts, index, threshold=chosen["threshold"])
    return abstention_report(views, target_risk=options.target_risk, **options.resampling)


def _curve(images: Predictions, index: int) -> tuple[np.ndarray, np.ndarray]:
    known = of_finding(images, index)
    return known.labels == 1, expit(known.logits[:, 1])


def _judge(logits: np.ndarray, record: Any) -> dict[str, list[Any]]:
    """Return the calls (None: no answer), the calibrated probabilities and the prediction sets of one finding."""
    pairs = np.stack([np.zeros(len(logits)), logits], axis=1)
    trusted = record.apply(pairs)
    found: dict[str, list[Any]] = {"positive": [None] * len(logits)}
    if record.threshold is not None:
        calls = expit(logits) >= record.threshold
        unsure = record.apply(pairs - [0, threshold_logit(record.threshold)]).abstain
        silent = np.zeros(len(logits), dtype=bool) if unsure is None else unsure
        found["positive"] = [None if quiet else bool(call) for call, quiet in zip(calls, silent, strict=True)]
    if trusted.probabilities is not None:
        found["calibrated"] = trusted.probabilities[:, 1].tolist()
    if trusted.sets is not None:
        found["set"] = [_set_name(*row) for row in trusted.sets.tolist()]
    return found


def _set_name(negative: bool, positive: bool) -> str:
    return {(True, True): "both", (False, False): "none"}.get((negative, positive), _SIDES[int(positive)])


def _column(judged: Sequence[Mapping[str, list[Any]]], name: str, number: int) -> list[Any] | None:
    """Return a value of each finding for one image; None if it is known of none."""
    if not any(name in part for part in judged):
        return None
    return [part[name][number] if name in part else None for part in judged]


def _answer(findings: Sequence[str], unsure: Sequence[str], *, outside: bool, count: int) -> str:
    if outside:
        return NO_ANSWER_OUTSIDE
    if len(unsure) == count:
        return NO_ANSWER_UNSURE
    said = ", ".join(findings) or ("No other finding" if unsure else NO_FINDING)
    return f"{said}; no answer for {', '.join(unsure)}" if unsure else said


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


MULTILABEL = Multilabel()
"""The task of several findings per image."""
