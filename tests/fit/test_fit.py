"""From a folder to an exported model: choice, resuming, refusals, and the same result for one seed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from movl_monai.cli import main
from movl_monai.engines import StagedTrainer
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.setup import ArmSetup
from movl_monai.experiments.compare.training import train_arm
from movl_monai.export import read_exported
from movl_monai.files import to_json
from movl_monai.fit import Fit, fit
from movl_monai.fit import run as fit_module
from movl_monai.fit.budget import Budget, OutOfBudgetError
from movl_monai.fit.choice import Choice
from movl_monai.fit.summary import summarize
from movl_monai.networks import load_checkpoint

BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_efficientnet",
    "weights": None,
    "image_size": "@image_size",
    "layers": "@layers",
}
FAST: dict[str, Any] = {
    "image_size": 32,
    "epochs": 2,
    "batch_size": 8,
    "num_workers": 0,
    "device": "cpu",
    "backbone": BACKBONE,
}
FAST_MASKS: dict[str, Any] = {
    "image_size": 32,
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 4,
    "num_workers": 0,
    "device": "cpu",
    "decoder_width": 8,
    "mask_class_names": ["background", "organ", "lesion"],
}


@pytest.fixture(scope="module", autouse=True)
def _no_figure() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("movl_monai.report.classification_task.draw_figure", lambda *_, **__: b"")
        yield


@pytest.fixture(scope="module")
def finished(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Fit:
    return fit(phantom, tmp_path_factory.mktemp("fit"), overrides=FAST)


def _states(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(folder.glob("work/*/models/model.pt"))
    return {path.parts[-3]: load_checkpoint(path) for path in paths}


def _equal(one: Path, other: Path) -> bool:
    a, b = _states(one), _states(other)
    return a.keys() == b.keys() and all(
        a[name].keys() == b[name].keys() and all((a[name][key] == b[name][key]).all() for key in a[name]) for name in a
    )


def test_a_fit_leaves_an_evaluated_and_exported_run(finished: Fit) -> None:
    names = [
        "MODEL_CARD.md",
        "data/quality.html",
        "evaluation/report.json",
        "fit.log",
        "model_card.json",
        "models/splits.csv",
        "report.html",
    ]
    assert [name for name in names if not (finished.folder / name).is_file()] == []
    model = read_exported(finished.folder / "model.onnx")
    assert model(np.zeros((2, 3, 32, 32), dtype=np.float32)).logits.shape == (2, len(model.class_names))
    assert model.trust() is not None
    candidates = finished.record["candidates"]
    assert list(candidates) == ["linear_probe", "layer_probe", "movl_layers"]
    assert candidates[finished.record["chosen"]]["value"] >= candidates["linear_probe"]["value"]
    assert set(finished.report["ood"]) == {"scanner_b"}
    assert "patient" not in (finished.folder / "fit.json").read_text(encoding="utf-8").replace("patients", "")


def test_a_finished_fit_repeats_nothing(phantom: Path, finished: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("evaluate", "export_run"):
        monkeypatch.setattr(fit_module, name, lambda *_, **__: pytest.fail("it was done again"))
    monkeypatch.setattr(StagedTrainer, "run", lambda _: pytest.fail("it was trained again"))
    assert (
        fit(phantom, finished.folder, overrides={**FAST, "num_workers": 1}).record["chosen"]
        == finished.record["chosen"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"overrides": {**FAST, "image_size": 48}}, "image_size: 32 there, 48 now"),
        ({"bundle": "dvpt_classification", "overrides": {}}, "bundle: movl_classification there"),
    ],
)
def test_another_fit_in_the_same_folder_is_refused(
    phantom: Path, finished: Fit, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(phantom, finished.folder, **{"overrides": FAST, **options})


def test_other_images_in_the_same_folder_are_refused(phantom: Path, finished: Fit, tmp_path: Path) -> None:
    other = shutil.copytree(phantom, tmp_path / "other")
    lines = (other / "manifest.csv").read_text(encoding="utf-8").splitlines()
    last = next(line for line in reversed(lines) if ",train," in line)
    (other / "manifest.csv").write_text("\n".join(line for line in lines if line != last), encoding="utf-8")
    with pytest.raises(ConfigError, match="training images: digest .* there, digest .* now"):
        fit(other, finished.folder, overrides=FAST)


def test_a_skipped_and_then_killed_fit_ends_as_one_that_was_not(
    phantom: Path, finished: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, epochs = StagedTrainer.begin_epoch, []

    def killed(trainer: StagedTrainer) -> None:
        epochs.append(trainer.state.epoch)
        if epochs == [1, 2]:
            raise KeyboardInterrupt
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "_OVERHEAD", 1e6)
        short = fit(phantom, tmp_path, overrides=FAST)
    assert short.record["candidates"]["movl_layers"]["state"] == "skipped"
    monkeypatch.setattr(StagedTrainer, "begin_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(phantom, tmp_path, overrides=FAST)
    resumed = fit(phantom, tmp_path, overrides=FAST)
    assert epochs == [1, 2, 2]
    assert resumed.record["candidates"]["movl_layers"]["state"] == "trained"
    assert _equal(tmp_path, finished.folder)
    assert resumed.report["id"]["auroc"] == finished.report["id"]["auroc"]


def test_a_late_candidate_is_shortened_and_stopped_and_another_choice_looks_again(
    phantom: Path, finished: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "again")
    shutil.rmtree(folder / "work/movl_layers")

    def late(setup: ArmSetup, *parts: Any, values: dict[str, Any], **options: Any) -> Any:
        if setup.name == "movl_layers" and not values:
            raise OutOfBudgetError(1e5, per_epoch=1000, epochs=2, closing=10)
        if setup.name == "movl_layers":
            monkeypatch.setattr(Budget, "left", lambda _: -1.0)
        return train_arm(setup, *parts, values=values, **options)

    parity = SimpleNamespace(logits=0.0, tolerance=0.0, images=1)
    monkeypatch.setattr(fit_module, "_FEWEST", 1)
    monkeypatch.setattr(fit_module, "train_arm", late)
    monkeypatch.setattr(fit_module, "choose", lambda *_, **__: Choice(name="movl_layers", reason="", differences={}))
    monkeypatch.setattr(fit_module, "evaluate", lambda *_, **__: folder / "evaluation" / "report.html")
    monkeypatch.setattr(fit_module, "export_run", lambda *_, **__: [SimpleNamespace(parity=parity, megabytes=1.0)])
    monkeypatch.setattr(fit_module.shutil, "copyfile", lambda *_: None)
    again = fit(phantom, folder, overrides=FAST)
    entry = again.record["candidates"]["movl_layers"]
    assert (entry["values"]["epochs"], entry["planned_epochs"], entry["state"]) == (1, 2, "trained")
    assert (entry["epochs"], entry["stopped"]) == (0, "by the budget, after 0 whole epochs")
    assert [look.split()[0] for look in again.record["looks_at_test"]] == [finished.record["chosen"], "movl_layers"]
    said = "\n".join(summarize(again))
    assert "Chosen:  movl_layers (0 of 2 epochs)" in said
    assert "look 2 at test in this folder" in said


def test_leaking_splits_end_the_command_with_3(
    phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = shutil.copytree(phantom, tmp_path / "data")
    text = (leaking / "manifest.csv").read_text(encoding="utf-8")
    (leaking / "manifest.csv").write_text(text.replace(",train,", ",test,", 1), encoding="utf-8")
    assert (
        main(["fit", str(leaking), "--output_dir", str(tmp_path / "out"), "--image_size", "32", "--prompt_width", "4"])
        == 3
    )
    assert "LEAKAGE" in capsys.readouterr().err


def test_the_first_candidate_is_trained_for_the_epochs_that_fit(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "_OVERHEAD", 1e6)
    words = [word for name, value in FAST_MASKS.items() for word in (f"--{name}", json.dumps(value))]
    assert main(["fit", str(pairs), "--output_dir", str(tmp_path), *words]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 10
    assert printed.out.startswith("Chosen:  decoder_only")
    assert "trained for fewer epochs: 1" in printed.err
    record = json.loads((tmp_path / "fit.json").read_text(encoding="utf-8"))
    assert record["candidates"]["decoder_only"]["epochs"] == 1
    assert to_json(record) == (tmp_path / "fit.json").read_text(encoding="utf-8")
    assert read_exported(tmp_path / "model.onnx").class_names == FAST_MASKS["mask_class_names"]
