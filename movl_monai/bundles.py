"""Bundles that come with the package: find, list and copy them."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from movl_monai.errors import ConfigError

__all__ = ["BundleFacts", "bundles_folder", "copy_bundle", "find_bundle", "installed_bundles"]

_PACKAGE = Path(__file__).resolve().parent
_METADATA = Path("configs") / "metadata.json"


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """Installed bundle.

    Args:
        name: of its folder, as the commands take it.
        version: of the bundle.
        description: from its metadata.
        folder: where it is.
    """

    name: str
    version: str
    description: str
    folder: Path


def bundles_folder() -> Path:
    """Return the folder of the bundles: inside the installed package, or beside it in a checkout."""
    installed = _PACKAGE / "bundled"
    return installed if installed.is_dir() else _PACKAGE.parent / "bundles"


def installed_bundles() -> list[BundleFacts]:
    """Return the bundles that come with the package, by name."""
    return [_read_facts(path.parents[1]) for path in sorted(bundles_folder().glob(f"*/{_METADATA}"))]


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_path: name of a bundle that comes with the package, with hyphens or underscores, or path of any bundle.
            A name counts before a folder of that name; write ``./NAME`` for the folder.

    Raises:
        ConfigError: if it is neither; the message names the bundles there are.
    """
    text = os.fspath(name_or_path)
    folder = bundles_folder() / text.replace("-", "_")
    if Path(text).name == text and (folder / _METADATA).is_file():
        return folder
    if (Path(text) / _METADATA).is_file():
        return Path(text)
    names = [facts.name for facts in installed_bundles()]
    close = difflib.get_close_matches(text.replace("-", "_"), names, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    found = (
        f"The folder '{text}' has no {_METADATA.as_posix()}" if Path(text).is_dir() else f"There is no bundle '{text}'"
    )
    raise ConfigError(f"{found}{hint}. Expected one of {', '.join(names)}, or the folder of a bundle.")


def copy_bundle(name_or_path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Copy a bundle for editing, without what was trained in it.

    Args:
        name_or_path: as in :func:`find_bundle`.
        folder: the copy, which must not exist or be empty.

    Raises:
        ConfigError: if there is no such bundle, or the folder holds something or cannot be written.
    """
    source, target = find_bundle(name_or_path), Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise ConfigError(f"'{target}' must be a new or empty folder for the copy of the bundle; name another one.")
    try:
        shutil.copytree(source, target, ignore=_left_out, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise ConfigError(f"'{target}' cannot be written ({type(error).__name__}); name another folder.") from error
    return target


def _left_out(folder: str, names: list[str]) -> list[str]:
    trained = [name for name in names if name != ".gitignore"] if Path(folder).name == "models" else []
    return [*trained, *(name for name in names if name == "__pycache__")]


def _read_facts(folder: Path) -> BundleFacts:
    metadata = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    return BundleFacts(
        name=folder.name, version=metadata["version"], description=metadata["description"], folder=folder
    )
