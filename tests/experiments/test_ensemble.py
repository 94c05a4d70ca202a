"""Runs joined in one: contents and results of the new run, and runs that cannot be joined."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.backbones import TimmBackbone
from movl_monai.cli import main
from movl_monai.data.kept_splits import KeptImage, KeptSplits
from movl_monai.engines import open_run
from movl_monai.errors import ConfigError, MovlError, WeightsError
from movl_monai.evaluation.trust_record import TrustRecord, trained_state_sha256, write_trust
from movl_monai.experiments.ensemble import make_ensemble
from movl_monai.export.preprocessing import literal_config
from movl_monai.inspection import check_config
from tests.predict.conftest import BACKBONE, make_run

SIZE = 64
CLASSES = ["no_lesion", "lesion"]
VIT = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "test_vit",
    "weights": None,
    "image_size": "@image_size",
    "model_options": {"depth": 4},
}
_LOOKS = [np.random.default_rng(number).bytes(32).hex() for number in range(8)]
# two images of each of four patients
ROWS = [
    KeptImage(image=f"i{number}", patient=f"p{number // 2}", look=look, split=("train", "val", "test")[number // 2 % 3])
    for number, look in enumerate(_LOOKS)
]


def _write_splits(run: Path, rows: Sequence[KeptImage]) -> None:
    """Write the splits as a training keeps them: every run has its own codes of images and patients."""
    salt = run.name.encode().ljust(16, b"-")
    coded = [replace(row, image=f"{run.name} {row.image}", patient=f"{run.name} {row.patient}") for row in rows]
    (run / "models" / "splits.csv").write_bytes(KeptSplits(coded, salt=salt).write())


def _calibrate(run: Path, temperature: float | None) -> None:
    checkpoint = run / "models" / "model.pt"
    known = {"checkpoint_sha256": trained_state_sha256(checkpoint), "class_names": open_run(run).class_names}
    write_trust(run / "models" / "trust.pt", TrustRecord(**known, temperature=temperature))


def _member(folder: Path, bundle: str, classes: list[str] = CLASSES, **settings: Any) -> Path:
    make_run(folder, bundle, classes, **{"image_size": SIZE, **settings})
    _write_splits(folder, ROWS)
    if bundle != "dvpt_segmentation":
        _calibrate(folder, 0.5 if bundle == "movl_classification" else 0.2)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CNN with a prompt and a ViT with DVPT, of two bundles; to be copied where they are changed."""
    folder = tmp_path_factory.mktemp("members")
    cnn = _member(folder / "cnn", "movl_classification", prompt_width=4)
    return cnn, _member(folder / "vit", "dvpt_classification", backbone=VIT)


@pytest.fixture
def runs(kept: tuple[Path, Path], tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(run, tmp_path / run.name)) for run in kept]


@torch.no_grad()
def test_the_run_needs_no_other_and_gives_the_mean_of_calibrated_probabilities(
    runs: list[Path], tmp_path: Path
) -> None:
    image = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    parts = [
        (open_run(run).network()(image).double() / temperature).softmax(dim=1)
        for run, temperature in zip(runs, (0.5, 0.2), strict=True)
    ]
    preprocessing = literal_config(open_run(runs[1]).parser(), "preprocessing")
    splits = (runs[0] / "models/splits.csv").read_bytes()
    make_ensemble(runs, tmp_path / "out")
    for run in runs:
        shutil.rmtree(run)
    opened = open_run(tmp_path / "out")
    found = opened.network()(image).double().softmax(dim=1)
    torch.testing.assert_close(found, (parts[0] + parts[1]) / 2, rtol=0, atol=1e-6)
    assert float((parts[0] - parts[1]).abs().max()) > 0.1
    assert (opened.class_names, opened.task) == (CLASSES, "classification")
    assert (tmp_path / "out/models/splits.csv").read_bytes() == splits
    assert literal_config(opened.parser(), "preprocessing") == preprocessing
    record = json.loads((tmp_path / "out/models/run.json").read_text())
    assert not check_config(record)
    assert str(tmp_path) not in json.dumps(record)
    assert [member["temperature"] for member in record["members"]] == [0.5, 0.2]


def test_an_ensemble_can_be_a_member(runs: list[Path], tmp_path: Path) -> None:
    make_ensemble(runs, tmp_path / "inner")
    _calibrate(tmp_path / "inner", 1.0)
    network: Any = make_ensemble([tmp_path / "inner", runs[0]], tmp_path / "outer").network()
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        inner, alone = open_run(tmp_path / "inner").network(), open_run(runs[0]).network()
        expected = (inner(image).softmax(dim=1) + (alone(image) / 0.5).softmax(dim=1)) / 2
        torch.testing.assert_close(network(image).softmax(dim=1), expected, rtol=0, atol=1e-6)


def test_looks_that_differ_by_a_few_bits_are_the_same_images(runs: list[Path], tmp_path: Path) -> None:
    near = [replace(row, look=f"{int(row.look, 16) ^ 5:064x}") for row in ROWS]
    _write_splits(runs[1], list(reversed(near)))
    assert make_ensemble(runs, tmp_path / "out").class_names == CLASSES


