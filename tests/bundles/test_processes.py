"""Training in processes: killed and resumed, and two that train together, end as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from movl_monai.engines import open_run
from tests.bundles.conftest import BUNDLES, FAST

CONFIGS = next(path for path in BUNDLES if path.name == "movl_classification") / "configs"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _arguments(phantom: Path, output: Path, files: str, **settings: object) -> list[str]:
    values = {**FAST, "dataset_dir": phantom, "output_dir": output, **settings}
    return ["-m", "monai.bundle", "run", "training", "--config_file", files, *(f"--{k}={v}" for k, v in values.items())]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_a_run_killed_in_the_middle_resumes_to_the_same_checkpoint(phantom: Path, tmp_path: Path) -> None:
    train = str(CONFIGS / "train.json")
    common = {"epochs": 6, "batch_size": 2}
    whole = _arguments(phantom, tmp_path / "whole", train, **common)
    subprocess.run([sys.executable, *whole], env=ENVIRONMENT, check=True, capture_output=True)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *_arguments(phantom, killed, train, **common)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (killed / "models/last.pt").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "training ended before it could be killed"
    done = torch.load(killed / "models/last.pt", weights_only=True)["epoch"]
    assert 1 <= done < 6
    resumed = _arguments(phantom, killed, train, **common, resume="True")
    subprocess.run([sys.executable, *resumed], env=ENVIRONMENT, check=True, capture_output=True)
    assert (killed / "models/model.pt").read_bytes() == (tmp_path / "whole/models/model.pt").read_bytes()
    assert open_run(killed).record == open_run(tmp_path / "whole").record
    one, other = (_tensors(folder / "models/last.pt")["network"] for folder in (killed, tmp_path / "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.slow
def test_two_processes_train_to_the_same_result_as_one(phantom: Path, tmp_path: Path) -> None:
    train, several = str(CONFIGS / "train.json"), str(CONFIGS / "multi_gpu_train.json")
    common = {"epochs": 2, "batch_size": 4}
    single = _arguments(phantom, tmp_path / "one", train, **common)
    subprocess.run([sys.executable, *single], env=ENVIRONMENT, check=True, capture_output=True)
    settings = _arguments(phantom, tmp_path / "two", f"['{train}','{several}']", **common)
    settings = [word for word in settings if not word.startswith("--device")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([*launcher, *settings], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    one, two = (_tensors(tmp_path / name / "models/last.pt")["network"] for name in ("one", "two"))
    assert set(one) == set(two)
    assert open_run(tmp_path / "two").record["settings"] == open_run(tmp_path / "one").record["settings"]
    rebuilt, kept = open_run(tmp_path / "two").network().state_dict(), _tensors(tmp_path / "two/models/model.pt")
    assert all(torch.equal(rebuilt[name], kept[name]) for name in kept)
    for name, value in one.items():
        torch.testing.assert_close(two[name].float(), value.float(), atol=1e-4, rtol=1e-4)
