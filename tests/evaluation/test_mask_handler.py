"""Handlers of segmentation on real evaluators: reports that can be recomputed, masks aligned with their source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from PIL import Image
from pydicom.uid import generate_uid
from torch import nn
from torch.utils.data import DataLoader

from movl_monai.data import IdMap, SegmentationDataset, read_unlabelled
from movl_monai.engines import prepare_image_batch
from movl_monai.errors import MovlError
from movl_monai.evaluation import MaskWriter, NonFiniteLogitsError, SegmentationReportHandler, write_html
from movl_monai.evaluation.mask_files import MaskFiles
from movl_monai.metrics.masks import NO_DISTANCES
from tests.evaluation.masks import chain, dataset, write_images, write_volumes
from tests.readers.dicom.objects import as_file
from tests.readers.segmentations import AXIAL, segmentation, slice_object
from tests.tables import read_rows
from tests.transforms.test_load_pair import AFFINES

NAMES = ["background", "a", "b"]


class ByBrightness(nn.Module):
    """Logits with their maximum at the class of a pixel's brightness; volumes are scaled by their own range."""

    def __init__(self, levels: tuple[float, float, float]) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grey = image.mean(dim=1)
        return torch.stack([-100 * (grey - level).abs() for level in self.levels], dim=1)


IMAGES = ByBrightness((10 / 255, 90 / 255, 170 / 255))
VOLUMES = ByBrightness((0.05, 0.5, 0.95))


def _run(
    network: nn.Module, handler: Any, data: SegmentationDataset, *, decollate: bool = True, shuffle: bool = False
) -> None:
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(data, batch_size=3, shuffle=shuffle),
        network=network,
        prepare_batch=prepare_image_batch,
        val_handlers=[handler],
        decollate=decollate,
    ).run()


@pytest.mark.parametrize("decollate", [True, False])
def test_the_report_of_images(tmp_path: Path, decollate: bool) -> None:
    data = dataset(write_images(tmp_path / "data", splits=(("test", 5), ("val", 3))))
    handler = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=20, pictures=True)
    _run(IMAGES, handler, data, decollate=decollate)
    report = json.loads((tmp_path / "out/report.json").read_text())
    rows = read_rows(tmp_path / "out/cases.csv")
    assert report["id"]["n"] == 5
    assert report["val"]["n"] == 3
    assert len(rows) == 8
    assert report["id"]["dice"] > 0.8  # the network sees the truth, at three quarters of its size
    found = [float(row["dice"]) for row in rows if row["split"] == "test"]
    assert report["id"]["dice"] == pytest.approx(np.mean(found))
    assert report["id"]["distance_unit"] == "pixels"
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == 1
    assert (tmp_path / "out/MODEL_CARD.md").read_text().startswith("---\nlicense: ")
    assert sorted(report["files"].values()) == sorted(path.name for path in (tmp_path / "out").iterdir())
    (tmp_path / "out/report.html").unlink()
    assert write_html(tmp_path / "out").read_text() == page


def test_the_report_of_volumes_judges_them_as_volumes_in_mm(tmp_path: Path) -> None:
    data = dataset(write_volumes(tmp_path / "data"), one_image_per_patient=True)
    ids = IdMap(salt="0123456789abcdef")
    handler = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, id_map=ids, rounds=20)
    _run(VOLUMES, handler, data, shuffle=True)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["id"]["n"], report["id"]["n_images"], report["id"]["n_patients"]) == (3, 12, 3)
    assert report["id"]["distance_unit"] == "mm"
    assert report["id"]["dice"] > 0.8
    assert all(row["images"] == "4" and row["complete"] == "True" for row in read_rows(tmp_path / "out/cases.csv"))
    assert not [path for path in (tmp_path / "out").iterdir() if str(tmp_path).encode() in path.read_bytes()]


