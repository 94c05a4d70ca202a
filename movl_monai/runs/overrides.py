"""Checks of a bundle config before its workflow runs: mistyped overrides, files without effect."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from movl_monai.errors import ConfigError, show_user_errors
from movl_monai.runs.config_files import merge_configs, read_config
from movl_monai.runs.overlays import CONFIG_FILES, ConfigSources, check_overlays, find_sources
from movl_monai.runs.settings import check_effects, check_together, check_values
from movl_monai.runs.verbatim import keep_strings, restore_strings

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

__all__ = [
    "ENTRY_IDS",
    "KNOWN_IDS",
    "RUN_IDS",
    "check_config",
    "check_ids",
    "check_overrides",
    "check_run_id",
    "find_caller",
    "find_ids",
    "reachable",
    "unreferenced_ids",
]

# ids that a generated config may leave unread; MONAI ignores ids that start with "_"
KNOWN_IDS = "_known_ids_"

RUN_IDS = {"training": "train.json", "evaluating": "evaluate.json", "inferring": "inference.json"}
"""Run ids of the bundles, with the config file that has each."""

# ids that MONAI itself reads: run ids, metadata, and additions of `--tracking`
ENTRY_IDS = {
    *("imports", "initialize", "run", "finalize", *RUN_IDS, "bundle_root", "network_def"),
    *("tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0", "prepare_processes"),
}
_T = TypeVar("_T")
_REFERENCE = re.compile(r"[@%](?:#|::)*(\w+)")
_LEARNING_RATE = ("lr", "learning_rate", "learningrate")  # every trained part has one of its own


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
        hint = _suggestion(name, candidates)
        if name in elsewhere:
            hint = f" (it is of {elsewhere[name]}: add that file, or leave '{name}' out)"
        hints.append(f"'{name}'{hint}")
    raise ConfigError(
        f"Nothing in the config reads {', '.join(hints)}. Expected the ids of the config files, "
        "each written as `--id value`; correct the name or remove it."
    )


def _suggestion(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean ...?)" with the nearest known ids, or "".

    Example:
        >>> _suggestion("learning_rate", ["head_lr", "nifti_range", "prompt_lr"])
        " (did you mean 'head_lr' or 'prompt_lr'?)"
    """
    rates = [one for one in known if one.endswith("_lr")] if name.lower() in _LEARNING_RATE else []
    found = rates or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {' or '.join(map(repr, found))}?)" if found else ""


def check_config(
    config: Mapping[str, Any], files: Sequence[Path], overrides: Mapping[str, Any], *, folder: Path | None = None
) -> None:
    """Check a merged config and its overrides: order of the files, ids, values, settings without effect.

    Ids of a chosen config file are known, even if the chosen overlays leave them unread (`prompt_lr` of a linear
    probe), and so are the config's own :data:`KNOWN_IDS`.

    Args:
        config: of the files and the overrides, before its expressions are evaluated.
        files: config files in merge order.
        overrides: ids and their values.
        folder: of the config files that were not chosen, default that of the first file.

    Raises:
        ConfigError: for an id that nothing reads, a value of another kind than that of the config files, an override
            without effect, or as :func:`~movl_monai.runs.overlays.check_overlays`.
    """
    elsewhere = {name: file.name for file in _config_files(folder or files[0].parent) for name in _ids_of(file)}
    known = {name for file in files for name in _ids_of(file)} | set(config.get(KNOWN_IDS, ()))
    check_ids(config, known=known, elsewhere=elsewhere)
    read = reachable(config, ENTRY_IDS)
    check_overlays(files, read=read)
    check_values(merge_configs([(file.name, read_config(file)) for file in files]), overrides)
    check_effects(config, overrides)
    check_together({name: value for name, value in config.items() if name in read})
    unread = [name for name in overrides if _top_level(name) not in read | ENTRY_IDS]
    if unread:
        named = ", ".join(f"`--{name}`" for name in unread)
        raise ConfigError(
            f"{named} would have no effect with these config files: nothing that runs reads it. Leave it out, or "
            "choose the overlay that reads it."
        )


def check_overrides() -> None:
    """Check the config whose expression calls this function, first in ``initialize``: files, run id, ids, values.

    MONAI accepts any `--name value` and any order of files. Expressions cannot see the whole config, so it is taken
    from the evaluating parser, found among the callers. Strings that the parser changed are restored. In
    `python -m monai.bundle`, errors of the user end in one paragraph from here on.

    Raises:
        ConfigError: as :func:`check_config`; also if the caller is not a bundle config, or has not the run id.
    """
    from monai.bundle import ConfigParser, ConfigWorkflow

    show_user_errors()
    parser, workflow = find_caller(ConfigParser), find_caller(ConfigWorkflow)
    if parser is None:
        raise ConfigError("check_overrides() must be called from an expression in a bundle config.")
    config = parser.get()
    if workflow is not None:
        check_run_id(config, workflow.run_id)
    sources, folder = find_sources(), None if workflow is None else workflow.config_root_path
    if sources is None:
        files = _config_files(folder)
        known = {name for file in files for name in _ids_of(file)} | set(config.get(KNOWN_IDS, ()))
        check_ids(config, known=known)
        _check_strings(config)
        return
    check_config(config, sources.files, sources.overrides, folder=folder)
    _check_strings({name: value for name, value in sources.overrides.items() if not isinstance(value, str)})
    _restore(parser, sources)
    parser.get()[CONFIG_FILES] = [file.name for file in sources.files]


def check_run_id(config: Mapping[str, Any], run_id: str) -> None:
    """Refuse a run id that a config does not have.

    Raises:
        ConfigError: with those that it has, and the nearest of them.
    """
    if run_id in config:
        return
    there = [name for name in RUN_IDS if name in config]
    nearest = difflib.get_close_matches(run_id, there, n=1, cutoff=0.5)
    hint = f" (did you mean '{nearest[0]}'?)" if nearest else ""
    missing = [name for name in RUN_IDS if name == run_id]
    hint = f"; it is of {RUN_IDS[run_id]}: add that file" if missing else hint
    raise ConfigError(
        f"The config files have no run id '{run_id}'{hint}. Expected {' or '.join(there) or 'those of a bundle'}."
    )


def _restore(parser: ConfigParser, sources: ConfigSources) -> None:
    """Restore the original strings of a parser that changed any."""
    from monai.bundle import ConfigParser

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
    return {_top_level(name) for name in read_config(file)}


def _top_level(name: str) -> str:
    return re.split("#|::", name.lstrip("+"))[0]
