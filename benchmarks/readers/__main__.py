"""`python -m benchmarks.readers`: count the files that our reader and MONAI's two read correctly."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .judge import Verdict, judge
from .process import ReaderProcess
from .synthetic import write_failure_files
from .table import RULE, format_results
from .truth import Truth, dcmtk_version, truth_of

__all__ = ["compare_readers", "main"]

_VERSIONS = ("pydicom", "monai", "itk", "SimpleITK", "pylibjpeg-openjpeg", "pyjpegls", "pillow", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if our own reader gave a wrong image or crashed.
    """
    options = _parser().parse_args(arguments)
    readers = ["movl_monai"] if options.ours else ["movl_monai", *_monais()]
    with tempfile.TemporaryDirectory() as folder:
        results = compare_readers(_file_sets(options, Path(folder)), readers, seconds=options.seconds, progress=True)
    text = f"{_provenance()}\n\n{RULE}\n\n{format_results(results)}\n"
    print(text)
    if options.output is not None:
        options.output.write_text(f"# Files read right, by our reader and MONAI's\n\n{text}", encoding="utf-8")
    ours = [verdict.outcome for found in results.values() for _, verdict in found["movl_monai"]]
    return int("wrong" in ours or "crashed" in ours)


def compare_readers(
    sets: Mapping[str, Mapping[Path, Truth | None]], readers: Sequence[str], *, seconds: float, progress: bool = False
) -> dict[str, dict[str, list[tuple[Truth, Verdict]]]]:
    """Let every reader read every file, each in a separate process, and judge the results.

    Args:
        sets: file set -> path -> truth, None to determine it.
        readers: names of :data:`~benchmarks.readers.worker.READERS`.
        seconds: time limit for one file.
        progress: whether to print the progress.

    Returns:
        File set -> reader -> truth and verdict, in the order of the files.
    """
    truths = {
        name: {path: truth_of(path) if known is None else known for path, known in files.items()}
        for name, files in sets.items()
    }
    found: dict[str, dict[str, list[tuple[Truth, Verdict]]]] = {name: {} for name in sets}
    for reader in readers:
        with ReaderProcess(reader, seconds=seconds) as process:
            for name, files in truths.items():
                if progress:
                    print(f"==> {reader}: {name}, {len(files)} files", flush=True)
                found[name][reader] = [
                    (truth, judge(truth, process.read(path, truth.frames))) for path, truth in files.items()
                ]
    return found


def _file_sets(options: argparse.Namespace, folder: Path) -> dict[str, dict[Path, Truth | None]]:
    sets: dict[str, dict[Path, Truth | None]] = {}
    sets["pydicom, shipped"] = dict.fromkeys(_files("pydicom.data", ("charset_files", "palettes", "test_files")))
    if options.pydicom_data:
        sets["pydicom-data"] = dict.fromkeys(_files("data_store", ("data",)))
    sets["synthetic failure classes"] = dict(write_failure_files(folder))
    for path in options.folder:
        if not path.is_dir():
            raise SystemExit(f"Expected a folder of DICOM files, got {path}.")
        sets[path.name] = dict.fromkeys(sorted(file for file in path.rglob("*.dcm") if file.is_file()))
    return sets


def _files(package: str, folders: Sequence[str]) -> list[Path]:
    """Return the files in the data folders of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"Expected the package {package} to be installed; pip install pydicom-data.")
    home = Path(spec.origin).parent
    return sorted(
        path
        for folder in folders
        for path in (home / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    )


def _monais() -> list[str]:
    if importlib.util.find_spec("itk") is None:
        print("itk is not installed: MONAI's ITKReader is left out; pip install 'movl-monai[bench]'.")
        return ["PydicomReader"]
    return ["ITKReader", "PydicomReader"]


def _provenance() -> str:
    versions = [f"python {platform.python_version()}", f"dcmtk {dcmtk_version()}"]
    for name in _VERSIONS:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return "Versions: " + ", ".join(versions) + "."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readers",
        description="Read DICOM files with our reader and MONAI's two, and count what is right beside dcmtk.",
    )
    parser.add_argument("folder", nargs="*", type=Path, help="more folders, of which all *.dcm files are read")
    parser.add_argument("--pydicom-data", action="store_true", help="also the files of the package pydicom-data")
    parser.add_argument("--ours", action="store_true", help="only our own reader")
    parser.add_argument("--seconds", type=float, default=30, help="time limit for one file (default: 30)")
    parser.add_argument("--output", type=Path, help="also write the result here, as Markdown")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
