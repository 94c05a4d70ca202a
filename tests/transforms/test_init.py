"""Every public name is exported, and importing the package is cheap."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import movl_monai.transforms as transforms


def test_everything_named_in_all_exists_once() -> None:
    assert all(hasattr(transforms, name) for name in transforms.__all__)
    assert len(set(transforms.__all__)) == len(transforms.__all__)


@pytest.mark.parametrize(
    "verb",
    [
        "LoadMedicalImage",
        "LoadSegmentation",
        "CanonicalSlices",
        "ResizeImage",
        "QuantizeImage",
        "RandomAugmentImage",
        "MatchColorStatistics",
        "HUWindows",
        "ApplyVOIWindow",
    ],
)
def test_every_transform_has_a_dictionary_twin(verb: str) -> None:
    assert verb in transforms.__all__
    assert f"{verb}d" in transforms.__all__


@pytest.mark.parametrize(
    "verb",
    [
        "LoadMedicalImage",
        "LoadSegmentation",
        "CanonicalSlices",
        "ResizeImage",
        "RandomAugmentImage",
        "MatchColorStatistics",
    ],
)
def test_twins_have_the_options_and_defaults_of_the_array_form(verb: str) -> None:
    array, twin = (inspect.signature(getattr(transforms, name)).parameters for name in (verb, f"{verb}d"))
    assert {name: twin[name].default for name in array} == {name: option.default for name, option in array.items()}


@pytest.mark.slow
def test_importing_the_transforms_imports_no_big_package_and_no_other_part_of_the_library() -> None:
    # MONAI and pydicom import theirs by themselves
    code = (
        "import sys, movl_monai.transforms\n"
        "print(sorted({'SimpleITK', 'highdicom', 'timm', 'open_clip'} & set(sys.modules)))\n"
        "ours = {'.'.join(name.split('.')[:2]) for name in sys.modules if name.startswith('movl_monai.')}\n"
        "print(sorted(ours))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-2:] == [
        "[]",
        "['movl_monai._moved', 'movl_monai.readers', 'movl_monai.transforms']",
    ]
