"""Training in processes: killed and resumed, and two that train together, end as one that was left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from movl_monai.engines import open_run
from tests.evaluation.masks import write_images
from tests.workflows import BUNDLES, FAST, FAST_OF

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
    records = [open_run(folder).record for folder in (killed, tmp_path / "whole")]
    for record in records:  # the ids in the kept splits have the salt of their own run
        record.pop("splits_sha256")
    assert records[0] == records[1]
    one, other = (_tensors(folder / "models/last.pt")["network"] for folder in (killed, tmp_path / "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)


# what differs between the bundles; Dice over a process's share of a batch is another loss than over the whole
IN_PROCESSES: dict[str, dict[str, object]] = {
    "movl_classification": {},
    "dvpt_classification": {},
    "dvpt_segmentation": {"mask_class_names": ["background", "organ", "lesion"], "ce_weight": 1.0, "dice_weight": 0.0},
}


def _train_together(bundle: Path, processes: int, settings: dict[str, object], output: Path) -> Path:
    """Train in one process or in several, and return the folder of the checkpoints."""
    overlay = output.with_suffix(".json")
    overlay.write_text(json.dumps({**settings, "output_dir": str(output)}, default=str), encoding="utf-8")
    names = ["train.json", *(["multi_gpu_train.json"] if processes > 1 else [])]
    files = [*(str(bundle / "configs" / name) for name in names), str(overlay)]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else [])]
    result = subprocess.run(
        [*command, "-m", "monai.bundle", "run", "training", "--config_file", str(files)],
        env={**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return output / "models"


def _assert_equal_to_rounding(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare sums over images, in which terms cancel: a wrong batch or a wrong mean changes them by their own size."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        bound = 1e-3 * float(value.abs().max())
        torch.testing.assert_close(
            found[name].float(), value.float(), atol=bound, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_two_processes_take_the_steps_of_one(bundle: Path, phantom: Path, tmp_path: Path) -> None:
    """Momentum 1 without dampening is the sum of all gradients so far; no optimiser magnifies their rounding."""
    data = (
        write_images(tmp_path / "data", splits=(("train", 12), ("val", 3), ("test", 2)))
        if "seg" in bundle.name
        else phantom
    )
    common = {**FAST_OF[bundle.name], **IN_PROCESSES[bundle.name], "dataset_dir": data, "epochs": 2, "batch_size": 4}
    del common["device"]
    optimizer = {"optimizer#_target_": "torch.optim.SGD", "optimizer#momentum": 1.0}
    one, two = (
        _train_together(bundle, count, {**common, **optimizer}, tmp_path / f"processes_{count}") for count in (1, 2)
    )
    last, other = _tensors(one / "last.pt"), _tensors(two / "last.pt")
    sums, others = ({n: s["momentum_buffer"] for n, s in x["optimizer"]["state"].items()} for x in (last, other))
    assert any(float(value.abs().max()) > 0 for value in sums.values())
    _assert_equal_to_rounding(others, sums)
    _assert_equal_to_rounding(other["network"], last["network"])
    _assert_equal_to_rounding(_tensors(two / "model.pt"), _tensors(one / "model.pt"))
    assert other["best"]["best_metric_epoch"] == last["best"]["best_metric_epoch"]
    assert open_run(two.parent).record["settings"] == open_run(one.parent).record["settings"]
    rebuilt, kept = open_run(two.parent).network().state_dict(), _tensors(two / "model.pt")
    assert all(torch.equal(rebuilt[name], kept[name]) for name in kept)
