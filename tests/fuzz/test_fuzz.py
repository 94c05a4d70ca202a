"""A few hundred damaged files, the same in every run; `python -m tests.fuzz` damages and reads for minutes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image

from movl_monai.readers import MedicalImageError
from movl_monai.transforms import LoadMedicalImage
from tests.fuzz.mutate import damaged_files
from tests.fuzz.samples import PLANTED, samples
from tests.fuzz.target import check_file

PROJECT = Path(__file__).parents[2]


def test_whole_samples_give_images_or_say_what_they_are() -> None:
    results = {name: check_file(content) for name, content in samples().items()}
    others = {name: result for name, result in results.items() if result != "image"}
    assert others == {
        "DICOMDIR": "not_image",
        "reportsi.dcm": "not_image",
        "liver_1frame.dcm": "segmentation",
        "series.nii": "bad_dimensions",
    }
    assert sum(PLANTED.encode() in content for content in samples().values()) > 20


def test_damaged_files_give_an_image_or_a_reason_and_nobodys_words() -> None:
    found: Counter[str] = Counter()

    @seed(0)
    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged_files())
    def read(content: bytes) -> None:
        found[check_file(content)] += 1

    read()
    assert found["image"] > 30
    assert len(found) > 6, "the files are damaged in too few ways"


def _small_png() -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 2)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "fault",
    [
        ValueError("not one of ours"),
        MedicalImageError(f"Got {PLANTED}.", reason="bad_header"),
        MedicalImageError("Got it.", reason="bad_header"),
    ],
    ids=["another error", "words in the message", "words in the cause"],
)
def test_the_target_notices_a_reader_that_fails_or_talks(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise fault from KeyError(PLANTED)

    monkeypatch.setattr(LoadMedicalImage, "read", read)
    with pytest.raises((ValueError, AssertionError)):
        check_file(_small_png())


@pytest.mark.parametrize(
    ("image", "record"),
    [
        (torch.full((3, 2, 2), float("nan")), {}),
        (torch.full((3, 2, 2), 1.5), {}),
        (torch.zeros(1, 2, 2), {}),
        (torch.zeros(3, 2, 2, dtype=torch.float64), {}),
        (torch.zeros(3, 2, 2), {"view": PLANTED}),
    ],
    ids=["NaN", "above 1", "one channel", "float64", "words in the record"],
)
def test_the_target_notices_what_breaks_the_contract(
    image: torch.Tensor, record: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadMedicalImage, "read", lambda *_: (image, record))
    with pytest.raises(AssertionError):
        check_file(_small_png())


def test_the_target_hears_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> tuple[torch.Tensor, dict]:
        warnings.warn(PLANTED, stacklevel=1)
        return torch.zeros(3, 2, 2), {}

    monkeypatch.setattr(LoadMedicalImage, "read", read)
    with pytest.raises(AssertionError, match="planted words came out"):
        check_file(_small_png())


@pytest.mark.slow
def test_the_process_of_the_long_run_tells_counts_and_the_next_seed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.batches", "7", "0.01", str(tmp_path / "case.bin")]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300, check=True)
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["seed"] == 8
    assert set(last) == {"seed", "counts"}
