"""Out-of-distribution detection: scores fitted on train, threshold from val, figures on all other sections.

Neither out-of-distribution images nor test images take part in the choice of a score or threshold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from movl_monai.metrics.entries import ChosenScore, OODDetection, OODSet, Place, settings_of
from movl_monai.metrics.ood.gaussian import KNN, Mahalanobis, RelativeMahalanobis
from movl_monai.metrics.ood.metrics import DEFINITIONS, ood_figures
from movl_monai.metrics.ood.score import (
    MSP,
    WIDEST,
    Energy,
    FeatureSketch,
    MaxLogit,
    OODFitError,
    OODScore,
    check_features,
)
from movl_monai.metrics.ood.subspace import Residual, ViM
from movl_monai.metrics.stored.outputs import StoredOutputs

__all__ = ["DEFAULT_SCORE", "FEATURE_SCORES", "SCORES", "OODDetector", "fit_detector", "fit_ood_score", "ood_detection"]

# reports and trust records write these names
SCORES: dict[str, type[OODScore]] = {
    score.name: score for score in (MSP, MaxLogit, Energy, Mahalanobis, RelativeMahalanobis, KNN, ViM, Residual)
}

# Chosen from the literature, before any result of this project. On medical images, scores of features beat scores of
# probabilities in most cases (Gutbrod et al., OpenMIBOOD, CVPR 2025, which names ViM and an ensemble of Mahalanobis
# distances over layers). Of these, Mahalanobis has no hyperparameter, does not depend on the head, and with shrinkage
# its fit is well-posed with fewer images than features.
DEFAULT_SCORE = "mahalanobis"

FEATURE_SCORES = (Mahalanobis.name, KNN.name, Residual.name)
"""Scores of features that need no classes, for images of findings or numbers."""

_UNLIKELY = 0.001  # a flagged share of test images that is less probable gets a note
_FEW = 20  # with fewer val images, one image more or less moves the threshold past every other


@dataclass(frozen=True, kw_only=True)
class OODDetector:
    """A fitted OOD score with its threshold.

    Args:
        score: score fitted on training images.
        threshold: images with larger scores are out-of-distribution.
        target_id_kept: smallest share of the val images that the threshold keeps.
        fitted_on: ``split`` and ``n``.
        threshold_from: ``split`` and ``n``.
        sketch: of the features, which the score was fitted on; None if it was fitted on the features themselves.
    """

    score: OODScore
    threshold: float
    target_id_kept: float
    fitted_on: Place
    threshold_from: Place
    sketch: FeatureSketch | None = None

    def __call__(self, logits: ArrayLike, features: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the score (N,) and the out-of-distribution flag, bool (N,), of each image; see :class:`OODScore`."""
        if self.sketch is not None and features is not None:
            features = self.sketch(features)
        scores = self.score(logits, features)
        return scores, scores > self.threshold


def fit_ood_score(outputs: StoredOutputs, score: str) -> OODScore:
    """Fit a score on the labelled training images of stored outputs.

    Args:
        outputs: stored outputs of an evaluation.
        score: a name of :data:`SCORES`.

    Raises:
        OODFitError: if there are no training images or features, or they do not determine the score.
        ValueError: if the name is unknown.
    """
    if score not in SCORES:
        raise ValueError(f"ood_score must be one of {', '.join(SCORES)}, got {score!r}.")
    kind = SCORES[score]
    if not kind.needs_features:
        return kind.fit(logits=np.empty((0, 0)), features=np.empty((0, 0)), labels=np.empty(0, dtype=np.int64))
    train = outputs.sections().get("train")
    known = train.labeled() if train is not None else None
    if known is None or not len(known):
        raise OODFitError("There are no outputs of training images; evaluate 'train' too (`evaluation_splits`).")
    if not known.has_features:
        raise OODFitError("The stored outputs hold no features; only scores of logits can be computed.")
    features = check_features(known.features, len(known))
    labels = known.predictions.labels
    if labels.dtype.kind == "f":  # findings and numbers are no classes: the images are one
        labels = np.zeros(len(known), dtype=np.int64)
    return kind.fit(logits=known.predictions.logits, features=features, labels=labels)


def fit_detector(outputs: StoredOutputs, *, score: str = DEFAULT_SCORE, target_id_kept: float = 0.95) -> OODDetector:
    """Fit a score on train, and set its threshold to the smallest val score that keeps the target share of val.

    More than :data:`WIDEST` features are replaced by their :class:`FeatureSketch`.

    Args:
        outputs: stored outputs of an evaluation.
        score: a name of :data:`SCORES`.
        target_id_kept: share of the val images to keep, in (0, 1].

    Raises:
        OODFitError: if the score cannot be fitted, or there are no val images.
        ValueError: if the name or the target is invalid.
    """
    outputs, sketch = _narrow(outputs)
    return _fit_detector(outputs, fit_ood_score(outputs, score), target_id_kept, sketch)


