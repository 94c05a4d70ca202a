"""Tests of the handlers, on real evaluators over tiny networks."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from sklearn.metrics import balanced_accuracy_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, Dataset

from movl_monai.data import IdMap
from movl_monai.engines import prepare_image_batch
from movl_monai.errors import MovlError
from movl_monai.evaluation import (
    EvaluationReportHandler,
    NonFiniteLogitsError,
    Predictions,
    PredictionWriter,
    StoredOutputs,
    report_scalars,
    write_outputs,
)
from movl_monai.evaluation.trust_record import read_trust
from movl_monai.heads import LinearHead
from movl_monai.metrics.matching import DifferentTestSetsError
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone
from tests.tables import read_rows

CLASSES = ["normal", "pneumonia"]


class Images(Dataset):
    """Images of two domains with splits, optionally without labels."""

    def __init__(self, *, count: int = 22, labeled: bool = True) -> None:
        self.inner = memory_dataset(count)
        self.labeled = labeled

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.inner[index]
        domain = "id" if index < 14 else "scanner_b"
        item |= {"domain": domain, "split": "val" if index < 4 else "test"}
        if not self.labeled:
            item["label"] = -1
        return item


def trained_like_network() -> AdaptedClassifier:
    head = LinearHead(tiny_backbone().spec.num_features, 2, init="uniform", seed=3)
    prompt = PadPrompt(image_size=IMAGE_SIZE, width=4)
    return AdaptedClassifier(backbone=tiny_backbone(), head=head, prompt=prompt, class_names=CLASSES)


def evaluator(
    network: torch.nn.Module, handler: Any, *, data: Dataset | None = None, **options: Any
) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Images() if data is None else data, batch_size=5),
        network=network,
        prepare_batch=prepare_image_batch,
        val_handlers=[handler],
        **options,
    )


@pytest.mark.parametrize("decollate", [True, False])
def test_report_handler_writes_the_figures_that_scikit_learn_finds_in_the_predictions(
    tmp_path: Path, decollate: bool
) -> None:
    handler = EvaluationReportHandler(tmp_path, class_names=CLASSES, network=trained_like_network(), rounds=20)
    evaluator(trained_like_network(), handler, decollate=decollate).run()
    report = json.loads((tmp_path / "report.json").read_text())
    rows = read_rows(tmp_path / "predictions.csv")
    assert [row["id"] for row in rows] == [f"{index:012x}" for index in range(22)]
    for section, domain, split in [
        (report["id"], "id", "test"),
        (report["val"], "id", "val"),
        (report["ood"]["scanner_b"], "scanner_b", "test"),
    ]:
        part = [row for row in rows if (row["domain"], row["split"]) == (domain, split)]
        expected = balanced_accuracy_score([row["label"] for row in part], [row["predicted"] for row in part])
        assert section["n"] == len(part)
        assert section["balanced_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert report["run"]["prompt"] == "PadPrompt"
    assert (tmp_path / "prompt.png").is_file()


def test_report_handler_gives_the_probabilities_of_the_network(tmp_path: Path) -> None:
    network = trained_like_network()
    evaluator(network, EvaluationReportHandler(tmp_path, class_names=CLASSES, rounds=5)).run()
    with torch.no_grad():
        expected = network.eval()(Images().inner.images.float() / 255).double().softmax(dim=1).numpy()
    found = [[float(row[f"probability_{name}"]) for name in CLASSES] for row in read_rows(tmp_path / "predictions.csv")]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_report_handler_resamples_patients_and_writes_only_their_salted_ids(tmp_path: Path) -> None:
    items = [{"id": f"{index:012x}", "patient_id": f"Smith-{index // 2}"} for index in range(22)]
    ids = IdMap(salt="0123456789abcdef")
    handler = EvaluationReportHandler(tmp_path, class_names=CLASSES, items=items, id_map=ids, rounds=5)
    evaluator(trained_like_network(), handler).run()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["id"]["resampling"]["resampled"] == "patients"
    assert report["id"]["n_patients"] == 5
    assert read_rows(tmp_path / "predictions.csv")[3]["patient"] == ids.patient_id("Smith-1")
    assert not [path for path in tmp_path.iterdir() if b"Smith" in path.read_bytes()]


def test_report_handler_logs_a_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="movl_monai"):
        evaluator(trained_like_network(), EvaluationReportHandler(tmp_path, class_names=CLASSES, rounds=5)).run()
    assert "ood: scanner_b" in caplog.text
    assert "balanced_accuracy" in caplog.text


def test_report_handler_starts_anew_with_every_run(tmp_path: Path) -> None:
    handler = EvaluationReportHandler(tmp_path, class_names=CLASSES, rounds=5)
    engine = evaluator(trained_like_network(), handler)
    engine.run()
    engine.run()
    assert len(read_rows(tmp_path / "predictions.csv")) == 22


def test_report_handler_refuses_logits_that_are_not_finite(tmp_path: Path) -> None:
    network = trained_like_network()
    network.head.bias.data[0] = float("nan")
    with pytest.raises(NonFiniteLogitsError, match="5 of 5 images are NaN"):
        evaluator(network, EvaluationReportHandler(tmp_path, class_names=CLASSES)).run()


@pytest.mark.parametrize(
    ("probabilities", "classes", "indices", "message"),
    [
        (True, CLASSES, range(22), "must be logits, got probabilities"),
        (False, [*CLASSES, "other"], range(22), "gives 2 logits for 3 class names"),
        (False, CLASSES, [0, 1, 2, 2], "1 images were evaluated twice"),
    ],
)
def test_report_handler_refuses_results_that_do_not_fit(
    tmp_path: Path, probabilities: bool, classes: list[str], indices: Sequence[int], message: str
) -> None:
    network: torch.nn.Module = trained_like_network()
    if probabilities:
        network = torch.nn.Sequential(network, torch.nn.Softmax(dim=1))
    data = torch.utils.data.Subset(Images(), list(indices))
    with pytest.raises(MovlError, match=message):
        evaluator(network, EvaluationReportHandler(tmp_path, class_names=classes), data=data).run()


@pytest.mark.parametrize("decollate", [True, False])
def test_prediction_writer_needs_no_labels(tmp_path: Path, decollate: bool) -> None:
    network = trained_like_network()
    data = Images(labeled=False)
    evaluator(network, PredictionWriter(tmp_path, class_names=CLASSES), data=data, decollate=decollate).run()
    rows = read_rows(tmp_path / "predictions.csv")
    assert not {"label", "split", "domain", "patient"} & set(rows[0])
    assert all(row["answer"] == row["predicted"] in CLASSES for row in rows)
    with torch.no_grad():
        expected = network.eval()(data.inner.images.float() / 255).argmax(dim=1)
    assert [row["predicted"] for row in rows] == [CLASSES[index] for index in expected]


class SplitImages(Images):
    """Images of two domains, including training images."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        return item | ({"split": "train"} if 4 <= index < 9 else {})


