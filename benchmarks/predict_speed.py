"""Prediction of a folder of DICOM files: from files to the table, relative to the network alone."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose
from pydicom.uid import generate_uid

from movl_monai import heap
from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.engines import prepare_image_batch
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.predict.model import Facts, Model
from movl_monai.predict.run import predict
from movl_monai.prompts import PadPrompt
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

from .clock import Action, Elsewhere, compare, elsewhere, interleave
from .dicom_speed import native_slice
from .settings import BenchSettings

__all__ = ["bench_model", "run", "write_slices"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare the prediction of uncompressed CT slices: ``predict_vs_network`` and ``predict_vit_vs_network``.

    The first uses the small network, the second a Transformer and a quarter of the images. Ours:
    :func:`movl_monai.predict.run.predict` from the folder to predictions.csv, every round into a new folder. This is
    listing, decoding in worker processes, preprocessing, network, journal and table. The process keeps free memory, as
    `movl-monai predict` does. Other: the same network on the same images, float and on the device, in batches of the
    same size. Its process has torch's defaults. ``..._network_kept``: relative to the network in our process. The
    network is already open in all of them.
    """
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, count in _counts(settings).items():
            write_slices(Path(folder, name), count, size=settings.slice_size)
        arguments = settings, Path(folder)
        with (
            elsewhere(_as_a_program, *arguments, device=settings.device) as program,
            elsewhere(_as_torch_is, *arguments, device=settings.device) as plain,
        ):
            for name in _counts(settings):
                figures |= _compare(name, program, plain, settings)
    return figures


def _counts(settings: BenchSettings) -> dict[str, int]:
    return {"predict": settings.feature_images, "predict_vit": max(1, settings.feature_images // 4)}


def _compare(name: str, program: Elsewhere, plain: Elsewhere, settings: BenchSettings) -> dict[str, float]:
    actions = {"ours": program.action(name), "other": plain.action(f"{name} network")}
    actions["kept"] = program.action(f"{name} network")
    timings = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=settings.device)
    ours, other, kept = (
        process.peak_memory(action)
        for process, action in ((program, name), (plain, f"{name} network"), (program, f"{name} network"))
    )
    figures = compare(f"{name}_vs_network", ours=timings["ours"], other=timings["other"], memory=(ours, other))
    return figures | compare(
        f"{name}_vs_network_kept", ours=timings["ours"], other=timings["kept"], memory=(ours, kept)
    )


def _as_a_program(settings: BenchSettings, root: Path) -> dict[str, Action]:
    heap.keep_free_memory()
    actions: dict[str, Action] = {}
    for name in _counts(settings):
        model = _model(name, settings)
        actions[name] = partial(_predict, model, root / name, settings.transformer_batch_size, itertools.count())
        actions[f"{name} network"] = partial(_network_alone, model, _batches(model, root / name, settings))
    return actions


def _as_torch_is(settings: BenchSettings, root: Path) -> dict[str, Action]:
    models = {name: _model(name, settings) for name in _counts(settings)}
    return {
        f"{name} network": partial(_network_alone, model, _batches(model, root / name, settings))
        for name, model in models.items()
    }


def _model(name: str, settings: BenchSettings) -> Model:
    return bench_model((settings.backbone if name == "predict" else settings.transformer)(), settings)


def _predict(model: Model, folder: Path, batch_size: int, numbers: Iterator[int]) -> None:
    out = folder.with_name(f"{folder.name}_out{next(numbers)}")
    predict(model, folder, out=out, outputs=["csv"], batch_size=batch_size, progress=False)


def bench_model(backbone: Backbone, settings: BenchSettings) -> Model:
    """Return a MoVL network with the preprocessing of its bundle, as `movl-monai predict` opens a run."""
    size = backbone.spec.image_size
    names = [f"class {number}" for number in range(settings.num_classes)]
    network = AdaptedClassifier(
        backbone=prepare_frozen(backbone),
        prompt=PadPrompt(image_size=size, width=settings.prompt_width),
        head=LinearHead(backbone.spec.num_features, len(names), init="uniform"),
        class_names=names,
    )
    network.to(settings.device).eval()
    steps: list[Any] = [
        LoadMedicalImaged("image", record_key="record"),
        ResizeImaged("image", image_size=size),
        QuantizeImaged("image"),
    ]

    def forward(images: torch.Tensor) -> tuple[torch.Tensor, Any]:
        image, _ = prepare_image_batch({"image": images}, settings.device)
        with torch.inference_mode():
            return network(image), None

    return Model(
        task="classification",
        class_names=names,
        facts=Facts(name="bench", version="1", backbone=backbone.spec.name, checkpoint_sha256="", fingerprint="bench"),
        preprocessing=Compose(steps),
        image_size=(size, size),
        forward=forward,
        device=settings.device,
        network=network,
    )


def write_slices(folder: Path, count: int, *, size: int) -> None:
    """Write uncompressed CT slices with different pixels as single images."""
    folder.mkdir()
    for number in range(count):
        dataset = native_slice(size, seed=number)
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=["predict", str(number)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


def _batches(model: Model, folder: Path, settings: BenchSettings) -> list[torch.Tensor]:
    images = torch.stack([model.preprocessing({"image": str(path)})["image"] for path in sorted(folder.iterdir())])
    return list(images.as_subclass(torch.Tensor).to(settings.device).split(settings.transformer_batch_size))


def _network_alone(model: Model, batches: list[torch.Tensor]) -> None:
    if model.network is None:
        raise TypeError("the bench needs a network in memory.")
    with torch.inference_mode():
        for batch in batches:
            model.network(batch).cpu()
