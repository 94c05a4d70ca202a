"""Inspect a path: one file, the folder of a run, or a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .configs import find_aliases, find_weights
from .files import CONFIG_SUFFIXES, file_sha256, inspect_file, read_config
from .findings import FileReport, InspectionError, Report
from .grammar import Aliases

__all__ = ["inspect_path"]

_MOST_FILES = 20_000
# folders of a run with results and data, which no command reads as a config
_RESULTS = {"evaluation", "inference", "ingest", "local", "tensorboard", "mlruns"}
_LICENCES = ("LICENSE", "docs/data_license.txt")
_LARGEST_HASHED = 2**36


def inspect_path(path: str | os.PathLike[str]) -> Report:
    """Inspect a config, run record, checkpoint, exported file, the folder of a run, or a bundle.

    Raises:
        InspectionError: if the path does not exist, is a folder that is neither a run nor a bundle, or a file of an
            unknown kind.
    """
    path = Path(path)
    if path.is_dir():
        return _inspect_folder(path)
    if not path.exists():
        raise InspectionError(
            f"There is nothing at {path}. Expected a config, run.json, a checkpoint, an exported file, the output_dir "
            "of a training, or the folder of a bundle."
        )
    file = inspect_file(path, aliases=_aliases_beside(path))
    if file.kind == "other":
        raise InspectionError(
            f"{path.name} is of no kind that can be inspected. Expected a config (.json, .yaml), logging.conf, a "
            "checkpoint (.pt, .pth), .safetensors, an exported file (.onnx, .ts, .pt2), or a folder."
        )
    _check_hashes(path.parent, [(path, file)])
    return Report(name=path.name, kind="file", files=[file])


def _inspect_folder(folder: Path) -> Report:
    bundle = (folder / "configs").is_dir()
    run = any((folder / place).is_file() for place in ("run.json", "models/run.json", "models/model.pt"))
    if not bundle and not run:
        raise InspectionError(
            f"{folder.name} is neither a bundle nor a run: expected a folder `configs`, or `models/run.json`. Give the "
            "file itself to inspect one file."
        )
    paths = list(_files(folder))
    aliases = _aliases_of([path for path in paths if _is_config(folder, path)])
    inspected = [(path, _inspect(folder, path, aliases)) for path in paths[:_MOST_FILES]]
    files = [report for _, report in inspected]
    _check_hashes(folder, inspected)
    if bundle:
        files += [_missing(name) for name in _LICENCES if not (folder / name).is_file()]
    if len(paths) > _MOST_FILES:
        more = FileReport(name="", kind="folder")
        more.add("limit", f"There are more than {_MOST_FILES} files; the rest was not looked into.")
        files.append(more)
    return Report(name=folder.resolve().name, kind="bundle" if bundle else "run", files=files)


def _missing(name: str) -> FileReport:
    report = FileReport(name=name, kind="licence")
    report.add("licence", f"There is no {name}: it is not known what the bundle may be used for.")
    return report


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files and links below a folder in order; links to folders are not followed."""
    count = 0
    for parent, folders, names in os.walk(folder, followlinks=False):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = sorted(set(folders) - set(links) - {"__pycache__", ".git"})
        for name in sorted([*names, *links]):
            yield Path(parent, name)
            count += 1
            if count > _MOST_FILES:
                return


def _is_config(folder: Path, path: Path) -> bool:
    results = path.relative_to(folder).parts[0] in _RESULTS and not (folder / "configs").is_dir()
    return path.suffix.lower() in CONFIG_SUFFIXES and path.is_file() and not path.is_symlink() and not results


def _inspect(folder: Path, path: Path, aliases: Aliases) -> FileReport:
    name = path.relative_to(folder).as_posix()
    if path.is_symlink():
        return _inspect_link(folder, path, name, aliases)
    if path.suffix.lower() in CONFIG_SUFFIXES and not _is_config(folder, path):
        return FileReport(name=name, kind="result", size=path.stat().st_size, sha256=file_sha256(path))
    try:
        return inspect_file(path, name=name, aliases=aliases)
    except InspectionError as error:
        report = FileReport(name=name, kind="other")
        report.add("damaged", str(error))
        return report


def _inspect_link(folder: Path, path: Path, name: str, aliases: Aliases) -> FileReport:
    report = FileReport(name=name, kind="link")
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        report.add("link", "The link leads nowhere.")
        return report
    if not target.is_relative_to(folder.resolve()):
        report.add("link", "The link leads out of the folder.")
        return report
    return inspect_file(path, name=name, aliases=aliases) if target.is_file() else report


def _aliases_beside(path: Path) -> Aliases:
    """Return the modules imported by the other configs in the folder of a config, as an overlay depends on them."""
    if path.suffix.lower() not in CONFIG_SUFFIXES:
        return {}
    try:
        beside = sorted(other for other in path.parent.iterdir() if other.suffix.lower() in CONFIG_SUFFIXES)[:100]
    except OSError:
        return {}
    return _aliases_of([other for other in beside if other.is_file()])


def _aliases_of(paths: list[Path]) -> Aliases:
    return find_aliases(_read_all(paths))


def _read_all(paths: list[Path]) -> Iterator[Any]:
    for path in paths:
        try:
            yield read_config(path)
        except OSError:
            continue


def _check_hashes(folder: Path, inspected: list[tuple[Path, FileReport]]) -> None:
    """Compare the SHA-256 that configs declare with the files that they name, if these exist."""
    for path, report in inspected:
        if report.kind not in ("config", "run record"):
            continue
        config = read_config(path)
        declared = [(one.place, one.path, one.sha256) for one in find_weights(config) if one.sha256]
        for place, name, sha256 in [*declared, *_large_files(config)]:
            places = (folder / name, path.parent / name, Path(name).expanduser())
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                report.notes.append(f"not there, so its hash was not checked: {os.path.basename(name)}")
            elif found.stat().st_size > _LARGEST_HASHED or file_sha256(found) != sha256.lower():
                report.add("hash", f"{os.path.basename(name)} has another SHA-256 than is declared.", place)
            else:
                report.notes.append(f"SHA-256 as declared: {os.path.basename(name)}")


def _large_files(config: Any) -> list[tuple[str, str, str]]:
    """Return place, path and SHA-256 of the files that MONAI downloads for a bundle (`large_files.yml`)."""
    entries = config.get("large_files") if isinstance(config, dict) else None
    return [
        (f"large_files::{number}", str(entry.get("path", "")), str(entry.get("hash_val", "")))
        for number, entry in enumerate(entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and entry.get("hash_type") == "sha256"
    ]
