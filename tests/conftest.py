"""Fixtures that every test module shares."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


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


@pytest.fixture(autouse=True)
def _memory_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in this process does not change its memory for good: other tests measure how it grows."""
    monkeypatch.setattr("movl_monai.heap.keep_free_memory", lambda megabytes=1024: None)


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    """A workflow run in this process sets handlers on the streams of its test, which are closed afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
    root.setLevel(level)
