"""Choice among trained candidates on `val`: the simpler one, unless another is clearly better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from movl_monai.data import UnitDataset
from movl_monai.engines import prepare_image_batch
from movl_monai.evaluation import MeanCaseDice
from movl_monai.experiments.compare.data import TrainingData
from movl_monai.experiments.compare.setup import ArmSetup, make_parser
from movl_monai.metrics.intervals import PatientBootstrap
from movl_monai.metrics.selecting import SELECTING, best_value, selecting_figure
from movl_monai.networks import load_checkpoint, unwrap

__all__ = ["Choice", "OnVal", "choose", "validate"]


@dataclass(frozen=True, kw_only=True)
class OnVal:
    """Results of a trained candidate on the validation images.

    Args:
        figure: name of the figure that selects, such as "balanced_accuracy".
        patients: patient of each image, or case of a segmentation; None where not known.
        labels: integers (N,), of several findings (N, C) and of a number (N,) floats; empty for a segmentation.
        logits: (N, C); empty for a segmentation.
        cases: Dice of each case (N,); empty for a classification.
    """

    figure: str
    patients: Sequence[str | None]
    labels: np.ndarray
    logits: np.ndarray
    cases: np.ndarray

    def __len__(self) -> int:
        return len(self.patients)

    def values(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the figure for each column of weights (N, R): (R,)."""
        if len(self.cases):
            return {self.figure: self.cases @ weights / weights.sum(axis=0)}
        return {self.figure: selecting_figure(self.figure, self.labels, self.logits)(weights)[0]}

    def value(self) -> float:
        """Compute the figure on all images."""
        return float(self.values(np.ones((len(self), 1)))[self.figure][0])

    def is_perfect(self) -> bool:
        """Return True if no candidate can have a higher figure."""
        return self.value() >= best_value(self.figure)

    def loss(self) -> float:
        """Compute the tie-break: mean cross entropy in nats, of a number the squared error; 0 for a segmentation."""
        if len(self.cases):
            return 0.0
        return float(selecting_figure(self.figure, self.labels, self.logits)(np.ones((len(self), 1)))[1][0])

    def interval(self, other: OnVal | None = None) -> list[float] | None:
        """Compute the 95 % interval of the figure, or of its difference to another candidate on the same images.

        Patients are resampled. None if it is undefined, as with one patient.
        """

        def figures(weights: np.ndarray) -> Mapping[str, np.ndarray]:
            own = self.values(weights)[self.figure]
            return {self.figure: own if other is None else own - other.values(weights)[self.figure]}

        return PatientBootstrap(len(self), self.patients).intervals(figures)[self.figure]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen candidate.

    Args:
        name: of the candidate.
        reason: one sentence.
        differences: of each other candidate to the one that it had to beat: ``to``, ``difference``, ``interval``.
    """

    name: str
    reason: str
    differences: Mapping[str, Mapping[str, Any]]


def choose(found: Mapping[str, OnVal], *, exact: Sequence[str]) -> Choice:
    """Choose a candidate.

    Of the exact probes, which cost the same, the highest figure counts, with equal figures the lower loss.
    Then each further candidate, from the simplest on, replaces the choice so far only if the 95 % interval of the
    paired difference lies above 0. The choice is therefore never below the linear probe on ``val``.

    Args:
        found: results by name, the simplest candidate first.
        exact: names of the exact probes.

    Example:
        >>> def one(*right):
        ...     logits = np.array([[2.0 * hit, 1.0] for hit in right])
        ...     return OnVal(figure="accuracy", patients=[None] * len(right), labels=np.zeros(len(right), int),
        ...                  logits=logits, cases=np.array([]))
        >>> choose({"probe": one(1, 1, 0, 0), "trained": one(1, 1, 1, 0)}, exact=["probe"]).name
        'probe'
    """
    probes = [name for name in found if name in exact]
    best = max(probes, key=lambda name: (found[name].value(), -found[name].loss()), default=next(iter(found)))
    differences: dict[str, dict[str, Any]] = {}
    for name in probes:
        if name != best:
            differences[name] = _difference(found, name, best)
    for name in found:
        if name in exact or name == best:
            continue
        differences[name] = _difference(found, name, best)
        interval = differences[name]["interval"]
        if interval is not None and interval[0] > 0:
            differences[best] = _difference(found, best, name)
            del differences[name]
            best = name
    return Choice(name=best, reason=_reason(found, best, exact, differences), differences=differences)


def _difference(found: Mapping[str, OnVal], name: str, other: str) -> dict[str, Any]:
    difference = found[name].value() - found[other].value()
    return {"to": other, "difference": difference, "interval": found[name].interval(found[other])}


def _reason(
    found: Mapping[str, OnVal], best: str, exact: Sequence[str], differences: Mapping[str, Mapping[str, Any]]
) -> str:
    beaten = [name for name, entry in differences.items() if entry["to"] == best]
    if not beaten:
        return "the only candidate that was trained"
    probes = [name for name in beaten if name in exact and best in exact]
    clear = [name for name in beaten if name not in probes and (differences[name]["interval"] or [0, 0])[1] < 0]
    rest = [name for name in beaten if name not in (*probes, *clear)]
    equal = all(found[name].value() == found[best].value() for name in probes)
    said = [f"{'not below' if equal else 'above'} {', '.join(probes)} on val"] if probes else []
    said += [f"clearly better on val than {', '.join(clear)}"] if clear else []
    said += [f"{', '.join(rest)} not clearly better on val"] if rest else []
    return "; ".join(said)


def validate(
    setup: ArmSetup,
    data: TrainingData,
    *,
    checkpoint: Path,
    metric: str,
    output_dir: Path,
    evaluator: Any = None,
) -> OnVal:
    """Compute the results of a checkpoint on the validation images.

    Args:
        setup: of the candidate.
        data: the decoded images.
        checkpoint: of the training.
        metric: name of the figure that selected the state, such as "val_balanced_accuracy".
        output_dir: for ids that need a folder; nothing is written.
        evaluator: that of the training, whose network is used; None builds another.
    """
    network, loader, inferer, device = _parts(setup, data, checkpoint, output_dir, evaluator)
    network.load_state_dict(load_checkpoint(checkpoint))
    network.eval()
    figure = metric.removeprefix("val_")
    logits, labels, dice = [], [], MeanCaseDice()
    with torch.no_grad():
        for batch in loader:
            image, label = prepare_image_batch(batch, device)
            output, truth = inferer(image, network).float().cpu(), torch.as_tensor(label).cpu()
            if figure in SELECTING:
                logits.append(output.numpy())
                labels.append(truth.numpy())
            else:
                dice.update((output, truth.long(), [str(case) for case in batch["case"]]))
    items = data.images.select(split="val").data
    empty = np.array([])
    if figure in SELECTING:
        patients = [item["patient_id"] for item in items]
        found = {"labels": np.concatenate(labels), "logits": np.concatenate(logits), "cases": empty}
        return OnVal(figure=figure, patients=patients, **found)
    cases, patient = dice.per_case(), {str(item["case"]): item["patient_id"] for item in items}
    return OnVal(
        figure="dice",
        patients=[patient[case] for case in cases],
        labels=empty,
        logits=empty,
        cases=np.array(list(cases.values())),
    )


def _parts(
    setup: ArmSetup, data: TrainingData, checkpoint: Path, output_dir: Path, evaluator: Any
) -> tuple[Any, Any, Any, Any]:
    """Return network, loader, inferer and device."""
    if evaluator is not None and evaluator.prepare_batch is prepare_image_batch:  # else its network reads cached tokens
        return unwrap(evaluator.network), evaluator.data_loader, evaluator.inferer, evaluator.state.device
    places: dict[str, Any] = {"output_dir": str(output_dir), "checkpoint": str(checkpoint)}
    parser = make_parser(setup.train, places, datalist=data.datalist, images=data.images)
    names = ("network", "validate#dataloader", "validate#inferer", "device")
    network, loader, inferer, device = (parser.get_parsed_content(name) for name in names)
    if isinstance(data.images, UnitDataset):  # the loader of a training on cached features has no images
        loader = DataLoader(data.images.select(split="val"), batch_size=1)
    return network, loader, inferer, device