def _fit_detector(
    outputs: StoredOutputs, fitted: OODScore, target_id_kept: float, sketch: FeatureSketch | None
) -> OODDetector:
    if not 0 < target_id_kept <= 1:
        raise ValueError(f"target_id_kept must be in (0, 1], got {target_id_kept}.")
    parts = outputs.sections()
    if "val" not in parts:
        raise OODFitError("There are no outputs of val images, from which the threshold comes (`evaluation_splits`).")
    scores = np.sort(_scores(fitted, parts["val"]))
    train = parts["train"].labeled() if "train" in parts else None
    return OODDetector(
        score=fitted,
        threshold=float(scores[_kept(len(scores), target_id_kept) - 1]),
        target_id_kept=target_id_kept,
        fitted_on={"split": "train", "n": len(train) if train is not None and fitted.needs_features else 0},
        threshold_from={"split": "val", "n": len(scores)},
        sketch=sketch if fitted.needs_features else None,
    )


def _narrow(outputs: StoredOutputs) -> tuple[StoredOutputs, FeatureSketch | None]:
    """Replace many features by their sketch."""
    if outputs.features.shape[1] <= WIDEST:
        return outputs, None
    check_features(outputs.features, len(outputs))
    sketch = FeatureSketch(num_features=outputs.features.shape[1])
    return dataclasses.replace(outputs, features=sketch(outputs.features)), sketch


def ood_detection(
    outputs: StoredOutputs,
    *,
    score: str = DEFAULT_SCORE,
    target_id_kept: float = 0.95,
    scores: Sequence[str] = tuple(SCORES),
    **resampling: Any,
) -> OODDetection:
    """Compute the report's entry ``ood_detection``.

    Args:
        outputs: stored outputs of an evaluation, with train and val.
        score: chosen score, a name of :data:`SCORES`; its threshold flags images.
        target_id_kept: share of val that the threshold keeps.
        scores: names of the scores to compare; the chosen one is always included.
        resampling: ``rounds``, ``level`` and ``seed`` of the intervals.

    Returns:
        ``fitted_on`` and ``threshold_from`` (``split``, ``n``, and ``target_id_kept`` of the threshold); ``chosen``
        (``score``, ``threshold``, ``bytes`` of its arrays), None if it cannot be fitted; ``sets``: for each other
        domain ``kind`` ("near": the same task elsewhere, "far": images of another kind), ``n``, ``share_outside``
        (share of this domain among the compared images), ``scores`` (figures and intervals of each, None if it cannot
        be fitted), ``flagged`` (share of its images flagged as out-of-distribution, None without a threshold) and
        ``resampling``; ``id_flagged`` (the same for the in-distribution test images); ``n_id``; ``definitions`` of the
        figures; ``notes``.

    Raises:
        ValueError: if a name or the target is invalid.
        MovlError: if features are not finite.
    """
    names = list(dict.fromkeys([*scores, score]))
    outputs, sketch = _narrow(outputs)
    parts = outputs.sections()
    fitted, notes = _fit_all(outputs, names)
    detector = _detector(outputs, score, target_id_kept, fitted, sketch, notes)
    if sketch is not None:
        notes.append(f"Scores of features read a sketch of {sketch.width} sums of the {sketch.num_features} features.")
    others = {name: part for name, part in parts.items() if name.startswith(("ood:", "far:"))}
    inside = _Scored(parts["id"], fitted) if "id" in parts else None
    sizes = {"train": len(parts["train"].labeled()) if "train" in parts else 0, "val": len(parts.get("val", ()))}
    chosen: ChosenScore | None = None
    if detector is not None:
        chosen = {"score": score, "threshold": detector.threshold, "bytes": detector.score.nbytes}
    sets: dict[str, OODSet] = {}
    for name, part in others.items():
        kind, _, domain = name.partition(":")
        scored = _Scored(part, fitted)
        sets[domain], own = _set("near" if kind == "ood" else "far", inside, scored, detector, names, resampling)
        notes += [f"{domain}: {note}" for note in own]
    notes += _notes(sizes["val"], inside is not None, bool(others)) + _surprise(detector, inside)
    return {
        "fitted_on": {"split": "train", "n": sizes["train"]},
        "threshold_from": {"split": "val", "n": sizes["val"], "target_id_kept": target_id_kept},
        "chosen": chosen,
        "sets": sets,
        "n_id": len(inside.images) if inside else 0,
        "id_flagged": _flagged(detector, inside),
        "definitions": dict(DEFINITIONS),
        "notes": notes,
    }


