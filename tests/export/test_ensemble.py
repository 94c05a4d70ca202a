"""The command makes one run and one file from two trained runs, on the data set of their training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from movl_monai.cli import main
from movl_monai.engines import open_run
from movl_monai.evaluation import read_outputs
from movl_monai.evaluation.trust_record import read_trust
from movl_monai.export import read_exported
from movl_monai.metrics.classification_metrics import softmax
from tests.helpers import QUIET

pytestmark = [
    pytest.mark.slow,
    *QUIET,
]


def test_trained_runs_become_one_run_with_a_report_a_trust_record_and_a_file(
    run_of: dict[str, Path], data_of: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("movl_classification", "dvpt_classification")
    runs = [Path(shutil.copytree(run_of[name], tmp_path / name)) for name in names]
    own = ["--dataset_dir", str(data_of[names[0]]), "--device", "cpu", "--num_workers", "0"]
    assert main(["evaluate", str(runs[0]), *own]) == 0
    words = ["ensemble", *map(str, runs), "--output_dir", str(tmp_path / "out"), *own, "--export", "torchscript"]
    assert main(words) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "initializer" not in said.out + said.err
    # the logits of the evaluations, and the temperatures of the records, by file: ids are salted in each folder
    run = open_run(tmp_path / "out")
    record = read_trust(run.checkpoint.with_name("trust.pt"), run.checkpoint)
    assert record.temperature is not None
    assert record.detector is not None
    outputs = [read_outputs(folder) for folder in (*runs, tmp_path / "out")]
    temperatures = [member["temperature"] for member in run.record["members"]]
    parts = [softmax(one.predictions.logits / value) for one, value in zip(outputs[:2], temperatures, strict=True)]
    found = softmax(outputs[2].predictions.logits)
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-5)
    assert outputs[2].features.shape[1] == sum(one.features.shape[1] for one in outputs[:2])
    model = read_exported(run.checkpoint.with_name("model.ts"))
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_allclose(model(image.numpy()).logits, run.network()(image).numpy(), atol=1e-4)
    card = (tmp_path / "out/evaluation/MODEL_CARD.md").read_text()
    assert "- strategy: ensemble of 2 runs" in card
    assert "- prompt: PadPrompt + none" in card
