"""Arms of a comparison as data: their changes of the bundle's configuration, and their search spaces."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from movl_monai.errors import ConfigError
from movl_monai.runs.config_files import read_config

__all__ = ["Arm", "Dimension", "Kind", "Plan", "nearest", "parse_space", "read_plan"]

Kind = Literal["log", "linear", "integer", "choice", "share_of_image"]
_PLAN_KEYS = {"workflow", "overrides", "references", "candidates", "aliases", "arms"}
_ARM_KEYS = {"about", "overlays", "overrides", "search", "members", "needs"}


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """Range of values of one setting.

    Args:
        kind: "log" (uniform in the logarithm), "linear", "integer" (both ends included), "choice", or "share_of_image":
            a length in pixels, drawn as a share of the image's side, so that one space fits images of any size.
        bounds: [low, high], or the values to choose from.

    Raises:
        ConfigError: if the bounds do not fit the kind.

    Example:
        >>> Dimension(kind="share_of_image", bounds=(0.05, 0.2)).value(0.13, image_size=224)
        29
    """

    kind: Kind
    bounds: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"a search range must be one of {', '.join(get_args(Kind))}, got {self.kind!r}.")
        if self.kind == "choice":
            if not self.bounds:
                raise ConfigError("a choice needs one or more values, got none.")
            return
        numbers = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in self.bounds)
        if len(self.bounds) != 2 or not numbers or self.bounds[0] >= self.bounds[1]:
            raise ConfigError(f"a range must be two numbers [low, high] with low < high, got {list(self.bounds)}.")
        if self.kind in ("log", "share_of_image") and self.bounds[0] <= 0:
            raise ConfigError(f"a '{self.kind}' range must be above 0, got {list(self.bounds)}.")

    def distribution(self) -> Any:
        """Return optuna's distribution of the range."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.bounds)
        if self.kind == "integer":
            return IntDistribution(*self.bounds)
        low, high = self.bounds
        return FloatDistribution(low, high, log=self.kind == "log")

    def value(self, drawn: Any, *, image_size: int | None = None) -> Any:
        """Return the value of the setting for a drawn number."""
        if self.kind == "share_of_image":
            return max(1, round(drawn * _known(image_size)))
        return drawn

    def drawn(self, value: Any, *, image_size: int | None = None) -> Any:
        """Return the number to draw for a value of the setting.

        Raises:
            ConfigError: if the value is not in the range.
        """
        drawn = value / _known(image_size) if self.kind == "share_of_image" else value
        inside = drawn in self.bounds if self.kind == "choice" else self.bounds[0] <= drawn <= self.bounds[1]
        if not inside:
            raise ConfigError(f"{value!r} is outside of the search range {self.kind} {list(self.bounds)}.")
        return drawn


def parse_space(definition: Mapping[str, Any]) -> dict[str, Dimension]:
    """Parse a search space from an arms file.

    Args:
        definition: for each id of the config one range, such as ``{"prompt_lr": {"log": [1e-3, 1e-1]}}``.

    Raises:
        ConfigError: with the id of a range that cannot be understood.
    """
    space = {}
    for name, entry in definition.items():
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ConfigError(
                f"The search range of '{name}' must be one entry such as {{'log': [0.001, 0.1]}}, got {entry!r}."
            )
        ((kind, bounds),) = entry.items()
        try:
            space[name] = Dimension(kind=kind, bounds=tuple(bounds))
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"The search range of '{name}' cannot be used: {error}") from error
    return space


