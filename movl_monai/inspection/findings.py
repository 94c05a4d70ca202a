"""Findings of an inspection, with one report per file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from movl_monai.errors import MovlError

__all__ = ["CODE", "FileReport", "Finding", "InspectionError", "Kind", "Report", "shown"]

# fmt: off
Kind = Literal[
    "target", "expression", "macro", "mode", "limit", "network", "logging", "pickle", "graph", "code", "damaged",
    "hash", "licence", "link",
]
# fmt: on
CODE: frozenset[Kind] = frozenset({"target", "expression", "macro", "mode", "limit"})
"""Kinds of findings in a config that decide which code runs."""

_SHOWN = 120


class InspectionError(MovlError):
    """The path holds nothing that can be inspected."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A violation of a rule.

    Args:
        kind: kind of the rule.
        place: id in a config, member of an archive, or ""; printable.
        text: one sentence; printable.
    """

    kind: Kind
    place: str
    text: str


@dataclass(kw_only=True)
class FileReport:
    """Findings of one file.

    Args:
        name: path relative to the inspected folder.
        kind: kind of the file, in words.
        size: size in bytes.
        sha256: SHA-256 of the content; "" for a file that was not read.
        notes: facts that are not findings, such as licences.
        findings: empty for a clean file.
    """

    name: str
    kind: str
    size: int = 0
    sha256: str = ""
    notes: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: Kind, text: str, place: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(kind=kind, place=shown(place), text=shown(text, 600)))


@dataclass(kw_only=True)
class Report:
    """All files of an inspected path.

    Args:
        name: name of the path, without its folder.
        kind: "file", "run" or "bundle".
        files: reports, sorted by name.
    """

    name: str
    kind: str
    files: list[FileReport]

    @property
    def findings(self) -> int:
        """Number of findings in all files."""
        return sum(len(file.findings) for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        files = [{**vars(file), "findings": [vars(finding) for finding in file.findings]} for file in self.files]
        return {"name": self.name, "kind": self.kind, "clean": not self.findings, "files": files}


def shown(text: str, width: int = _SHOWN) -> str:
    """Return a shortened text with control characters replaced, because it may come from a hostile file.

    Example:
        >>> shown("a\\x1b[31mb")
        'a\ufffd[31mb'
    """
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in text[: width + 1])
    return text if len(text) <= width else f"{text[: width - 3]}..."
