"""Fixtures that every test module shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# a slow machine fails no test
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data and weights (`MOVL_TEST_DATA`); without it the test is skipped, saying so."""
    folder = os.environ.get("MOVL_TEST_DATA")
    if not folder:
        pytest.skip("MOVL_TEST_DATA is not set: the real images and weights are not on this machine")
    path = Path(folder)
    if not (path / "data").is_dir():
        pytest.fail(f"MOVL_TEST_DATA must name a folder with data/ and weights/, got {folder}")
    return path


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _memory_as_before() -> Iterator[None]:
    """A command that runs in this process does not change its memory for good: other tests measure how it grows.

    For the whole session, because fixtures of a session run commands too, before those of a single test are set up.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("movl_monai.heap.keep_free_memory", lambda megabytes=1024: None)
        yield


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    """A workflow run in this process sets handlers on the streams of its test, which are closed afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom of 12 + 6 + 6 images of domain id and 6 of scanner_b, two per patient; not to be written to."""
    from movl_monai.phantom import write_phantom

    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, patients=(6, 3, 3, 3), images_per_patient=2, size=64)
    return folder


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with masks of three classes, 6 + 3 + 4; not to be written to."""
    from tests.evaluation.masks import write_images

    root = tmp_path_factory.mktemp("data") / "patient_name"
    return write_images(root, splits=(("train", 6), ("val", 3), ("test", 4)))


@pytest.fixture(scope="session")
def data_of(phantom: Path, pairs: Path) -> dict[str, Path]:
    """The data of each bundle."""
    return {"movl_classification": phantom, "dvpt_classification": phantom, "dvpt_segmentation": pairs}


@pytest.fixture(scope="session")
def trained_of(data_of: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The output folder of one epoch of training of a bundle, and of its evaluation; not to be written to."""
    from tests.workflows import run

    @cache
    def trained(bundle: str) -> Path:
        output = tmp_path_factory.mktemp(bundle)
        for run_id in ("training", "evaluating"):
            run(bundle, run_id, dataset_dir=data_of[bundle], output_dir=output)
        return output

    return trained
