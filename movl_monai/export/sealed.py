"""Recognise exported files by their content, and detect changes since they were written."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Literal, get_args

from movl_monai.errors import ExportError

__all__ = [
    "SEAL_KEY",
    "SUFFIXES",
    "ExportFormat",
    "check_intact",
    "exported_format",
    "is_exported",
    "seal_onnx",
    "unsealed",
]

ExportFormat = Literal["torchscript", "onnx", "torch-export"]
SUFFIXES: dict[str, str] = {"torchscript": ".ts", "onnx": ".onnx", "torch-export": ".pt2"}

SEAL_KEY = "movl.content_sha256"
_EMPTY_SEAL = "0" * 64
# protobuf encoding of the entry: the key, then field 2 with 64 bytes
_SEAL_PREFIX = SEAL_KEY.encode() + b"\x12\x40"
_ZIP = b"PK\x03\x04"
_IR_VERSION = b"\x08"  # field 1 of an ONNX file


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
