"""Decoding many files: contract, reasons, workers that die."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose
from PIL import Image

from movl_monai.data.decode import ImageContractError, decode, decode_all, to_uint8
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged

Item = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


class ReasonError(ValueError):
    reason = "bad_header"


def image(value: float = 0.2) -> torch.Tensor:
    return torch.full((3, 2, 2), value)


def fragile(item: Item) -> Item:
    """Raise or kill the process if the item's path says so; otherwise return a grey image."""
    if item["image"] == "raise":
        raise ReasonError("The header\n contradicts itself.")
    if item["image"] == "kill":
        time.sleep(0.05)
        os._exit(1)
    return item | {"image": image(item["index"] / 255), "record": {"rows": 2}}


def test_uint8_holds_every_level_exactly() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(3, 1, 1)
    assert torch.equal(to_uint8(levels.float() / 255), levels)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "float32 tensor, got NoneType"),
        (image().numpy(), "float32 tensor, got ndarray"),
        (image().double(), r"float32 tensor, got torch\.float64"),
        (image()[:1], r"shape \(3, H, W\), got \(1, 2, 2\)"),
        (image()[None], r"shape \(3, H, W\), got \(1, 3, 2, 2\)"),
        (image(float("nan")), "NaN or infinite"),
        (image(float("inf")), "NaN or infinite"),
        (image(51.0), r"values in \[0, 1\], got 51 to 51"),
        (image(-0.2), r"values in \[0, 1\], got -0\.2"),
        (image(0.5), "end with QuantizeImaged"),
    ],
)
def test_what_is_no_image_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(ImageContractError, match=message):
        to_uint8(bad)


@pytest.mark.parametrize("transform", [fragile, Compose([fragile])], ids=["bare", "monai"])
def test_a_reading_error_keeps_its_reason_and_message(transform: Any) -> None:
    decoded = decode({"image": "raise"}, transform)
    assert (decoded.image, decoded.reason, decoded.detail) == (None, "bad_header", "The header contradicts itself.")


@pytest.mark.parametrize("error", [OSError("/data/jane_doe.png"), UnicodeDecodeError("utf8", b"x", 0, 1, "bad")])
def test_the_message_of_any_other_error_is_not_kept(error: Exception) -> None:
    def transform(item: Item) -> Item:
        raise error

    decoded = decode({"image": "x"}, transform)
    assert (decoded.reason, decoded.detail) == ("unexpected_error", type(error).__name__)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_decode_what_one_process_decodes(num_workers: int) -> None:
    items = [{"image": "raise" if index == 2 else "fine", "index": index} for index in range(9)]
    decoded = dict(decode_all(items, fragile, num_workers=num_workers))
    assert sorted(decoded) == list(range(9))
    assert [index for index, outcome in decoded.items() if outcome.reason] == [2]
    for index, outcome in decoded.items():
        assert outcome.reason or (outcome.image[0, 0, 0] == index and outcome.record == {"rows": 2})


def test_a_worker_that_dies_costs_its_file_only() -> None:
    items = [{"image": "kill" if index in (0, 5) else "fine", "index": index} for index in range(12)]
    decoded = dict(decode_all(items, fragile, num_workers=2))
    assert {index: outcome.reason for index, outcome in decoded.items() if outcome.reason} == {
        0: "worker_died",
        5: "worker_died",
    }
    assert sorted(decoded) == list(range(12))


def greedy(item: Item) -> Item:
    """Crash, or ask for more memory than there can be."""
    if item["image"] == "signal":
        faulthandler.disable()  # no dump of a crash that is meant
        os.kill(os.getpid(), signal.SIGSEGV)
    if item["image"] == "memory":
        bytearray(2**46)  # 64 TiB: no machine has it
    return item | {"image": image(0.2)}


@pytest.mark.parametrize(("fault", "reason"), [("signal", "worker_died"), ("memory", "unexpected_error")])
def test_a_crash_and_exhausted_memory_cost_their_file_only(fault: str, reason: str) -> None:
    items = [{"image": fault if index in (0, 1, 7) else "fine", "index": index} for index in range(10)]
    decoded = dict(decode_all(items, greedy, num_workers=2))
    assert sorted(decoded) == list(range(10))
    assert {index: outcome.reason for index, outcome in decoded.items() if outcome.reason} == dict.fromkeys(
        (0, 1, 7), reason
    )


def test_a_worker_that_is_killed_for_its_memory_costs_its_file_only() -> None:
    # stands for the kernel, which ends the process that grew most: SIGKILL in the middle of a file, at every attempt
    items = [{"image": "kernel" if index == 3 else "fine", "index": index} for index in range(8)]
    decoded = dict(decode_all(items, killed, num_workers=1))
    assert [index for index, outcome in sorted(decoded.items()) if outcome.reason == "worker_died"] == [3]
    assert len(decoded) == 8


def killed(item: Item) -> Item:
    if item["image"] == "kernel":
        os.kill(os.getpid(), signal.SIGKILL)
    return item | {"image": image(0.2)}


def test_a_real_file_that_exhausts_a_workers_memory_has_a_reason(tmp_path: Path) -> None:
    Image.new("L", (4000, 4000)).save(tmp_path / "large.png")
    Image.new("L", (4, 4)).save(tmp_path / "small.png")
    # a process of its own: this one may have hundreds of freed megabytes, which a worker can use below any limit
    program = "from tests.data.test_decode import main_with_little_memory as main; main()"
    names = ("large.png", "small.png", "large.png")
    command = [sys.executable, "-c", program, *(str(tmp_path / name) for name in names)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    outcomes = json.loads(run.stdout)
    assert [reason for reason, _ in outcomes] == ["too_large", "", "too_large"]
    assert "fits into memory" in outcomes[0][1]


def main_with_little_memory() -> None:
    items = [{"image": path, "index": 0} for path in sys.argv[1:]]
    decoded = dict(decode_all(items, read_with_little_memory, num_workers=1))
    print(json.dumps([(decoded[index].reason, decoded[index].detail) for index in range(len(items))]))


def read_with_little_memory(item: Item) -> Item:
    """Read with 32 MiB of address space more than the process has; the decoded image needs 192 MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    size = int(next(line for line in lines if line.startswith("VmSize")).split()[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + 32 * 2**20, before[1]))
    try:
        return QuantizeImaged()(LoadMedicalImaged()(item))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_chain_that_gives_no_image_stops_the_run_from_a_worker_too() -> None:
    with pytest.raises(ImageContractError, match="float32 tensor, got str"):
        list(decode_all([{"image": "path"}], dict, num_workers=1))
