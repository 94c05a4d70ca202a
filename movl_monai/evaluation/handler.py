"""Handlers for MONAI's evaluators that collect predictions and write the report."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from movl_monai.data.kept_splits import LEARNED
from movl_monai.errors import MovlError
from movl_monai.evaluation.collect import PredictionCollector, column
from movl_monai.evaluation.explain.attention import AttentionMaps
from movl_monai.evaluation.explain.sample import Explanations
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.evaluation.trust_file import trained_state_sha256, write_trust
from movl_monai.evaluation.trust_record import trust_record
from movl_monai.files import keep_evaluated
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE, StoredOutputs, write_outputs
from movl_monai.prompts import VisualPrompt, prompt_picture
from movl_monai.report.entries import Report
from movl_monai.report.options import ReportOptions
from movl_monai.report.report import report_of_outputs, write_report
from movl_monai.report.report_tables import track_report
from movl_monai.report.several_runs import compare_with_runs
from movl_monai.report.table import render_table
from movl_monai.report.tasks import report_rows
from movl_monai.runs.provenance import bundle_facts, run_info

__all__ = ["EvaluationReportHandler"]

_LOGGER = logging.getLogger(__name__)


class Collecting:
    """Base of handlers that collect the predictions of an evaluator's run and write them at the end."""

    def __init__(self, output_dir: str | os.PathLike[str], *, class_names: Sequence[str], domain: str = "id") -> None:
        self.output_dir = Path(output_dir)
        self.class_names = [str(name) for name in class_names]
        self.collector = PredictionCollector(num_classes=len(self.class_names), domain=domain)

    def attach(self, engine: Engine) -> None:
        """Collect after every iteration and finish after the run."""
        engine.add_event_handler(Events.STARTED, lambda: self.collector.reset())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        # not Events.COMPLETED: trackers log the entries of `metrics` at the end of the single epoch
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.finish(engine))

    def _collect(self, engine: Engine) -> None:
        self.collector.add(engine.state.batch, engine.state.output, features=self._features(engine))

    def _features(self, engine: Engine) -> torch.Tensor | None:
        """Return the head's input for the images of this iteration, if a subclass records it."""
        return None

    def finish(self, engine: Engine | None = None) -> None:
        """Write the collected predictions."""
        raise NotImplementedError


