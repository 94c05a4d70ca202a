"""Names from before the readers left `movl_monai.transforms` still import, and are the same objects."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import movl_monai.readers
import movl_monai.transforms
from movl_monai.inspection.allowed import is_allowed
from movl_monai.transforms._moved import MOVED

READERS = Path(movl_monai.readers.__file__).parent
MODULES = sorted(
    path.relative_to(READERS).with_suffix("").as_posix().replace("/", ".") for path in READERS.rglob("*.py")
)


@pytest.mark.parametrize("module", [name for name in MODULES if "__init__" not in name and name != "windows"])
def test_an_old_module_is_the_moved_one(module: str) -> None:
    assert module.split(".")[0] in MOVED
    old = importlib.import_module(f"movl_monai.transforms.{module}")
    assert old is importlib.import_module(f"movl_monai.readers.{module}")
    assert old.__spec__ is not None
    assert old.__spec__.name == old.__name__ == f"movl_monai.readers.{module}"


def test_names_of_the_readers_are_those_of_the_transforms() -> None:
    assert set(movl_monai.readers.__all__) <= set(movl_monai.transforms.__all__)
    for name in movl_monai.readers.__all__:
        assert getattr(movl_monai.transforms, name) is getattr(movl_monai.readers, name)


def test_window_functions_stay_in_the_module_of_their_transforms() -> None:
    old, new = (importlib.import_module(f"movl_monai.{room}.windows") for room in ("transforms", "readers"))
    for name in new.__all__:
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
        ("movl_monai.transforms.nifti.open_source", False),
        ("movl_monai.readers.files.os.system", False),
    ],
)
def test_configs_may_use_the_old_and_the_new_names(path: str, allowed: bool) -> None:
    assert is_allowed(path) is allowed
