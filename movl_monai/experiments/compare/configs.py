"""Configurations as dictionaries, read once, so that later edits of files have no effect on a comparison."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from movl_monai.runs.keep_record import CONFIG_ROOT
from movl_monai.runs.overlays import CONFIG_FILES, check_overlays
from movl_monai.runs.overrides import ENTRY_IDS, find_ids, reachable
from movl_monai.runs.verbatim import keep_strings

__all__ = ["find_ids", "fits", "make_parser", "reachable", "read_config", "top_level"]

_SEPARATOR = re.compile("#|::")
# their output during training would clutter many runs
_DROPPED = ("StatsHandler", "TensorBoardStatsHandler")


def read_config(files: Sequence[Path], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge config files and overrides, as a MONAI workflow does, without evaluating anything.

    Files without effect are refused. Handlers that only show or log are left out, and so is the check of overrides: a
    comparison replaces ids by objects, after which the check would report unread ids.
    :func:`movl_monai.experiments.compare.setup.set_up` checks instead.
    """
    parser = ConfigParser()
    parser.read_config([str(path) for path in files])
    metadata = files[0].parent / "metadata.json"
    if metadata.is_file():
        parser.read_meta(str(metadata))
    parser.update(dict(overrides))
    config = dict(parser.get())
    for section in ("train", "validate"):
        handlers = config.get(section, {}).get("handlers")
        if isinstance(handlers, list):
            config[section]["handlers"] = [entry for entry in handlers if not _is_a(entry, *_DROPPED)]
    check_overlays(files, read=reachable(config, ENTRY_IDS))
    config[CONFIG_ROOT], config[CONFIG_FILES] = str(files[0].parent), [path.name for path in files]
    config["initialize"] = [entry for entry in config.get("initialize", []) if "check_overrides" not in entry]
    return config


def make_parser(
    config: Mapping[str, Any], overrides: Mapping[str, Any], *, progress: bool = False, **objects: Any
) -> ConfigParser:
    """Return a parser of a copy of a configuration, ready to instantiate.

    Args:
        config: from :func:`read_config`.
        overrides: ids and their values.
        progress: show the progress bars of feature extraction.
        objects: ids whose definition is replaced by an object, such as decoded images; MONAI passes objects on
            unchanged.
    """
    parser = ConfigParser(keep_strings(copy.deepcopy(dict(config))))
    parser.update(keep_strings({**overrides, **objects}))
    for section in ("train", "validate"):
        features = parser.get().get(section, {}).get("features")
        if _is_a(features, "FeatureSet"):
            features["progress"] = progress
    parser.parse(reset=True)
    return parser


def top_level(name: str) -> str:
    """Return the top-level id of a possibly nested one.

    Example:
        >>> top_level("prompt#width")
        'prompt'
    """
    return _SEPARATOR.split(name)[0]


def fits(config: Mapping[str, Any], name: str) -> bool:
    """Return True if a configuration has an id, or for a nested id its parent dictionary.

    Example:
        >>> fits({"prompt": {"width": 3}}, "prompt#seed"), fits({"prompt": None}, "prompt#seed"), fits({}, "epochs")
        (True, False, False)
    """
    *parents, last = _SEPARATOR.split(name)
    node: Any = config
    for part in parents:
        node = node.get(part) if isinstance(node, Mapping) else None
    return isinstance(node, Mapping) and (bool(parents) or last in node)


def _is_a(node: Any, *names: str) -> bool:
    return isinstance(node, Mapping) and str(node.get("_target_", "")).rsplit(".", 1)[-1] in names
