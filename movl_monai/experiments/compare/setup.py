"""Configurations of the arms, from the arms file and the command line, checked before anything runs."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from movl_monai.engines import unreferenced_ids
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.arms import Arm, Dimension, Plan, nearest
from movl_monai.runs.keep_record import CONFIG_ROOT
from movl_monai.runs.overlays import CONFIG_FILES, check_overlays
from movl_monai.runs.overrides import ENTRY_IDS, find_ids, reachable
from movl_monai.runs.verbatim import keep_strings

__all__ = [
    "ArmSetup",
    "Setup",
    "find_ids",
    "fits",
    "make_parser",
    "reachable",
    "read_config",
    "set_up",
    "settings_digest",
    "top_level",
]

_SEPARATOR = re.compile("#|::")
# their output during training would clutter many runs
_DROPPED = ("StatsHandler", "TensorBoardStatsHandler")
_SET_BY_COMPARE = (
    *("output_dir", "checkpoint", "resume", "overwrite", "seed", "datalist", "images", "dataset", "id_map"),
    *("splits_file",),
)
# places and numbers of processes do not affect the result; the data has its own fingerprint
_NOT_SETTINGS = {
    *("bundle_root", "dataset_dir", "ood_dataset_dirs", "output_dir", "cache_dir", "checkpoint", "resume"),
    *("seed", "num_workers", "overwrite", "splits_file", "_meta_"),
}


def read_config(
    files: Sequence[Path], overrides: Mapping[str, Any], *, replaceable: Collection[Path] = ()
) -> dict[str, Any]:
    """Merge config files and overrides, as a MONAI workflow does, without evaluating anything.

    Files without effect are refused, except the replaceable ones. Handlers that only show or log are left out, and so
    is the check of overrides: a comparison replaces ids by objects, after which the check would report unread ids.
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
    check_overlays(files, read=reachable(config, ENTRY_IDS), replaceable=replaceable)
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
        if _is_a(features, "FeatureSet", "cached_features"):
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


@dataclass(frozen=True, kw_only=True)
class ArmSetup:
    """Arm that is ready to run.

    Args:
        arm: entry of the arms file.
        train: configuration of its training.
        evaluate: configuration of its evaluation.
        space: the arm's search space without ids that the command line sets.
        defaults: the arm's own value of each searched id.
        image_size: side of the images in pixels, if the config has ``image_size``.
        digest: SHA-256 of both configurations, without folders.
    """

    arm: Arm
    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    space: Mapping[str, Dimension]
    defaults: Mapping[str, Any]
    image_size: int | None
    digest: str

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    def space_digest(self) -> str:
        """Return the SHA-256 of the search space, the defaults and their configuration."""
        dimensions = {name: [part.kind, list(part.bounds)] for name, part in self.space.items()}
        return settings_digest({"space": dimensions, "defaults": dict(self.defaults), "config": self.digest})


@dataclass(frozen=True, kw_only=True)
class Setup:
    """All arms ready to run, and the configurations without any arm, for the data."""

    arms: list[ArmSetup]
    train: Mapping[str, Any]
    evaluate: Mapping[str, Any]


