"""A tiny run of the segmentation bundle, and its masks from every way to predict, in source orientation."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from movl_monai.data import IdMap
from movl_monai.engines import open_run
from movl_monai.predict.model import open_model
from movl_monai.readers import read_volume, slices_to_volume
from movl_monai.transforms import resize_back
from tests.predict.conftest import make_run
from tests.predict.truth import TOLERANCE, VIT, Key, evaluate, key_of, spread_logits
from tests.readers.dicom.objects import as_file, grey_object
from tests.readers.segmentations import AXIAL, segmentation, slice_object

__all__ = [
    "NAMES",
    "SEGMENTERS",
    "Segmented",
    "infer",
    "judge_masks",
    "masks_of_files",
    "masks_of_segmentations",
    "pixel_difference",
    "segmented",
    "unclear_differences",
]

NAMES = ["background", "organ", "lesion"]
SEGMENTERS: dict[str, dict[str, Any]] = {
    "as shipped": {"decoder_width": 16},
    "DVPT": {
        "decoder_width": 16,
        # with this seed no mask is of one class alone
        "backbone": {**VIT, "model_options": {"depth": 4}, "seed": 3},
        "image_size": 64,
        "adapter": {
            "_target_": "movl_monai.adapters.DVPT",
            "backbone": "@backbone",
            "num_prompts": 8,
            "bottleneck": 8,
            "share_every": 2,
            "seed": 1,
        },
    },
}
"""Settings of tiny runs: the bundle as it is, and with the adapter of `adapter_dvpt.json`."""

_SAGITTAL = (0, 1, 0, 0, 0, -1)
Masks = dict[str, np.ndarray]
"""By name of the case, the classes of a series as (columns, rows, slices), of an image as (rows, columns)."""


@dataclass(frozen=True)
class Segmented:
    """A run of a segmenter and the results of its evaluation.

    Args:
        run: folder of the run.
        images: folder of the images, DICOM files.
        truth: true masks.
        masks: predicted masks.
        unclear: pixels whose two largest probabilities differ by less than 1e-4.
        probabilities: (C, h, w) by image, at the network's size.
        dice: Dice by case and class, from the evaluation's table.
    """

    run: Path
    images: Path
    truth: Masks
    masks: Masks
    unclear: Masks
    probabilities: dict[Key, torch.Tensor]
    dice: dict[tuple[str, str], float]


def segmented(folder: Path, kind: str) -> Segmented:
    """Make a tiny run, and evaluate it with the bundle's workflow on two series and a radiograph."""
    data = folder / "data"
    images, truth = data / "test" / "images", _write_data(data / "test")
    run = open_run(make_run(folder / "run", "dvpt_segmentation", class_names=NAMES, **SEGMENTERS[kind]))
    preprocessing = run.preprocessing()
    series = [{"image": str(images / name), "frame": frame} for name in ("axial", "sagittal") for frame in range(4)]
    spread_logits(run, [preprocessing(item)["image"] for item in [*series, {"image": str(images / "film.dcm")}]])
    for split, side in product(("train", "val"), ("images", "masks")):  # what every data set has
        (data / split / side).mkdir(parents=True)
        Image.new("L", (8, 8)).save(data / split / side / "blank.png")
    settings = {"mask_class_names": NAMES}
    return judge_masks(run.folder, data, images, folder / "evaluated", truth=truth, names=NAMES, **settings)


def judge_masks(
    run: Path, data: Path, images: Path, out: Path, *, truth: Masks, names: list[str], **settings: Any
) -> Segmented:
    """Evaluate a run with its bundle's workflow, and record its result for every pixel."""
    logits: dict[str, torch.Tensor] = {}
    planes: dict[str, dict[int | None, np.ndarray]] = {}

    def watch(workflow: Any) -> None:
        handler = workflow.get_parsed_content("handlers")[1]
        take, items = handler.take, handler.dataset.data

        def taken(case: Any) -> None:
            keys = {key_of(handler.id_map, items[index]["id"], images): plane for index, plane in case.planes.items()}
            planes[next(iter(keys))[0]] = {frame: plane for (_, frame), plane in keys.items()}
            take(case)

        handler.take = taken

    workflow = evaluate(run, data, out, listen=logits.__setitem__, prepare=watch, **settings)
    ids = workflow.get_parsed_content("id_map")
    probabilities = {key_of(ids, name, images): one.softmax(dim=0) for name, one in logits.items()}
    return Segmented(
        run=run,
        images=images,
        truth=truth,
        masks=_stored(planes, images),
        unclear=_stored(_unclear(probabilities, planes), images),
        probabilities=probabilities,
        dice=_dice(out / "evaluation" / "cases.csv", ids, images, names),
    )


def infer(run: Path, images: Path, out: Path) -> None:
    """Run the inference of a run's bundle."""
    own = {"dataset_dir": str(images.resolve()), "output_dir": str(out), "num_workers": 0, "device": "cpu"}
    open_run(run).parser("inference", **own).get_parsed_content("evaluator").run()


def masks_of_files(out: Path, images: Path) -> Masks:
    """Return the masks in a folder of predictions as NIfTI or PNG."""
    ids = IdMap(out / "local" / "id_map.json")
    found: Masks = {}
    for path in (out / "masks").iterdir():
        name = key_of(ids, path.name.partition(".")[0], images)[0]
        found[name] = np.asarray(Image.open(path) if path.suffix == ".png" else nib.load(path).dataobj)
    return found


