"""What `--tracking mlflow` needs: MONAI's own transform finds the loss in the trainer's output."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.handlers import from_engine

from tests.bundles.conftest import BUNDLES, FAST, FAST_OF
from tests.evaluation.masks import write_images

bundles = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with masks of three classes."""
    return write_images(tmp_path_factory.mktemp("pairs"), splits=(("train", 6), ("val", 3), ("test", 4)))


def _settings(bundle: Path, phantom: Path, pairs: Path, output: Path) -> dict[str, Any]:
    own: dict[str, Any] = {"dataset_dir": str(phantom)}
    if bundle.name == "dvpt_segmentation":
        own = {"dataset_dir": str(pairs), "mask_class_names": ["background", "organ", "lesion"]}
    return {**FAST_OF[bundle.name], **own, "output_dir": str(output)}


@bundles
def test_monais_trackers_find_the_loss_as_one_number(bundle: Path, phantom: Path, pairs: Path, tmp_path: Path) -> None:
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs/train.json"),
        workflow_type="train",
        logging_file=False,
        run_id="training",
        **_settings(bundle, phantom, pairs, tmp_path),
    )
    workflow.initialize()
    workflow.run()
    loss = from_engine(["loss"], first=True)(workflow.trainer.state.output)
    assert torch.as_tensor(loss).ndim == 0
    assert float(loss) > 0
    workflow.finalize()


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
