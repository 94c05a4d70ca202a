"""The task of a data set, decided before any pixel is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from movl_monai.bundles import find_bundle
from movl_monai.errors import ConfigError, DataError
from movl_monai.fit.candidates import make_candidates
from movl_monai.fit.task import decide


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(path)


def _folders(root: Path) -> Path:
    for name in ("sick/a.png", "well/b.png"):
        _picture(root / name)
    return root


def _pairs(root: Path, suffix: str) -> Path:
    for name in ("images/a.png", f"masks/a{suffix}"):
        _picture(root / name)
    return root


def _list(root: Path, text: str) -> Path:
    rows = text.split()
    for row in rows[1:]:
        _picture(root / row.split(",")[0])
    _picture(root / "m.png")
    (root / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "task", "settings"),
    [
        ("path,label a.png,x b.png,y", "classification", {}),
        ("path,label a.png,0 b.png,1 c.png,2", "ordinal", {"label_order": "ordinal"}),
        ("path,label a.png,0 b.png,1", "classification", {}),
        ("path,label a.png,3 b.png,7 c.png,9", "classification", {}),
        ("path,age,edema,mass a.png,50,0,1 b.png,61,-1,1", "multilabel", {"label_columns": ["edema", "mass"]}),
        ("path,label a.png,edema;mass b.png,mass", "multilabel", {"label_separator": ";"}),
        ("path,label,edema,mass a.png,x,0,1 b.png,y,1,0", "classification", {}),
        ("path,mask a.png,m.png", "segmentation", {}),
        ("path,label,mask a.png,x,m.png b.png,y,m.png", "segmentation", {}),
        ("path,label,mask a.png,x, b.png,y, c.png,y,m.png", "classification", {}),
    ],
)
def test_a_list_tells_its_task(tmp_path: Path, text: str, task: str, settings: Mapping[str, Any]) -> None:
    decision = decide(_list(tmp_path, text))
    assert (decision.task, dict(decision.settings)) == (task, settings)
    assert decision.notes[0].startswith(f"Task: {task}")


def test_folders_tell_their_task_and_settings(tmp_path: Path) -> None:
    assert decide(_folders(tmp_path / "classes")).task == "classification"
    assert decide(_pairs(tmp_path / "png", ".png")).settings == {}
    jpeg = _pairs(tmp_path / "jpeg", ".jpg")
    assert decide(jpeg).settings == {"mask_threshold": 128}
    assert decide(jpeg, given={"mask_threshold": 100}).settings == {}


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ((0, 1), {}),
        ((0, 255), {"mask_values": [0, 255]}),
        ((0, 1, 3), {"mask_class_names": ["background", "class 1", "class 2", "class 3"]}),
        (range(0, 200, 5), {}),
    ],
)
def test_masks_tell_their_classes(tmp_path: Path, values: Sequence[int], settings: Mapping[str, Any]) -> None:
    root = _pairs(tmp_path, ".png")
    levels = np.resize(np.array(values, dtype=np.uint8), (8, 8))
    for name in ("images", "masks"):
        Image.fromarray(levels).save(root / name / "a.png")
    assert decide(root).settings == settings


def test_volumes_are_trained_as_volumes(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), dtype=np.int16), np.eye(4)), tmp_path / name / "a.nii.gz")
    assert decide(tmp_path).overlays == ["data_volumes.json"]


def test_the_user_decides_otherwise(tmp_path: Path) -> None:
    both = _list(tmp_path, "path,label,mask a.png,0,m.png b.png,1,m.png c.png,2,m.png")
    decision = decide(both, task="classification", given={"label_order": "nominal"})
    assert (decision.task, dict(decision.settings)) == ("classification", {})
    decision = decide(both, task="regression")
    assert (decision.task, list(decision.overlays)) == ("regression", ["task_regression.json"])
    with pytest.raises(DataError, match="Labels look like several labels.*--task multilabel"):
        decide(_list(tmp_path / "b", "path,label a.png,x|y b.png,x"), task="classification")
    with pytest.raises(DataError, match="class folders give each image one class"):
        decide(_folders(tmp_path / "classes"), task="multilabel")


def test_findings_have_their_overlay_and_no_arm_of_classes(tmp_path: Path) -> None:
    decision = decide(_list(tmp_path, "path,edema,mass a.png,0,1 b.png,1,0"))
    assert list(decision.overlays) == ["task_multilabel.json"]
    assert "edema, mass" in " ".join(decision.notes)
    made = make_candidates(
        find_bundle("movl_classification"),
        overlays=decision.overlays,
        backbones=[],
        seed=0,
        defaults=decision.settings,
        given={},
    )
    assert [one.name for one in made.ordered] == ["linear_probe", "layer_probe", "movl_layers"]
    assert made.ordered[0].setup.train["head_solver"]["_target_"] == "movl_monai.engines.FindingsProbe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,edema a.png,0 b.png,1", "None of the 2 images has a class or a mask.* two or more columns of findings"),
        ("path,label a.png,0.5 b.png,1.5", "look like measurements.*--task regression"),
        ("path,patient_id a.png,p b.png,q", "None of the 2 images has a class or a mask"),
    ],
)
def test_data_without_one_target_per_image_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decide(_list(tmp_path, text))


def test_grades_have_their_overlay_and_can_be_taken_as_classes(tmp_path: Path) -> None:
    graded = _list(tmp_path / "graded", "path,label a.png,0 b.png,1 c.png,2")
    decision = decide(graded)
    assert list(decision.overlays) == ["task_ordinal.json"]
    assert "median grade" in decision.notes[0]
    assert "--task classification" in decision.notes[0]
    made = make_candidates(
        find_bundle("movl_classification"),
        overlays=decision.overlays,
        backbones=[],
        seed=0,
        defaults=decision.settings,
        given={},
    )
    assert [one.name for one in made.ordered] == ["linear_probe", "layer_probe", "ordinal_probe", "movl_layers"]
    assert {one.setup.train["task"] for one in made.ordered} == {"ordinal"}
    for settings in ({"task": "classification"}, {"given": {"label_order": "nominal"}}):
        plain = decide(graded, **settings)  # type: ignore[arg-type]
        assert (plain.task, dict(plain.settings), list(plain.overlays)) == ("classification", {}, [])
    two = _list(tmp_path / "two", "path,label a.png,0 b.png,1")
    assert decide(two, task="ordinal").task == "ordinal"


def test_grades_with_a_gap_name_the_missing_one(tmp_path: Path) -> None:
    gapped = _list(tmp_path, "path,label a.png,0 b.png,1 c.png,3 d.png,5")
    decision = decide(gapped)
    assert decision.task == "classification"
    assert "without 2, 4" in " ".join(decision.notes)
    with pytest.raises(DataError, match="Grades 2, 4 of 0 to 5 have no image.*number the classes without the gap"):
        decide(gapped, task="ordinal")
    named = _list(tmp_path / "named", "path,label a.png,mild b.png,severe")
    with pytest.raises(DataError, match="needs grades, classes that are whole numbers"):
        decide(named, task="ordinal")


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match="--task must be one of classification, ordinal, multilabel, regression, segmentation, got 'detection'",
    ):
        decide(_folders(tmp_path), task="detection")


@pytest.mark.parametrize("bundle", ["movl_classification", "dvpt_classification"])
def test_the_probe_of_grades_is_tried_where_classes_are_grades(bundle: str) -> None:
    found = {
        order: [
            candidate.name
            for candidate in make_candidates(
                find_bundle(bundle), overlays=[], backbones=[], seed=0, defaults={"label_order": order}, given={}
            ).ordered
        ]
        for order in ("nominal", "ordinal")
    }
    assert found["ordinal"][:3] == ["linear_probe", "layer_probe", "ordinal_probe"]
    assert found["nominal"] == [name for name in found["ordinal"] if name != "ordinal_probe"]
