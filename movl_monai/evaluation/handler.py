"""Handlers for MONAI's evaluators that collect predictions, and those that write the report of each task, or masks."""

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
from monai.bundle import ConfigParser, ConfigWorkflow
from torch import nn

from movl_monai.data.kept_splits import LEARNED
from movl_monai.errors import MovlError
from movl_monai.evaluation.collect import CaseCollector, PredictedCase, PredictionCollector, column
from movl_monai.evaluation.explain.attention import AttentionMaps
from movl_monai.evaluation.explain.instances import (
    INSTANCES_FILE,
    InstanceTap,
    UnitInstances,
    draw_weights,
    instances_csv,
)
from movl_monai.evaluation.explain.sample import Explanations
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.evaluation.mask_files import IrregularSpacingError, MaskFiles, has_distances, voxel_spacing
from movl_monai.evaluation.rows import case_row, left_out_row, results_csv, results_json
from movl_monai.evaluation.trust_record import trained_state_sha256, trust_record, write_trust
from movl_monai.files import keep_evaluated, today, write_atomically, write_file_table
from movl_monai.metrics.masks import mask_figures
from movl_monai.metrics.stored.cases import Case, case_sections, cases_csv
from movl_monai.metrics.stored.outputs import OUTPUTS_FILE, StoredOutputs, write_outputs
from movl_monai.networks import unwrap
from movl_monai.prompts import VisualPrompt, prompt_picture
from movl_monai.report.entries import MaskReport, Report, ResamplingOptions
from movl_monai.report.figure import draw_cases
from movl_monai.report.options import ReportOptions
from movl_monai.report.report import build_mask_report, report_of_outputs, write_files, write_report
from movl_monai.report.report_tables import track_report
from movl_monai.report.several_runs import compare_with_runs
from movl_monai.report.table import render_table
from movl_monai.report.tasks import SEGMENTATION, report_rows
from movl_monai.report.words import domain_of
from movl_monai.runs.overrides import find_caller
from movl_monai.runs.provenance import bundle_facts, run_info
from movl_monai.transforms import ResizeMask

__all__ = [
    "CollectingCases",
    "CollectingImages",
    "EvaluationReportHandler",
    "MaskWriter",
    "SegmentationReportHandler",
    "calling_bundle",
    "model_facts",
]

_LOGGER = logging.getLogger(__name__)


class Collecting:
    """Base of handlers that collect what an evaluator's run predicts, and write it at the end."""

    def __init__(self, output_dir: str | os.PathLike[str], *, class_names: Sequence[str]) -> None:
        self.output_dir = Path(output_dir)
        self.class_names = [str(name) for name in class_names]

    def attach(self, engine: Engine) -> None:
        """Collect after every iteration and finish after the run."""
        engine.add_event_handler(Events.STARTED, lambda: self.start())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        # not Events.COMPLETED: trackers log the entries of `metrics` at the end of the single epoch
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: self.finish(engine))

    def start(self) -> None:
        """Discard everything collected."""
        raise NotImplementedError

    def finish(self, engine: Engine | None = None) -> None:
        """Write the results."""
        raise NotImplementedError

    def _collect(self, engine: Engine) -> None:
        raise NotImplementedError


class CollectingImages(Collecting):
    """Base of handlers that collect the predictions of whole images, in every process."""

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        domain: str = "id",
        network: nn.Module | None = None,
    ) -> None:
        super().__init__(output_dir, class_names=class_names)
        task = "classification" if network is None else str(getattr(unwrap(network), "task", "classification"))
        self.collector = PredictionCollector(num_classes=len(self.class_names), domain=domain, task=task)

    def start(self) -> None:
        """Discard all collected predictions."""
        self.collector.reset()

    def _collect(self, engine: Engine) -> None:
        self.collector.add(engine.state.batch, engine.state.output, features=self._features(engine))

    def _features(self, engine: Engine) -> torch.Tensor | None:
        """Return the head's input for the images of this iteration, if a subclass records it."""
        return None


