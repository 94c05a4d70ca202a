"""Check every `_target_`, `$` expression and `%` macro of a config, and the file that configures logging."""

from __future__ import annotations

import ast
import configparser
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .allowed import is_allowed
from .findings import Finding, Kind, shown
from .grammar import KNOWN_MODULES, Aliases, check_expression, read_import

__all__ = ["Weights", "check_config", "check_logging", "find_aliases", "find_weights"]

_SEPARATOR = re.compile("#|::")
_MODES = {"callable", "default", "partial"}
_MACRO = re.compile(r"%[#:]*\w+(?:(?:#|::)\w+)*")
_ADDRESS = re.compile(r"(?:https?|ftp|s3|gs|file|ssh|git\+\w+)://|hf[-_]hub:", re.IGNORECASE)
# MONAI resolves any name of a reader or writer
_BY_NAME = {
    "reader": re.compile(r"(monai\.data\.)?[A-Z]\w*Reader"),
    "writer": re.compile(r"(monai\.data\.)?[A-Z]\w*Writer"),
}
_UNSAFE_READER = re.compile(r"(monai\.data\.)?NumpyReader")
_ABOUT = ("_meta_::", "files::metadata.json::")  # texts about a bundle name pages on the web
_LARGEST_DEPTH = 100
_MOST_NODES = 500_000
_MOST_FINDINGS = 1000

_LOGGING_CLASSES = {
    f"{prefix}{name}"
    for prefix, names in {
        "": ("FileHandler", "Formatter", "NullHandler", "StreamHandler"),
        "handlers.": ("RotatingFileHandler", "TimedRotatingFileHandler"),
    }.items()
    for name in names
}
_STREAMS = {"sys.stderr", "sys.stdout"}


@dataclass(frozen=True)
class Weights:
    """A file of weights that a config names.

    Args:
        place: id in the config.
        path: path as written.
        sha256: declared SHA-256; "" if there is none.
        license: declared licence; "" if there is none.
    """

    place: str
    path: str
    sha256: str
    license: str


def check_config(config: Any, *, aliases: Aliases | None = None) -> list[Finding]:
    """Return the findings of a config or record. Nothing of it is evaluated.

    Args:
        config: content of the JSON or YAML file.
        aliases: modules by the names that other files of the bundle give them, see :func:`find_aliases`.

    Example:
        >>> [finding.text for finding in check_config({"a": {"_target_": "os.system"}, "b": "$len(@a)"})]
        ["'os.system' is outside of the allow-list of targets."]
    """
    known = find_aliases([config], before=aliases or {})
    found: list[Finding] = []
    for place, key, value, parent in _nodes(config, found):
        for kind, text in _problems(place, key, value, parent, known):
            found.append(Finding(kind=kind, place=shown(place), text=shown(text, 600)))
        if len(found) >= _MOST_FINDINGS:
            text = f"There are more than {_MOST_FINDINGS} findings; the rest is not looked at."
            return [*found, Finding(kind="limit", place="", text=text)]
    return found


def find_aliases(configs: Iterable[Any], *, before: Aliases | None = None) -> dict[str, frozenset[str]]:
    """Return the modules that configs import, by alias; an alias has several modules if the configs disagree."""
    known: dict[str, set[str]] = {name: set(modules) for name, modules in (before or {}).items()}
    own: dict[str, set[str]] = {}
    for config in configs:
        for _, _, value, _ in _nodes(config, []):
            if isinstance(value, str) and value.startswith("$"):
                for name, module in (read_import(value[1:]) or {}).items():
                    own.setdefault(name, set()).add(module)
    for name, modules in own.items():
        known.setdefault(name, set()).update(modules)
    return {name: frozenset(known.get(name) or {KNOWN_MODULES[name]}) for name in {*known, *KNOWN_MODULES}}


def find_weights(config: Any) -> list[Weights]:
    """Return the files of weights that a config names by a literal path."""
    found = []
    for place, _, value, _ in _nodes(config, []):
        if not isinstance(value, Mapping) or not str(value.get("_target_", "")).endswith(".WeightsFile"):
            continue
        path = value.get("path")
        if isinstance(path, str) and not path.startswith(("$", "@", "%")):
            said = [value.get(name) for name in ("sha256", "license")]
            found.append(Weights(place, path, *(text if isinstance(text, str) else "" for text in said)))
    return found