def test_weights_that_moved_are_named_for_each_member(runs: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(runs[0])
    weights = tmp_path / "weights.pt"
    torch.save(TimmBackbone("test_efficientnet", weights=None, image_size=SIZE, seed=3).encoder.state_dict(), weights)
    own = {**BACKBONE, "weights": "@backbone_weights"}
    _member(runs[0], "movl_classification", prompt_width=4, backbone=own, backbone_weights=str(weights))
    moved = weights.rename(tmp_path / "moved.pt")
    with pytest.raises(WeightsError, match="Of this member of an ensemble it is member_1_backbone_weights"):
        make_ensemble(runs[::-1], tmp_path / "out")
    with pytest.raises(ConfigError, match="'member_2_x' is no setting of a member; expected member_0_ to member_1_"):
        make_ensemble(runs[::-1], tmp_path / "out", overrides={"member_2_x": 1})
    found = {"member_1_backbone_weights": str(moved)}
    make_ensemble(runs[::-1], tmp_path / "out", overrides=found)
    again = moved.rename(tmp_path / "again.pt")
    with pytest.raises(WeightsError, match="--member_0_backbone_weights FILE"):
        open_run(tmp_path / "out").network()
    open_run(tmp_path / "out", overrides={"member_1_backbone_weights": str(again)}).network()


Change = Callable[[list[Path]], list[Path] | None]


def _again(**settings: Any) -> Change:
    """Another second run, with other settings."""

    def change(runs: list[Path]) -> None:
        shutil.rmtree(runs[1])
        _member(runs[1], **{"bundle": "movl_classification", "prompt_width": 2, **settings})

    return change


def _other_splits(**columns: Any) -> Change:
    """The first patient's images differ in the second run; None leaves them out."""

    def change(runs: list[Path]) -> None:
        rows = [replace(row, **columns) for row in ROWS[:2]] if columns else []
        _write_splits(runs[1], rows + ROWS[2:])

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "one run": (lambda runs: runs[:1], "at least two runs, got 1"),
    "the same state": (lambda runs: [runs[0], runs[0]], "cnn and .*cnn hold the same trained state"),
    "other classes": (_again(classes=["no", "yes"]), r"cnn and .*vit differ in classes: .*no_lesion.* and .*yes"),
    "other order": (_again(classes=CLASSES[::-1]), "differ in classes: .*share classes and their order"),
    "image size": (
        _again(image_size=48),
        r"vit differ in preprocessing, transforms, ResizeImaged, image_size: 64 and 48",
    ),
    "resize mode": (_again(resize_mode="pad"), 'ResizeImaged, mode: "stretch" and "pad"'),
    "domain": (_again(id_domain="here"), 'differ in id_domain: "id" and "here"'),
    "task": (
        _again(bundle="dvpt_segmentation", classes=["background", "organ"], decoder_width=16),
        "vit is for segmentation",
    ),
    "split": (_other_splits(split="test"), r"cnn and .*vit differ in their splits: 2 of 8 .*test, train differ"),
    "images": (_other_splits(), r"2 of 8 images of the first .* or not in it; train differ"),
    "patients": (_other_splits(patient="p3"), "the same images belong to other patients"),
    "no splits": (lambda runs: (runs[1] / "models/splits.csv").unlink(), "vit keeps no splits.csv"),
    "not evaluated": (lambda runs: (runs[1] / "models/trust.pt").unlink(), "movl-monai evaluate .*vit --dataset_dir"),
    "no temperature": (lambda runs: _calibrate(runs[1], None), "vit was evaluated without images that say"),
    "trust of another": (
        lambda runs: shutil.copy(runs[0] / "models/trust.pt", runs[1] / "models") and None,
        "trust.pt belongs to the trained state",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_runs_that_cannot_be_joined_are_refused(case: str, runs: list[Path], tmp_path: Path) -> None:
    change, said = REFUSED[case]
    chosen = change(runs) or runs
    with pytest.raises(MovlError, match=said):
        make_ensemble(chosen, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_is_replaced_on_demand_only_and_never_a_member(runs: list[Path], tmp_path: Path) -> None:
    make_ensemble(runs, tmp_path / "out")
    _calibrate(tmp_path / "out", 1.0)
    with pytest.raises(ConfigError, match=r"--output_dir holds a run already .*--overwrite true"):
        make_ensemble(runs, tmp_path / "out")
    make_ensemble(runs, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/models/trust.pt").exists()
    with pytest.raises(ConfigError, match="cnn, one of the runs"):
        make_ensemble(runs, runs[0], overwrite=True)


def test_the_command_says_what_it_joined_and_refuses_what_it_does_not_know(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ensemble", *map(str, runs), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--ood_score", "knn"]) == 2
    assert "--ood_score is no option of `movl-monai ensemble`" in " ".join(capsys.readouterr().err.split())
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        "member 0: test_efficientnet, temperature 0.500",
        "member 1: test_vit (depth=4), temperature 0.200",
    ]
