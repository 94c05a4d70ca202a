"""Every hostile file ends with an image or a reason, in little memory; `python -m tests.hostile` prints the list."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from movl_monai.readers import REASONS
from tests.hostile.run import LIMIT, PROBES, Outcome, Probe, run_probes

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured by Linux means")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    """What becomes of all probes, in processes that do not have this one's threads."""
    command = [sys.executable, "-m", "tests.hostile", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=500)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == len(PROBES), result.stderr[-2000:]
    return {line["name"]: Outcome(**line) for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_hostile_file_gives_an_image_or_a_reason_in_little_memory(probe: Probe, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[probe.name]
    assert outcome.result in probe.reasons, outcome
    assert outcome.result == "image" or outcome.result in REASONS
    assert outcome.peak < LIMIT
    assert not outcome.executed
    assert "hostile_" not in outcome.message  # the folder's name


def test_probes_have_names_of_their_own() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES) >= 60


def test_the_suite_notices_a_reader_that_takes_too_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tests.hostile.run as run

    def greedy(self: object, source: object, frame: object = None) -> None:
        bytearray(resource.getrlimit(resource.RLIMIT_AS)[0])  # more than any free block that the process has

    harmless = Probe(name="harmless", make=lambda folder: tmp_path, reasons=("image",))
    monkeypatch.setattr(run.LoadMedicalImage, "frame_count", greedy)
    (outcome,) = run_probes([harmless], limit=128 * 2**20)
    assert outcome.result == "exception MemoryError"


def test_the_suite_notices_a_reader_that_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tests.hostile.run as run

    harmless = Probe(name="harmless", make=lambda folder: tmp_path, reasons=("image",))
    monkeypatch.setattr(run.LoadMedicalImage, "frame_count", lambda *_: os._exit(7))
    (outcome,) = run_probes([harmless])
    assert outcome.result == "ended with status 7"
