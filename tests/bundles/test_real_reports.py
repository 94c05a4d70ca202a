"""The reports of real chest X-rays and of real polyps fit a screen, a phone and paper, and load nothing."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.browser import assert_fits, complaints
from tests.workflows import run


def _few_chest_images(source: Path, folder: Path) -> Path:
    """A manifest of the first images of every domain, split and class."""
    wanted = {("id", "train"): 8, ("id", "val"): 6, ("id", "test"): 8, ("ood_nih", "test"): 6}
    rows: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    with (source / "manifest.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            place = (row["domain"], row["split"])
            if len(rows[(*place, row["label"])]) < wanted.get(place, 0):
                rows[(*place, row["label"])].append({**row, "path": str(source / row["path"])})
    chosen = [row for part in rows.values() for row in part]
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(chosen[0]))
        writer.writeheader()
        writer.writerows(chosen)
    return folder / "manifest.csv"


def _few_polyps(source: Path, folder: Path) -> Path:
    """Copies, for this test, of the first images of every split and of their masks."""
    for split, count in {"train": 6, "validation": 4, "test": 4}.items():
        for image in sorted((source / split / "images").iterdir())[:count]:
            for kind in ("images", "masks"):
                target = folder / split / kind / image.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes((source / split / kind / image.name).read_bytes())
    return folder


def _check_page(evaluation: Path, folder: Path) -> dict[str, Any]:
    page = evaluation / "report.html"
    assert_fits(page.read_text(), folder)
    assert complaints(page, folder) == []
    assert page.stat().st_size < 3_000_000
    return dict(json.loads((evaluation / "report.json").read_text()))


def test_the_report_of_real_chest_images_fits_every_width(test_data: Path, tmp_path: Path) -> None:
    manifest = _few_chest_images(test_data / "data" / "cxr_pneumonia", tmp_path)
    far = {"polyps": str(test_data / "data" / "kvasir_seg" / "validation" / "images")}
    settings = {"dataset_dir": manifest, "output_dir": tmp_path / "out", "far_dataset_dirs": far}
    settings |= {"calibration_fraction": 0.5}
    overlays = ["strategy_linear_probe.json"]
    run("movl_classification", "training", overlays, **settings)
    run("movl_classification", "evaluating", overlays, patient_pictures=1, **settings)
    report = _check_page(tmp_path / "out" / "evaluation", tmp_path)
    assert report["id"]["n"] == 16
    assert report["ood"]["ood_nih"]["n"] == 12
    assert report["ood_detection"]["sets"]["polyps"]["n"] == 100
    assert report["explanations"]["pictures"]


def test_the_report_of_real_polyps_fits_every_width(test_data: Path, tmp_path: Path) -> None:
    data = _few_polyps(test_data / "data" / "kvasir_seg", tmp_path / "data")
    settings = {"dataset_dir": data, "output_dir": tmp_path / "out"}
    settings |= {"mask_class_names": ["background", "polyp"]}
    for run_id in ("training", "evaluating"):
        run("dvpt_segmentation", run_id, ["data_jpeg_masks.json"], **settings)
    report = _check_page(tmp_path / "out" / "evaluation", tmp_path)
    assert report["id"]["n"] == 4
