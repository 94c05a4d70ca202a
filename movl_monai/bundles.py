"""Bundles that come with the package: find, list and copy them."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from movl_monai.errors import ConfigError

__all__ = [
    "OVERLAY_KINDS",
    "BundleFacts",
    "Manual",
    "bundles_folder",
    "copy_bundle",
    "find_bundle",
    "find_overlays",
    "installed_bundles",
    "list_overlays",
    "read_manual",
]

OVERLAY_KINDS = ("data", "task", "unit", "backbone", "model", "adapter", "prompt", "head", "strategy", "sampling")
"""Kinds of overlays with an option of their own, in merge order: `backbone_resnet50.json` is `--backbone resnet50`."""

_WORKFLOWS = {"train", "evaluate", "inference", "metadata"}
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


@dataclass(frozen=True, kw_only=True)
class Manual:
    """Lines on the settings and overlays of a bundle, from its `docs/manual.json`; empty if it has none.

    Args:
        settings: by group, the line of each id.
        defaults: text of defaults that are no plain values; for a kind of overlay, the name of the bundle's own choice.
        overlays: line of each overlay, by the name of its file without suffix.
    """

    settings: Mapping[str, Mapping[str, str]]
    defaults: Mapping[str, str]
    overlays: Mapping[str, str]


def read_manual(bundle: Path) -> Manual:
    """Read the manual of a bundle."""
    file = bundle / "docs" / "manual.json"
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return Manual(**{name: content.get(name, {}) for name in ("settings", "defaults", "overlays")})


def list_overlays(bundle: Path) -> dict[str, Path]:
    """Return the overlays of a bundle by the names of their files, without suffix."""
    return {path.stem: path for path in sorted((bundle / "configs").glob("*.json")) if path.stem not in _WORKFLOWS}


def find_overlays(bundle: Path, names: Mapping[str, Sequence[str]]) -> list[Path]:
    """Return the files of overlays in merge order: by :data:`OVERLAY_KINDS`, then all others as given.

    Args:
        bundle: its folder.
        names: names by kind, such as ``{"strategy": ["joint"]}``, or whole names or paths under ``"overlay"``. The
            name of the bundle's own choice of a kind stands for no file.

    Raises:
        ConfigError: for a name that the bundle does not have.
    """
    found = [path for kind, each in names.items() for name in each if (path := _find_overlay(bundle, kind, name))]
    places = {kind: place for place, kind in enumerate(OVERLAY_KINDS)}
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda path: places.get(path.stem.partition("_")[0], len(places)))


def _find_overlay(bundle: Path, kind: str, name: str) -> Path | None:
    if name.endswith(".json") and Path(name).is_file():
        return Path(name)
    known = list_overlays(bundle)
    plain = name.removesuffix(".json").replace("-", "_")
    prefix = "" if kind == "overlay" else f"{kind}_"
    choices = [f"{prefix}{plain}", plain]
    if path := next((known[choice] for choice in choices if choice in known and choice.startswith(prefix)), None):
        return path
    own = read_manual(bundle).defaults.get(kind)
    if own == plain:
        return None
    names = [stem.removeprefix(prefix) for stem in known if stem.startswith(prefix)]
    names += [own] if own and kind in OVERLAY_KINDS else []
    close = difflib.get_close_matches(plain, names, n=1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    others = [facts.name for facts in installed_bundles() if f"{prefix}{plain}" in list_overlays(facts.folder)]
    hint += f"; {others[0]} has it" if others and not close else ""
    expected = f"Expected one of {', '.join(sorted(names))}" if names else f"Leave `--{kind}` out, or use that bundle"
    raise ConfigError(f"There is no {kind} '{name}' in the bundle {bundle.name}{hint}. {expected}.")


def _left_out(folder: str, names: list[str]) -> list[str]:
    trained = [name for name in names if name != ".gitignore"] if Path(folder).name == "models" else []
    return [*trained, *(name for name in names if name == "__pycache__")]


def _read_facts(folder: Path) -> BundleFacts:
    metadata = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    return BundleFacts(
        name=folder.name, version=metadata["version"], description=metadata["description"], folder=folder
    )
