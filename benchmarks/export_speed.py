"""Latency of single images on a CPU: eager, TorchScript, onnxruntime and int8, and the sizes of the files."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from movl_monai.adapters import DVPT
from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.export.exported import ExportedOutput, read_exported
from movl_monai.export.graph import exportable
from movl_monai.export.parity import eager
from movl_monai.export.sealed import SUFFIXES, describe_network
from movl_monai.export.writers import compile_graph, quantize_model, write_compiled
from movl_monai.networks import AdaptedClassifier

from .clock import Timing, compare, interleave, peak_memory
from .settings import BenchSettings, make_network

__all__ = ["exported_variants", "run"]

Predict = Callable[[np.ndarray], ExportedOutput]
_CPU = torch.device("cpu")


def run(settings: BenchSettings) -> dict[str, float]:
    """Compare the exported files of two networks with eager mode, on the CPU, image by image.

    ``export_cnn_...``: the MoVL network on the convolutional backbone; ``export_vit_...``: DVPT in the Transformer,
        also with an int8 file. For each file: the ratio of its latency to eager mode's (for int8 to onnxruntime's), and
        ``..._mb``. Both sides have as many threads as torch.
    """
    settings = dataclasses.replace(settings, device=_CPU)
    cnn = prepare_frozen(settings.backbone())
    vit = prepare_frozen(settings.transformer())
    adapted = AdaptedClassifier(backbone=vit, adapter=DVPT(vit), head=_network(vit, settings).head)
    figures = _compare_files("export_cnn", _network(cnn, settings), settings, int8=False)
    return figures | _compare_files("export_vit", adapted, settings, int8=True)


def exported_variants(network: Any, folder: Path, *, int8: bool) -> dict[str, tuple[Predict, float]]:
    """Export a network and open the files.

    Args:
        network: a classifier in eval mode on the CPU.
        folder: for the files.
        int8: whether there is an int8 file.

    Returns:
        By name ("eager", "torchscript", "onnx", "int8"): the predicting function, and the size of the file in MB (0 for
        eager).
    """
    size = network.backbone.spec.image_size
    metadata = describe_network(network, task="classification", input_size=(size, size))
    metadata |= {"image_size": [size, size], "windows": None, "preprocessing": {}}
    compiled = {name: compile_graph(exportable(network), name, size=(size, size)) for name in ("torchscript", "onnx")}
    if int8:
        compiled["int8"] = quantize_model(compiled["onnx"])
    found: dict[str, tuple[Predict, float]] = {"eager": (eager(network), 0.0)}
    for name, model in compiled.items():
        path = folder / f"{name}{SUFFIXES.get(name, '.onnx')}"
        write_compiled(model, path, metadata=metadata)
        # without the checks of a call: checks of images cost the same everywhere
        predict = read_exported(path, num_threads=torch.get_num_threads()).network
        found[name] = (predict, path.stat().st_size / 1e6)
    return found


def _network(backbone: Backbone, settings: BenchSettings) -> AdaptedClassifier:
    generator = torch.Generator().manual_seed(settings.seed)
    features = torch.randn(2 * settings.num_classes, backbone.spec.num_features, generator=generator)
    return make_network(backbone, settings, features)


def _compare_files(name: str, network: Any, settings: BenchSettings, *, int8: bool) -> dict[str, float]:
    network.class_names = [f"class_{number}" for number in range(settings.num_classes)]
    size = network.backbone.spec.image_size
    image = np.random.default_rng(settings.seed).random((1, 3, size, size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        variants = exported_variants(network.eval(), Path(folder), int8=int8)
    actions = {who: partial(_again, predict, image, settings.export_calls) for who, (predict, _) in variants.items()}
    rounds = interleave(actions, rounds=settings.rounds, warmup=settings.warmup, device=_CPU)
    timings = {
        who: Timing(tuple(seconds / settings.export_calls for seconds in timing.seconds))
        for who, timing in rounds.items()
    }
    memory = {who: peak_memory(action, device=_CPU) for who, action in actions.items()}
    pairs = [("torchscript", "eager"), ("onnx", "eager"), *([("int8", "onnx")] if int8 else [])]
    figures: dict[str, float] = {}
    for one, other in pairs:
        figures |= compare(
            f"{name}_{one}_vs_{other}", ours=timings[one], other=timings[other], memory=(memory[one], memory[other])
        )
        figures[f"{name}_{one}_mb"] = variants[one][1]
    return figures


def _again(predict: Predict, image: np.ndarray, times: int) -> None:
    for _ in range(times):
        predict(image)
