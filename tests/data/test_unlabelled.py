"""Images without labels, for inference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from movl_monai.data import IdMap, read_datalist, read_unlabelled
from movl_monai.errors import DataError


def _write(path: Path, level: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), level, dtype=np.uint8)).save(path)
    return path


def test_every_image_below_a_folder_is_an_item_without_label_and_split(tmp_path: Path) -> None:
    for name in ("a.png", "deep/er/b.png"):
        _write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".DS_Store").write_bytes(b"\0")
    datalist = read_unlabelled(tmp_path, class_names=["x", "y"])
    assert sorted(Path(item["image"]).name for item in datalist) == ["a.png", "b.png"]
    assert {(item["label"], item["split"], item["domain"]) for item in datalist} == {(None, None, "inference")}
    assert datalist.class_names == ["x", "y"]
    assert sorted(file.reason for file in datalist.skipped) == ["hidden_file", "other_file"]


def test_one_file_is_enough_and_the_id_map_leads_back_to_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "one.png")
    ids = IdMap(tmp_path / "map.json")
    (item,) = read_unlabelled(path, class_names=["x", "y"], id_map=ids)
    assert ids.path_of(item["id"]) == str(path)
    assert json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))["files"]


def test_a_manifest_gives_the_images_that_it_names(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        _write(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label\na.png,x\nb.png,y\n")
    datalist = read_unlabelled(tmp_path / "list.csv", class_names=["other", "names"])
    assert sorted(Path(item["image"]).name for item in datalist) == ["a.png", "b.png"]
    assert {item["label"] for item in datalist} == {None}


def test_a_folder_without_images_and_a_missing_one_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="No image was found among 1 files; give a folder"):
        read_unlabelled(tmp_path, class_names=["x", "y"])
    with pytest.raises(DataError, match="no file or folder"):
        read_unlabelled(tmp_path / "nowhere", class_names=["x", "y"])


def test_evaluation_takes_the_test_split_and_every_other_domain(tmp_path: Path) -> None:
    rows = ["path,label,patient_id,split,domain"]
    for index, (split, domain) in enumerate(
        [("train", "id"), ("train", "id"), ("val", "id"), ("test", "id"), ("train", "elsewhere"), ("", "third")]
    ):
        _write(tmp_path / f"{index}.png", level=index)
        rows.append(f"{index}.png,{'xy'[index % 2]},p{index},{split},{domain}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    chosen = read_datalist(tmp_path, split_fractions=None).for_evaluation()
    assert sorted(Path(item["image"]).stem for item in chosen) == ["3", "4", "5"]
