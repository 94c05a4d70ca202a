"""Inspect files of tensors and graphs without loading them: torch archives, safetensors, NumPy, ONNX."""

from __future__ import annotations

import ast
import io
import json
import struct
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import IO, Any

from .configs import check_config
from .findings import FileReport
from .pickles import LEGACY_MAGIC, foreign_names, scan_pickle

__all__ = ["inspect_archive", "inspect_npy", "inspect_onnx", "inspect_pickle", "inspect_safetensors"]

_LARGEST_MEMBER = 2**26
_LARGEST_JSON = 2**23
_MOST_MEMBERS = 100_000
_DEEPEST = 2
_METADATA = "movl_metadata.json"
_PROGRAMS = {".bat", ".cpp", ".dll", ".dylib", ".exe", ".sh", ".so"}
_LEGACY_PICKLES = 5  # magic, protocol, system, content, keys of the storages; then numbers
_LARGEST_HEADER = 100_000_000  # the limit of safetensors itself
_ONNX_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "pkg.")


def inspect_archive(stream: IO[bytes], report: FileReport, *, place: str = "", depth: int = 0) -> None:
    """Inspect a zip archive of torch: a checkpoint, TorchScript, torch.export, or arrays of NumPy."""
    try:
        archive = zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        report.add("damaged", f"It is a damaged archive ({type(error).__name__}).", place)
        return
    with archive:
        members = archive.infolist()
        names = {member.filename for member in members}
        torchscript = any("/code/" in name for name in names)
        if len(members) > _MOST_MEMBERS:
            report.add("limit", f"It has more than {_MOST_MEMBERS} members.", place)
            return
        twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
        for name in twice[:1]:
            report.add("damaged", f"It holds {len(twice)} members twice; readers differ in which one they take.", name)
        pickled = _declared_pickles(archive, names)
        for member in members:
            _inspect_member(archive, member, report, torchscript=torchscript, pickled=pickled, depth=depth)


def _inspect_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    report: FileReport,
    *,
    torchscript: bool,
    pickled: set[str],
    depth: int,
) -> None:
    name, suffix = member.filename, PurePosixPath(member.filename).suffix
    if suffix in _PROGRAMS or (suffix == ".py" and not (torchscript and "/code/" in name)):
        report.add("code", "It holds a program.", name)
    if PurePosixPath(name).name.startswith("custom_obj"):
        report.add("pickle", "It holds an object of a class that a library registers.", name)
    wanted = suffix in (".pkl", ".pt", ".pth", ".npy") or PurePosixPath(name).name in pickled
    if not wanted and PurePosixPath(name).name != _METADATA:
        return
    content = _read(archive, member, report)
    if content is None:
        return
    if PurePosixPath(name).name == _METADATA:
        inspect_metadata(content, report, name)
    elif content.startswith(b"PK\x03\x04"):
        if depth >= _DEEPEST:
            report.add("limit", f"Archives lie in archives, more than {_DEEPEST} deep.", name)
        else:
            inspect_archive(io.BytesIO(content), report, place=name, depth=depth + 1)
    elif suffix == ".npy":
        inspect_npy(io.BytesIO(content), report, place=name)
    else:
        _inspect_tensors(io.BytesIO(content), report, place=name, torchscript=torchscript)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, report: FileReport) -> bytes | None:
    """Return the content of a member up to a limit, regardless of the size that it declares."""
    try:
        with archive.open(member) as stream:
            content = stream.read(_LARGEST_MEMBER + 1)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        report.add("damaged", f"It cannot be unpacked ({type(error).__name__}).", member.filename)
        return None
    except Exception as error:  # zlib, bz2 and lzma raise their own errors
        report.add("damaged", f"It cannot be unpacked ({type(error).__name__}).", member.filename)
        return None
    if len(content) > _LARGEST_MEMBER:
        report.add(
            "limit", f"It unpacks to more than {_LARGEST_MEMBER >> 20} MiB and is not looked into.", member.filename
        )
        return None
    return content


def _declared_pickles(archive: zipfile.ZipFile, names: set[str]) -> set[str]:
    """Return the files of a torch.export archive that its tables of weights declare to be pickles."""
    found = set()
    for name in sorted(names):
        if not name.endswith("_config.json"):
            continue
        try:
            with archive.open(name) as stream:
                table = json.loads(stream.read(_LARGEST_JSON)).get("config", {})
            found |= {str(entry["path_name"]) for entry in table.values() if entry.get("use_pickle")}
        except Exception:  # any shape: the table is from another program, and its files are not our weights
            continue
    return found


def inspect_metadata(content: bytes, report: FileReport, place: str) -> None:
    """Check the preprocessing of an exported file, and note the licence of its weights."""
    try:
        metadata = json.loads(content[:_LARGEST_JSON])
    except (ValueError, RecursionError) as error:
        report.add("damaged", f"Its metadata cannot be read ({type(error).__name__}).", place)
        return
    report.findings += check_config(metadata)
    backbone = metadata.get("backbone") if isinstance(metadata, dict) else None
    if isinstance(backbone, dict):
        report.notes.append(f"licence of the weights: {backbone.get('license') or 'not stated'}")


