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
    "bundle_run": "cli.run",
    "compare": "experiments.compare",
    "compare_run": "cli.compare",
    "dicom_output": "predict.dicom",
    "engines.ensemble": "experiments.ensemble",
    **{
        f"engines.{name}": f"runs.{name}"
        for name in ("keep_record", "overlays", "overrides", "read_record", "run_record", "verbatim")
    },
    "ensemble_run": "cli.ensemble",
    "evaluate_run": "cli.evaluate",
    "evaluation.attention": "evaluation.explain.attention",
    "evaluation.cases": "metrics.stored.cases",
    "evaluation.checks": "metrics.checks",
    "evaluation.classification": "metrics.classification",
    "evaluation.explanations": "evaluation.explain.sample",
    "evaluation.explanations_figure": "evaluation.explain.figure",
    "evaluation.explanations_maps": "evaluation.explain.maps",
    "evaluation.files": "files",
    "evaluation.mask_groups": "metrics.mask_groups",
    "evaluation.mask_metrics": "metrics.masks",
    "evaluation.metrics": "metrics.classification_metrics",
    "evaluation.outputs": "metrics.stored.outputs",
    "evaluation.pages": "report.sections",
    "evaluation.predictions": "metrics.stored.predictions",
    "evaluation.provenance": "runs.provenance",
    "evaluation.ranking": "metrics.ranking",
    "evaluation.resampling": "metrics.resampling",
    "evaluation.uncertainty": "metrics.intervals",
    "evaluation.weighted": "metrics.weighted",
    **{
        f"evaluation.{name}": f"report.{name}"
        for name in (
            *("comparisons", "figure", "html", "mask_comparisons", "mask_figure", "mask_html", "mask_report"),
            *("mask_summary", "model_card", "options", "rebuild", "report", "report_tables", "several_runs", "summary"),
            *("table", "tracking", "trust_entries"),
        )
    },
    "export_run": "cli.export",
    "ingest.cli": "cli.ingest",
    "inspection.cli": "cli.inspect",
    "phantom.cli": "cli.phantom",
    "predict.series": "data.series",
    "predict_run": "cli.predict",
    "report_run": "cli.report",
    "robustness": "experiments.robustness",
    "robustness_run": "cli.robustness",
    **{
        f"transforms.{name}": f"readers.{name}"
        for name in (
            *("assemble", "dicom", "errors", "files", "frames", "intensity", "label_map", "mask_canvas"),
            *("mask_target", "masks", "nifti", "nifti_header", "pillow_file", "pixels", "placement", "raster"),
            *("series", "slices", "sniff", "tiff_planes", "volume", "volume_source"),
        )
    },
    **{
        f"trust.{name}": f"metrics.{name}"
        for name in (
            *("calibration", "conformal", "conformal_report", "matching", "operating_points", "paired", "selective"),
            *("subgroups", "unlearned"),
        )
    },
    **{
        f"trust.ood_{name}": f"metrics.ood.{name}"
        for name in ("detection", "gaussian", "metrics", "neighbors", "score", "subspace")
    },
    "trust.principal": "metrics.ood.principal",
    "trust.record": "evaluation.trust_record",
    "trust.record_file": "evaluation.trust_file",
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


class _OldPackage(ModuleType):
    def __getattr__(self, name: str) -> Any:
        for home in SPLIT[self.__name__.removeprefix(_ROOT)]:
            module = import_module(_ROOT + home)
            if name in module.__all__:
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: object) -> None:
        # importing `trust.ood_detection` must not hide the function of that name
        if not isinstance(value, ModuleType) or not hasattr(self, name):
            super().__setattr__(name, value)


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
        if not isinstance(module, _OldPackage):
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
