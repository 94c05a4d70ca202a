"""Explain a sample of right and wrong cases: saliency of the network and effect of the prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from movl_monai.data.targets import labels_of
from movl_monai.errors import ConfigError
from movl_monai.evaluation.collect import column, label_column, logits_column
from movl_monai.evaluation.explain.figure import Panel, describe, draw_explanations
from movl_monai.evaluation.explain.maps import look
from movl_monai.fonts import legible_names
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import VisualPrompt
from movl_monai.report.entries import Explanations as Entry
from movl_monai.report.tasks import CLASSIFICATION, task_named

__all__ = ["PICTURE", "Explanations"]

PICTURE = "explanations.png"
_NO_TEST = ("train", "val", "calibration")
_METHODS = {
    "Grad-CAM": "Grad-CAM of the predicted class in the last feature map, 0 to its largest value in each image.",
    "attention rollout": "Attention rollout to the features, 0 to its largest value in each image; it is the same for "
    "all classes and leaves out what an adapter moves between tokens by itself.",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image (3, H, W), float32 in [0, 1] on the CPU, with its domain, label and predicted class."""

    image: torch.Tensor
    domain: str
    label: int
    predicted: int


class Explanations:
    """Draws a sample of right and wrong test cases of each domain, with the network's saliency maps.

    The sample depends only on the ids and the seed, not on batches or their order. The pictures show patients, so
    nothing is kept unless it is requested.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier`, possibly inside DistributedDataParallel; None gives
            no picture.
        class_names: names in the order of the logits.
        num_images: number of right cases, and of wrong cases, of each domain; 0 for none.
        id_domain: the in-distribution domain, from which test images are taken; from other domains all images are
            taken.
        far_domains: domains to leave out, because they have no labels.
        withheld: ids of images to leave out, because they may show a name.
        seed: seed of the sample.
    """

    def __init__(
        self,
        network: Any,
        *,
        class_names: Sequence[str],
        num_images: int = 0,
        id_domain: str = "id",
        far_domains: Sequence[str] = (),
        withheld: Collection[str] = (),
        seed: int = 0,
    ) -> None:
        self.network = getattr(network, "module", network)
        self.class_names = list(class_names)
        self.num_images = num_images
        self.id_domain = id_domain
        self.far_domains = set(far_domains)
        self.withheld = set(withheld)
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Discard the sample."""
        self.groups: dict[tuple[str, bool], list[tuple[str, Case]]] = {}

    def add(self, batch: Any, output: Any) -> None:
        """Add a batch with ``image``, ``id``, ``label``, and optionally ``split`` and ``domain``, and its logits."""
        if self.num_images == 0 or self.network is None or self._has_no_classes():
            return
        ids, labels = column(batch, "id") or [], label_column(batch) or []
        task = task_named(str(getattr(self.network, "task", CLASSIFICATION.name)))
        predicted = task.decide(task.probabilities(logits_column(output).numpy())).tolist()
        domains = column(batch, "domain") or [self.id_domain] * len(ids)
        splits = column(batch, "split") or ["test"] * len(ids)
        for row, (name, label) in enumerate(zip(ids, labels, strict=True)):
            domain = str(domains[row])
            if label < 0 or domain in self.far_domains or (domain == self.id_domain and splits[row] in _NO_TEST):
                continue
            if name in self.withheld:
                continue
            place = hashlib.sha256(f"{self.seed}|{domain}|{name}".encode()).hexdigest()
            group = self.groups.setdefault((domain, label == predicted[row]), [])
            if len(group) < self.num_images or place < group[-1][0]:
                image = _as_float(batch["image"][row] if isinstance(batch, Mapping) else batch[row]["image"])
                group.append((place, Case(image=image, domain=domain, label=label, predicted=predicted[row])))
                group.sort(key=lambda entry: entry[0])
                del group[self.num_images :]

    def _has_no_classes(self) -> bool:
        labels = labels_of(str(getattr(self.network, "task", CLASSIFICATION.name)))
        return labels.several or labels.number

    def cases(self) -> list[Case]:
        """Return the sample: the ID domain first, right cases before wrong ones."""
        places = sorted(self.groups, key=lambda place: (place[0] != self.id_domain, place[0], not place[1]))
        return [case for place in places for _, case in self.groups[place]]

    def explain(self) -> tuple[Entry, dict[str, bytes]]:
        """Explain the cases of the sample.

        Returns:
            the entry ``explanations`` of a report (``pictures``: ``file``, and ``about``, a description in words;
            ``notes``), and the PNG by file name. Both hold no pictures if there is nothing to show.
        """
        if self.num_images == 0 or self.network is None:
            return {"pictures": [], "notes": []}, {}
        if not isinstance(self.network, AdaptedClassifier):
            kind = type(self.network).__name__
            return {"pictures": [], "notes": [f"Only an AdaptedClassifier can be looked into, this is a {kind}."]}, {}
        if self._has_no_classes():
            why = "Pictures of where the network looks are of right and wrong classes; findings and numbers have none."
            return {"pictures": [], "notes": [why]}, {}
        cases = self.cases()
        if not cases:
            left = " that show no names" if self.withheld else ""
            return {"pictures": [], "notes": [f"There were no test images with labels{left} to explain."]}, {}
        try:
            panels, notes = self._panels(cases)
        except ConfigError as error:
            return {"pictures": [], "notes": [str(error)]}, {}
        about = describe(panels)
        return {"pictures": [{"file": PICTURE, "about": about}], "notes": notes}, {PICTURE: draw_explanations(panels)}

    def _panels(self, cases: Sequence[Case]) -> tuple[list[Panel], list[str]]:
        panels, methods = [], {}
        for case in cases:
            panel, method = self._panel(case)
            panels.append(panel)
            methods[method] = _METHODS[method]
        notes = [*methods.values()]
        notes.append(f"A sample of up to {self.num_images} right and {self.num_images} wrong cases of each domain.")
        if self.withheld:
            notes.append(f"{len(self.withheld)} images that may show a name are left out.")
        domains = dict.fromkeys(domain for domain, _ in self.groups)
        for domain in domains:
            for right, word in ((True, "right"), (False, "wrong")):
                if (domain, right) not in self.groups:
                    notes.append(f"No case of {self._place(domain)} was {word}.")
        strongest = max((float(panel.change.max()) for panel in panels if panel.change is not None), default=None)
        if strongest is not None:
            notes.append(
                "Where the prompt acts: how much it changes a pixel, mean over the colours; black is nothing, the "
                f"brightest {100 * strongest:.1f} % of the way from black to white."
            )
        return panels, notes

    def _panel(self, case: Case) -> tuple[Panel, str]:
        device = next(self.network.parameters()).device
        image, chosen = case.image[None].to(device), torch.tensor([case.predicted])
        method, maps = look(self.network, image, chosen)
        with torch.no_grad():
            logits = self.network(image)[0]
        change, without = self._prompt_effect(image)
        shown = legible_names(self.class_names)
        return Panel(
            place=f"{self._place(case.domain)}, {'right' if case.label == case.predicted else 'wrong'}",
            predicted=self.class_names[case.predicted],
            label=self.class_names[case.label],
            shown=(shown[case.predicted], shown[case.label]),
            probability=float(logits.double().softmax(dim=0)[case.predicted]),
            logit=float(logits[case.predicted]),
            logit_without=None if without is None else float(without[case.predicted]),
            image=case.image.permute(1, 2, 0).numpy(),
            look=maps[0].cpu().numpy(),
            method=method,
            change=change,
        ), method

    @torch.no_grad()
    def _prompt_effect(self, image: torch.Tensor) -> tuple[Any, torch.Tensor | None]:
        """Return the prompt's |change| of the image (H, W) and the logits (C,) without it; None for both if none."""
        network = self.network
        if not isinstance(network.prompt, VisualPrompt):
            return None, None
        change = (network.prompt(image) - image).abs().mean(dim=1)[0]
        return change.cpu().numpy(), network.from_prompted(image)[0][0]

    def _place(self, domain: str) -> str:
        return "ID test" if domain == self.id_domain else f"OOD {domain}"


def _as_float(image: Any) -> torch.Tensor:
    image = torch.as_tensor(image).detach().cpu()
    return image.float() / 255 if image.dtype == torch.uint8 else image.float().clamp(0, 1)