def inspect_pickle(stream: IO[bytes], report: FileReport) -> None:
    """Inspect a file that begins with a pickle: a checkpoint of torch before version 1.6, or any other pickle."""
    try:
        _, _, number = scan_pickle(stream)
    except ValueError:
        number = None
    if number == LEGACY_MAGIC:
        report.kind = "checkpoint of torch before 1.6"
        for part in range(1, _LEGACY_PICKLES):
            _inspect_tensors(stream, report, place=f"pickle {part}")
        return
    report.kind = "pickle"
    stream.seek(0)
    names = _all_names(stream)
    text = f"; this one imports {', '.join(sorted(names))}" if names else ""
    report.add("pickle", f"Loading a pickle runs the code that it names{text}. Ask for tensors or safetensors.")


def _all_names(stream: IO[bytes]) -> set[str]:
    names: set[str] = set()
    while True:
        try:
            names |= scan_pickle(stream)[0]
        except ValueError as error:
            return names | error.args[1]


def _inspect_tensors(stream: IO[bytes], report: FileReport, *, place: str, torchscript: bool = False) -> None:
    """Add a finding for each name and opcode that torch's restricted unpickler refuses."""
    try:
        names, opcodes, _ = scan_pickle(stream)
    except ValueError as error:
        names, opcodes = error.args[1], set()
        report.add("damaged", "The pickle is cut off or damaged.", place)
    for name in foreign_names(names, torchscript=torchscript):
        report.add("pickle", f"Loading it would import {name}, which torch refuses with weights_only=True.", place)
    if opcodes and not torchscript:
        report.add(
            "pickle", f"It uses {', '.join(sorted(opcodes))}, which torch refuses with weights_only=True.", place
        )


def inspect_npy(stream: IO[bytes], report: FileReport, *, place: str = "") -> None:
    """Check that an array of NumPy holds numbers and no pickled objects."""
    start = stream.read(8)
    size = struct.unpack("<H", stream.read(2))[0] if start[6:7] == b"\x01" else 0
    if start[6:7] in (b"\x02", b"\x03"):
        size = min(struct.unpack("<I", stream.read(4))[0], 2**16)
    try:
        header = ast.literal_eval(stream.read(size).decode("utf-8"))
        kinds = str(header["descr"])
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        report.add("damaged", "The header of the array cannot be read.", place)
        return
    if "O" in kinds:
        report.add("pickle", "It holds pickled objects; loading them runs the code that they name.", place)


def inspect_safetensors(path: Path, report: FileReport) -> None:
    """Check that the header of a safetensors file is readable and that its tensors lie within the file."""
    try:
        with path.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if not 2 <= size <= min(_LARGEST_HEADER, report.size):
                raise ValueError("size of the header")
            header = json.loads(stream.read(size))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, struct.error, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        report.add("damaged", f"Its header cannot be read ({type(error).__name__}).")
        return
    if max(ends, default=0) + size + 8 > report.size:
        report.add("damaged", "Its tensors end behind the end of the file.")
    said = header.get("__metadata__") or {}
    report.notes.append(f"{len(ends)} tensors")
    report.notes.append(f"licence: {said.get('license') or 'not stated'}")


def inspect_onnx(path: Path, report: FileReport) -> None:
    """Report data in other files and operators of other libraries, and check the metadata of an exported file."""
    try:
        import onnx
    except ImportError:
        report.add("graph", "It was not looked into: onnx is missing, pip install 'movl-monai[export]'.")
        return
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf and onnx raise their own errors
        report.add("damaged", f"It cannot be read as ONNX ({type(error).__name__}).")
        return
    _inspect_graph(model, report)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    own = {key.removeprefix("movl."): value for key, value in properties.items() if key.startswith("movl.")}
    for key in ("preprocessing", "backbone"):
        if key in own:
            inspect_metadata(f'{{"{key}": {own[key]}}}'.encode(), report, f"movl.{key}")


def _inspect_graph(model: Any, report: FileReport) -> None:
    own = {function.domain for function in model.functions}
    graphs = [model.graph]
    domains: set[str] = set()
    outside: set[str] = set()
    while graphs:
        graph = graphs.pop()
        tensors = [*graph.initializer, *(part for sparse in graph.sparse_initializer for part in (sparse.values,))]
        for node in graph.node:
            domains.add(node.domain)
            for attribute in node.attribute:
                graphs += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
        outside |= {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}
    for location in sorted(outside):
        report.add("graph", f"Its numbers lie in another file: {location!r}.")
    for domain in sorted(domain for domain in domains - own if not _is_known(domain)):
        report.add("graph", f"It uses operators of the library {domain!r}.")


def _is_known(domain: str) -> bool:
    return domain in _ONNX_DOMAINS or any(domain.startswith(known) for known in _ONNX_DOMAINS if known.endswith("."))
