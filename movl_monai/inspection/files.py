"""Inspect one file by its content and suffix; nothing of it is evaluated, and every size is limited."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from .archives import inspect_archive, inspect_npy, inspect_onnx, inspect_pickle, inspect_safetensors
from .configs import check_config, check_logging, find_weights
from .findings import FileReport, InspectionError
from .grammar import Aliases
from .pickles import is_pickle

__all__ = ["CONFIG_SUFFIXES", "file_sha256", "inspect_file", "read_config"]

CONFIG_SUFFIXES = {".json", ".yaml", ".yml"}
_LOGGING = {".cfg", ".conf", ".ini"}
_TENSORS = {".bin", ".ckpt", ".pt", ".pt2", ".pth", ".ts"}
_PICKLES = {".dill", ".joblib", ".p", ".pickle", ".pkl"}
_PROGRAMS = (b"\x7fELF", b"MZ", b"#!", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe")
_PROGRAM_SUFFIXES = {".bash", ".bat", ".dll", ".dylib", ".exe", ".pth.py", ".pyc", ".pyd", ".sh", ".so"}
_LARGEST_JSON = 2**26
_LARGEST_TEXT = 2**20
_MOST_YAML_EVENTS = 200_000
_DEEPEST_YAML = 60
# an application of MONAI Deploy composes these and does nothing else
_APPLICATION = ("movl_monai.deploy", "monai.deploy", "__future__", "pathlib")
_NOT_IN_APPLICATIONS = {
    *("__builtins__", "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "getattr", "globals", "input"),
    *("locals", "open", "setattr", "vars"),
}


def inspect_file(path: Path, *, name: str = "", aliases: Aliases | None = None) -> FileReport:
    """Inspect one file.

    Args:
        path: path of the file.
        name: name in the report; by default its name without the folder.
        aliases: modules by the names that other configs of the bundle give them.

    Raises:
        InspectionError: if it cannot be opened.
    """
    report = FileReport(name=name or path.name, kind="other")
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            report.add("link", "It is no regular file and was not opened.")
            return report
        report.size, report.sha256 = state.st_size, file_sha256(path)
        with path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise InspectionError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    _inspect_content(path, start, report, aliases or {})
    return report


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _inspect_content(path: Path, start: bytes, report: FileReport, aliases: Aliases) -> None:
    suffix = path.suffix.lower()
    if start.startswith(b"PK\x03\x04"):
        report.kind = "archive of tensors"
        with path.open("rb") as stream:
            inspect_archive(stream, report)
    elif is_pickle(start) or suffix in _PICKLES:
        with path.open("rb") as stream:
            inspect_pickle(stream, report)
    elif start.startswith(b"\x93NUMPY"):
        report.kind = "array"
        with path.open("rb") as stream:
            inspect_npy(stream, report)
    elif start.startswith(_PROGRAMS) or suffix in _PROGRAM_SUFFIXES:
        report.kind = "program"
        report.add("code", "It is a program; nothing here checks it.")
    elif suffix == ".safetensors":
        report.kind = "safetensors"
        inspect_safetensors(path, report)
    elif suffix == ".onnx":
        report.kind = "ONNX"
        inspect_onnx(path, report)
    elif suffix in _TENSORS:
        report.kind = "file of tensors"
        report.add("damaged", "It is neither an archive of torch nor a pickle; it may be cut off.")
    else:
        _inspect_text(path, suffix, report, aliases)


def _inspect_text(path: Path, suffix: str, report: FileReport, aliases: Aliases) -> None:
    if suffix in CONFIG_SUFFIXES:
        report.kind = "config"
        config = read_config(path, report)
        if isinstance(config, dict) and {"format", "settings", "training"} <= set(config):
            report.kind = "run record"
        found = check_config(config, aliases=aliases)
        # texts about a bundle name pages on the web
        report.findings += [one for one in found if one.kind != "network" or path.name != "metadata.json"]
        _note_licences(config, report)
    elif suffix in _LOGGING:
        report.kind = "logging"
        report.findings += check_logging(_text(path, report))
    elif suffix == ".py":
        report.kind = "Python code"
        _inspect_code(_text(path, report), report)


def read_config(path: Path, report: FileReport | None = None) -> Any:
    """Read JSON or YAML; return None and add a finding if the content is damaged or exceeds a limit."""
    report = report or FileReport(name=path.name, kind="config")
    yaml = path.suffix.lower() != ".json"
    limit = _LARGEST_TEXT if yaml else _LARGEST_JSON
    if path.stat().st_size > limit:
        report.add("limit", f"It is larger than {limit >> 20} MiB and was not read.")
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _read_yaml(text, report) if yaml else json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        report.add("damaged", f"It cannot be read as {'YAML' if yaml else 'JSON'} ({type(error).__name__}).")
        return None


def _read_yaml(text: str, report: FileReport) -> Any:
    """Read YAML after checking the number of nodes, the depth and the tags, before any object is built."""
    try:
        import yaml
    except ImportError:
        report.add("damaged", "It was not read: PyYAML is missing, pip install pyyaml.")
        return None
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > _MOST_YAML_EVENTS or depth > _DEEPEST_YAML:
                report.add("limit", f"It has more than {_MOST_YAML_EVENTS} entries or {_DEEPEST_YAML} levels.")
                return None
            tag = str(getattr(event, "tag", None) or "")
            if tag.startswith("tag:yaml.org,2002:python"):
                report.add("code", f"The tag {tag!r} builds an object of Python.")
                return None
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        report.add("damaged", f"It cannot be read as YAML ({type(error).__name__}).")
        return None
    return documents[0] if len(documents) == 1 else documents


def _text(path: Path, report: FileReport) -> str:
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_TEXT + 1)
    if len(content) > _LARGEST_TEXT:
        report.add("limit", f"It is larger than {_LARGEST_TEXT >> 20} MiB and was not read.")
        return ""
    return content.decode("utf-8", errors="replace")


def _note_licences(config: Any, report: FileReport) -> None:
    for weights in find_weights(config):
        report.notes.append(f"licence of {os.path.basename(weights.path)}: {weights.license or 'not stated'}")


def _inspect_code(text: str, report: FileReport) -> None:
    """Accept an application that only composes operators of MONAI Deploy; any other code is a finding."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        report.add("code", "It is no Python that can be parsed.")
        return
    reasons = {reason for node in ast.walk(tree) if (reason := _code_problem(node)) is not None}
    if reasons:
        text = f"It is a program; nothing here checks it ({', '.join(sorted(reasons)[:3])})."
        report.add("code", text)
    else:
        report.kind = "application"
        report.notes.append("composes operators of movl_monai.deploy")


def _code_problem(node: ast.AST) -> str | None:
    if isinstance(node, ast.Import):
        return f"imports {node.names[0].name}"
    if isinstance(node, ast.ImportFrom):
        public = all(not one.name.startswith("_") and one.name.lower() != "os" for one in node.names)
        known = node.module in _APPLICATION and node.level == 0
        classes = all(one.name[0].isupper() or one.name in ("annotations", "main") for one in node.names)
        return None if public and known and classes else f"imports from {node.module}"
    if isinstance(node, ast.Name) and node.id in _NOT_IN_APPLICATIONS:
        return f"uses {node.id}"
    if isinstance(node, ast.Attribute) and node.attr.startswith("__") and node.attr != "__name__":
        return f"uses .{node.attr}"
    return None
