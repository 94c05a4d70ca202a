"""Old names of modules that moved still import, and are the same objects."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import movl_monai.evaluation
import movl_monai.metrics
import movl_monai.readers
import movl_monai.transforms
from movl_monai._moved import MOVED, new_name
from movl_monai.inspection.allowed import is_allowed


@pytest.mark.parametrize("old", MOVED)
def test_an_old_module_is_the_moved_one(old: str) -> None:
    module = importlib.import_module(f"movl_monai.{old}")
    assert module is importlib.import_module(f"movl_monai.{MOVED[old]}")
    assert module.__spec__ is not None
    assert module.__spec__.name == module.__name__ == f"movl_monai.{MOVED[old]}"
    for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
        inner = importlib.import_module(f"movl_monai.{old}.{part.name}")
        assert inner is importlib.import_module(f"movl_monai.{MOVED[old]}.{part.name}")


def test_every_moved_module_has_one_name_now() -> None:
    for old, new in MOVED.items():
        assert new_name(f"movl_monai.{old}") == new_name(f"movl_monai.{new}") == f"movl_monai.{new}"


@pytest.mark.parametrize("name", ["backbones.source_classifier", "engines.verbatim", "evaluation.report_tables"])
def test_an_old_module_does_not_hide_a_function_of_its_name(name: str) -> None:
    package, _, part = name.rpartition(".")
    module = importlib.import_module(f"movl_monai.{name}")
    function = getattr(importlib.import_module(f"movl_monai.{package}"), part)
    assert function is getattr(module, part)
    assert callable(function)


def test_a_package_that_was_split_still_has_its_names() -> None:
    import movl_monai.trust.ood_detection

    assert movl_monai.trust.TrustRecord is movl_monai.evaluation.TrustRecord
    assert movl_monai.trust.ood_detection is movl_monai.metrics.ood_detection
    with pytest.raises(AttributeError, match="nothing"):
        movl_monai.trust.nothing  # noqa: B018


def test_names_of_the_readers_are_those_of_the_transforms() -> None:
    assert set(movl_monai.readers.__all__) <= set(movl_monai.transforms.__all__)
    for name in movl_monai.readers.__all__:
        assert getattr(movl_monai.transforms, name) is getattr(movl_monai.readers, name)


def test_window_functions_stay_in_the_module_of_their_transforms() -> None:
    old, new = (importlib.import_module(f"movl_monai.{room}.windows") for room in ("transforms", "readers"))
    for name in set(new.__all__) - {"Intensity", "check_intensity", "intensity_range"}:
        assert getattr(old, name) is getattr(new, name)


def test_an_unknown_name_is_refused_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"movl_monai\.transforms\.nothing"):
        importlib.import_module("movl_monai.transforms.nothing")
    with pytest.raises(ModuleNotFoundError, match=r"movl_monai\.readers\.dicom\.nothing"):
        importlib.import_module("movl_monai.transforms.dicom.nothing")


@pytest.mark.parametrize(
    "statement",
    [
        "from movl_monai.transforms.dicom.frame import modality_values",
        "from movl_monai.transforms.dicom import tags",
        "import movl_monai.transforms.errors",
        "import movl_monai.compare.arms",
        "from movl_monai.trust import TrustRecord, calibration",
        "from movl_monai.trust.record_file import read_trust",
    ],
)
def test_an_old_name_imports_first_in_a_fresh_process(statement: str) -> None:
    assert subprocess.run([sys.executable, "-c", statement], check=False).returncode == 0


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("movl_monai.transforms.read_nifti", True),
        ("movl_monai.transforms.nifti.read_nifti", True),
        ("movl_monai.readers.nifti.read_nifti", True),
        ("movl_monai.transforms.load.LoadMedicalImaged", True),
        ("movl_monai.engines.keep_record.KeepRunRecord", True),
        ("movl_monai.trust.calibration.fit_temperature", True),
        ("movl_monai.trust.fit_temperature", True),
        ("movl_monai.transforms.nifti.open_source", False),
        ("movl_monai.trust.record_file.write_trust", False),
        ("movl_monai.engines.run_record.importlib", False),
        ("movl_monai.readers.files.os.system", False),
    ],
)
def test_configs_may_use_the_old_and_the_new_names(path: str, allowed: bool) -> None:
    assert is_allowed(path) is allowed
