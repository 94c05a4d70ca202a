"""Wrong devices and outputs are refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from movl_monai.engines import check_device, check_output_dir
from movl_monai.errors import ConfigError, MovlError


def test_a_cpu_is_always_there() -> None:
    assert check_device("cpu") == torch.device("cpu")


def test_cuda_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"sees 0 CUDA device\(s\) here\. Use `--device cpu`"):
        check_device("cuda")


def test_more_devices_than_there_are_or_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert check_device("cuda:0").index == 0
    with pytest.raises(ConfigError, match="device is 'cuda:1'"):
        check_device("cuda:1")
    with pytest.raises(ConfigError, match="device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"):
        check_device("gpu")


def test_an_output_folder_is_made_and_one_that_cannot_be_is_refused(tmp_path: Path) -> None:
    assert check_output_dir(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(MovlError, match="choose another with `--output_dir DIR`"):
        check_output_dir(tmp_path / "file" / "out")
