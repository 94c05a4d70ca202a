"""Measures of the code's structure; `make house` prints them beside the aims."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.language import ROOT

CODE = ("movl_monai", "transforms", "benchmarks")
FIGURES = ("movl_monai/metrics", "movl_monai/report", "movl_monai/evaluation")
LOOSE = re.compile(r"dict\[str, Any\]")
OPENING = re.compile(r"(What|Where|How|Whether|Which)\b")


def main() -> int:
    """Print each measure, its value and its aim as a Markdown table."""
    rows = [
        ("circles of imports", circles(), "0"),
        ("imports upwards", upward(), "0"),
        ("imports of movl_monai inside functions", sum(inner_imports(path) for path in files(*CODE)), "<= 40"),
        ("lines of Python", sum(length(path) for path in files(*CODE)), "<= 45000"),
        ("files of Python", len(files(*CODE)), "<= 280"),
        ("lines of tests", sum(length(path) for path in files("tests")), "<= 32000"),
        ("dict[str, Any] among annotations of figures and reports, %", round(loose_share(files(*FIGURES)), 1), "<= 3"),
        ("docstrings that begin with a question word", openings(files(*CODE)), "0"),
        ("'what' per 1,000 words of docstrings", round(what_rate(files(*CODE)), 2), "<= 1"),
        ("ids of all three train.json with one value, %", round(shared_share(), 1), ""),
        ("ids among them without a source of their own", unsourced(), "0"),
    ]
    print("| measure | now | wanted |\n| --- | ---: | --- |")
    for name, value, aim in rows:
        print(f"| {name} | {value} | {aim} |")
    return 0


def files(*tops: str) -> list[Path]:
    """Return the tracked Python files below folders of the repository."""
    listed = subprocess.run(["git", "ls-files", *tops], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if name.endswith(".py") and (ROOT / name).is_file()]


def length(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def circles() -> int:
    """Return the number of groups of modules that import each other, imports inside functions included."""
    import grimp
    import numpy as np
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    graph = grimp.build_graph("movl_monai", cache_dir=None)
    modules = sorted(graph.modules)
    index = {name: number for number, name in enumerate(modules)}
    pairs = [(index[name], index[used]) for name in modules for used in graph.find_modules_directly_imported_by(name)]
    rows, columns = np.array(pairs).T
    matrix = csr_array((np.ones(len(pairs)), (rows, columns)), shape=(len(modules), len(modules)))
    _, labels = connected_components(matrix, connection="strong")
    return sum(count > 1 for count in Counter(labels.tolist()).values())


def upward() -> int:
    """Return the number of imports that the import contract still excuses."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return len(re.findall(r'^\s*"[\w.*]+ -> [\w.*]+",?$', settings, re.MULTILINE))


def inner_imports(path: Path) -> int:
    """Return the number of imports of the package, relative ones included, inside functions of a module."""
    inner = {
        node
        for function in ast.walk(_tree(path))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
        if (isinstance(node, ast.ImportFrom) and node.level)
        or (isinstance(node, (ast.Import, ast.ImportFrom)) and "movl_monai" in ast.unparse(node))
    }
    return len(inner)


def loose_share(paths: list[Path]) -> float:
    """Return the share of annotations that hold ``dict[str, Any]``, in percent."""
    found = [ast.unparse(annotation) for path in paths for annotation in _annotations(_tree(path))]
    return 100 * sum(bool(LOOSE.search(text)) for text in found) / max(1, len(found))


def openings(paths: list[Path]) -> int:
    """Return the number of docstrings that begin with a question word."""
    return sum(bool(OPENING.match(text)) for path in paths for text in _docstrings(_tree(path)))


def what_rate(paths: list[Path]) -> float:
    """Return the rate of that word per 1,000 words of docstrings."""
    words = [
        word.lower() for path in paths for text in _docstrings(_tree(path)) for word in re.findall(r"[\w'-]+", text)
    ]
    return 1000 * words.count("what") / max(1, len(words))


def shared_share() -> float:
    """Return the share of the top-level ids of a train.json that have the same value in all three, in percent."""
    configs = _train_configs()
    same = _same(configs)
    return 100 * len(same) / (sum(len(config) for config in configs) / len(configs))


def unsourced() -> int:
    """Return the number of ids that are equal in all three train.json and do not stand in the shared source."""
    source = (ROOT / "bundles/_shared/train.json").read_text(encoding="utf-8")
    return sum(f'"{name}"' not in source for name in _same(_train_configs()))


def _train_configs() -> list[dict[str, object]]:
    paths = sorted((ROOT / "bundles").glob("*/configs/train.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _same(configs: list[dict[str, object]]) -> list[str]:
    first, *others = configs
    return [name for name, value in first.items() if all(name in one and one[name] == value for one in others)]


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _docstrings(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns
        elif isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation


if __name__ == "__main__":
    sys.exit(main())