class _Scored:
    """Images with the values of every fitted score, in an order independent of the loader and the salt."""

    def __init__(self, images: StoredOutputs, fitted: Mapping[str, OODScore]) -> None:
        self.images = images.take(np.lexsort(images.predictions.logits.T[::-1]))
        self.scores = {name: _scores(score, self.images) for name, score in fitted.items()}


def _scores(score: OODScore, images: StoredOutputs) -> np.ndarray:
    return score(images.predictions.logits, images.features if score.needs_features else None)


def _fit_all(outputs: StoredOutputs, names: Sequence[str]) -> tuple[dict[str, OODScore], list[str]]:
    """Return the scores that can be fitted, and a note per reason why the others cannot."""
    fitted: dict[str, OODScore] = {}
    reasons: dict[str, list[str]] = {}
    for name in names:
        try:
            fitted[name] = fit_ood_score(outputs, name)
        except OODFitError as error:
            reasons.setdefault(str(error), []).append(name)
    return fitted, [f"No {', '.join(missing)}: {reason}" for reason, missing in reasons.items()]


def _detector(
    outputs: StoredOutputs,
    score: str,
    target_id_kept: float,
    fitted: Mapping[str, OODScore],
    sketch: FeatureSketch | None,
    notes: list[str],
) -> OODDetector | None:
    try:
        return _fit_detector(outputs, fitted.get(score) or fit_ood_score(outputs, score), target_id_kept, sketch)
    except OODFitError as error:
        notes.append(f"No image is marked as outside, as {score} has no threshold: {error}")
        return None


def _set(
    kind: Literal["near", "far"],
    inside: _Scored | None,
    outside: _Scored,
    detector: OODDetector | None,
    names: Sequence[str],
    resampling: Mapping[str, Any],
) -> tuple[OODSet, list[str]]:
    """Return the entry of one set, and the notes of its bootstrap."""
    count = len(outside.images)
    result: OODSet = {
        "kind": kind,
        "n": count,
        "share_outside": None,
        "scores": dict.fromkeys(names),
        "flagged": _flagged(detector, outside),
        "resampling": {},
    }
    if inside is None or not outside.scores:
        return result, []
    patients = [*inside.images.predictions.patients, *outside.images.predictions.patients]
    figures, facts = ood_figures(inside.scores, outside.scores, patients=patients, **resampling)
    result["share_outside"] = count / (count + len(inside.images))
    result["scores"] |= figures
    result["resampling"] = settings_of(facts)
    return result, facts["notes"]


def _flagged(detector: OODDetector | None, scored: _Scored | None) -> float | None:
    """Return the share of images flagged as out-of-distribution."""
    if detector is None or scored is None:
        return None
    return float(np.mean(scored.scores[detector.score.name] > detector.threshold))


def _kept(count: int, target: float) -> int:
    """Return the smallest k with k / count >= target."""
    # compare the quotient, because the product target * count may be rounded up or down
    return next(kept for kept in range(1, count + 1) if kept / count >= target)


def _surprise(detector: OODDetector | None, inside: _Scored | None) -> list[str]:
    """Return a note if more test images are flagged than is plausible for images exchangeable with val.

    The threshold is the k-th smallest of n val scores. Of m images exchangeable with val, the number beyond the
    threshold is beta-binomial with parameters n - k + 1 and k, for any distribution of scores (ties make it smaller).
    """
    from scipy.stats import betabinom

    if detector is None or inside is None:
        return []
    n, m = detector.threshold_from["n"], len(inside.images)
    kept, share = _kept(n, detector.target_id_kept), _flagged(detector, inside) or 0.0
    chance = float(betabinom.sf(round(share * m) - 1, m, n - kept + 1, kept))
    if chance >= _UNLIKELY:
        return []
    return [
        f"{share:.1%} of the in-distribution test images are marked as outside, where the threshold aims at "
        f"{1 - detector.target_id_kept:.1%}: were they exchangeable with the val images, so many would be with "
        f"probability {chance:.1g} (images taken as independent). Test and val images differ."
    ]


def _notes(n_val: int, has_id: bool, has_others: bool) -> list[str]:
    notes = []
    if 0 < n_val < _FEW:
        notes.append(f"The threshold comes from {n_val} val images; it is rough.")
    if not has_id:
        notes.append("There are no in-distribution test images to tell others from.")
    if not has_others:
        notes.append("There are no images of other domains: what is detected is not known (`far_dataset_dirs`).")
    return notes