class CollectingCases(Collecting):
    """Base of handlers that process the segmented cases of an evaluator's run, one at a time.

    Only one process may evaluate, so that cases are not split.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        dataset: Any,
        resize_mode: str = "stretch",
        largest_component: bool = False,
    ) -> None:
        super().__init__(output_dir, class_names=class_names)
        self.dataset = dataset
        self.resize_mode = resize_mode
        self.collector = CaseCollector(
            dataset, num_classes=len(self.class_names), resize_mode=resize_mode, largest_component=largest_component
        )

    def start(self) -> None:
        """Discard all collected cases."""
        self.collector.reset()

    def take(self, case: PredictedCase) -> None:
        """Process a complete case."""
        raise NotImplementedError

    def finish(self, engine: Engine | None = None) -> None:
        """Write the results; a subclass does so after this check that all images were evaluated."""
        self.collector.check_complete()

    def _collect(self, engine: Engine) -> None:
        for case in self.collector.add(engine.state.batch, engine.state.output):
            self.take(case)


class EvaluationReportHandler(CollectingImages):
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
        facts: further facts, without paths and patients; ``data`` is the name of the data set in the title.
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
        super().__init__(output_dir, class_names=class_names, domain=id_domain, network=network)
        self.id_domain = id_domain
        self.datalist = datalist
        items = list(items or ())
        self.withheld = {item["id"] for item in items if item.get("shows_names")}
        self.patients = {item["id"]: item.get("patient_id") for item in items}
        self.groups: dict[str, Mapping[str, str]] = {item["id"]: item.get("groups") or {} for item in items}
        self.units = [item for item in items if "members" in item]
        self.far_domains = list(far_domains)
        self.id_map = id_map
        self.network = network
        self.origin: dict[str, Any] = {
            "checkpoint": checkpoint,
            "seed": seed,
            "strategy": strategy,
            "facts": {"evaluated": today()} | dict(facts or {}),
        }
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
        self.instances = InstanceTap()
        self.weights: dict[str, UnitInstances] = {}
        self.report: Report | None = None

    def attach(self, engine: Engine) -> None:
        """Collect in every iteration and finish after the run."""
        super().attach(engine)
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_STARTED, self._look)

    def start(self) -> None:
        """Discard all collected predictions, attention maps and explanations."""
        super().start()
        self.attention.reset()
        self.explanations.reset()
        self.weights.clear()

    def _listen(self, engine: Engine) -> None:
        # MONAI's engines get their network after their handlers are attached
        self.tap = FeatureTap(getattr(engine, "network", None))
        self.tap.open()
        self.instances = InstanceTap(getattr(engine, "network", None))
        self.instances.open()

    def _collect(self, engine: Engine) -> None:
        super()._collect(engine)
        if found := self.instances.take():
            self.weights |= zip(column(engine.state.batch, "id") or (), found, strict=True)
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
        self.instances.close()
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
            task=self.collector.task,
        )
        write_outputs(self.output_dir / OUTPUTS_FILE, outputs)
        report = report_of_outputs(outputs, options=self.options)
        report["explanations"], shown = self.explanations.explain()
        if self.weights:
            shown |= self._explain_units(report)
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
        track_report(self.report, engine=engine, tensorboard_dir=self.tensorboard_dir)
        _conclude(self.output_dir, self.report, datalist=self.datalist, level=self.options.level)
        self._keep_trust(outputs, engine)
        if failed is not None:
            raise failed

    def _explain_units(self, report: Report) -> dict[str, bytes]:
        """Write the table of the instances, add the chart of a few units to the report, and return its file."""
        text = instances_csv(self.weights, self.units, self.class_names)
        write_atomically(self.output_dir / INSTANCES_FILE, text.encode())
        chart, entries = draw_weights(self.network, self.weights, self.units, id_domain=self.id_domain)
        pictures: Any = entries
        report["explanations"]["pictures"] += pictures
        count, unit = sum(len(item["members"]) for item in self.units), report["run"]["unit"]
        report["notes"].append(f"unit: a row is one {unit}; images of all of them: {count}.")
        return chart

    def _keep_trust(self, outputs: StoredOutputs, engine: Engine | None) -> None:
        network = getattr(engine, "network", self.network)
        fitted_on = {"train", "val", "calibration"} & set(outputs.sections())
        if self.trust_record is None or network is None or self.report is None or not fitted_on:
            return
        keeping = getattr(self.datalist, "keeping", None)
        if keeping is not None and Path(self.trust_record).exists() and not self._has_all(outputs, keeping.kept):
            _LOGGER.warning(
                "The trust record stays as it is: it was fitted on images that the network learned from, some of which "
                "the data set lacks."
            )
            return
        record = trust_record(outputs, self.report, checkpoint_sha256=trained_state_sha256(network))
        write_trust(self.trust_record, record)

    def _has_all(self, outputs: StoredOutputs, kept: Any) -> bool:
        """Return whether the evaluated splits have all decodable images that the network learned from."""
        members = {item["id"]: len(item["members"]) for item in self.units}
        wanted = Counter(image.split for image in kept.images if image.split in LEARNED and image.look)
        there = {
            name: sum(members.get(one, 1) for one in part.predictions.ids) for name, part in outputs.sections().items()
        }
        return all(there[name] >= number for name, number in wanted.items() if name in there)

    def _groups_of(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return for each group column the value of each image, "" if an item has none."""
        names = dict.fromkeys(name for groups in self.groups.values() for name in groups)
        return {name: [self.groups.get(image, {}).get(name, "") for image in ids] for name in names}


