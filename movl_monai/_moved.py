"""Old names of modules that moved, kept for one release.

`movl_monai.transforms.dicom.tags` is the module `movl_monai.readers.dicom.tags`: the same object, not a copy. Nothing
is imported before an old name is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MOVED", "SPLIT", "OldNames", "keep_old_names", "new_name"]

_ROOT = "movl_monai."

MOVED = {
    "export.disk": "export.writers",
    "deploy.volumes": "deploy.sdk",
    "deploy.errors": "deploy.prediction",
    "deploy.writers": "deploy.operators",
    "transforms.reader": "transforms.load",
    "transforms.quantize": "transforms.resize",
    "readers.dicom.jpeg_itk": "readers.dicom.decode",
    "readers.dicom.samples": "readers.dicom.encapsulated",
    "readers.dicom.source": "readers.dicom.header",
    "readers.dicom.segments": "readers.dicom.segmentation",
    "readers.dicom.modality": "readers.dicom.lut",
    "readers.dicom.series_range": "readers.dicom.voi",
    "readers.dicom.plain": "readers.dicom.lean",
    "readers.assemble": "readers.slices",
    "ingest.pairs": "ingest.labels",
    "ingest.scan": "ingest.journal",
    "ingest.tables": "ingest.listing",
    "ingest.preprocessing": "ingest.examine",
    "ingest.statuses": "ingest.records",
    "predict.compute": "predict.tasks",
    "predict.sources": "predict.listing",
    "predict.dicom.codes": "predict.dicom.report",
    "predict.writing": "predict.journal",
    "phantom.render": "phantom.scanner",
    "metrics.checks": "metrics.classification_metrics",
    "metrics.ood.sketch": "metrics.ood.score",
    "metrics.ood.principal": "metrics.ood.subspace",
    "metrics.ood.neighbors": "metrics.ood.gaussian",
    "export.images": "export.parity",
    "export.metadata": "export.sealed",
    "export.quiet": "export.graph",
    "experiments.compare.ensembles": "experiments.compare.runs",
    "evaluation.trust_file": "evaluation.trust_record",
    "engines.candidates": "engines.selecting_evaluator",
    "engines.prototypes": "engines.tokens",
    "data.read_pairs": "data.read_folders",
    "data.read_nnunet": "data.read_json",
    "data.csv_text": "data.read_csv",
    "data.patients": "data.columns",
    "data.layouts": "data.sources",
    "networks.maps": "networks.adapted",
    "heads.zero_shot": "heads.label_mapping",
    "prompts.expand": "prompts.forms",
    "prompts.pad": "prompts.forms",
    "prompts.patch": "prompts.forms",
    "prompts.low_rank": "prompts.forms",
    "prompts.full": "prompts.forms",
    "backbones.clip_text": "backbones.clip_loading",
    "adapters.dynamic_prompts": "adapters.dvpt",
    "adapters.bitfit": "adapters.layers",
    "adapters.ssf": "adapters.layers",
    "answers": "evaluation.rows",
    "backbones.clip_path": "backbones.clip_backbone",
    "backbones.source_classifier": "backbones.weights",
    "backbones.timm_paths": "backbones.timm_backbone",
    "bundle_run": "cli.run",
    "compare": "experiments.compare",
    "compare.configs": "experiments.compare.setup",
    "compare.facts": "experiments.compare.table",
    "compare.locks": "experiments.compare.folder",
    "compare.measure": "experiments.compare.training",
    "compare.space": "experiments.compare.arms",
    "compare.tasks": "metrics.judged",
    "compare.thresholds": "metrics.judged",
    "compare_run": "cli.compare",
    "data.dicom_headers": "data.expand",
    "data.exposure": "data.decode",
    "data.far_sources": "data.sources",
    "data.faults": "data.decode",
    "data.grouped_split": "data.splits",
    "data.groups": "data.columns",
    "data.looks": "data.duplicates",
    "data.mask_dataset": "data.dataset",
    "data.mask_list": "data.reading",
    "data.same_splits": "data.kept_splits",
    "data.series_folders": "data.expand",
    "data.several_labels": "data.columns",
    "data.walk": "data.read_folders",
    "dicom_output": "predict.dicom",
    "dicom_output.picture": "predict.dicom.capture",
    "engines.batch": "engines.features",
    "engines.ensemble": "experiments.ensemble",
    "engines.head_solver": "engines.linear_probe",
    "engines.keep_record": "runs.keep_record",
    "engines.layer_choice": "engines.linear_probe",
    "engines.overlays": "runs.overlays",
    "engines.overrides": "runs.overrides",
    "engines.parameters": "engines.stage",
    "engines.read_record": "runs.run_record",
    "engines.run_record": "runs.run_record",
    "engines.verbatim": "runs.verbatim",
    "ensemble_run": "cli.ensemble",
    "evaluate_run": "cli.evaluate",
    "evaluation.attention": "evaluation.explain.attention",
    "evaluation.cases": "metrics.stored.cases",
    "evaluation.checks": "metrics.classification_metrics",
    "evaluation.classification": "metrics.classification",
    "evaluation.columns": "evaluation.collect",
    "evaluation.comparisons": "report.several_runs",
    "evaluation.explanations": "evaluation.explain.sample",
    "evaluation.explanations_figure": "evaluation.explain.figure",
    "evaluation.explanations_maps": "evaluation.explain.maps",
    "evaluation.figure": "report.figure",
    "evaluation.file_table": "files",
    "evaluation.files": "files",
    "evaluation.html": "report.html",
    "evaluation.marks": "evaluation.marked_writer",
    "evaluation.mask_collect": "evaluation.collect",
    "evaluation.mask_comparisons": "report.several_runs",
    "evaluation.mask_figure": "report.figure",
    "evaluation.mask_groups": "metrics.subgroups",
    "evaluation.mask_handler": "evaluation.handler",
    "evaluation.mask_html": "report.html",
    "evaluation.mask_metrics": "metrics.masks",
    "evaluation.mask_report": "report.report",
    "evaluation.mask_summary": "report.segmentation_task",
    "evaluation.mask_validation": "evaluation.validation",
    "evaluation.metrics": "metrics.classification_metrics",
    "evaluation.model_card": "report.model_card",
    "evaluation.options": "report.options",
    "evaluation.outputs": "metrics.stored.outputs",
    "evaluation.pages": "report.sections",
    "evaluation.pages.baselines": "report.sections.figures",
    "evaluation.pages.conformal": "report.sections.first_screen",
    "evaluation.pages.groups": "report.sections.figures",
    "evaluation.predictions": "metrics.stored.predictions",
    "evaluation.provenance": "runs.provenance",
    "evaluation.ranking": "metrics.weighted",
    "evaluation.rebuild": "report.rebuild",
    "evaluation.report": "report.report",
    "evaluation.report_tables": "report.report_tables",
    "evaluation.resampling": "metrics.intervals",
    "evaluation.several_runs": "report.several_runs",
    "evaluation.summary": "report.summary",
    "evaluation.table": "report.table",
    "evaluation.tracking": "report.report_tables",
    "evaluation.trust_entries": "report.trust_entries",
    "evaluation.uncertainty": "metrics.intervals",
    "evaluation.weighted": "metrics.weighted",
    "export.quantize": "export.writers",
    "export.windows": "export.preprocessing",
    "export_run": "cli.export",
    "heads.first_map": "heads.segmentation",
    "ingest.cli": "cli.ingest",
    "ingest.summary": "ingest.run",
    "ingest.thumbnails": "ingest.page",
    "inspection.cli": "cli.inspect",
    "networks.prompted": "networks.classifier",
    "phantom.cli": "cli.phantom",
    "phantom.lesion": "phantom.anatomy",
    "predict.batches": "predict.loader",
    "predict.series": "data.series",
    "predict.summary": "predict.run",
    "predict_run": "cli.predict",
    "prompts.saturate": "prompts.base",
    "readers.dicom.budget": "readers.dicom.limits",
    "readers.dicom.codestream": "readers.dicom.encapsulated",
    "readers.dicom.decoder_options": "readers.dicom.packed_frame",
    "readers.dicom.padding": "readers.dicom.frame",
    "readers.dicom.palette": "readers.dicom.lut",
    "readers.dicom.plain_frame": "readers.dicom.packed_frame",
    "readers.dicom.record": "readers.dicom.codes",
    "readers.frames": "readers.slices",
    "readers.intensity": "readers.windows",
    "readers.mask_canvas": "readers.mask_target",
    "readers.nifti_header": "readers.nifti",
    "readers.sniff": "readers.files",
    "readers.tiff_planes": "readers.pillow_file",
    "readers.volume_source": "readers.volume",
    "report.pictures": "report.page",
    "report_run": "cli.report",
    "robustness": "experiments.robustness",
    "robustness.corrupt": "experiments.robustness.images",
    "robustness.corruption_error": "experiments.robustness.figures",
    "robustness.figure": "experiments.robustness.report",
    "robustness.logits": "experiments.robustness.suite",
    "robustness.store": "experiments.robustness.suite",
    "robustness.table": "experiments.robustness.report",
    "robustness_run": "cli.robustness",
    "transforms.assemble": "readers.slices",
    "transforms.corruptions.contrast": "transforms.corruptions.grey_levels",
    "transforms.corruptions.defocus": "transforms.corruptions.blur",
    "transforms.corruptions.field_of_view": "transforms.corruptions.content",
    "transforms.corruptions.gamma": "transforms.corruptions.grey_levels",
    "transforms.corruptions.gaussian_blur": "transforms.corruptions.blur",
    "transforms.corruptions.gaussian_noise": "transforms.corruptions.noise",
    "transforms.corruptions.inversion": "transforms.corruptions.grey_levels",
    "transforms.corruptions.jpeg": "transforms.corruptions.coding",
    "transforms.corruptions.kernels": "transforms.corruptions.blur",
    "transforms.corruptions.motion": "transforms.corruptions.blur",
    "transforms.corruptions.quantum_noise": "transforms.corruptions.noise",
    "transforms.corruptions.resampling": "transforms.corruptions.coding",
    "transforms.corruptions.text": "transforms.corruptions.content",
    "transforms.dicom": "readers.dicom",
    "transforms.dicom.budget": "readers.dicom.limits",
    "transforms.dicom.codestream": "readers.dicom.encapsulated",
    "transforms.dicom.decoder_options": "readers.dicom.packed_frame",
    "transforms.dicom.padding": "readers.dicom.frame",
    "transforms.dicom.palette": "readers.dicom.lut",
    "transforms.dicom.plain_frame": "readers.dicom.packed_frame",
    "transforms.dicom.record": "readers.dicom.codes",
    "transforms.errors": "readers.errors",
    "transforms.files": "readers.files",
    "transforms.frames": "readers.slices",
    "transforms.intensity": "readers.windows",
    "transforms.label_map": "readers.label_map",
    "transforms.mask_canvas": "readers.mask_target",
    "transforms.mask_target": "readers.mask_target",
    "transforms.masks": "readers.masks",
    "transforms.nifti": "readers.nifti",
    "transforms.nifti_header": "readers.nifti",
    "transforms.pillow_file": "readers.pillow_file",
    "transforms.pixels": "readers.pixels",
    "transforms.placement": "readers.placement",
    "transforms.raster": "readers.raster",
    "transforms.series": "readers.series",
    "transforms.slices": "readers.slices",
    "transforms.sniff": "readers.files",
    "transforms.tiff_planes": "readers.pillow_file",
    "transforms.volume": "readers.volume",
    "transforms.volume_source": "readers.volume",
    "trust.calibration": "metrics.calibration",
    "trust.conformal": "metrics.conformal",
    "trust.conformal_report": "metrics.conformal",
    "trust.matching": "metrics.matching",
    "trust.ood_detection": "metrics.ood.detection",
    "trust.ood_gaussian": "metrics.ood.gaussian",
    "trust.ood_metrics": "metrics.ood.metrics",
    "trust.ood_neighbors": "metrics.ood.gaussian",
    "trust.ood_score": "metrics.ood.score",
    "trust.ood_subspace": "metrics.ood.subspace",
    "trust.operating_points": "metrics.operating_points",
    "trust.paired": "metrics.paired",
    "trust.principal": "metrics.ood.subspace",
    "trust.record": "evaluation.trust_record",
    "trust.record_file": "evaluation.trust_record",
    "trust.selective": "metrics.selective",
    "trust.subgroups": "metrics.subgroups",
    "trust.unlearned": "metrics.matching",
}
"""Old and present names of modules and of whole packages, below `movl_monai`."""

SPLIT = {"trust": ("evaluation", "metrics")}
"""Packages that exist no more, with the packages that have their names."""


def new_name(name: str) -> str:
    """Return the present name of a module, which is the same name if it did not move.

    Example:
        >>> new_name("movl_monai.compare.arms"), new_name("movl_monai.engines.stage")
        ('movl_monai.experiments.compare.arms', 'movl_monai.engines.stage')
    """
    rest, tail = name.removeprefix(_ROOT), ""
    while rest and name.startswith(_ROOT):
        if rest in MOVED:
            return _ROOT + MOVED[rest] + tail
        rest, _, last = rest.rpartition(".")
        tail = f".{last}{tail}"
    return name


class _Package(ModuleType):
    """Package in which a function is not hidden by an old module of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not isinstance(value, ModuleType) or name not in getattr(self, "__all__", ()):
            super().__setattr__(name, value)