def masks_of_segmentations(out: Path, images: Path) -> Masks:
    """Return the masks in a folder of DICOM segmentations, read by highdicom, by UIDs of the sources."""
    found: Masks = {}
    by_series = {dcmread(path).ReferencedSeriesSequence[0].SeriesInstanceUID: path for path in (out / "seg").iterdir()}
    for source in images.iterdir():
        headers = [dcmread(path) for path in (source.iterdir() if source.is_dir() else [source])]
        normal = np.cross(*np.reshape(headers[0].get("ImageOrientationPatient", AXIAL), (2, 3)))
        headers.sort(key=lambda one: float(np.dot(one.get("ImagePositionPatient", (0, 0, 0)), normal)))
        made = hd.seg.segread(by_series[headers[0].SeriesInstanceUID])
        frames = made.get_pixels_by_source_instance(
            [one.SOPInstanceUID for one in headers], combine_segments=True, ignore_spatial_locations=True
        )
        found[source.name] = frames.transpose(2, 1, 0) if source.is_dir() else frames[0]
    return found


def unclear_differences(found: Masks, expected: Segmented) -> int:
    """Return the number of pixels that differ from the evaluation.

    Raises:
        AssertionError: if a pixel differs whose two largest probabilities are not within 1e-4.
    """
    assert found.keys() == expected.masks.keys()
    count = 0
    for name, mask in found.items():
        differ = mask != expected.masks[name]
        assert not (differ & (expected.unclear[name] == 0)).any(), name
        count += int(differ.sum())
    return count


def pixel_difference(model: Path, expected: Segmented) -> float:
    """Return the largest difference of a pixel's probability from the evaluation, with the model's preprocessing."""
    opened = open_model(model, task="segmentation")
    largest = 0.0
    for (name, frame), probabilities in expected.probabilities.items():
        item = {"image": str(expected.images / name)} | ({} if frame is None else {"frame": frame})
        image = (opened.preprocessing(item)["image"] * 255).round().to(torch.uint8)
        found = opened.forward(image[None])[0][0].softmax(dim=0)
        np.testing.assert_allclose(found, probabilities, rtol=0, atol=TOLERANCE)
        largest = max(largest, float((found - probabilities).abs().max()))
    return largest


def _write_data(folder: Path) -> Masks:
    """Write two series stored along different planes and a radiograph, one study each; return their masks."""
    truth: Masks = {}
    for number, (name, orientation) in enumerate((("axial", AXIAL), ("sagittal", _SAGITTAL))):
        rows, columns = np.mgrid[:30, : 36 + 4 * number]
        planes = [_picture(rows, columns, slice_number) for slice_number in range(6 + 2 * number)]
        (folder / "images" / name).mkdir(parents=True)
        (folder / "masks").mkdir(exist_ok=True)
        uids = {f"{kind}InstanceUID": generate_uid(entropy_srcs=[name, kind]) for kind in ("Study", "Series")}
        step = 3 * np.cross(orientation[:3], orientation[3:])
        sources = [slice_object(pixels, place * step, orientation, **uids) for place, (pixels, _) in enumerate(planes)]
        for place, source in enumerate(sources):  # back to front
            as_file(source, folder / "images" / name / f"{len(sources) - place}.dcm")
        labels = np.stack([mask for _, mask in planes])
        as_file(segmentation(sources, labels), folder / "masks" / f"{name}.dcm")
        truth[name] = labels.transpose(2, 1, 0)
    pixels, truth["film.dcm"] = _picture(*np.mgrid[:50, :40], 3)
    film = grey_object(pixels.astype(np.uint16), sop_class=DigitalXRayImageStorageForPresentation, modality="DX")
    film.StudyInstanceUID, film.SeriesInstanceUID = generate_uid(), generate_uid()
    as_file(film, folder / "images" / "film.dcm")
    Image.fromarray(truth["film.dcm"]).save(folder / "masks" / "film.png")
    return truth


def _picture(rows: np.ndarray, columns: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice without any symmetry, and its classes."""
    organ = (rows - 10) ** 2 + (columns - 22) ** 2 < (5 + number) ** 2
    lesion = (abs(rows - 20 - number // 2) < 4) & (abs(columns - 8) < 3)
    pixels = 500 + 8 * columns + 3 * rows + 450 * organ + 700 * lesion
    return pixels, np.where(lesion, 2, organ).astype(np.uint8)


def _unclear(
    probabilities: dict[Key, torch.Tensor], planes: dict[str, dict[int | None, np.ndarray]]
) -> dict[str, dict[int | None, np.ndarray]]:
    found: dict[str, dict[int | None, np.ndarray]] = {name: {} for name in planes}
    for (name, frame), values in probabilities.items():
        largest = resize_back(values, planes[name][frame].shape).topk(2, dim=0).values
        found[name][frame] = (largest[0] - largest[1] < TOLERANCE).numpy().astype(np.uint8)
    return found


def _stored(planes: dict[str, dict[int | None, np.ndarray]], images: Path) -> Masks:
    """Return slices in the orientation in which their series is stored."""
    return {
        name: slices[None]
        if None in slices
        else np.asarray(slices_to_volume(slices, read_volume(images / name), axis="axial").dataobj)
        for name, slices in planes.items()
    }


def _dice(table: Path, ids: IdMap, images: Path, names: list[str]) -> dict[tuple[str, str], float]:
    with table.open(newline="", encoding="utf-8") as stream:
        rows = {key_of(ids, row["case"], images)[0]: row for row in csv.DictReader(stream)}
    return {(case, name): float(row[f"dice_{name}"]) for case, row in rows.items() for name in names[1:]}
