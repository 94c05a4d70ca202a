"""From an arm and the command line to a workflow: the files and settings of an arm, checked before anything runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from movl_monai.compare.arms import Arm, Plan, nearest
from movl_monai.compare.space import Dimension
from movl_monai.engines import unreferenced_ids
from movl_monai.errors import ConfigError

__all__ = ["ArmSetup", "load_workflow", "set_up", "settings_digest", "shared_overrides"]

_SET_BY_COMPARE = ("output_dir", "checkpoint", "resume", "seed", "datalist", "images", "dataset", "id_map")
# where things lie and how many processes help says nothing about the result; the data has its own fingerprint
_NOT_SETTINGS = (
    *("bundle_root", "dataset_dir", "ood_dataset_dirs", "output_dir", "cache_dir", "checkpoint", "resume"),
    *("seed", "num_workers", "_meta_"),
)
_REFERENCE = re.compile(r"[@%](?:#|::)*(\w+)")
_QUIET = ("StatsHandler", "TensorBoardStatsHandler")


@dataclass(frozen=True, kw_only=True)
class ArmSetup:
    """An arm ready to run.

    Args:
        arm: what the arms file says.
        train: config files of its training.
        evaluate: config files of its evaluation.
        overrides: all ids that are set, with their values.
        space: what is searched: the arm's space without what the command line fixed.
        defaults: the arm's own value of each searched id.
        image_size: side of the images in pixels, if the config has ``image_size``.
        digest: SHA-256 of the merged configuration, without folders.
    """

    arm: Arm
    train: tuple[Path, ...]
    evaluate: tuple[Path, ...]
    overrides: Mapping[str, Any]
    space: Mapping[str, Dimension]
    defaults: Mapping[str, Any]
    image_size: int | None
    digest: str

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    def space_digest(self) -> str:
        """SHA-256 of the search space, the defaults and the configuration that they belong to."""
        dimensions = {name: [part.kind, list(part.bounds)] for name, part in self.space.items()}
        return settings_digest({"space": dimensions, "defaults": dict(self.defaults), "config": self.digest})


def settings_digest(settings: Any) -> str:
    """SHA-256 of JSON-able settings, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def load_workflow(files: Sequence[Path], overrides: Mapping[str, Any], **objects: Any) -> ConfigWorkflow:
    """Load a workflow that runs quietly.

    Args:
        files: config files, merged in that order.
        overrides: ids and their values.
        objects: ids whose definition is replaced by an object, such as decoded images. MONAI hands objects on as they
            are. They replace what other ids refer to, so :func:`movl_monai.engines.check_overrides` would now find ids
            that nothing reads; :func:`set_up` has checked them.
    """
    with _quiet_loading():
        workflow = ConfigWorkflow(
            config_file=[str(path) for path in files], workflow_type=None, logging_file=False, **dict(overrides)
        )
    config = workflow.parser.get()
    for section in ("train", "validate"):
        handlers = config.get(section, {}).get("handlers")
        if isinstance(handlers, list):
            config[section]["handlers"] = [entry for entry in handlers if not _is_noisy(entry)]
    checks = [entry for entry in config.get("initialize", []) if "check_overrides" not in entry]
    workflow.parser.update({"initialize": checks, **objects})
    return workflow


def set_up(plan: Plan, arms: Sequence[Arm], overrides: Mapping[str, Any]) -> list[ArmSetup]:
    """Bring each arm together with the plan's and the command line's settings.

    The plan's overrides give way to the command line's, and both to those of the arm, which define it. What the command
    line sets is not searched. An id that only some arms have is set in those.

    Args:
        plan: the arms file.
        arms: those to run.
        overrides: ids from the command line.

    Raises:
        ConfigError: for an id that no arm has, that ``compare`` sets itself, that an arm sets or searches without
            having it, for a default outside of its search range, or an arm that would need other images.
    """
    for name in overrides:
        if name in _SET_BY_COMPARE:
            raise ConfigError(f"`--{name}` is set by the comparison itself for every run; remove it.")
    base = _config(plan.train, {})
    configs = {arm.name: _config((*plan.train, *arm.overlays), {}) for arm in arms}
    known = {name for config in (base, *configs.values()) for name in config}
    for name in (*plan.overrides, *overrides):
        if _top(name) not in known:
            raise ConfigError(
                f"No arm's configuration has the id '{_top(name)}'{nearest(_top(name), known)}. Expected the ids of "
                "the config files, each written as `--id value`."
            )
    shared = {**plan.overrides, **overrides}
    setups = [_set_up(plan, arm, configs[arm.name], shared, overrides) for arm in arms]
    _check_images(plan, setups, shared_overrides(plan, overrides))
    return setups