def _known(image_size: int | None) -> int:
    if image_size is None:
        raise ConfigError("A range 'share_of_image' needs the id `image_size` in the config, one number of pixels.")
    return image_size


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One method of a comparison.

    Args:
        name: as in the arms file; letters, digits, "_" and "-".
        about: one line for the reader of the table.
        overlays: config files merged over the training configuration.
        overrides: ids that define the arm; nothing overrides them.
        space: ids that are searched on ``val``; empty for an arm without a search.
        members: for an ensemble, the arms whose calibrated probabilities are averaged; an ensemble is not trained.
        needs: ids with the value, or a list of values, of which all arms must have one for this arm, such as
            ``label_order`` for a head of grades.
    """

    name: str
    about: str
    overlays: tuple[Path, ...]
    overrides: Mapping[str, Any]
    space: Mapping[str, Dimension]
    members: tuple[str, ...] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)

    def check_needs(self, settings: Mapping[str, Any]) -> None:
        """Check that the settings of all arms suit this one.

        Raises:
            ConfigError: with the setting that it needs.
        """
        for name, value in self.needs.items():
            if not _meets(settings.get(name), value):
                wanted = " or ".join(map(str, value)) if isinstance(value, list) else value
                wanted = "null" if wanted is None else wanted
                raise ConfigError(f"The arm '{self.name}' needs `--{name} {wanted}` for all arms; it is: {self.about}.")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Contents of an arms file.

    Args:
        train: config files of the training workflow.
        evaluate: config files merged over them for the evaluation.
        overrides: ids that all arms share, unless the command line or the arm sets them.
        references: arms for comparison with the others; the first one joins every comparison.
        arms: by name.
        candidates: arms that `movl-monai fit` tries, in this order, which is also that of their simplicity.
        aliases: further names of arms.
    """

    train: tuple[Path, ...]
    evaluate: tuple[Path, ...]
    overrides: Mapping[str, Any]
    references: tuple[str, ...]
    arms: Mapping[str, Arm]
    candidates: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def select(self, names: Sequence[str]) -> list[Arm]:
        """Return the arms of the names or aliases, in their order, each once.

        Raises:
            ConfigError: for a name that is not in the file, with the nearest known name.
        """
        if not names:
            raise ConfigError(f"No arm was named. Choose from: {', '.join(self.arms)}.")
        known = [self.aliases.get(name, name) for name in names]
        for name in known:
            if name not in self.arms:
                also = "".join(f", {alias} (= {arm})" for alias, arm in self.aliases.items())
                raise ConfigError(
                    f"There is no arm '{name}'{nearest(name, [*self.arms, *self.aliases])}; the arms file has: "
                    f"{', '.join(self.arms)}{also}."
                )
        return [self.arms[name] for name in dict.fromkeys(known)]

    def suitable(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the names of the arms that suit the settings of all arms: those without needs, and met ones."""
        shared = self.shared(settings)
        met = [arm for arm in self.arms.values() if all(_meets(shared.get(n), v) for n, v in arm.needs.items())]
        names = {arm.name for arm in met}
        return [arm.name for arm in met if names.issuperset(arm.members)]

    def shared(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ids of all arms: those of the config files, of the arms file, and the given ones."""
        return {
            **{name: value for file in self.train for name, value in read_config(file).items()},
            **self.overrides,
            **settings,
        }

    def joined(self, names: Sequence[str]) -> list[str]:
        """Return the first reference if it is not among the named arms; a comparison needs it."""
        chosen = {arm.name for arm in self.select(names)}
        return [name for name in self.references[:1] if name not in chosen]

    def members(self, names: Sequence[str]) -> list[str]:
        """Return the ensemble members among the arms that are neither named nor joined."""
        chosen = [arm.name for arm in self.select(names)] + self.joined(names)
        wanted = dict.fromkeys(name for arm in self.select(names) for name in arm.members)
        return [name for name in wanted if name not in chosen]


def _meets(value: Any, need: Any) -> bool:
    return value in need if isinstance(need, list) else bool(value == need)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean '...'?)" with the nearest known name, or ""."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{found[0]}'?)" if found else ""


