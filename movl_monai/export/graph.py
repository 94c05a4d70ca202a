"""The network as an exportable graph: one input, tensors out, adapters merged if possible; exporters muted."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from movl_monai.adapters import LayerAdapter
from movl_monai.errors import ExportError
from movl_monai.networks import AdaptedClassifier, AdaptedSegmenter, EnsembleClassifier, UnitClassifier

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = [
    "ClassificationGraph",
    "SegmentationGraph",
    "UnitGraph",
    "as_program",
    "exportable",
    "merge_adapter",
    "quiet_exporters",
]

_Network: TypeAlias = AdaptedClassifier | AdaptedSegmenter | EnsembleClassifier

_TRACED_BATCH = 2  # torch.export specialises on 0 and 1
# deprecation of TorchScript, which users chose by name, and of functions that torch's exporters call themselves
_ANNOUNCED = r".*(torch\.jit|LeafSpec).*is deprecated"
# torch's loader of programs takes weights from a read-only buffer and never writes to it
_READ_ONLY = "The given buffer is not writable"
# they log every folded constant, once an evaluation in the same process has set the level to INFO
_TALKING = ("onnx_ir", "onnxscript")


class ClassificationGraph(nn.Module):
    """Map images (B, 3, H, W) to logits (B, C) and to the head's input features (B, F), both float32."""

    def __init__(self, network: AdaptedClassifier | EnsembleClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute logits and features."""
        logits, features = self.network.outputs(image)
        return logits.float(), features.float()


class SegmentationGraph(nn.Module):
    """Map images (B, 3, H, W) to logits (B, C, H, W), float32."""

    def __init__(self, network: AdaptedSegmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute the logits."""
        return self.network(image)


class UnitGraph(nn.Module):
    """Map the images of one series, study or patient, (n, 3, H, W), to its outputs, all float32.

    They are logits (1, C), the head's input features (1, F), the weight (n,) of each image, and the logits (n, C) of
    each image by itself.
    """

    def __init__(self, network: UnitClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute the outputs of the unit."""
        instances = self.network.backbone(image).unsqueeze(0)
        logits, features, weights = self.network.from_instances(instances, None)
        own = self.network.head(instances.squeeze(0))
        return logits.float(), features.float(), weights.squeeze(0).float(), own.float()


def merge_adapter(network: _Network) -> _Network:
    """Fold an adapter into the weights, and return an equivalent network without adapter.

    LoRA, SSF and BitFit can be folded. With another adapter, or none, the network itself is returned. In an ensemble,
    each member is treated separately.
    """
    if isinstance(network, EnsembleClassifier):
        members: list[Any] = [merge_adapter(member) for member in network.members]  # type: ignore[arg-type]
        temperatures = network.head.temperatures.tolist()
        return EnsembleClassifier(members=members, temperatures=temperatures, class_names=network.class_names).eval()
    if not isinstance(network.adapter, LayerAdapter):
        return network
    parts: dict[str, Any] = {"prompt": network.prompt, "head": network.head, "class_names": network.class_names}
    merged = network.adapter.merged(network.backbone)
    return type(network)(backbone=merged, **parts).eval()


def exportable(network: nn.Module) -> ClassificationGraph | SegmentationGraph | UnitGraph:
    """Return a copy of a network on the CPU that every exporter can process; the network is not changed.

    Raises:
        ExportError: if it is of another kind, or has non-finite weights.
    """
    if not isinstance(network, (AdaptedClassifier, AdaptedSegmenter, EnsembleClassifier, UnitClassifier)):
        raise ExportError(
            "Only AdaptedClassifier, AdaptedSegmenter, EnsembleClassifier and UnitClassifier can be exported, got "
            f"{type(network).__name__}; unwrap a distributed or compiled network first."
        )
    _check_finite(network)
    if isinstance(network, UnitClassifier):
        return UnitGraph(copy.deepcopy(network).cpu().eval()).requires_grad_(False).eval()
    own = merge_adapter(copy.deepcopy(network).cpu().eval())
    graph = SegmentationGraph(own) if isinstance(own, AdaptedSegmenter) else ClassificationGraph(own)
    return graph.requires_grad_(False).eval()


def _check_finite(network: nn.Module) -> None:
    # a buffer may be infinite on purpose, as attention masks are
    wrong = [name for name, value in network.named_parameters() if not torch.isfinite(value).all()]
    wrong += [name for name, value in network.named_buffers() if torch.isnan(value).any()]
    if wrong:
        raise ExportError(
            f"{len(wrong)} tensors of the network are NaN or infinite, the first is {wrong[0]}: its training "
            "diverged or its file is damaged. Train again with a lower learning rate, or export an earlier checkpoint."
        )


def as_program(graph: nn.Module, *, input_size: tuple[int, int]) -> ExportedProgram:
    """Trace a graph with `torch.export` for any batch size.

    Args:
        graph: graph from :func:`exportable`; its weights are made contiguous, which the archive of torch.export
            expects.
        input_size: (H, W) of the images.

    Raises:
        ExportError: if it cannot be traced.
    """
    batch = torch.export.Dim("batch", min=1)
    # the file keeps it as an example, so it must not show a patient
    example = torch.full((_TRACED_BATCH, 3, *input_size), 0.5)
    try:
        with quiet_exporters():
            program = torch.export.export(
                graph.to(memory_format=torch.contiguous_format), (example,), dynamic_shapes={"image": {0: batch}}
            )
    except Exception as error:  # it raises many kinds of errors
        raise ExportError(
            f"torch.export cannot trace this network ({type(error).__name__}: {_first_line(error)}); "
            "try --format torchscript."
        ) from error
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node"):
                node.meta.pop(key, None)  # they name files and folders of this machine
    return program


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """Ignore warnings and log lines that only the exporters' developers can act on."""
    loggers = [logging.getLogger(name) for name in _TALKING]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        yield from _without_warnings()
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", _ANNOUNCED, category)
        warnings.filterwarnings("ignore", _READ_ONLY, UserWarning)
        yield