def shared_overrides(plan: Plan, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What the arms file and the command line set in the configuration without any arm."""
    base = _config(plan.train, {})
    return {name: value for name, value in {**plan.overrides, **overrides}.items() if _fits(base, name)}


def _set_up(
    plan: Plan, arm: Arm, config: Mapping[str, Any], shared: Mapping[str, Any], given: Mapping[str, Any]
) -> ArmSetup:
    for name in (*arm.overrides, *arm.space):
        if not _fits(config, name):
            raise ConfigError(
                f"The arm '{arm.name}' sets or searches '{name}', which is not in its configuration"
                f"{nearest(_top(name), config)}."
            )
    own = {name: value for name, value in shared.items() if _fits(config, name)} | dict(arm.overrides)
    train, evaluate = (*plan.train, *arm.overlays), (*plan.train, *arm.overlays, *plan.evaluate)
    merged = _config(train, own)
    space = {name: part for name, part in arm.space.items() if name not in given}
    unread = [name for name in unreferenced_ids(merged) if name in space or name in arm.overrides]
    if unread:
        raise ConfigError(f"The arm '{arm.name}' sets or searches {unread}, which nothing in its configuration reads.")
    parser = ConfigParser(merged)
    size = parser.get_parsed_content("image_size") if "image_size" in merged else None
    image_size = size if isinstance(size, int) else None
    defaults = {}
    for name, part in space.items():
        defaults[name] = _default(parser, name, part, arm, image_size)
    digest = settings_digest([_settings(merged), _settings(_config(evaluate, own))])
    return ArmSetup(
        arm=arm,
        train=train,
        evaluate=evaluate,
        overrides=own,
        space=space,
        defaults=defaults,
        image_size=image_size,
        digest=digest,
    )


def _default(parser: ConfigParser, name: str, part: Dimension, arm: Arm, image_size: int | None) -> Any:
    try:
        value = parser.get_parsed_content(name)
        part.drawn(value, image_size=image_size)
    except ConfigError as error:
        raise ConfigError(
            f"The arm '{arm.name}' starts its search of '{name}' at a value that is not in its range: {error} "
            "Change the range or the arm's own value."
        ) from error
    except Exception as error:  # MONAI raises whatever the expression does
        raise ConfigError(f"The arm '{arm.name}' has no value of its own for '{name}' to start from.") from error
    return value


def _check_images(plan: Plan, setups: Sequence[ArmSetup], shared: Mapping[str, Any]) -> None:
    """All arms share the decoded images, so none may change what the images are made from."""
    base = _config((*plan.train, *plan.evaluate), shared)
    roots = [name for name in ("images", "dataset") if name in base]
    for setup in setups:
        config = _config(setup.evaluate, setup.overrides)
        changed = sorted(name for name in _reachable(base, roots) if config.get(name) != base.get(name))
        changed += [name for name in setup.space if _top(name) in _reachable(base, roots)]
        if changed:
            raise ConfigError(
                f"The arm '{setup.name}' changes {', '.join(changed)}, which the images are made from; all arms share "
                "the same images. Give such settings on the command line, for all arms."
            )


def _reachable(config: Mapping[str, Any], roots: Sequence[str]) -> set[str]:
    """The ids that some ids depend on; of ``train`` only the part that is named counts, see ``train#preprocessing``."""
    text = json.dumps({root: config[root] for root in roots}, default=str)
    text += json.dumps(config.get("train", {}).get("preprocessing", {}), default=str)
    found: set[str] = set()
    waiting = [name for name in _REFERENCE.findall(text) if name != "train"]
    while waiting:
        name = waiting.pop()
        if name in config and name not in found and name not in _NOT_SETTINGS and name != "preprocessing":
            found.add(name)
            waiting += _REFERENCE.findall(json.dumps(config[name], default=str))
    return found


def _config(files: Sequence[Path], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The merged configuration before its expressions are evaluated."""
    parser = ConfigParser()
    parser.read_config([str(path) for path in files])
    parser.update(dict(overrides))
    return dict(parser.get())


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in _NOT_SETTINGS}


def _top(name: str) -> str:
    return re.split("#|::", name)[0]


def _fits(config: Mapping[str, Any], name: str) -> bool:
    """Whether an id, or the dictionary that a nested one lies in, is in a configuration."""
    *parents, last = re.split("#|::", name)
    node: Any = config
    for part in parents:
        node = node.get(part) if isinstance(node, Mapping) else None
    return isinstance(node, Mapping) and (bool(parents) or last in node)


def _is_noisy(handler: Any) -> bool:
    return isinstance(handler, Mapping) and str(handler.get("_target_", "")).rsplit(".", 1)[-1] in _QUIET


@contextlib.contextmanager
def _quiet_loading() -> Iterator[None]:
    """Loading without a logging file is what we want; MONAI warns of it each time."""
    logger = logging.getLogger("monai.bundle.workflows")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
