"""Test of the handler and a metric in two processes, with a sampler that repeats an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from movl_monai.evaluation import EvaluationReportHandler, NegativeCrossEntropy

COUNT = 7


class Rows(Dataset):
    """Logits in place of images, for a network that passes them through."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = torch.tensor([0.5 * index, 1.5])
        item = {"image": image, "label": index % 2, "index": index, "id": f"{index:012x}", "domain": "id"}
        return item | {"split": "test", "patient_id": f"Smith {index // 2}"}


def evaluate(folder: Path) -> None:
    sampler = DistributedSampler(Rows(), shuffle=False) if distributed.is_initialized() else None
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Rows(), batch_size=3, sampler=sampler),
        network=torch.nn.Identity(),
        key_val_metric={"ll": NegativeCrossEntropy()},
        val_handlers=[EvaluationReportHandler(folder, class_names=["no", "yes"], rounds=10)],
    ).run()


def one_process(rank: int, folder: str) -> None:
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    try:
        evaluate(Path(folder) / "two")
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_write_the_report_of_one(tmp_path: Path) -> None:
    evaluate(tmp_path / "one")
    torch.multiprocessing.spawn(one_process, args=(str(tmp_path),), nprocs=2)
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    for report in reports:
        report.pop("run")  # of the checkout, not of the images
        report["model_card"].pop("run")
    assert reports[0] == reports[1]
    assert reports[0]["id"]["n"] == COUNT
    files = [(tmp_path / name / "predictions.csv").read_text() for name in ("one", "two")]
    assert files[0] == files[1]
    assert len(files[0].splitlines()) == COUNT + 1
