"""Candidates of a fit: the arms that a bundle names, on each backbone, the simplest first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from movl_monai.bundles import find_overlays
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.arms import Plan, read_plan
from movl_monai.experiments.compare.setup import ArmSetup, Setup, fits, set_up, top_level

__all__ = ["Candidate", "Candidates", "make_candidates"]

_OWN = "default"  # the backbone of the bundle itself


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method on a backbone.

    Args:
        name: of its folder and in messages: the arm, with the backbone in front where it is not the bundle's own.
        setup: configuration of its training.
        exact: whether its head is solved exactly and nothing is trained in epochs.
    """

    name: str
    setup: ArmSetup
    exact: bool

    @property
    def about(self) -> str:
        """Description of the method, in one line."""
        return self.setup.arm.about


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """All candidates, and their common parts.

    Args:
        ordered: the simplest first: exact probes of all backbones, then the trained ones.
        common: configurations without any arm, for the data.
        settings: ids and values of the training; ``evaluation``: those that only the evaluation reads.
    """

    ordered: Sequence[Candidate]
    common: Setup
    settings: Mapping[str, Any]
    evaluation: Mapping[str, Any]


def make_candidates(
    bundle: Path,
    *,
    overlays: Sequence[str],
    backbones: Sequence[str],
    seed: int,
    defaults: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Candidates:
    """Configure the candidates of a bundle's ``compare.json``; nothing is built.

    Args:
        bundle: its folder.
        overlays: names of config files that the data ask for; those that the bundle lacks are left out.
        backbones: names as in ``backbone_NAME.json``, or "default"; none takes the bundle's own.
        seed: of split and training.
        defaults: settings that the data ask for; those that the bundle lacks are left out.
        given: settings of the user.

    Raises:
        ConfigError: for a bundle without candidates, an unknown backbone or id, or an id in which candidates differ.
    """
    configs = bundle / "configs"
    own = [name for name in overlays if (configs / name).is_file()]
    known = json.loads((configs / "train.json").read_text(encoding="utf-8"))
    settings = {**{name: value for name, value in defaults.items() if name in known}, **given}
    found: list[Candidate] = []
    setups: list[Setup] = []
    rest: dict[str, Any] = {}
    for backbone in backbones or (_OWN,):
        chosen = [] if backbone == _OWN else find_overlays(bundle, {"backbone": [backbone]})
        plan = _read(bundle, [*own, *map(str, chosen)], seed)
        arms = [arm for arm in plan.select(plan.candidates) if arm.name in plan.suitable(settings)]
        for arm in arms:
            if taken := sorted(top_level(name) for name in arm.overrides if name in given):
                raise ConfigError(
                    f"Candidates of fit differ in {taken[0]}, so that `--{taken[0]}` cannot be set for all; remove it, "
                    "or train one method with `movl-monai run`."
                )
        rest = _of_evaluation(plan, settings)
        setup = set_up(
            plan,
            arms,
            {name: value for name, value in settings.items() if name not in rest},
        )
        setups.append(setup)
        found += [_candidate(one, backbone) for one in setup.arms]
    return Candidates(
        ordered=sorted(found, key=lambda one: not one.exact),
        common=setups[0],
        settings={name: value for name, value in settings.items() if name not in rest},
        evaluation=rest,
    )


def _read(bundle: Path, overlays: Sequence[str], seed: int) -> Plan:
    plan = read_plan(bundle / "compare.json", bundle=bundle, overlays=overlays)
    if not plan.candidates:
        raise ConfigError(
            f"The bundle {bundle.name} names no candidates; list names of its arms under 'candidates' in compare.json, "
            "the simplest first."
        )
    return replace(plan, overrides={**plan.overrides, "seed": seed})


def _of_evaluation(plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that the evaluation has and no training of a candidate."""
    files = [*plan.train, *(path for arm in plan.select(plan.candidates) for path in arm.overlays)]
    contents, others = (
        [json.loads(path.read_text(encoding="utf-8")) for path in part] for part in (files, plan.evaluate)
    )
    trained = {name.lstrip("+").replace("::", "#").split("#")[0] for content in contents for name in content}
    return {
        name: value
        for name, value in settings.items()
        if top_level(name) not in trained and any(fits(content, name) for content in others)
    }


def _candidate(setup: ArmSetup, backbone: str) -> Candidate:
    strategy = setup.train.get("strategy")
    stages = strategy if isinstance(strategy, list) else []
    exact = bool(stages) and all(isinstance(stage, Mapping) and stage.get("epochs") == 0 for stage in stages)
    name = setup.name if backbone == _OWN else f"{backbone}-{setup.name}"
    return Candidate(name=name, setup=setup, exact=exact)
