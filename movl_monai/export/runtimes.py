"""Runtimes of exported files: onnxruntime and torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from movl_monai.errors import ExportError

from .graph import quiet_exporters
from .sealed import ExportFormat

__all__ = ["METADATA_FILE", "PREFIX", "Runtime", "TRUST_FILE", "open_runtime"]

METADATA_FILE = "movl_metadata.json"
TRUST_FILE = "movl_trust.b64"
PREFIX = "movl."  # prefix of the properties of an ONNX file


@dataclass(frozen=True)
class Runtime:
    """An opened file.

    Args:
        run: maps images (B, 3, H, W), float32, to the graph's outputs.
        metadata: metadata of the file; {} for a file from another program.
        trust: the trust record as it was written, base64; "" for none.
    """

    run: Callable[[np.ndarray], list[np.ndarray]]
    metadata: dict[str, Any]
    trust: str


def open_runtime(path: Path, form: ExportFormat, *, num_threads: int | None) -> Runtime:
    """Open an exported file.

    Args:
        path: path of the file.
        form: format of the file.
        num_threads: threads per call; None leaves it to the runtime.

    Raises:
        ExportError: if the runtime cannot read the file, or is not installed.
    """
    opener = {"onnx": _open_onnx, "torchscript": _open_torchscript, "torch-export": _open_torch_export}[form]
    try:
        return opener(path, num_threads)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise many kinds of errors, whose texts hold graph nodes and paths
        raise ExportError(
            f"{path.name} cannot be opened as {form} ({type(error).__name__}). It is damaged, or was written by newer "
            "versions than are installed here; export it again with these versions."
        ) from error


def _open_onnx(path: Path, num_threads: int | None) -> Runtime:
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "onnxruntime is not installed, which runs ONNX files; install it with pip install 'movl-monai[export]'."
        ) from error
    options = onnxruntime.SessionOptions()
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map
    metadata = {
        key.removeprefix(PREFIX): json.loads(value)
        for key, value in properties.items()
        if key.startswith(PREFIX) and key not in (TRUST_FILE, f"{PREFIX}content_sha256")
    }

    def run(image: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {"image": image}))

    return Runtime(run, metadata, properties.get(TRUST_FILE, ""))


def _open_torchscript(path: Path, num_threads: int | None) -> Runtime:
    import torch

    files = {METADATA_FILE: "", TRUST_FILE: ""}
    with quiet_exporters():
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=files).eval()
    return Runtime(_torch_run(module, num_threads), json.loads(files[METADATA_FILE] or "{}"), _text(files[TRUST_FILE]))


def _open_torch_export(path: Path, num_threads: int | None) -> Runtime:
    import torch

    files = {METADATA_FILE: "", TRUST_FILE: ""}
    # for a name without .pt2 torch warns and quotes the path; a stream has no name
    with path.open("rb") as stream, quiet_exporters():
        module = torch.export.load(stream, extra_files=files).module()
    return Runtime(_torch_run(module, num_threads), json.loads(files[METADATA_FILE] or "{}"), _text(files[TRUST_FILE]))


def _text(content: str | bytes) -> str:
    return content.decode() if isinstance(content, bytes) else content


def _torch_run(module: Any, num_threads: int | None) -> Callable[[np.ndarray], list[np.ndarray]]:
    import torch

    def run(image: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode(), _threads(num_threads):
            outputs = module(torch.from_numpy(image))
        return [one.numpy() for one in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]

    return run


@contextmanager
def _threads(count: int | None) -> Any:
    """Set torch's number of threads temporarily; it is global to the process."""
    import torch

    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
