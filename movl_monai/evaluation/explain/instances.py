"""Share of each instance in the prediction of its unit: a table of all units, and a chart of a few."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from movl_monai.data.units import Units
from movl_monai.networks import UnitClassifier, unwrap

__all__ = ["INSTANCES_FILE", "InstanceTap", "UnitInstances", "instances_csv", "draw_weights"]

INSTANCES_FILE = "instances.csv"
_CHART = "instance_weights.png"
_SHOWN = 6
_ABOUT = (
    "Weight of each image in the prediction of its {unit}, in the order of the slices, for {count} test {plural} with "
    "the most images; the dashed line is equal weights. {kind} A weight says from what a prediction was computed, not "
    "why."
)
_KINDS = {
    "MeanPooling": "With mean pooling all weights are equal; instances.csv has the logits of each image by itself.",
    "MaxPooling": "With max pooling it is the share of features whose maximum an image holds.",
    "NoisyOrPooling": "With noisy-or it is the share of the evidence for the finding.",
    "AttentionPooling": "It is the learned attention.",
}


@dataclass(frozen=True)
class UnitInstances:
    """Weights (n,) and own logits (n, C) of the instances of a unit."""

    weights: np.ndarray
    logits: np.ndarray


class InstanceTap:
    """Recorder of the instances that a :class:`~movl_monai.networks.UnitClassifier` pools; for others it records none.

    Args:
        network: the network, possibly inside DistributedDataParallel.
    """

    def __init__(self, network: Any = None) -> None:
        inner = None if network is None else unwrap(network)
        self.network = inner if isinstance(inner, UnitClassifier) else None
        self._handle: Any = None
        self._seen: list[torch.Tensor] = []

    def open(self) -> None:
        """Start recording, with nothing recorded."""
        self.close()
        if self.network is not None:
            self._handle = self.network.pooling.register_forward_pre_hook(self._listen)

    def close(self) -> None:
        """Stop recording."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._seen = None, []

    def take(self) -> list[UnitInstances]:
        """Return the units recorded since the last call, in order."""
        seen, listening = self._seen, self._handle is not None
        self.close()
        found = []
        for instances in seen if self.network is not None else ():
            weights, logits = self.network.explain_instances(instances[0])  # type: ignore[union-attr]
            found.append(UnitInstances(weights.float().cpu().numpy(), logits.float().cpu().numpy()))
        if listening:
            self.open()
        return found

    def _listen(self, _pooling: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._seen.append(inputs[0].detach())


def instances_csv(
    found: Mapping[str, UnitInstances], items: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> str:
    """Return the CSV text of all instances: unit, image, frame, split, domain, weight, ``logit_<class>`` by itself.

    Args:
        found: by the id of the unit.
        items: units of a :class:`~movl_monai.data.UnitDataset`.
        class_names: names in the order of the logits.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["unit", "image", "frame", "split", "domain", "weight", *(f"logit_{name}" for name in class_names)])
    for item in items:
        unit = found.get(item["id"])
        for number, (image, frame) in enumerate(item["members"] if unit is not None else ()):
            place = [item["id"], image, "" if frame is None else frame, item["split"] or "", item["domain"]]
            values = [unit.weights[number], *unit.logits[number]]  # type: ignore[union-attr]
            writer.writerow([*place, *(repr(float(value)) for value in values)])
    return stream.getvalue()


def draw_weights(
    network: Any, found: Mapping[str, UnitInstances], items: Sequence[Mapping[str, Any]], *, id_domain: str
) -> tuple[dict[str, bytes], list[dict[str, str]]]:
    """Draw the weights of a few test units over their instances, without a picture of a patient.

    Returns:
        the PNG by file name, and its entry in ``explanations`` of a report; empty without a unit of several images.
    """
    inner: Any = unwrap(network)
    tested = [
        item
        for item in items
        if item["domain"] == id_domain and item["split"] == "test" and len(item["members"]) > 1 and item["id"] in found
    ]
    shown = sorted(tested, key=lambda item: (-len(item["members"]), item["id"]))[:_SHOWN]
    if not shown:
        return {}, []
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 1.1 * len(shown) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, item in zip(axes, shown, strict=True):
        weights = found[item["id"]].weights
        axis.bar(np.arange(1, len(weights) + 1), weights, width=0.9, color="#33658a")
        axis.axhline(1 / len(weights), color="black", linewidth=0.8, linestyle="--")
        axis.set_ylim(0, 1.05 * float(weights.max()))
        axis.set_ylabel(item["id"][:6], fontsize=8)
        axis.tick_params(labelsize=7)
    axes[-1].set_xlabel("image of the unit, in the order of the slices", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    units = Units(unit=inner.unit["unit"])
    kind = _KINDS.get(type(inner.pooling).__name__, "")
    about = _ABOUT.format(unit=units.unit, count=len(shown), plural=units.plural, kind=kind)
    return {_CHART: stream.getvalue()}, [{"file": _CHART, "about": about}]
