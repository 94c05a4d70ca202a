"""A tiny trained run of every bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def run_of(
    data_of: dict[str, Path], trained_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The output folder of one epoch of training for every bundle; the run of DVPT classification is also evaluated."""
    folders: dict[str, Path] = {}
    for bundle in data_of:
        names = () if bundle == "dvpt_classification" else ("evaluation", "trust.pt")
        folders[bundle] = tmp_path_factory.mktemp("runs") / bundle
        shutil.copytree(trained_of(bundle), folders[bundle], ignore=shutil.ignore_patterns(*names))
    return folders
