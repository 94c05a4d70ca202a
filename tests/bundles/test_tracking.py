"""`--tracking mlflow` logs losses and metrics."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflows import BUNDLES, FAST


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (the extra `tracking`)")
def test_a_run_is_tracked_by_mlflow(phantom: Path, tmp_path: Path) -> None:
    settings = {**FAST, "dataset_dir": phantom, "output_dir": tmp_path}
    train = next(bundle for bundle in BUNDLES if bundle.name == "movl_classification") / "configs/train.json"
    words = ["-m", "monai.bundle", "run", "training", "--config_file", str(train), "--tracking", "mlflow"]
    words += [f"--{name}={value}" for name, value in settings.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(runs) == 1
    assert {"train_loss", "val_balanced_accuracy"} <= set(runs[0].data.metrics)
