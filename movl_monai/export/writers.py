"""Write a graph and its metadata to a file that holds nothing about this machine; int8; temporary files."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from movl_monai.errors import ExportError
from movl_monai.export.graph import (
    ClassificationGraph,
    SegmentationGraph,
    UnitGraph,
    as_program,
    quiet_exporters,
)
from movl_monai.export.runtimes import METADATA_FILE, PREFIX, TRUST_FILE
from movl_monai.export.sealed import SEAL_KEY, ExportFormat, seal_onnx, unsealed

__all__ = ["compile_graph", "neighbor", "quantize_model", "scratch_folder", "write_compiled"]

_DATE = (1980, 1, 1, 0, 0, 0)
_OUTPUTS: dict[type[torch.nn.Module], list[str]] = {
    ClassificationGraph: ["pred", "features"],
    SegmentationGraph: ["pred"],
    UnitGraph: ["pred", "features", "weights", "instances"],
}
_OPERATIONS = ("MatMul", "Gemm")
_WORTHWHILE = 0.6  # share of the original size
# states that shapes are inferred and constants folded, which torch's exporter has done
_PREPARED = {"onnx.infer": "onnxruntime.quant", "onnx.quant.pre_process": "onnxruntime.quant"}


def compile_graph(
    graph: ClassificationGraph | SegmentationGraph | UnitGraph, form: ExportFormat, *, size: tuple[int, int]
) -> Any:
    """Convert a graph to a format: a scripted module, an exported program, or an ONNX model (protobuf).

    Args:
        graph: graph from :func:`~movl_monai.export.graph.exportable`.
        form: the format.
        size: (H, W) of the images.

    Raises:
        ExportError: if the graph cannot be converted.
    """
    if form == "torchscript":
        return _script(graph)
    program = as_program(graph, input_size=size)
    return program if form == "torch-export" else _onnx_model(program, outputs=_OUTPUTS[type(graph)])


def write_compiled(compiled: Any, path: Path, *, metadata: Mapping[str, Any], trust: str = "") -> None:
    """Write a model from :func:`compile_graph`.

    Args:
        compiled: the model.
        path: the file, which is written in place; see :func:`~movl_monai.export.writers.neighbor`.
        metadata: JSON-able metadata.
        trust: the trust record, base64; "" for none.
    """
    files = {METADATA_FILE: json.dumps(metadata, sort_keys=True, allow_nan=False), TRUST_FILE: trust}
    if isinstance(compiled, torch.jit.ScriptModule):
        stream = io.BytesIO()
        with quiet_exporters():
            torch.jit.save(compiled, stream, _extra_files=files)
        path.write_bytes(_without_debug_files(stream))
    elif isinstance(compiled, torch.export.ExportedProgram):
        # a stream has no name; the writer would put the name of a file into the archive
        stream = io.BytesIO()
        with quiet_exporters():
            torch.export.save(compiled, stream, extra_files=files)
        path.write_bytes(stream.getvalue())
    else:
        _set_properties(compiled, metadata, trust)
        path.write_bytes(seal_onnx(compiled.SerializeToString(deterministic=True)))


def _script(graph: torch.nn.Module) -> torch.jit.ScriptModule:
    try:
        with quiet_exporters():
            return torch.jit.script(graph)
    except Exception as error:  # it raises many kinds of errors
        raise ExportError(
            f"TorchScript cannot take this network ({type(error).__name__}); use --format onnx or torch-export, which "
            "trace it."
        ) from error


def _onnx_model(program: torch.export.ExportedProgram, *, outputs: list[str]) -> Any:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(
            f"{error.name} is not installed, which writes ONNX files; pip install 'movl-monai[export]'."
        ) from error
    try:
        with quiet_exporters():
            made: Any = torch.onnx.export(
                program, input_names=["image"], output_names=outputs, dynamo=True, external_data=False, verbose=False
            )
    except Exception as error:  # it raises many kinds of errors
        raise ExportError(
            f"This network cannot be had as ONNX ({type(error).__name__}); use --format torchscript or torch-export."
        ) from error
    model = made.model_proto
    _forget_origin(model)
    return model


def _forget_origin(model: Any) -> None:
    """Remove the origin of every node from the exporter's output: lines of source files with their folders."""
    model.doc_string = ""
    for graph in (model.graph, *model.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in (*graph.value_info, *getattr(graph, "input", ()), *getattr(graph, "initializer", ())):
            if hasattr(value, "metadata_props"):
                del value.metadata_props[:]


def _set_properties(model: Any, metadata: Mapping[str, Any], trust: str) -> None:
    del model.metadata_props[:]
    properties = {f"{PREFIX}{key}": json.dumps(value, sort_keys=True) for key, value in metadata.items()}
    for key, value in {**properties, TRUST_FILE: trust, SEAL_KEY: unsealed()}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def _without_debug_files(stream: io.BytesIO) -> bytes:
    """Return an archive without the files that map code to source lines in folders of this machine."""
    result = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename, _DATE), old.read(entry))
    return result.getvalue()


def quantize_model(model: Any) -> Any:
    """Return an ONNX model whose linear layers multiply in int8, with scales per output channel.

    Weights have 7 bits: with 8, CPUs without VNNI instructions saturate and would give other results than the machine
    that tested the file. Convolutions stay in float: onnxruntime has no fast dynamic int8 convolution (it was slower
    than float in all tested networks), and depthwise convolutions lose much accuracy.

    Args:
        model: ONNX protobuf; it is not changed.

    Raises:
        ExportError: if most weights are outside linear layers, so that nothing is gained, or there is no space for
            temporary files.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    del prepared.metadata_props[:]
    for key, value in _PREPARED.items():
        entry = prepared.metadata_props.add()
        entry.key, entry.value = key, value
    with scratch_folder() as folder:
        path = folder / "int8.onnx"
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=list(_OPERATIONS),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        quantized = onnx.load(str(path))
    before, after = model.ByteSize(), quantized.ByteSize()
    if after > _WORTHWHILE * before:
        raise ExportError(
            f"int8 would only shrink this network from {before / 1e6:.1f} to {after / 1e6:.1f} MB: its weights are in "
            "convolutions, whose dynamic int8 is slower and less exact on a CPU. It pays in Transformers; leave --int8 "
            "out for this run."
        )
    return quantized


@contextmanager
def neighbor(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside ``path``; it is renamed to ``path`` at the end, or removed after an error.

    Raises:
        ExportError: if the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(
            f"The exported file cannot be written: {error.strerror} ({path.parent}). Expected a folder that exists or "
            "can be made, with space left; choose another --output."
        ) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a temporary folder that is removed at the end.

    Raises:
        ExportError: if the block raises an OSError, such as for a full disk.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    except OSError as error:
        raise ExportError(
            f"The folder for temporary files cannot be used: {error.strerror or type(error).__name__} "
            f"({tempfile.gettempdir()}). Make space there, or name another folder in the environment variable TMPDIR."
        ) from error