def read_plan(
    path: str | os.PathLike[str], *, bundle: str | os.PathLike[str], overlays: Sequence[str | os.PathLike[str]] = ()
) -> Plan:
    """Read an arms file.

    Args:
        path: JSON with ``workflow`` (``train`` and ``evaluate``: lists of files), ``overrides``, ``references``,
            ``candidates``, ``aliases`` and ``arms``, each with ``about``, ``overlays``, ``overrides``, ``search`` and
            ``needs``, or ``about`` and ``members``.
        bundle: the bundle's folder; the files in the arms file are relative to it.
        overlays: config files merged over the training configuration of all arms, below those of an arm: paths, or
            names of files in the bundle's ``configs``.

    Raises:
        ConfigError: if the file is missing, not JSON, has an unknown key, or names a missing file.
    """
    root = Path(bundle)
    content = _read(Path(path))
    _check_keys(content, _PLAN_KEYS, "The arms file")
    workflow = content.get("workflow", {})
    arms = {name: _arm(name, entry, root) for name, entry in content.get("arms", {}).items()}
    plan = Plan(
        train=(*_files(workflow.get("train", ["configs/train.json"]), root), *_overlays(overlays, root)),
        evaluate=_files(workflow.get("evaluate", ["configs/evaluate.json"]), root),
        overrides=content.get("overrides", {}),
        references=tuple(content.get("references", ())),
        arms=arms,
        candidates=tuple(content.get("candidates", ())),
        aliases=content.get("aliases", {}),
    )
    plan.select(list(arms))  # refuses a file without arms
    for arm in arms.values():
        _check_members(arm, arms)
    for kind, names in (("reference", plan.references), ("candidate", plan.candidates)):
        for name in names:
            if name not in arms:
                raise ConfigError(f"The {kind} '{name}' is not an arm of the arms file{nearest(name, arms)}.")
    for alias, name in plan.aliases.items():
        if alias in arms or name not in arms:
            wrong = "is an arm itself" if alias in arms else f"means '{name}', which is not an arm{nearest(name, arms)}"
            raise ConfigError(f"The alias '{alias}' of the arms file {wrong}.")
    return plan


def _arm(name: str, entry: Mapping[str, Any], root: Path) -> Arm:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"The name of an arm must be letters, digits, '_' and '-', got '{name}'.")
    _check_keys(entry, _ARM_KEYS, f"The arm '{name}'")
    try:
        space = parse_space(entry.get("search", {}))
    except ConfigError as error:
        raise ConfigError(f"Arm '{name}': {error}") from error
    return Arm(
        name=name,
        about=entry.get("about", ""),
        overlays=_files(entry.get("overlays", []), root),
        overrides=entry.get("overrides", {}),
        space=space,
        members=tuple(entry.get("members", ())),
        needs=entry.get("needs", {}),
    )


def _check_members(arm: Arm, arms: Mapping[str, Arm]) -> None:
    if not arm.members:
        return
    for name in arm.members:
        if name not in arms or arms[name].members:
            wrong = "is an ensemble itself" if name in arms else f"is not an arm{nearest(name, arms)}"
            raise ConfigError(f"The member '{name}' of the arm '{arm.name}' {wrong}.")
    if len({*arm.members}) < 2 or len({*arm.members}) < len(arm.members):
        raise ConfigError(f"The arm '{arm.name}' needs two or more different members, got {list(arm.members)}.")
    if arm.overlays or arm.overrides or arm.space:
        raise ConfigError(
            f"The arm '{arm.name}' has members, which are trained, so that it has no overlays, overrides and search of "
            "its own."
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"There is no arms file {path.name} in {path.parent}: {error.strerror}. Expected the `compare.json` of a "
            "bundle; name the bundle with `--bundle DIR` or the file with `--arms_file FILE`."
        ) from error
    except ValueError as error:
        raise ConfigError(f"The arms file {path.name} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The arms file {path.name} must be a JSON object, got {type(content).__name__}.")
    return content


def _check_keys(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where} must be a JSON object, got {type(entry).__name__}.")
    for key in entry:
        if key not in known:
            raise ConfigError(f"{where} has the unknown entry '{key}'{nearest(key, known)}; known: {sorted(known)}.")


def _overlays(names: Sequence[str | os.PathLike[str]], root: Path) -> list[Path]:
    # names with or without suffix, and `configs/NAME`, as arms files write it
    names = [name if str(name).endswith(".json") else f"{name}.json" for name in names]
    places = [(Path(name), root / "configs" / name, root / name) for name in names]
    paths = [next((place for place in choices if place.is_file()), choices[1]) for choices in places]
    for path in paths:
        if not path.is_file():
            known = [file.name for file in (root / "configs").glob("*.json")]
            raise ConfigError(
                f"There is no overlay {path.name}{nearest(path.name, known)}; it is a file or in configs."
            )
    return paths


def _files(names: Sequence[str], root: Path) -> tuple[Path, ...]:
    paths = tuple(root / name for name in names)
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"The arms file names {path}, which does not exist.")
    return paths