class OneClass(nn.Module):
    """Class 1 everywhere."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 9, 0]).reshape(1, 3, 1, 1).expand(len(image), 3, *image.shape[2:])


def _write_series(root: Path, name: str, places: Sequence[float], *, orientation: Sequence[float] = AXIAL) -> None:
    """Write a DICOM series and the segmentation of a block on each of its slices."""
    pixels = np.add.outer(50 * np.arange(24), 20 * np.arange(20))
    uids = {f"{kind}InstanceUID": generate_uid(entropy_srcs=[name, kind]) for kind in ("Study", "Series")}
    sources = [slice_object(pixels, (0, 0, place), orientation, **uids) for place in places]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "images" / name).mkdir()
    for number, source in enumerate(sources):
        as_file(source, root / "images" / name / f"{number}.dcm")
    labels = np.zeros((len(places), 24, 20), dtype=np.uint8)
    labels[:, 4:12, 5:15] = 1
    as_file(segmentation(sources, labels), root / "masks" / f"{name}.dcm")


_COSINE, _SINE = float(np.cos(np.radians(20))), float(np.sin(np.radians(20)))
_SERIES: dict[str, dict[str, Any]] = {
    "regular": {"places": (0, 3, 6, 9)},
    "gap": {"places": (0, 3, 27, 30)},
    "variable": {"places": (0, 2, 5, 7)},
    "tilted": {"places": (0, 3, 6, 9), "orientation": (1, 0, 0, 0, _COSINE, _SINE)},
}


@pytest.mark.parametrize(
    ("name", "length", "has_distances", "is_written"),
    [
        ("regular", 12, True, True),
        ("gap", 12, False, False),
        ("variable", 2 + 2.5 + 2.5 + 2, False, False),
        ("tilted", 12 * _COSINE, False, True),
    ],
)
def test_irregular_series_have_true_volumes_and_no_distances(
    name: str, length: float, has_distances: bool, is_written: bool, tmp_path: Path
) -> None:
    _write_series(tmp_path / "data/test", name, **_SERIES[name])
    data = dataset(tmp_path / "data")
    _run(OneClass(), SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=20), data)
    (case,) = read_rows(tmp_path / "out/cases.csv")
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert float(case["dice_a"]) == pytest.approx(2 * 80 / (80 + 480))
    assert (case["distance_unit"], bool(case["hd95_a"]), bool(case["asd_a"])) == (
        ("mm", True, True) if has_distances else (NO_DISTANCES, False, False)
    )
    assert (report["id"]["hd95"] is None, any(NO_DISTANCES in note for note in report["notes"])) == (
        (not has_distances,) * 2
    )
    _run(OneClass(), MaskWriter(tmp_path / "written", class_names=NAMES, dataset=data), data)
    (row,) = read_rows(tmp_path / "written/predictions.csv")
    assert float(row["ml_a"]) == pytest.approx(24 * 20 * 0.5 * 0.75 * length / 1000, abs=2e-6)
    assert bool(row.get("flags")) == (name != "regular")
    assert row.get("not_written", "") == ("" if is_written else "nifti:irregular_spacing")
    assert len(list((tmp_path / "written").rglob("*.nii.gz"))) == is_written


def test_pictures_of_patients_are_left_out_by_default(tmp_path: Path) -> None:
    data = dataset(write_images(tmp_path / "data"))
    handler = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=5)
    _run(IMAGES, handler, data)
    names = ["MODEL_CARD.md", "cases.csv", "model_card.json", "report.html", "report.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    page = (tmp_path / "out/report.html").read_text()
    assert "<img" not in page
    assert "--patient_pictures" in page


def test_other_domains_get_a_section_and_a_picture(tmp_path: Path) -> None:
    here, there = write_images(tmp_path / "here"), write_images(tmp_path / "there", splits=(("test", 3),))
    data = dataset(here, ood_dataset_dirs=[there])
    handler = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=5, pictures=True)
    _run(IMAGES, handler, data)
    assert handler.report is not None
    assert handler.report["ood"]["there"]["n"] == 3
    assert (tmp_path / "out/cases_1.png").is_file()


@pytest.mark.parametrize("name", AFFINES)
def test_a_written_mask_lies_exactly_on_its_volume_and_gives_the_reports_dice(name: str, tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "data", 2, affine=AFFINES[name])
    data = dataset(root)
    report = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=5)
    writer = MaskWriter(tmp_path / "out", class_names=NAMES, dataset=data)
    _run(VOLUMES, report, data)
    _run(VOLUMES, writer, data)
    reported = {row["case"]: row for row in read_rows(tmp_path / "out/cases.csv")}
    written = read_rows(tmp_path / "out/predictions.csv")
    assert len(written) == 2
    for row in written:
        mask = nib.load(tmp_path / f"out/masks/{row['id']}.nii.gz")
        path = next(item["image"] for item in data.data if item["case"] == row["id"])
        source, truth = nib.load(path), nib.load(path.replace("images", "labels"))
        assert mask.shape == source.shape
        assert np.array_equal(mask.affine, source.affine)
        assert np.array_equal(mask.header.get_zooms(), source.header.get_zooms())
        for field in ("qform_code", "sform_code", "quatern_b", "srow_x", "xyzt_units"):
            assert np.array_equal(mask.header[field], source.header[field])
        assert mask.get_data_dtype() == np.uint8
        for number, label in ((1, "a"), (2, "b")):
            one, other = np.asarray(mask.dataobj) == number, np.asarray(truth.dataobj) == number
            dice = 2 * (one & other).sum() / (one.sum() + other.sum())
            assert float(reported[row["id"]][f"dice_{label}"]) == pytest.approx(dice, abs=1e-6)
            assert int(row[f"pixels_{label}"]) == one.sum()
            volume = one.sum() * abs(np.linalg.det(source.affine[:3, :3])) / 1000
            assert float(row[f"ml_{label}"]) == pytest.approx(volume, abs=1e-4)


def test_masks_of_images_without_truth_have_their_size_and_classes(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    data = SegmentationDataset(
        read_unlabelled(root / "test/images", class_names=NAMES, series=True), chain(), progress=False
    )
    _run(IMAGES, MaskWriter(tmp_path / "out", class_names=NAMES, dataset=data), data)
    rows = read_rows(tmp_path / "out/predictions.csv")
    assert len(rows) == 5
    for row, item in zip(
        sorted(rows, key=lambda row: row["id"]), sorted(data.data, key=lambda i: i["id"]), strict=True
    ):
        mask = np.asarray(Image.open(tmp_path / f"out/masks/{row['id']}.png"))
        truth = np.asarray(Image.open(root / "test/masks" / Path(item["image"]).name))
        assert mask.shape == truth.shape
        assert set(np.unique(mask)) == {0, 1, 2}
        assert (mask == truth).mean() > 0.95
        assert "mm2_a" not in row


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", np.uint8), ("source", np.int16)])
def test_the_data_type_of_a_volumes_mask_can_be_that_of_its_source(dtype: str, expected: type, tmp_path: Path) -> None:
    data = dataset(write_volumes(tmp_path / "data", 1))
    _run(VOLUMES, MaskWriter(tmp_path / "out", class_names=NAMES, dataset=data, mask_dtype=dtype), data)
    (path,) = (tmp_path / "out/masks").iterdir()
    assert nib.load(path).get_data_dtype() == expected
    assert set(np.unique(nib.load(path).get_fdata())) == {0, 1, 2}


def test_the_largest_component_is_kept_in_three_dimensions_if_asked(tmp_path: Path) -> None:
    data = dataset(write_volumes(tmp_path / "data", 1))

    class Speckled(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            logits = VOLUMES(image)
            logits[:, 1, :3, :3] = 1000.0  # a corner that belongs to nothing
            return logits

    sizes = {}
    for keep in (False, True):
        writer = MaskWriter(tmp_path / str(keep), class_names=NAMES, dataset=data, largest_component=keep)
        _run(Speckled(), writer, data)
        (path,) = (tmp_path / str(keep) / "masks").iterdir()
        mask = np.asarray(nib.load(path).dataobj)
        truth = np.asarray(nib.load(data.data[0]["mask"]).dataobj)
        sizes[keep] = int((mask == 1).sum())
        if keep:
            assert abs(sizes[keep] - int((truth == 1).sum())) < 40
    assert sizes[False] > sizes[True] + 3


def test_a_data_set_without_masks_cannot_be_reported(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    data = SegmentationDataset(read_unlabelled(root / "test/images", class_names=NAMES), chain(), progress=False)
    with pytest.raises(MovlError, match="run inference"):
        SegmentationReportHandler(tmp_path, class_names=NAMES, dataset=data)


def test_logits_that_do_not_fit_and_images_that_are_missing_are_errors(tmp_path: Path) -> None:
    data = dataset(write_images(tmp_path / "data"))
    handler = SegmentationReportHandler(tmp_path / "out", class_names=NAMES, dataset=data, rounds=5)
    with pytest.raises(NonFiniteLogitsError):
        _run(ByBrightness((float("nan"), 0.0, 0.0)), handler, data)
    with pytest.raises(MovlError, match="3 class names"):
        _run(nn.Conv2d(3, 2, 1), handler, data)
    with pytest.raises(MovlError, match="were not evaluated"):
        _run(IMAGES, handler, data.select(split="test")._subset([0, 1], None))  # type: ignore[arg-type]


def test_an_unknown_data_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MovlError, match="'uint8' or 'source'"):
        MaskFiles(tmp_path, mask_dtype="float")