def check_logging(text: str) -> list[Finding]:
    """Return the findings of a `logging.conf`, parts of which :func:`logging.config.fileConfig` evaluates.

    Example:
        >>> [finding.place for finding in check_logging("[handler_x]\\nclass=StreamHandler\\nargs=(open('x'),)")]
        ['handler_x.args']
    """
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        return [Finding(kind="damaged", place="", text=f"It cannot be read as INI ({type(error).__name__}).")]
    return [
        Finding(kind="logging", place=shown(f"{section}.{field}"), text=shown(f"{value!r} {reason}."))
        for section in parser.sections()
        for field, value in parser.items(section)
        if (reason := _logging_problem(field, value)) is not None
    ]


def _logging_problem(field: str, value: str) -> str | None:
    if field == "class":
        named = value.strip().removeprefix("logging.")
        return None if named in _LOGGING_CLASSES else "is no class of logging that writes to a stream or a file"
    if field not in ("args", "kwargs", "defaults") or not value.strip():
        return None
    try:
        tree = ast.parse(value.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "is no expression of Python"
    return None if _is_literal(tree) else "holds more than numbers, texts, sys.stdout and sys.stderr"


def _is_literal(tree: ast.AST) -> bool:
    if isinstance(tree, ast.Attribute):
        return ast.unparse(tree) in _STREAMS
    plain = (ast.Constant, ast.Dict, ast.List, ast.Tuple, ast.expr_context)
    return isinstance(tree, plain) and all(map(_is_literal, ast.iter_child_nodes(tree)))


def _nodes(config: Any, found: list[Finding]) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield place, key, value and container of every node, each shared node once; a limit adds a finding."""
    waiting: list[tuple[str, str, Any, Any, int]] = [("", "", config, None, 0)]
    seen: set[int] = set()
    count = 0
    while waiting:
        place, key, node, parent, depth = waiting.pop()
        count += 1
        if depth > _LARGEST_DEPTH or count > _MOST_NODES:
            limit = f"{_LARGEST_DEPTH} levels" if depth > _LARGEST_DEPTH else f"{_MOST_NODES} entries"
            found.append(Finding(kind="limit", place=shown(place), text=f"It has more than {limit}."))
            return
        yield place, key, node, parent
        if not isinstance(node, (dict, list, tuple)) or id(node) in seen:
            continue
        seen.add(id(node))
        entries: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, dict) else enumerate(node)
        below = [
            (f"{place}::{name}" if place else str(name), str(name), part, node, depth + 1) for name, part in entries
        ]
        waiting += reversed(below)


def _problems(place: str, key: str, value: Any, parent: Any, aliases: Aliases) -> Iterator[tuple[Kind, str]]:
    name = _SEPARATOR.split(key)[-1].lstrip("+~")  # "train#trainer#_target_" sets that of the trainer
    if name == "_target_" and isinstance(parent, dict):
        yield from _target_problems(value)
        return
    if name == "_mode_" and value not in _MODES:
        yield "mode", f"{value!r} is no way to build an object without a debugger; expected one of {sorted(_MODES)}."
    if not isinstance(value, str):
        return
    if name in _BY_NAME and not value.startswith(("$", "@")) and not _is_known_io(name, value):
        yield "target", f"{value!r} is outside of the allow-list of a {name}."
    if value.startswith("$") and (reason := check_expression(value[1:], aliases)) is not None:
        yield "expression", f"{value!r} is outside of the grammar of expressions: {reason}."
    if value.startswith("%") and not _MACRO.fullmatch(value):
        yield "macro", f"{value!r} takes over a part of another file, or none; expected %id."
    if _ADDRESS.match(value) and not place.startswith(_ABOUT):
        yield "network", f"{value!r} is an address on the network."


def _is_known_io(name: str, value: str) -> bool:
    """Return whether a name is a reader or writer of MONAI; a word without a dot may also be plain text."""
    return not _UNSAFE_READER.fullmatch(value) and ("." not in value or bool(_BY_NAME[name].fullmatch(value)))


def _target_problems(value: Any) -> Iterator[tuple[Kind, str]]:
    if not isinstance(value, str):
        yield "target", f"A target must be a dotted path, got {type(value).__name__}."
    elif value.startswith(("$", "@", "%")):
        yield "target", f"{value!r} computes a target; expected a dotted path written out."
    elif not is_allowed(value):
        yield "target", f"{value!r} is outside of the allow-list of targets."
