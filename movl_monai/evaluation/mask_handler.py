"""Handlers for MONAI's evaluators of segmentation: the report, and the predicted masks as files."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch import nn

from movl_monai.errors import MovlError
from movl_monai.evaluation.collect import CaseCollector, PredictedCase
from movl_monai.evaluation.mask_files import IrregularSpacingError, MaskFiles, has_distances, voxel_spacing
from movl_monai.files import keep_evaluated, write_atomically
from movl_monai.metrics.masks import mask_figures
from movl_monai.metrics.stored.cases import Case, case_sections, cases_csv
from movl_monai.report.entries import MaskReport, ResamplingOptions
from movl_monai.report.figure import draw_cases
from movl_monai.report.report import build_mask_report, write_files
from movl_monai.report.table import render_table
from movl_monai.report.tasks import report_rows
from movl_monai.runs.provenance import bundle_facts, run_info
from movl_monai.transforms import ResizeMask

__all__ = ["MaskWriter", "SegmentationReportHandler"]

_LOGGER = logging.getLogger(__name__)


class _CollectingCases:
    """Base of handlers that collect the cases of an evaluator's run, one at a time, and finish after the last.

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
        self.output_dir = Path(output_dir)
        self.class_names = [str(name) for name in class_names]
        self.dataset = dataset
        self.resize_mode = resize_mode
        self.collector = CaseCollector(
            dataset, num_classes=len(self.class_names), resize_mode=resize_mode, largest_component=largest_component
        )

    def attach(self, engine: Engine) -> None:
        """Collect every batch, and finish after the run."""
        engine.add_event_handler(Events.STARTED, lambda: self.start())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, lambda: self._complete())

    def start(self) -> None:
        """Discard all collected cases."""
        self.collector.reset()

    def take(self, case: PredictedCase) -> None:
        """Process a complete case."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write the results."""
        raise NotImplementedError

    def _collect(self, engine: Engine) -> None:
        for case in self.collector.add(engine.state.batch, engine.state.output):
            self.take(case)

    def _complete(self) -> None:
        self.collector.check_complete()
        self.finish()


class SegmentationReportHandler(_CollectingCases):
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
            the images; use False for a report that leaves the site.
        network: network, for the facts of the report.
        checkpoint: loaded checkpoint file, for its size and sha256.
        seed: seed of the run, for the facts.
        strategy: list of stages or its name, for the facts.
        facts: further facts, without paths and patients.
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
        pictures: bool = True,
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
        post = {"largest_component": largest_component}
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

    def finish(self) -> None:
        """Build, write and log the report."""
        report = build_mask_report(
            self.cases,
            class_names=self.class_names,
            id_domain=self.id_domain,
            run_info=run_info(network=self.network, **self.origin),
            bundle=bundle_facts(self.origin["checkpoint"]),
            **self.resampling,
        )
        self.report = self._write(report)
        keep_evaluated(self.output_dir, self.datalist)
        _LOGGER.info(
            "Evaluation [%g %% intervals]:\n%s",
            100 * self.resampling["level"],
            render_table(report_rows(self.report)),
        )
        for note in self.report["notes"]:
            _LOGGER.info("Note: %s", note)
        _LOGGER.info("Report: %s", self.output_dir / "report.html")

    def _write(self, report: MaskReport) -> MaskReport:
        inside, others, _, _ = case_sections(self.cases, id_domain=self.id_domain)
        pictures: dict[str, bytes] = {}
        keys: dict[str, str] = {}
        parts = {"": inside, **{f"_{name}": part for name, part in others.items()}}
        for number, (name, part) in enumerate(parts.items()):
            part = [case for case in part if not self.dataset.data[case.shown].get("shows_names")]
            if part and self.pictures:
                # a domain's name may hold characters that a file name cannot
                file = f"cases_{number}.png" if number else "cases.png"
                keys[file] = f"cases_picture{name}"
                pictures[file] = draw_cases(part, self.dataset, self.class_names)
        results = cases_csv(self.cases, self.class_names)
        return write_files(self.output_dir, report, results=results, pictures=pictures, keys=keys)


class MaskWriter(_CollectingCases):
    """Write the predicted mask of every case, and masks.csv with the amount of each class.

    The mask of an image is a PNG whose values are the classes (shown in colours). The mask of a volume is NIfTI aligned
    with its source, see :class:`~movl_monai.evaluation.mask_files.MaskFiles`. Files are named by the salted id of the
    case; the local id map maps it to the source.

    Args:
        output_dir: folder of masks.csv and of the folder ``masks``.
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
        self.files = MaskFiles(self.output_dir / "masks", class_names=self.class_names, mask_dtype=mask_dtype)

    def start(self) -> None:
        """Discard all collected cases."""
        super().start()
        self.files.rows.clear()

    def take(self, case: PredictedCase) -> None:
        """Write the mask of a case."""
        order, predicted = case.stacked(self.dataset)
        facts = self.dataset.geometry[order[0]]
        spacing = voxel_spacing(facts, predicted.ndim)
        if predicted.ndim == 2:
            self.files.write_image(case.id, predicted, spacing=spacing)
        else:
            records = [self.dataset.geometry[index] for index in order]
            slices = {int(self.dataset.geometry[index]["frame"]): case.planes[index] for index in order}
            source = self.dataset.data[order[0]]["image"]
            try:
                self.files.write_volume(case.id, slices, source=source, axis=facts["slice_axis"], records=records)
            except IrregularSpacingError as error:
                _LOGGER.warning("The mask of case %s is not written: %s", case.id, error)

    def finish(self) -> None:
        """Write the table."""
        write_atomically(self.output_dir / "masks.csv", self.files.table().encode())
        written = sum(bool(row["file"]) for row in self.files.rows)
        _LOGGER.info("Wrote %d masks and %s", written, self.output_dir / "masks.csv")
