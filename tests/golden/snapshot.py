"""Content of a folder of outputs, without the facts of one run: times, commits, places, file times."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

from tests.golden.pipeline import ROOT

__all__ = ["normalised", "snapshot"]

_TEXT = {".csv", ".json", ".jsonl", ".html", ".md", ".out", ".err", ".code", ".txt", ".py"}
_DIFFERS = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(,\d+|\.\d+)?"), "<time>"),
    (re.compile(r"^\d\d:\d\d:\d\d(?= )", re.MULTILINE), "<time>"),
    (re.compile(r"\d+(\.\d+)? (s|ms|MB|GB|images/s)\b"), r"<n> \2"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<commit>"),
    (re.compile(r'"(git_modified|mtime\w*|seconds\w*|peak\w*)": [\w.]+'), r'"\1": <n>'),
    (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
)
_PROGRESS = re.compile(r"\d+%\||it/s|s/it|batch/s")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder.

    Args:
        folder: with the outputs.

    Returns:
        By relative path: normalised text as it is, of other files a SHA-256 of their content.
    """
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if "tfevents" in name:
            found[re.sub(r"tfevents.*", "tfevents", name)] = b"not compared"
        else:
            found[name] = _content(path, folder)
    return found


def normalised(text: str, folder: Path) -> str:
    """Put placeholders where text differs from run to run, and leave lines of progress bars out."""
    for place, name in ((folder, "<folder>"), (ROOT, "<root>"), (Path.home(), "<home>")):
        text = text.replace(str(place), name)
    for pattern, placeholder in _DIFFERS:
        text = pattern.sub(placeholder, text)
    lines = re.split(r"[\r\n]+", text)
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip() and not _PROGRESS.search(line))


def _content(path: Path, folder: Path) -> bytes:
    if path.suffix in _TEXT:
        return normalised(path.read_text(encoding="utf-8"), folder).encode()
    if path.suffix == ".sqlite":
        with sqlite3.connect(path) as database:
            return normalised("\n".join(database.iterdump()), folder).encode()
    return f"sha256 {_digest(path, folder)}\n".encode()


def _digest(path: Path, folder: Path) -> str:
    if path.suffix == ".onnx":
        return _sha256(_without_traces(path))
    if path.suffix in {".ts", ".pt2"}:  # both keep the lines of code that they were made from
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if not name.endswith(".debug_pkl")]
            parts = [(name.partition("/")[2], _member(archive.read(name), name, folder)) for name in sorted(members)]
        return _sha256(repr(parts).encode())
    return _sha256(path.read_bytes())


def _member(content: bytes, name: str, folder: Path) -> str:
    if name.endswith((".json", ".py")):
        text = normalised(content.decode(), folder)
        return _sha256(re.sub(r'"(stack_trace|nn_module_stack|torch_fn)": "(\\.|[^"\\])*"', "", text).encode())
    return _sha256(content)


def _without_traces(path: Path) -> bytes:
    import onnx

    model: Any = onnx.load(path)
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        for part in (*graph.node, *graph.value_info, *getattr(graph, "input", ()), *getattr(graph, "output", ())):
            if hasattr(part, "metadata_props"):
                del part.metadata_props[:]
                part.doc_string = ""
        if hasattr(graph, "metadata_props"):
            del graph.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