class SegmentationReportHandler(CollectingCases):
    """Write report.json, report.html, MODEL_CARD.md, cases.csv and pictures after an evaluator's run, and log a table.

    The evaluator's batches need ``index``; ``pred`` must be logits (B, C, H, W). Predictions are resized to their masks
    and compared there; the slices of a volume are stacked and compared as a volume.

    Args:
        output_dir: folder of the report.
        class_names: names in the order of the logits, the background first.
        dataset: the :class:`~movl_monai.data.SegmentationDataset` that is evaluated.
        datalist: the whole data set, whose fingerprints are kept with the report.
        id_domain: the in-distribution domain.
        id_map: an :class:`~movl_monai.data.IdMap`, which salts the patients in cases.csv; None writes none.
        resize_mode: mode in which the images were resized.
        largest_component: keep only the largest connected component of each predicted class.
        pictures: draw the best, the median and the worst case. The pictures show patients, with any text burned into
            the images.
        network: network, for the facts of the report.
        checkpoint: loaded checkpoint file, for its size and sha256.
        seed: seed of the run, for the facts.
        strategy: list of stages or its name, for the facts.
        facts: further facts, without paths and patients; ``data`` is the name of the data set in the title.
        rounds: number of resamples of the intervals.
        level: confidence level of the intervals.
        bootstrap_seed: seed of the resampling.

    Attributes:
        report: the report, after a run.

    Raises:
        MovlError: if the data set has no masks, or an image was not evaluated.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        dataset: Any,
        datalist: Any = None,
        id_domain: str = "id",
        id_map: Any = None,
        resize_mode: str = "stretch",
        largest_component: bool = False,
        pictures: bool = False,
        network: nn.Module | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        strategy: Any = None,
        facts: Mapping[str, Any] | None = None,
        rounds: int = 1000,
        level: float = 0.95,
        bootstrap_seed: int = 0,
    ) -> None:
        super().__init__(
            output_dir,
            class_names=class_names,
            dataset=dataset,
            resize_mode=resize_mode,
            largest_component=largest_component,
        )
        if not dataset.has_masks:
            raise MovlError("There is nothing to compare with: the images have no masks. Give masks, or run inference.")
        self.datalist = datalist
        self.id_domain = id_domain
        self.id_map = id_map
        self.pictures = pictures
        self.network = network
        post = {"largest_component": largest_component, "evaluated": today()}
        self.origin: dict[str, Any] = {
            "checkpoint": checkpoint,
            "seed": seed,
            "strategy": strategy,
            "facts": post | dict(facts or {}),
        }
        self.resampling: ResamplingOptions = {"rounds": rounds, "level": level, "seed": bootstrap_seed}
        self.cases: list[Case] = []
        self.report: MaskReport | None = None

    def start(self) -> None:
        """Discard all collected cases."""
        super().start()
        self.cases = []

    def take(self, case: PredictedCase) -> None:
        """Compare a case with its truth."""
        order, predicted = case.stacked(self.dataset)
        masks = [self.dataset.native_mask(index) for index in order]
        truth = np.stack(masks, axis=-1) if predicted.ndim == 3 else masks[0]
        shown = max(range(len(order)), key=lambda number: (np.count_nonzero(masks[number]), -number))
        small = ResizeMask(tuple(self.dataset.masks.shape[1:]), mode=self.resize_mode)
        spacing = voxel_spacing(self.dataset.geometry[order[0]], predicted.ndim)
        distances = has_distances(self.dataset.geometry[order[0]])
        item = self.dataset.data[order[0]]
        patient = item.get("patient_id")
        self.cases.append(
            Case(
                id=case.id,
                figures=mask_figures(
                    truth, predicted, num_classes=len(self.class_names), spacing=spacing, distances=distances
                ),
                images=len(order),
                shown=order[shown],
                predicted=small(case.planes[order[shown]][None])[0].numpy(),
                present=np.array([(truth == number).any() for number in range(1, len(self.class_names))]),
                in_mm=spacing is not None,
                has_distances=distances,
                complete=len(order) == self.dataset.geometry[order[0]].get("frames", 1) or predicted.ndim == 2,
                split=item["split"] or "",
                domain=item["domain"],
                patient=patient,
                patient_id=None if patient is None or self.id_map is None else self.id_map.patient_id(patient),
                groups=dict(item.get("groups") or {}),
            )
        )

    def finish(self, engine: Engine | None = None) -> None:
        """Build, write and log the report."""
        super().finish(engine)
        report = build_mask_report(
            self.cases,
            class_names=self.class_names,
            id_domain=self.id_domain,
            run_info=run_info(network=self.network, **self.origin),
            bundle=bundle_facts(self.origin["checkpoint"]),
            **self.resampling,
        )
        self.report = self._write(report)
        _conclude(self.output_dir, self.report, datalist=self.datalist, level=self.resampling["level"])

    def _write(self, report: MaskReport) -> MaskReport:
        pictures: dict[str, bytes] = {}
        keys: dict[str, str] = {}
        parts = case_sections(self.cases, id_domain=self.id_domain)
        tested = ["id", *(name for name in parts if name.startswith("ood:"))]  # numbered alike without test cases
        for number, key in enumerate(tested):
            name = "" if key == "id" else f"_{domain_of(key)}"
            part = [case for case in parts.get(key, ()) if not self.dataset.data[case.shown].get("shows_names")]
            if part and self.pictures:
                # a domain's name may hold characters that a file name cannot
                file = f"cases_{number}.png" if number else "cases.png"
                keys[file] = f"cases_picture{name}"
                pictures[file] = draw_cases(part, self.dataset, self.class_names)
        results = cases_csv(self.cases, self.class_names)
        return write_files(self.output_dir, report, results=results, pictures=pictures, keys=keys)


class MaskWriter(CollectingCases):
    """Write the tables and masks that `movl-monai predict` writes as `csv`, `json`, `nifti` and `png`.

    The mask of an image is a PNG whose values are the classes (shown in colours). The mask of a volume is NIfTI aligned
    with its source, see :class:`~movl_monai.evaluation.mask_files.MaskFiles`. Files are named by salted ids, which
    ``local/files.csv`` maps to the sources. A volume with an unreadable slice has a row with the reason and no mask.

    Args:
        output_dir: folder of the tables and of the folder ``masks``.
        class_names: names in the order of the logits, the background first.
        dataset: the :class:`~movl_monai.data.SegmentationDataset` that is predicted.
        resize_mode: mode in which the images were resized.
        largest_component: keep only the largest connected component of each predicted class.
        mask_dtype: "uint8", or "source" for the data type of the volume.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        dataset: Any,
        resize_mode: str = "stretch",
        largest_component: bool = False,
        mask_dtype: str = "uint8",
    ) -> None:
        super().__init__(
            output_dir,
            class_names=class_names,
            dataset=dataset,
            resize_mode=resize_mode,
            largest_component=largest_component,
        )
        self.files = MaskFiles(self.output_dir / "masks", mask_dtype=mask_dtype)
        self.bundle = calling_bundle()
        self.rows: dict[str, dict[str, Any]] = {}
        self.faults = {file.case: file for file in reversed(dataset.files) if file.reason and not file.skipped}

    def start(self) -> None:
        """Discard all collected cases."""
        super().start()
        self.rows.clear()

    def take(self, case: PredictedCase) -> None:
        """Write the mask of a case."""
        order, predicted = case.stacked(self.dataset)
        records = [self.dataset.geometry[index] for index in order]
        item = self.dataset.data[order[0]]
        name = str(item.get("case", case.id))
        if name in self.faults:
            return
        row = case_row(name, predicted, records, self.class_names)
        self.rows[name] = _joined(self.rows[name], row) if name in self.rows else row
        if predicted.ndim == 2:
            self.files.write_image(case.id, predicted)
            return
        slices = {int(record["frame"]): case.planes[index] for record, index in zip(records, order, strict=True)}
        try:
            self.files.write_volume(case.id, slices, source=item["image"], axis=records[0]["slice_axis"])
        except IrregularSpacingError as error:
            row["not_written"] = ["nifti:irregular_spacing"]
            _LOGGER.warning("The mask of case %s is not written: %s", case.id, error)

    def finish(self, engine: Engine | None = None) -> None:
        """Write the tables."""
        super().finish(engine)
        names = dict.fromkeys(file.case for file in self.dataset.files if not file.skipped)
        failed = {name: left_out_row(file) | {"id": name} for name, file in self.faults.items()}
        rows = [row for name in names if (row := failed.get(name) or self.rows.get(name))]
        rows += [left_out_row(file) for file in self.dataset.files if file.skipped]
        task = SEGMENTATION.name
        write_atomically(self.output_dir / "predictions.csv", results_csv(rows, self.class_names, task=task).encode())
        network: Any = getattr(engine, "network", None)
        if hasattr(unwrap(network), "backbone"):  # a network that is none of the bundles' has no facts
            model = model_facts(network, self.bundle)
            text = results_json(rows, self.class_names, model=model, task=task)
            write_atomically(self.output_dir / "predictions.json", text.encode())
        write_file_table(
            self.output_dir,
            (
                (file.case or file.id, file.path, file.frame if file.case == file.id else None)
                for file in self.dataset.files
            ),
        )
        _LOGGER.info("Predicted %d cases: %s", len(self.rows), self.output_dir / "predictions.csv")


