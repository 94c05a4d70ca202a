"""Run the examples cell by cell; `make examples` records their output, which their pages show."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples"
SEPARATOR = "# %%\n"
_LOG = re.compile(r".* - INFO - .*\n")  # MONAI's loggers write to standard output
_NUMBER = re.compile(r"\d[\d.e-]*|nan")


def names() -> list[str]:
    """The examples; a module without a recorded output helps the others."""
    return sorted(path.stem for path in (FOLDER / "outputs").glob("*.txt"))


def run(name: str, folder: Path) -> list[str]:
    """Run an example in a working folder, and return the output of each code cell."""
    cells = jupytext.read(FOLDER / f"{name}.py", fmt="py:percent").cells
    space: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    with _at(folder):
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(cell.source, f"{name}.py", "exec"), space)
            outputs.append(_LOG.sub("", printed.getvalue()))
    return outputs


def recorded(name: str) -> list[str]:
    """Return the recorded output of each code cell."""
    return (FOLDER / "outputs" / f"{name}.txt").read_text(encoding="utf-8").split(SEPARATOR)[1:]


def words(outputs: list[str]) -> list[list[str]]:
    """Return outputs without widths and numbers, which differ in their last digits from machine to machine."""
    return [_NUMBER.sub("0", output).split() for output in outputs]


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))
        os.chdir(before)


def main() -> None:
    """Run the named examples, or all, and record their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or names():
            text = "".join(SEPARATOR + output for output in run(name, Path(folder)))
            (FOLDER / "outputs" / f"{name}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
