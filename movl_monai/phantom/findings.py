"""Radiographs with several findings at once, labelled as in CheXpert: with uncertain and unknown labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from movl_monai.phantom.anatomy import (
    draw_anatomy,
    draw_consolidation,
    draw_effusion,
    draw_nodules,
    enlarge_heart,
)
from movl_monai.phantom.kinds import Kind, Plan, Table, choose, radiograph_path, write_radiograph

__all__ = ["FINDINGS", "FINDINGS_COLUMNS", "FINDINGS_LABEL", "Findings", "NO_FINDING", "draw_findings"]

FINDINGS = ("Cardiomegaly", "Consolidation", "Effusion", "Nodule")
NO_FINDING = "No Finding"
_UNCERTAIN = {1: 0.14, 0: 0.06}
_BLANK = {1: 0.05, 0: 0.12}


@dataclass(frozen=True)
class Findings:
    """Findings of an image.

    Args:
        truth: 1 for a finding that was drawn, else 0, in the order of :data:`FINDINGS`.
        stated: the same as a reader states it: "1", "0", "-1" for uncertain, "" for not mentioned.
    """

    truth: tuple[int, ...]
    stated: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the findings, or "No Finding"."""
        return tuple(name for name, drawn in zip(FINDINGS, self.truth, strict=True) if drawn) or (NO_FINDING,)


def draw_findings(patients: int, images: int, rng: np.random.Generator) -> list[list[Findings]]:
    """Draw the findings of a split, some of which occur together.

    Cardiomegaly belongs to the patient (three of ten). Effusion is more frequent with cardiomegaly, consolidation with
    effusion. The number of images with each finding is its expectation, at least one and not all. About 9 % of the
    stated labels are uncertain, more often of findings that are there, and 10 % are blank, more often of those that are
    not; one label 1 and one label 0 of each finding always stay.

    Args:
        patients: number of patients.
        images: of every patient.
        rng: random generator.

    Returns:
        Findings by patient and image.
    """
    if patients == 0:
        return []
    heart = np.repeat(choose(np.full(patients, 0.3), rng), images)
    prone = np.repeat(rng.normal(0, 0.07, size=patients), images)  # some patients have more than others
    effusion = choose(np.clip(0.2 + 0.35 * heart + prone, 0.02, 0.98), rng)
    consolidation = choose(np.clip(0.18 + 0.3 * effusion + prone, 0.02, 0.98), rng)
    nodule = choose(np.clip(0.3 + prone, 0.02, 0.98), rng)
    truth = np.stack([heart, consolidation, effusion, nodule], axis=1)
    stated = np.stack([_state(column, rng) for column in truth.T], axis=1)
    drawn = [Findings(tuple(map(int, row)), tuple(map(str, words))) for row, words in zip(truth, stated, strict=True)]
    return [drawn[first : first + images] for first in range(0, len(drawn), images)]


def _state(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the labels as written, some of them uncertain or blank; the shares are met by random rounding."""
    stated = truth.astype("<U2")
    for value in (1, 0):
        places = rng.permutation(np.flatnonzero(truth == value))
        first = 1  # stays
        for share, word in ((_UNCERTAIN[value], "-1"), (_BLANK[value], "")):
            count = int(share * len(places) + rng.random())
            stated[places[first : first + count]] = word
            first += count
    return stated


def _write(root: Path, plan: Plan, seed: int, size: int) -> None:
    heart, consolidation, effusion, nodule = plan.content.truth
    rng = np.random.default_rng([seed, plan.patient, 0, 1])
    factor = rng.uniform(1.4, 1.75) if heart else rng.normal(1, 0.04)
    anatomy = enlarge_heart(draw_anatomy(np.random.default_rng([seed, plan.patient])), factor)

    def lesions(lung: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = np.zeros(lung.shape, dtype=np.float32)
        if consolidation:
            picture += draw_consolidation(lung, x, y, rng)
        if effusion:
            picture += draw_effusion(lung, x, y, rng)
        if nodule:
            picture += draw_nodules(lung, x, y, rng, count=(2, 4), radius=(12, 22))
        return picture

    write_radiograph(root, plan, seed, size, anatomy=anatomy, lesions=lesions)


def _tables(plans: Sequence[Plan], *, columns: bool) -> dict[str, Table]:
    truth: Table = [("path", *FINDINGS), *((radiograph_path(plan), *plan.content.truth) for plan in plans)]
    place = ("path", "patient_id", "split", "domain")
    manifest: Table = [(*place, *FINDINGS) if columns else (*place, "label")]
    for plan in plans:
        label = plan.content.stated if columns else ("|".join(plan.content.names),)
        manifest.append((radiograph_path(plan), *plan.place, *label))
    return {"manifest.csv": manifest, "truth.csv": truth}


FINDINGS_COLUMNS, FINDINGS_LABEL = (
    Kind(
        description="Synthetic chest radiographs (phantom) with several findings",
        class_names=FINDINGS,
        further_names=(NO_FINDING,),
        draw=draw_findings,
        names=lambda content: content.names,
        files=lambda plan: (radiograph_path(plan),),
        write=_write,
        tables=partial(_tables, columns=columns),
    )
    for columns in (True, False)
)