def _joined(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a film, whose frames have neither a spacing nor a volume."""
    sums = {name: row[name] + value for name, value in other.items() if name == "images" or name.startswith("pixels_")}
    flags = list(dict.fromkeys([*row.get("flags", ()), *other.get("flags", ())]))
    kept = {name: value for name, value in row.items() if not name.startswith("mm2_")}
    return kept | sums | ({"flags": flags} if flags else {})


def calling_bundle() -> dict[str, str]:
    """Return ``name`` and ``version`` of the bundle whose config builds the calling handler."""
    workflow, parser = find_caller(ConfigWorkflow), find_caller(ConfigParser)
    metadata = {} if parser is None else parser.get("_meta_") or {}
    root = None if workflow is None else workflow.config_root_path
    name = metadata.get("name", "movl_monai") if root is None else Path(root).absolute().parent.name
    return {"name": str(name), "version": str(metadata.get("version", "unknown"))}


def model_facts(network: nn.Module, bundle: Mapping[str, str]) -> dict[str, str]:
    """Return the facts about the model for ``predictions.json``."""
    inner: Any = unwrap(network)
    return {**bundle, "backbone": inner.backbone.spec.name, "checkpoint_sha256": trained_state_sha256(inner)}


def _prompt_picture(network: Any) -> np.ndarray | None:
    prompt = getattr(getattr(network, "module", network), "prompt", None)
    return prompt_picture(prompt) if isinstance(prompt, VisualPrompt) else None


def _conclude(folder: Path, report: Report | MaskReport, *, datalist: Any, level: float) -> None:
    """Keep the fingerprints of the evaluated data beside a report, and log its table and notes."""
    keep_evaluated(folder, datalist)
    _LOGGER.info("Evaluation [%g %% intervals]:\n%s", 100 * level, render_table(report_rows(report)))
    for note in report["notes"]:
        _LOGGER.info("Note: %s", note)
    _LOGGER.info("Report: %s", folder / "report.html")