class EvaluationReportHandler(Collecting):
    """Write report.json, report.html, outputs.npz, predictions.csv and figure.png after a run, and log a table.

    outputs.npz keeps the logits and the head's input features of every image
    (:func:`~movl_monai.evaluation.read_outputs`), so that the network need not run again. The evaluator's batches need
    ``id`` and ``label``, and should have ``split``, ``domain`` and ``index``; ``pred`` must be logits, decollated or
    not. The first process writes.

    Args:
        output_dir: folder of the report.
        class_names: names in the order of the logits.
        id_domain: the in-distribution domain.
        items: items of the data set (``id``, ``patient_id``, ``groups``, ``shows_names``). They give patients for the
            intervals, groups, and the images to withhold because they may show a name. None takes ``patient_id`` from
            the batches if they have it.
        datalist: the data set, which knows whether it has all images that the network learned from; None if unknown.
        id_map: an :class:`~movl_monai.data.IdMap`, which salts the patients in predictions.csv; None writes none.
        far_domains: domains of images of another kind, without labels, for OOD detection only.
        network: network, for the facts of the report and the picture of its prompt.
        checkpoint: loaded checkpoint file, for its size and sha256.
        seed: seed of the run, for the facts.
        strategy: list of stages or its name, for the facts.
        facts: further facts, without paths and patients.
        attention_images: number of single images to show with the attention of dynamic prompts, if the adapter has
            them. These are pictures of patients. The mean over ID test images is always shown.
        explanation_images: number of right, and of wrong, test images of each domain to show with saliency and the
            prompt's effect. These are pictures of patients.
        against: folders of other runs to compare with in pairs, evaluated on the same test images.
        trust_record: file beside the checkpoint for the numbers fitted and chosen here, for inference; None writes
            none. An earlier record is kept if there are no outputs of train, val and calibration images, or if the data
            set lacks some images that the network learned from.
        tensorboard_dir: folder for the figures as TensorBoard events; None writes none.
        bootstrap_seed: seed of the resampling.
        options: options of :class:`~movl_monai.evaluation.ReportOptions`, such as ``rounds``, ``alpha`` or
            ``ood_score``.

    Attributes:
        report: the report, after a run; None in all processes but the first.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        id_domain: str = "id",
        items: Iterable[Mapping[str, Any]] | None = None,
        datalist: Any = None,
        id_map: Any = None,
        far_domains: Sequence[str] = (),
        network: nn.Module | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        strategy: Any = None,
        facts: Mapping[str, Any] | None = None,
        attention_images: int = 0,
        explanation_images: int = 0,
        against: Sequence[str | os.PathLike[str]] = (),
        trust_record: str | os.PathLike[str] | None = None,
        tensorboard_dir: str | os.PathLike[str] | None = None,
        bootstrap_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(output_dir, class_names=class_names, domain=id_domain)
        self.id_domain = id_domain
        self.datalist = datalist
        items = list(items or ())
        self.withheld = {item["id"] for item in items if item.get("shows_names")}
        self.patients = {item["id"]: item.get("patient_id") for item in items}
        self.groups: dict[str, Mapping[str, str]] = {item["id"]: item.get("groups") or {} for item in items}
        self.far_domains = list(far_domains)
        self.id_map = id_map
        self.network = network
        self.origin: dict[str, Any] = {"checkpoint": checkpoint, "seed": seed, "strategy": strategy, "facts": facts}
        self.options = ReportOptions(seed=bootstrap_seed, **options)
        self.against = against
        self.trust_record = trust_record
        self.tensorboard_dir = tensorboard_dir
        self.attention = AttentionMaps(network, num_images=attention_images)
        self.explanations = Explanations(
            network,
            class_names=self.class_names,
            num_images=explanation_images,
            id_domain=id_domain,
            far_domains=self.far_domains,
            withheld=self.withheld,
            seed=seed or 0,
        )
        self.tap = FeatureTap()
        self.report: Report | None = None

    def attach(self, engine: Engine) -> None:
        """Collect in every iteration and finish after the run."""
        super().attach(engine)
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.STARTED, lambda: self.attention.reset())
        engine.add_event_handler(Events.STARTED, lambda: self.explanations.reset())
        engine.add_event_handler(Events.ITERATION_STARTED, self._look)

    def _listen(self, engine: Engine) -> None:
        # MONAI's engines get their network after their handlers are attached
        self.tap = FeatureTap(getattr(engine, "network", None))
        self.tap.open()

    def _collect(self, engine: Engine) -> None:
        super()._collect(engine)
        if idist.get_rank() == 0:
            self.explanations.add(engine.state.batch, engine.state.output)

    def _features(self, engine: Engine) -> torch.Tensor | None:
        batch: Any = engine.state.batch
        return self.tap.take(len(column(batch, "id") or ()))

    def _look(self, engine: Engine) -> None:
        batch: Any = engine.state.batch  # not decollated yet
        if self.attention.compute is None or idist.get_rank() > 0:
            return
        count = len(batch["image"])
        places = zip(batch.get("domain", [self.id_domain] * count), batch.get("split", ["test"] * count), strict=True)
        ids = batch.get("id", [""] * count)
        chosen = [
            index
            for index, place in enumerate(places)
            if place == (self.id_domain, "test") and ids[index] not in self.withheld
        ]
        self.attention.add(batch["image"][chosen])

    def finish(self, engine: Engine | None = None) -> None:
        """Gather from all processes; in the first one build, write and log the report."""
        self.tap.close()
        predictions, features = self.collector.gather_with_features(patients=self.patients, salt=self.id_map)
        if idist.get_rank() > 0:
            return
        outputs = StoredOutputs(
            predictions=predictions,
            class_names=self.class_names,
            features=features,
            groups=self._groups_of(predictions.ids),
            id_domain=self.id_domain,
            far_domains=self.far_domains,
            facts={
                "run": run_info(network=self.network, **self.origin),
                "options": vars(self.options),
                "bundle": bundle_facts(self.origin["checkpoint"]),
            },
        )
        write_outputs(self.output_dir / OUTPUTS_FILE, outputs)
        report = report_of_outputs(outputs, options=self.options)
        report["explanations"], shown = self.explanations.explain()
        failed: MovlError | None = None
        try:
            report["comparisons"] = compare_with_runs(self.output_dir, self.against, options=self.options)
        except MovlError as error:  # the rest of the report is still useful
            failed = error
            report["notes"].append(f"comparisons: {error}")
        self.report = write_report(
            self.output_dir,
            report,
            predictions,
            prompt_picture=_prompt_picture(self.network),
            attention_picture=self.attention.picture(),
            kept=shown,
        )
        keep_evaluated(self.output_dir, self.datalist)
        track_report(self.report, engine=engine, tensorboard_dir=self.tensorboard_dir)
        table = render_table(report_rows(self.report))
        _LOGGER.info("Evaluation [%g %% intervals]:\n%s", 100 * self.options.level, table)
        for note in self.report["notes"]:
            _LOGGER.info("Note: %s", note)
        _LOGGER.info("Report: %s", self.output_dir / "report.html")
        self._keep_trust(outputs, engine)
        if failed is not None:
            raise failed

    def _keep_trust(self, outputs: StoredOutputs, engine: Engine | None) -> None:
        network = getattr(engine, "network", self.network)
        fitted_on = {"train", "val", "calibration"} & set(outputs.sections())
        if self.trust_record is None or network is None or self.report is None or not fitted_on:
            return
        keeping = getattr(self.datalist, "keeping", None)
        if keeping is not None and Path(self.trust_record).exists() and not _has_all(outputs, keeping.kept):
            _LOGGER.warning(
                "The trust record stays as it is: it was fitted on images that the network learned from, some of which "
                "the data set lacks."
            )
            return
        record = trust_record(outputs, self.report, checkpoint_sha256=trained_state_sha256(network))
        write_trust(self.trust_record, record)

    def _groups_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return for each group column the value of each image, "" if an item has none."""
        names = dict.fromkeys(name for groups in self.groups.values() for name in groups)
        return {name: [self.groups.get(image, {}).get(name, "") for image in ids] for name in names}


def _has_all(outputs: StoredOutputs, kept: Any) -> bool:
    """Return whether the evaluated splits have all decodable images that the network learned from."""
    sections = outputs.sections()
    wanted = Counter(image.split for image in kept.images if image.split in LEARNED and image.look)
    return all(len(sections[name]) >= number for name, number in wanted.items() if name in sections)


def _prompt_picture(network: Any) -> np.ndarray | None:
    prompt = getattr(getattr(network, "module", network), "prompt", None)
    return prompt_picture(prompt) if isinstance(prompt, VisualPrompt) else None
