"""Check that every config file of a workflow has an effect: later files silently replace values of earlier ones."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError
from movl_monai.id_values import parse_overrides
from movl_monai.runs.config_files import read_config

__all__ = ["CONFIG_FILES", "ConfigSources", "check_base_first", "check_overlays", "find_sources", "own_ids"]

_LOGGER = logging.getLogger(__name__)

# names of the source files of a config; MONAI ignores ids that start with "_"
CONFIG_FILES = "_config_files_"
# defined only by the file of a workflow: train.json, inference.json
_BASE_ID = "bundle_root"


@dataclass(frozen=True, kw_only=True)
class ConfigSources:
    """Sources of a merged config, in merge order.

    Args:
        files: paths of the config files.
        overrides: further ids and values.
    """

    files: list[Path]
    overrides: Mapping[str, Any]


def find_sources() -> ConfigSources | None:
    """Return the sources of the workflow that is being initialized; None if no runner of MONAI made it.

    A workflow keeps neither its files nor its overrides, but the function that creates it is still on the stack.
    """
    from monai.bundle import ConfigWorkflow
    from monai.bundle.scripts import create_workflow
    from monai.utils import ensure_tuple

    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not create_workflow.__code__:
        frame = frame.f_back
    files = None if frame is None else frame.f_locals.get("config_file")
    if frame is None or not files:
        return None
    own = inspect.signature(ConfigWorkflow.__init__).parameters
    overrides = {name: value for name, value in frame.f_locals["_args"].items() if name not in own}
    return ConfigSources(
        files=[Path(file) for file in ensure_tuple(files)], overrides={**overrides, **_typed(overrides)}
    )


def _typed(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with a `#` in their typed form: `python -m monai.bundle` reads a `#` as a comment."""
    typed: dict[str, Any] = {}
    for word, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, equals, text = word.removeprefix("--").partition("=")
        text = text if equals else value
        if word.startswith("--") and "#" in text and not text.startswith(("$", "@", "%")):
            typed |= parse_overrides([f"--{name}={text}"])
    return {name: value for name, value in typed.items() if name in overrides and not _is_kept(overrides[name])}


def _is_kept(value: Any) -> bool:
    """Return True if `movl-monai run` has already made an expression of a string."""
    return isinstance(value, str) and value.startswith("$")


def own_ids(content: Mapping[str, Any]) -> list[str]:
    """Return the ids that a config file sets, in MONAI's spelling; an appended list sets its id as a whole.

    Example:
        >>> own_ids({"+initialize": ["$f()"], "train#dataset": "$g()", "+backbone": {"name": "vit"}})
        ['+initialize', 'train::dataset', 'backbone::name']
    """
    ids: list[str] = []
    for name, value in content.items():
        name = name.replace("#", "::")
        merged = name.startswith("+") and isinstance(value, Mapping)
        ids += [f"{name[1:]}::{part}" for part in value] if merged else [name]
    return ids


def check_overlays(files: Sequence[Path], *, read: set[str], replaceable: Collection[Path] = ()) -> None:
    """Refuse an order of config files in which one has no effect; log replaced values.

    Args:
        files: in merge order.
        read: top-level ids that the merged config reads.
        replaceable: files that may be without effect, such as a backbone for all arms of a comparison, which an arm
            with a network of its own replaces.

    Raises:
        ConfigError: if a workflow's own file follows another file, or no value of an overlay remains.
    """
    contents = [(file.name, read_config(file)) for file in files]
    check_base_first(contents)
    for place, (name, content) in enumerate(contents):
        if _BASE_ID in content or files[place] in replaceable:
            continue
        later = contents[place + 1 :]
        replaced = {own: by for own in own_ids(content) if (by := _replaced_by(own, later))}
        survives = [own for own in own_ids(content) if own not in replaced and _top(own) in read]
        if not survives and not any(content == other for _, other in later):
            raise ConfigError(_no_value_survives(name, content, replaced))
        changed = {own: by for own, by in replaced.items() if not _is_set_equally(own, content, later)}
        if changed:
            listed = ", ".join(f"{own} (by {by})" for own, by in changed.items())
            _LOGGER.warning("Later config files replace values of %s: %s.", name, listed)


def check_base_first(contents: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Refuse config files, given with their names, of which the workflow's own is not the first and only one.

    Raises:
        ConfigError: with the right order.
    """
    if not any(_BASE_ID in content for _, content in contents) and any(
        "#" in own or "::" in own for _, content in contents for own in content
    ):
        raise ConfigError(
            f"{contents[0][0]} is an overlay, which changes a part of a workflow. Give the workflow's own file before "
            f"it: `--config_file train.json {contents[0][0]}`, each with its folder."
        )
    bases = [name for name, content in contents[1:] if _BASE_ID in content]
    if not bases:
        return
    names = [name for name, _ in contents]
    if _BASE_ID in contents[0][1]:
        raise ConfigError(
            f"{names[0]} and {bases[0]} are two workflows, and the later one would replace the earlier. "
            f"Give one of them as `--config_file`, with its overlays after it."
        )
    right = [bases[0], *(name for name in names if name != bases[0])]
    raise ConfigError(
        f"{bases[0]} must be the first config file: here it follows {names[0]} and would replace its values. Later "
        f'files count; write `--config_file {" ".join(right)}` (for python -m monai.bundle: "{right!r}"), each with '
        "its folder."
    )


def _no_value_survives(name: str, content: Mapping[str, Any], replaced: Mapping[str, str]) -> str:
    unread = [own for own in own_ids(content) if own not in replaced]
    reasons = [f"{own} is replaced by {by}" for own, by in replaced.items()]
    reasons += [f"nothing reads {own.lstrip('+')}" for own in unread]
    advice = "Later files count: leave it out, or give it after the file that replaces it."
    if not replaced and content:
        advice = "It seems to be of another bundle or workflow: leave it out, or give the files of its bundle."
    return f"The config file {name} changes nothing: {'; '.join(reasons) or 'it is empty'}. {advice}"


def _replaced_by(own: str, later: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
    """Return the last of the later files that sets an id or one of its parents."""
    name = own.lstrip("+")
    setters = [
        file
        for file, content in later
        if any(name == part or name.startswith(f"{part}::") for part in _set_ids(content))
    ]
    return setters[-1] if setters else None


def _is_set_equally(own: str, content: Mapping[str, Any], later: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Tell whether every later file that sets an id gives it the same value."""
    plain = {name.replace("#", "::"): value for name, value in content.items()}
    others = [{name.replace("#", "::"): value for name, value in other.items()} for _, other in later]
    setters = [other for other in others if _replaced_by(own, [("", other)]) is not None]
    return own in plain and all(own in other and other[own] == plain[own] for other in setters)


def _set_ids(content: Mapping[str, Any]) -> Iterator[str]:
    return (name for name in own_ids(content) if not name.startswith("+"))


def _top(name: str) -> str:
    return name.lstrip("+").split("::")[0]
