"""Recognise exported files by their content, detect changes since they were written, and read their metadata.

Metadata: version 1, JSON, in the properties of an ONNX file (``movl.<entry>``, each value JSON) and in the extra file
``movl_metadata.json`` of the archives of torch:

========================  =============================================================================================
entry                     value
========================  =============================================================================================
``schema_version``        1
``task``                  "classification" or "segmentation"
``bundle``                name and version of the trained bundle
``class_names``           in the order of the logits
``image_size``            [H, W] of the preprocessed images
``input_size``            [H, W] of the graph's input; smaller than the images with a sliding window
``windows``               settings of the sliding window, or null
``preprocessing``         the transforms from a path to an image, as a MONAI config without expressions
``inputs``, ``outputs``   name, shape, dtype, value range
``backbone``              name, source and licence of the weights, sha256 of their file and of the content
``checkpoint_sha256``     SHA-256 of the trained state, as the trust record names it
``parts``                 prompt, adapter and head in words
``trust``                 facts of the trust record: temperature, thresholds, OOD score; null without one.
                          The record itself, with the arrays of the score, is stored beside the metadata
``parity``                difference of the file (int8: of its float version) from eager mode, and the images compared
``int8``                  null, or the effect of the quantisation
``trained_with``          versions of the packages that trained it
``largest_component``     segmentation only: whether only the largest component of every class is kept
``mask_dtype``            segmentation only: data type of masks of volumes, "uint8" or "source"
``versions``              versions of the packages that wrote it
``use``                   statement that it is for research only
========================  =============================================================================================

They hold no patient data and no paths.
"""

from __future__ import annotations

import hashlib
import os
import platform
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

import movl_monai
from movl_monai.errors import RESEARCH_USE, ExportError
from movl_monai.report.tasks import task_named

if TYPE_CHECKING:
    from movl_monai.evaluation.trust_record import TrustRecord

__all__ = [
    "ExportFormat",
    "RESEARCH_USE",
    "SEAL_KEY",
    "SUFFIXES",
    "check_intact",
    "check_metadata",
    "describe_network",
    "describe_trust",
    "exported_format",
    "is_exported",
    "seal_onnx",
    "unsealed",
    "versions",
]

ExportFormat = Literal["torchscript", "onnx", "torch-export"]
SUFFIXES: dict[str, str] = {"torchscript": ".ts", "onnx": ".onnx", "torch-export": ".pt2"}

SEAL_KEY = "movl.content_sha256"
_EMPTY_SEAL = "0" * 64
# protobuf encoding of the entry: the key, then field 2 with 64 bytes
_SEAL_PREFIX = SEAL_KEY.encode() + b"\x12\x40"
_ZIP = b"PK\x03\x04"
_IR_VERSION = b"\x08"  # field 1 of an ONNX file
SCHEMA_VERSION = 1
_NEEDED = ("task", "class_names", "image_size", "input_size", "windows", "preprocessing", "backbone", "use")
_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "monai", "numpy", "onnx", "onnxruntime", "onnxscript")


def exported_format(path: str | os.PathLike[str]) -> ExportFormat:
    """Return the format of an exported file, regardless of its suffix.

    Raises:
        ExportError: if there is no such file, or it has none of the formats.
    """
    path = Path(path)
    if not path.is_file():
        raise ExportError(f"There is no exported model at {path}; write one with `movl-monai export RUN`.")
    with path.open("rb") as stream:
        start = stream.read(len(_ZIP))
    if start == _ZIP:
        return _format_of_archive(path)
    if start[:1] == _IR_VERSION:
        return "onnx"
    raise ExportError(
        f"{path.name} is not an exported model: expected {', '.join(get_args(ExportFormat))} as `movl-monai export` "
        "writes them. It may be cut off or damaged; export it again."
    )


def is_exported(path: Path) -> bool:
    """Return True for an exported file, False for a run's folder, record or checkpoint.

    Raises:
        ExportError: for any other file.
    """
    if path.is_dir():
        return False
    try:
        return bool(exported_format(path))
    except ExportError:
        # a checkpoint beside its record is opened as a run; for any other file the exporter's error is raised
        if path.suffix == ".json" or any((path.parent / name).is_file() for name in ("run.json", "models/run.json")):
            return False
        raise


def check_intact(path: Path, form: ExportFormat) -> None:
    """Raise ExportError if a byte of the file has changed since it was exported."""
    intact = _onnx_is_intact(path) if form == "onnx" else _archive_is_intact(path)
    if not intact:
        raise ExportError(
            f"{path.name} is damaged: its content is not what was written. Copy the file again, or export it again."
        )


def unsealed() -> str:
    """Return the placeholder that :func:`seal_onnx` later replaces."""
    return _EMPTY_SEAL


def seal_onnx(content: bytes) -> bytes:
    """Replace the placeholder of :func:`unsealed` in an ONNX file by the SHA-256 of the file.

    Raises:
        ValueError: if there is no placeholder.
    """
    start = content.find(_SEAL_PREFIX + _EMPTY_SEAL.encode())
    if start < 0:
        raise ValueError(f"The file has no property {SEAL_KEY} to be sealed with.")
    start += len(_SEAL_PREFIX)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:start] + digest + content[start + len(digest) :]