class _OldPackage(_Package):
    """Package that exists no more."""

    @property
    def _homes(self) -> list[ModuleType]:
        return [import_module(_ROOT + home) for home in SPLIT[self.__name__.removeprefix(_ROOT)]]

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return [part for home in self._homes for part in home.__all__]
        for home in self._homes:
            if name in home.__all__:
                return getattr(home, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class OldNames(MetaPathFinder, Loader):
    """Import the moved module when its old name is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the old name of a moved module, None for every other name."""
        if not fullname.startswith(_ROOT):
            return None
        if fullname.removeprefix(_ROOT) in SPLIT:
            return ModuleSpec(fullname, self, is_package=True)
        return ModuleSpec(fullname, self) if new_name(fullname) != fullname else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make a package that no longer exists; leave any other to the import system."""
        return _OldPackage(spec.name) if spec.name.removeprefix(_ROOT) in SPLIT else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the moved module in the place of the placeholder."""
        if isinstance(module, _OldPackage):
            return
        parent, _, name = module.__name__.rpartition(".")
        package = sys.modules[parent]
        if name in getattr(package, "__all__", ()) and not isinstance(package, _Package):
            package.__class__ = _Package
        sys.modules[module.__name__] = import_module(new_name(module.__name__))


def keep_old_names() -> None:
    """Let the old names be imported.

    Example:
        >>> from movl_monai.transforms.dicom import tags
        >>> tags.__name__
        'movl_monai.readers.dicom.tags'
    """
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        # in front: the finder of files would load a second copy of `dicom.tags` from the folder of the moved package
        sys.meta_path.insert(0, OldNames())