def settings_digest(settings: Any) -> str:
    """Return the SHA-256 of settings as JSON, for any order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def set_up(plan: Plan, arms: Sequence[Arm], overrides: Mapping[str, Any]) -> Setup:
    """Combine each arm with the settings of the plan and of the command line.

    The command line overrides the plan, and the arm's own overrides, which define it, override both. Ids on the command
    line, and those that overlays for all arms set, are not searched. An id that only some arms have is set only in
    these.

    Args:
        plan: the arms file.
        arms: arms to run, with the members of ensembles.
        overrides: ids from the command line.

    Raises:
        ConfigError: for an id that no arm has, that ``compare`` itself sets, or that an arm sets or searches without
            having it; for a default outside of its search range; for an arm that needs other images.
    """
    for name in overrides:
        if name in _SET_BY_COMPARE:
            raise ConfigError(f"`--{name}` is set by the comparison itself for every run; remove it.")
    shared = {**plan.overrides, **overrides}
    plain = read_config(plan.train, {})
    configs = {arm.name: _arm_config(plan, arm, {}) for arm in arms}
    known = {name for config in (plain, *configs.values()) for name in config}
    for name in shared:
        if top_level(name) not in known:
            raise ConfigError(
                f"No arm's configuration has the id '{top_level(name)}'{nearest(top_level(name), known)}. Expected the "
                "ids of the config files, each written as `--id value`."
            )
    setups = [_set_up(plan, arm, configs[arm.name], shared, overrides) for arm in arms]
    digests = {one.name: one.digest for one in setups}
    setups = [_of_members(one, digests) if one.arm.members else one for one in setups]
    common = {name: value for name, value in shared.items() if fits(plain, name)}
    setup = Setup(
        arms=setups,
        train=read_config(plan.train, common),
        evaluate=read_config((*plan.train, *plan.evaluate), common),
    )
    _check_images(setup)
    return setup


def _set_up(
    plan: Plan, arm: Arm, config: Mapping[str, Any], shared: Mapping[str, Any], given: Mapping[str, Any]
) -> ArmSetup:
    arm.check_needs(plan.shared(shared))
    for name in (*arm.overrides, *arm.space):
        if not fits(config, name):
            raise ConfigError(
                f"The arm '{arm.name}' sets or searches '{name}', which is not in its configuration"
                f"{nearest(top_level(name), config)}."
            )
    own = {name: value for name, value in shared.items() if fits(config, name)} | dict(arm.overrides)
    train = _arm_config(plan, arm, own)
    evaluate = _arm_config(plan, arm, own, plan.evaluate)
    fixed = {*given, *(name for file in plan.train[1:] for name in json.loads(file.read_text(encoding="utf-8")))}
    space = {name: part for name, part in arm.space.items() if name not in fixed}
    unread = [name for name in unreferenced_ids(train) if name in space or name in arm.overrides]
    if unread:
        raise ConfigError(f"The arm '{arm.name}' sets or searches {unread}, which nothing in its configuration reads.")
    parser = make_parser(train, {})
    size = parser.get_parsed_content("image_size") if "image_size" in train else None
    image_size = size if isinstance(size, int) else None
    return ArmSetup(
        arm=arm,
        train=train,
        evaluate=evaluate,
        space=space,
        defaults={name: _default(parser, name, part, arm, image_size) for name, part in space.items()},
        image_size=image_size,
        digest=settings_digest([_settings(train, ("train", "validate")), _settings(evaluate, ("evaluator",))]),
    )


def _arm_config(plan: Plan, arm: Arm, overrides: Mapping[str, Any], last: Sequence[Path] = ()) -> dict[str, Any]:
    """Return an arm's configuration; its overlays may replace those for all arms, which the plain one has checked."""
    return read_config((*plan.train, *arm.overlays, *last), overrides, replaceable=plan.train)


def _of_members(setup: ArmSetup, digests: Mapping[str, str]) -> ArmSetup:
    """Return an ensemble's setup, which depends on its members and on no configuration."""
    return replace(setup, digest=settings_digest(["ensemble", [digests[name] for name in setup.arm.members]]))


def _settings(config: Mapping[str, Any], roots: Sequence[str]) -> dict[str, Any]:
    """Return the settings on which some ids depend."""
    names = reachable(config, ("initialize", *roots)) - _NOT_SETTINGS
    return {name: config[name] for name in names}


def _default(parser: ConfigParser, name: str, part: Dimension, arm: Arm, image_size: int | None) -> Any:
    try:
        value = parser.get_parsed_content(name)
        part.drawn(value, image_size=image_size)
    except ConfigError as error:
        raise ConfigError(
            f"The arm '{arm.name}' starts its search of '{name}' at a value that is not in its range: {error} "
            "Change the range or the arm's own value."
        ) from error
    except Exception as error:  # any error of the expression
        raise ConfigError(f"The arm '{arm.name}' has no value of its own for '{name}' to start from.") from error
    return value


def _check_images(setup: Setup) -> None:
    """Check that no arm changes the images, because all arms share them."""
    base = setup.evaluate
    for arm in setup.arms:
        names = _image_ids(base)
        changed = {name for name in names if arm.evaluate.get(name) != base.get(name)}
        changed |= {name for name in arm.space if top_level(name) in names}
        if arm.evaluate.get("train", {}).get("preprocessing") != base.get("train", {}).get("preprocessing"):
            changed.add("train#preprocessing")
        if changed:
            raise ConfigError(
                f"The arm '{arm.name}' changes {', '.join(sorted(changed))}, which the images are made from; all arms "
                "share the same images. Give such settings on the command line, for all arms."
            )


def _image_ids(config: Mapping[str, Any]) -> set[str]:
    """Return the ids on which the images depend; of ``train`` only its preprocessing counts."""
    images = [config.get(name) for name in ("images", "dataset", "preprocessing")]
    start = find_ids([*images, config.get("train", {}).get("preprocessing")])
    within = {name: value for name, value in config.items() if name not in ("train", "validate", *_NOT_SETTINGS)}
    return reachable(within, start)