def _format_of_archive(path: Path) -> ExportFormat:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ExportError(f"{path.name} is damaged or cut off ({type(error).__name__}); export it again.") from error
    if any(name.endswith("/archive_format") for name in names):
        return "torch-export"
    if any("/code/" in name for name in names):
        return "torchscript"
    if any(name.endswith("/data.pkl") for name in names):
        raise ExportError(
            f"{path.name} is a checkpoint and not an exported model; export its run first: `movl-monai export RUN`."
        )
    raise ExportError(f"{path.name} is an archive, but not of an exported model; export it with `movl-monai export`.")


def _archive_is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError):
        return False


def _onnx_is_intact(path: Path) -> bool:
    content = path.read_bytes()
    start = content.rfind(_SEAL_PREFIX)
    if start < 0:
        return True  # from another program, which is found later by its missing metadata
    start += len(_SEAL_PREFIX)
    end = start + len(_EMPTY_SEAL)
    digest = hashlib.sha256()
    for part in (memoryview(content)[:start], _EMPTY_SEAL.encode(), memoryview(content)[end:]):
        digest.update(part)
    return content[start:end] == digest.hexdigest().encode()


def versions() -> dict[str, str | None]:
    """Return the versions of the packages that an exported file depends on; None for missing packages."""
    found: dict[str, str | None] = {"python": platform.python_version(), "movl_monai": movl_monai.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def describe_network(network: Any, *, task: str, input_size: tuple[int, int]) -> dict[str, Any]:
    """Return the metadata entries that follow from the network alone.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier`, ``AdaptedSegmenter`` or ``UnitClassifier`` with its
            checkpoint.
        task: name of its task.
        input_size: (H, W) of its input.
    """
    from movl_monai.networks import trained_state_sha256  # imports torch, without which files are recognised

    spec = network.backbone.spec
    num_classes = len(network.class_names)
    whole = not task_named(task).per_pixel
    logits = ["B", num_classes] if whole else ["B", num_classes, *input_size]
    outputs: dict[str, dict[str, Any]] = {
        "pred": {"shape": logits, "dtype": "float32", "meaning": "logits, before softmax"}
    }
    if whole:
        shape = ["B", spec.num_features]
        outputs["features"] = {"shape": shape, "dtype": "float32", "meaning": "what the head reads"}
    unit = getattr(network, "unit", None)
    if unit is not None:
        outputs = {name: entry | {"shape": [1, *entry["shape"][1:]]} for name, entry in outputs.items()}
        outputs["weights"] = {"shape": ["B"], "dtype": "float32", "meaning": "weight of each image, with sum 1"}
        outputs["instances"] = {"shape": ["B", num_classes], "dtype": "float32", "meaning": "logits of each image"}
    return {
        **({} if unit is None else {"unit": dict(unit)}),
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "class_names": list(network.class_names),
        "input_size": list(input_size),
        "inputs": {
            "image": {"shape": ["B", 3, *input_size], "dtype": "float32", "value_range": [0, 1], "color": "RGB"}
        },
        "outputs": outputs,
        "backbone": {
            "name": spec.name,
            "weights": spec.weights,
            "license": spec.license,
            "weights_file_sha256": spec.weights_sha256,
            "content_sha256": network.backbone.content_sha256(),
            "frozen": bool(network.backbone.frozen),
        },
        "checkpoint_sha256": trained_state_sha256(network),
        "parts": network.facts()["parts"],
        "versions": versions(),
        "use": RESEARCH_USE,
    }


def describe_trust(record: TrustRecord) -> dict[str, Any]:
    """Return the readable numbers of a trust record; a threshold without bound is null."""
    conformal, detector = record.conformal, record.detector
    return {
        "temperature": record.temperature,
        "operating_points": [dict(point) for point in record.operating_points],
        "least_confidence": record.least_confidence,
        "conformal": None
        if conformal is None
        else {
            "method": conformal.method,
            "alpha": conformal.alpha,
            "per_class": conformal.per_class,
            "thresholds": [float(value) if np.isfinite(value) else None for value in conformal.thresholds],
        },
        "ood": None
        if detector is None
        else {
            "score": detector.score.name,
            "threshold": float(detector.threshold),
            "target_id_kept": detector.target_id_kept,
        },
        "facts": dict(record.facts),
        **({"findings": [describe_trust(one) for one in record.findings]} if record.findings else {}),
        **({} if record.threshold is None else {"threshold": record.threshold}),
        **({} if record.half_width is None else {"half_width": record.half_width}),
    }


def check_metadata(metadata: Mapping[str, Any], *, name: str, task: str | None) -> None:
    """Raise ExportError unless the metadata come from `movl-monai export`, have a known version, and fit the task."""
    found = metadata.get("schema_version")
    if found is None:
        raise ExportError(
            f"{name} does not say how it is to be used: it was not written by `movl-monai export`. Export the run with "
            "that command; MONAI's ckpt_export writes files for other programs."
        )
    if found != SCHEMA_VERSION:
        raise ExportError(
            f"{name} has metadata of version {found}, this movl_monai understands version {SCHEMA_VERSION}; export it "
            "again, or install the movl_monai that wrote it."
        )
    if missing := [key for key in _NEEDED if key not in metadata]:
        raise ExportError(f"{name} does not tell its {', '.join(missing)}; it is damaged, export it again.")
    if task is not None and metadata["task"] != task:
        raise ExportError(
            f"{name} is for {metadata['task']} ({', '.join(metadata['class_names'])}), wanted was {task}; "
            "take the file of such a run."
        )
