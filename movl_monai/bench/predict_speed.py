"""Predict a folder of DICOM files: the whole way from files to the table, against the network alone."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
from monai.transforms import Compose
from pydicom.uid import generate_uid

from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.engines import prepare_image_batch
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.predict.model import Facts, Model
from movl_monai.predict.run import predict
from movl_monai.prompts import PadPrompt
from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

from .clock import compare, interleave
from .dicom_files import native_slice
from .memory import peak_memory
from .settings import BenchSettings

__all__ = ["bench_model", "run", "write_slices"]


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare the prediction of uncompressed CT slices: ``predict_vs_network`` with the small network, and
    ``predict_vit_vs_network`` with a Transformer and a quarter of the images.

    Ours: :func:`movl_monai.predict.run.predict` from the folder to predictions.csv, every round into a new folder:
    listing, decoding in worker processes, preprocessing, network, journal, table. Other: the same network on the same
    images, float and on the device, in batches of the same size. The network is open in both.
    """
    figures = _compare(
        "predict_vs_network", bench_model(settings.backbone(), settings), settings.feature_images, settings
    )
    large = bench_model(settings.transformer(), settings)
    return figures | _compare("predict_vit_vs_network", large, max(1, settings.feature_images // 4), settings)


def _compare(name: str, model: Model, count: int, settings: BenchSettings) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_slices(root / "slices", count, size=settings.slice_size)
        numbers = itertools.count()

        def ours() -> None:
            predict(
                model,
                root / "slices",
                out=root / f"out{next(numbers)}",
                outputs=["csv"],
                batch_size=settings.transformer_batch_size,
                progress=False,
            )

        batches = _batches(model, root / "slices", settings)
        actions = {"ours": ours, "other": lambda: _network_alone(model, batches)}
        timings = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=settings.device)
        memory = [peak_memory(action, device=settings.device) for action in actions.values()]
    return compare(name, ours=timings["ours"], other=timings["other"], memory=memory)


def bench_model(backbone: Backbone, settings: BenchSettings) -> Model:
    """A MoVL network with the preprocessing of its bundle, as `movl-monai predict` opens a run."""
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
