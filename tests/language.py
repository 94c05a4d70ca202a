"""Counts of hard-to-read English in docstrings; `make language` prints them per folder.

Plain docstrings name the thing or begin with a verb. A folder in `CLEAN` has to meet these rules:

- no docstring begins with a word in `OPENING`,
- the word in `WHAT` occurs at most once per 1,000 words,
- no turn of phrase in `TURNS` occurs.

All other folders together stay within `CEILING`. Lower it when the counts fall, and add a folder to `CLEAN` when it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("movl_monai", "transforms", "benchmarks", "tests")
OPENING = re.compile(r"(What|Where|How|Whether|Which)\b")
WHAT = re.compile(r"\bwhat\b", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*")
TURNS = re.compile(r"\b(likewise|see there|of theirs|of the \w+ of the \w+ of)\b", re.IGNORECASE)

CLEAN: tuple[str, ...] = (
    "benchmarks",
    "benchmarks/readers",
    "movl_monai",
    "movl_monai/adapters",
    "movl_monai/backbones",
    "movl_monai/cli",
    "movl_monai/data",
    "movl_monai/deploy",
    "movl_monai/engines",
    "movl_monai/evaluation",
    "movl_monai/experiments",
    "movl_monai/export",
    "movl_monai/fit",
    "movl_monai/heads",
    "movl_monai/ingest",
    "movl_monai/inspection",
    "movl_monai/losses",
    "movl_monai/metrics",
    "movl_monai/networks",
    "movl_monai/phantom",
    "movl_monai/predict",
    "movl_monai/prompts",
    "movl_monai/readers",
    "movl_monai/report",
    "movl_monai/runs",
    "tests",
    "tests/adapters",
    "tests/backbones",
    "tests/benchmarks",
    "tests/bundles",
    "tests/data",
    "tests/deploy",
    "tests/engines",
    "tests/evaluation",
    "tests/experiments",
    "tests/export",
    "tests/fit",
    "tests/heads",
    "tests/ingest",
    "tests/inspection",
    "tests/losses",
    "tests/metrics",
    "tests/networks",
    "tests/phantom",
    "tests/predict",
    "tests/privacy",
    "tests/prompts",
    "tests/readers",
    "tests/report",
    "tests/runs",
    "tests/transforms",
    "transforms",
    "transforms/corruptions",
)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Number of docstrings, of their words, and of each kind of flaw."""

    docstrings: int = 0
    words: int = 0
    openings: int = 0
    what: int = 0
    turns: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the sums."""
        return Counts(
            docstrings=self.docstrings + other.docstrings,
            words=self.words + other.words,
            openings=self.openings + other.openings,
            what=self.what + other.what,
            turns=self.turns + other.turns,
        )


CEILING = Counts(openings=3, what=24, turns=0)


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each docstring of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield node.body[0].lineno, text


def count(text: str) -> Counts:
    """Count one docstring."""
    return Counts(
        docstrings=1,
        words=len(WORD.findall(text)),
        openings=int(OPENING.match(text) is not None),
        what=len(WHAT.findall(text)),
        turns=len(TURNS.findall(text)),
    )


def folder_of(path: Path) -> str:
    """Return the first two folders of a path that is relative to the checkout."""
    return "/".join(path.parts[:-1][:2])


def files() -> Iterator[Path]:
    """Yield the Python files under `TOPS`, relative to the checkout and sorted."""
    for top in TOPS:
        yield from sorted(path.relative_to(ROOT) for path in (ROOT / top).rglob("*.py"))


@cache
def count_folders() -> dict[str, Counts]:
    """Return the counts of each folder that holds Python files."""
    totals: dict[str, Counts] = {}
    for path in files():
        for _, text in docstrings((ROOT / path).read_text(encoding="utf-8")):
            totals[folder_of(path)] = totals.get(folder_of(path), Counts()) + count(text)
    return totals


def flaws(folder: str) -> list[str]:
    """Return `path:line: flaw` for each flaw in a folder."""
    found = []
    for path in files():
        if folder_of(path) == folder:
            for line, text in docstrings((ROOT / path).read_text(encoding="utf-8")):
                marks = [match.group(1) for match in [OPENING.match(text)] if match]
                marks += WHAT.findall(text) + [match.group() for match in TURNS.finditer(text)]
                found += [f"{path}:{line}: {', '.join(marks)}"] if marks else []
    return found


def is_clean(counts: Counts) -> bool:
    """Return whether a folder may be listed in `CLEAN`."""
    return not counts.openings and not counts.turns and counts.what * 1000 <= counts.words


def rest(totals: dict[str, Counts]) -> Counts:
    """Return the sum over all folders that are not in `CLEAN`."""
    return sum((counts for folder, counts in totals.items() if folder not in CLEAN), Counts())


def main() -> None:
    """Print a table of the counts per folder; `*` marks the folders in `CLEAN`, `+` those that could be."""
    totals = count_folders()
    print(f"{'folder':32}{'docstrings':>11}{'words':>8}{'openings':>10}{'what':>6}{'turns':>7}")
    for folder, counts in [*sorted(totals.items()), ("not clean", rest(totals))]:
        mark = "*" if folder in CLEAN else "+" if is_clean(counts) else " "
        print(
            f"{mark} {folder:30}" + "".join(f"{n:{w}}" for n, w in zip(astuple(counts), (11, 8, 10, 6, 7), strict=True))
        )


if __name__ == "__main__":
    main()