def test_an_evaluation_keeps_what_it_fitted_beside_the_checkpoint_and_hands_its_figures_to_trackers(
    tmp_path: Path,
) -> None:
    network, seen = trained_like_network(), {}
    handler = EvaluationReportHandler(
        tmp_path / "evaluation",
        class_names=CLASSES,
        trust_record=tmp_path / "trust.pt",
        tensorboard_dir=tmp_path / "tensorboard",
        rounds=5,
        ood_score="knn",
    )
    engine = evaluator(network, handler, data=SplitImages())
    # as MONAI's trackers do, which are attached behind the handlers of a configuration
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.update(engine.state.metrics))
    engine.run()
    report = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert seen == report_scalars(report)
    assert seen["id/accuracy"] == report["id"]["accuracy"]
    record = read_trust(tmp_path / "trust.pt", network)
    assert record.temperature == report["calibration"]["temperature"]
    assert report["ood_detection"]["chosen"]["score"] == "knn"
    (events,) = (tmp_path / "tensorboard").iterdir()
    accumulator = EventAccumulator(str(events)).Reload()
    assert set(accumulator.Tags()["scalars"]) == {f"evaluation/{name}" for name in seen}
    (event,) = accumulator.Scalars("evaluation/id/accuracy")
    assert event.value == pytest.approx(report["id"]["accuracy"], abs=1e-6)


def test_a_comparison_on_other_images_is_an_error_after_the_report_was_written(tmp_path: Path) -> None:
    write_outputs(tmp_path / "other" / "outputs.npz", StoredOutputs(
        predictions=Predictions(ids=[f"{4:012x}"], logits=[[1.0, 2.0]], labels=[1]), class_names=CLASSES
    ))  # fmt: skip
    handler = EvaluationReportHandler(
        tmp_path / "own",
        class_names=CLASSES,
        against=[tmp_path / "other"],
        trust_record=tmp_path / "trust.pt",
        rounds=5,
    )
    with pytest.raises(DifferentTestSetsError):
        evaluator(trained_like_network(), handler).run()
    report = json.loads((tmp_path / "own" / "report.json").read_text())
    assert report["comparisons"] == []
    assert any(note.startswith("comparisons: ") for note in report["notes"])
