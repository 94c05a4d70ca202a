"""Checks of a bundle config before its workflow runs: mistyped overrides, files without effect."""

from __future__ import annotations

import difflib
import inspect
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

from movl_monai.errors import ConfigError
from movl_monai.runs.overlays import CONFIG_FILES, ConfigSources, check_overlays, find_sources
from movl_monai.runs.verbatim import keep_strings, restore_strings

__all__ = [
    "ENTRY_IDS",
    "KNOWN_IDS",
    "check_ids",
    "check_overrides",
    "find_caller",
    "find_ids",
    "reachable",
    "unreferenced_ids",
]

# ids that a generated config may leave unread; MONAI ignores ids that start with "_"
KNOWN_IDS = "_known_ids_"

# ids that MONAI itself reads: run ids, metadata, and additions of `--tracking`
ENTRY_IDS = {
    *("imports", "initialize", "run", "finalize", "training", "evaluating", "inferring", "bundle_root", "network_def"),
    *("tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0", "prepare_processes"),
}
_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")
_REFERENCE = re.compile(r"[@%](?:#|::)*(\w+)")


def find_ids(node: Any) -> list[str]:
    """Return the top-level ids to which a part of a configuration refers, in order of appearance.

    Example:
        >>> find_ids({"_target_": "f", "width": "@prompt_width", "size": "$[@size, @train::size]"})
        ['prompt_width', 'size', 'train']
    """
    return [name for text in _strings(node) for name in _REFERENCE.findall(text)]


def reachable(config: Mapping[str, Any], start: Iterable[str]) -> set[str]:
    """Return the top-level ids on which some ids depend, including themselves.

    Example:
        >>> sorted(reachable({"a": "@b", "b": "$@c + 1", "c": 1, "d": "@a"}, ["a"]))
        ['a', 'b', 'c']
    """
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in config and name not in found:
            found.add(name)
            waiting += find_ids(config[name])
    return found


def _strings(config: Any) -> Iterator[str]:
    if isinstance(config, str):
        yield config
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from _strings(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _strings(value)


def unreferenced_ids(config: Mapping[str, Any]) -> list[str]:
    """Return the top-level ids to which no other entry refers and which MONAI does not read.

    Args:
        config: a parsed config before its expressions are evaluated.

    Example:
        >>> unreferenced_ids({"run": ["$print(@a)"], "a": 1, "datset_dir": "/data"})
        ['datset_dir']
    """
    used = {name for key, value in config.items() for name in find_ids(value) if name != key}
    return [key for key in config if key not in used and key not in ENTRY_IDS and not key.startswith("_")]


def check_ids(
    config: Mapping[str, Any], *, known: Iterable[str] = (), elsewhere: Mapping[str, str] | None = None
) -> None:
    """Refuse a config with top-level ids that nothing reads.

    Args:
        config: a parsed config before its expressions are evaluated.
        known: ids that may be unread, because the config files define them for other overlays.
        elsewhere: ids of config files that were not chosen, with the file name.

    Raises:
        ConfigError: with these ids and the nearest known id.
    """
    known, elsewhere = set(known), elsewhere or {}
    unknown = [name for name in unreferenced_ids(config) if name not in known]
    if not unknown:
        return
    candidates = sorted((set(config) | known) - set(unknown))
    hints = []
    for name in unknown:
        nearest = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
        hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        if name in elsewhere:
            hint = f" (it is of {elsewhere[name]}: add that file, or leave '{name}' out)"
        hints.append(f"'{name}'{hint}")
    raise ConfigError(
        f"Nothing in the config reads {', '.join(hints)}. Expected the ids of the config files, "
        "each written as `--id value`; correct the name or remove it."
    )


def check_overrides() -> None:
    """Check the config whose expression calls this function, first in ``initialize``: files, ids, strings.

    MONAI accepts any `--name value` and any order of files. Expressions cannot see the whole config, so it is taken
    from the evaluating parser, found among the callers. Ids of a chosen config file are known, even if the chosen
    overlays leave them unread (`prompt_lr` of a linear probe), and so are the config's own :data:`KNOWN_IDS`. Strings
    that the parser changed are restored.

    Raises:
        ConfigError: as :func:`check_ids` and :func:`~movl_monai.runs.overlays.check_overlays`; also if the caller is
            not a bundle config.
    """
    parser, workflow = find_caller(ConfigParser), find_caller(ConfigWorkflow)
    if parser is None:
        raise ConfigError("check_overrides() must be called from an expression in a bundle config.")
    sources, folder = find_sources(), None if workflow is None else workflow.config_root_path
    chosen = _config_files(folder) if sources is None else sources.files
    elsewhere = {name: file.name for file in _config_files(folder) for name in _ids_of(file)}
    config = parser.get()
    known = {name for file in chosen for name in _ids_of(file)} | set(config.get(KNOWN_IDS, ()))
    check_ids(config, known=known, elsewhere=elsewhere)
    if sources is None:
        _check_strings(config)
        return
    read = reachable(config, ENTRY_IDS)
    check_overlays(sources.files, read=read)
    unread = [name for name in sources.overrides if _top_level(name) not in read | ENTRY_IDS]
    if unread:
        _LOGGER.warning("Without effect with these config files: %s.", ", ".join(f"--{name}" for name in unread))
    _check_strings({name: value for name, value in sources.overrides.items() if not isinstance(value, str)})
    _restore(parser, sources)
    parser.get()[CONFIG_FILES] = [file.name for file in sources.files]


def _restore(parser: ConfigParser, sources: ConfigSources) -> None:
    """Restore the original strings of a parser that changed any."""
    raw = ConfigParser()
    raw.read_config([str(file) for file in sources.files])
    raw.update(dict(sources.overrides))
    if any(keep_strings(text) != text for text in _strings(raw.get())):
        parser.set(restore_strings(parser.get(), raw.get()))
        parser.parse(reset=True)


def _check_strings(config: Mapping[str, Any]) -> None:
    for name, value in config.items():
        changed = not name.startswith("_") and [
            text for text in _strings(value) if text[:1] not in "$@%" and "::" in text
        ]
        if changed:
            raise ConfigError(
                f"A value of '{name}' holds '::', which MONAI writes in the place of '#'. Use `movl-monai run`, which "
                "keeps strings as they are written, or pass the value through movl_monai.runs.verbatim()."
            )


def find_caller(kind: type[_T]) -> _T | None:
    """Return the nearest running object of a class among the callers, or None.

    It is the only way from an expression or a `_target_` of a config to the evaluating parser.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if isinstance(owner := frame.f_locals.get("self"), kind):
            return owner
        frame = frame.f_back
    return None


def _config_files(folder: Path | None) -> list[Path]:
    """Return the config files of a folder; metadata.json holds facts about the bundle and no ids of a workflow."""
    files = [] if folder is None else sorted(folder.glob("*.json"))
    return [file for file in files if file.name != "metadata.json"]


def _ids_of(file: Path) -> set[str]:
    return {_top_level(name) for name in ConfigParser.load_config_file(str(file))}


def _top_level(name: str) -> str:
    return re.split("#|::", name.lstrip("+"))[0]
