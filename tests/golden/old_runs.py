"""Small runs and exported files that were made before the modules moved, and what they predicted then.

`python -m tests.golden.old_runs` made them. They are not to be made again: that old files open is what they are for.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RUNS = Path(__file__).resolve().parent / "runs"
WEIGHTS = "tiny_vit.safetensors"
SIZE = 64
BUNDLES = ("movl_classification", "dvpt_classification", "dvpt_segmentation")
_OF_THE_PHANTOM = {"image_size": SIZE, "num_workers": 0, "device": "cpu", "epochs": 3, "batch_size": 6}
_SETTINGS: dict[str, dict[str, Any]] = {
    "movl_classification": {"prompt_width": 8},
    "dvpt_classification": {"warmup_epochs": 0},
    "dvpt_segmentation": {
        "warmup_epochs": 0,
        "decoder_width": 8,
        "mask_class_names": ["background", "organ", "lesion"],
    },
}
_BACKBONE = {
    "_target_": "movl_monai.backbones.TimmBackbone",
    "name": "vit_tiny_patch16_224",
    "weights": WEIGHTS,
    "image_size": "@image_size",
    "frozen": "@backbone_frozen",
    "model_options": {"embed_dim": 16, "depth": 4, "num_heads": 2},
}
_TEXT = ("status", "format", "images", "predicted", "answer", "outside", "abstain", "prediction_set")
_NUMBERS = ("probability_", "calibrated_", "ood_score", "pixels_")


def write_images(folder: Path) -> Path:
    """Write three grey PNG images that integer arithmetic draws, the same on every machine."""
    folder.mkdir(parents=True)
    rows, columns = np.mgrid[:SIZE, : SIZE + 16]
    for number in range(3):
        image = (rows * (3 + number) + columns * (5 - number) + rows * columns // 7 * number) % 256
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def batch() -> np.ndarray:
    """Three images for a network, float32 in [0, 1]."""
    channels, rows, columns = np.mgrid[:3, :SIZE, :SIZE]
    images = [(rows * (2 + number) + columns * (3 + channels)) % 256 for number in range(3)]
    return (np.stack(images) / 255).astype(np.float32)


def answers(folder: Path, bundle: str) -> dict[str, Any]:
    """Let a run and its exported files predict; to be called where the weights lie.

    Args:
        folder: a new one, for the outputs.
        bundle: whose run it is.

    Returns:
        JSON-able: logits of the network and of each exported file, and rows of the predictions in order of the files.
    """
    import torch

    from movl_monai.engines import open_run
    from movl_monai.export import read_exported

    run, images = RUNS / bundle, batch()
    with torch.no_grad():
        found = {"network": _some(open_run(run).network()(torch.from_numpy(images)).numpy())}
    for path in sorted(run.glob("model.*")):
        found[path.name] = _some(read_exported(path)(images).logits)
    pictures = write_images(folder / "images")
    found["predict run"] = _predictions(run, pictures, folder / "run")
    found["predict model.onnx"] = _predictions(run / "model.onnx", pictures, folder / "onnx")
    return found


def _some(logits: np.ndarray) -> list[Any]:
    """The logits, or of masks every eighth row and column."""
    return (logits[:, :, ::8, ::8] if logits.ndim == 4 else logits).astype(float).round(8).tolist()


def _predictions(model: Path, images: Path, out: Path) -> list[dict[str, str | float]]:
    from movl_monai.__main__ import main

    words = [str(model), str(images), "--out", str(out), "--workers", "0", "--device", "cpu", "--batch_size", "3"]
    assert main(["predict", *words]) == 0
    names = {row["id"]: Path(row["path"]).name for row in _rows(out / "local" / "files.csv")}
    rows = sorted(_rows(out / "predictions.csv"), key=lambda row: names[row["id"]])
    kept: list[dict[str, str | float]] = []
    for row in rows:
        texts = {name: value for name, value in row.items() if name in _TEXT}
        kept.append(texts | {name: float(value) for name, value in row.items() if name.startswith(_NUMBERS) and value})
    return kept


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _make() -> None:
    """Train, export and write what is predicted."""
    import torch
    from monai.bundle import ConfigWorkflow
    from safetensors.torch import save_file

    from movl_monai.__main__ import main
    from movl_monai.backbones import TimmBackbone
    from movl_monai.phantom import write_phantom
    from tests.evaluation.masks import write_images as write_masked_images

    torch.manual_seed(0)

    options = {key: value for key, value in _BACKBONE.items() if key in {"name", "model_options"}}
    network = TimmBackbone(**options, image_size=SIZE, seed=0)  # type: ignore[arg-type]
    save_file({k: v.contiguous() for k, v in network.encoder.state_dict().items()}, str(RUNS / WEIGHTS))
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "phantom"
        write_phantom(data, patients=(6, 3, 3, 3), images_per_patient=2, size=SIZE)
        masks = write_masked_images(Path(place) / "masks", splits=(("train", 6), ("val", 3), ("test", 4)), size=48)
        for bundle in BUNDLES:
            configs = RUNS.parents[2] / "bundles" / bundle / "configs"
            output = Path(place) / bundle
            source = masks if bundle == "dvpt_segmentation" else data
            own = {"dataset_dir": str(source), "output_dir": str(output), "backbone": _BACKBONE}
            settings = _OF_THE_PHANTOM | _SETTINGS[bundle] | own
            for kind, name, files in (("train", "training", ["train"]), ("infer", "evaluating", ["train", "evaluate"])):
                paths = [str(configs / f"{file}.json") for file in files]
                workflow = ConfigWorkflow(paths, workflow_type=kind, logging_file=False, run_id=name, **settings)
                workflow.initialize()
                workflow.run()
                workflow.finalize()
            shutil.copytree(output / "models", RUNS / bundle / "models", ignore=shutil.ignore_patterns("last.pt"))
            record = RUNS / bundle / "models" / "run.json"
            text = record.read_text(encoding="utf-8").replace(str((RUNS / WEIGHTS).resolve()), WEIGHTS)
            record.write_text(text, encoding="utf-8")
            for kind, suffix in (("onnx", "onnx"), ("torchscript", "ts"))[: 2 if bundle == BUNDLES[0] else 1]:
                words = ["--format", kind, "--output", str(RUNS / bundle / f"model.{suffix}")]
                assert main(["export", str(RUNS / bundle), *words]) == 0
            text = json.dumps(answers(Path(place) / f"{bundle}_answers", bundle), indent=1)
            (RUNS / bundle / "predicted.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    import os

    RUNS.mkdir()
    os.chdir(RUNS)
    _make()
