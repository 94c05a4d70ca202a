"""Ensembles of trained runs: one run with the mean of their calibrated probabilities."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.data.kept_splits import SPLITS_FILE, KeptSplits, read_kept_splits, splits_differ
from movl_monai.errors import ConfigError, WeightsError
from movl_monai.evaluation.trust_record import TRUST_FILE, TrustError, read_trust
from movl_monai.export.preprocessing import literal_config
from movl_monai.files import to_json, write_atomically
from movl_monai.networks import EnsembleClassifier, save_atomically, trained_state_sha256
from movl_monai.report.tasks import CLASSIFICATION, ORDINAL
from movl_monai.runs.keep_record import find_again
from movl_monai.runs.output_dir import check_output_dir
from movl_monai.runs.overrides import reachable
from movl_monai.runs.provenance import run_info
from movl_monai.runs.record_file import RECORD_FILE, RECORD_FORMAT
from movl_monai.runs.run_record import Run, open_run

__all__ = ["MEMBER_ID", "make_ensemble"]

MEMBER_ID = re.compile(r"member_(\d+)_(.+)")
"""Name of a member's setting in an ensemble."""

_OWN = ("network_def",)  # settings of each member; all others come from the first
_SHARED = ("preprocessing", "image_inferer", "image_size")
_REFERENCE = re.compile(r"([@%])(\w+)")


def make_ensemble(
    runs: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    trust: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Run:
    """Write a run whose network returns the mean of the calibrated probabilities of other runs.

    The new run is self-contained, so that the others may be deleted: it holds their trained states, their settings, and
    their common splits. It has no trust record until it is evaluated.

    Args:
        runs: at least two trained and evaluated runs of classification, with the same preprocessing, the same classes
            and the same images in every split. Their backbones, methods and bundles may differ.
        output_dir: of the new run.
        overwrite: whether to replace an existing run.
        trust: see :func:`~movl_monai.engines.open_run`.
        overrides: settings of members under their names in the ensemble, such as ``member_0_backbone_weights``.

    Returns:
        The opened run.

    Raises:
        ConfigError: for fewer than two runs, a repeated run, or runs that differ in common properties.
        TrustError: if a run was not evaluated, or its trust record is of another checkpoint.
        MovlError: as in opening or writing a run.
    """
    if len(runs) < 2:
        raise ConfigError(f"An ensemble needs at least two runs, got {len(runs)}; give two or more output folders.")
    checkpoint = Path(output_dir) / "models" / "model.pt"
    own = _split(overrides or {}, count=len(runs))
    opened = [open_run(path, trust=trust, overrides=own[number]) for number, path in enumerate(runs)]
    names = [os.fspath(path) for path in runs]
    for name, run in zip(names, opened, strict=True):
        if run.checkpoint.resolve() == checkpoint.resolve():
            raise ConfigError(f"--output_dir is {name}, one of the runs; choose another folder.")
        if run.task not in (CLASSIFICATION.name, ORDINAL.name):
            raise ConfigError(f"{name} is for {run.task}; an ensemble joins runs of classification or of grades.")
    splits = _check_alike(names, opened)
    members = [_network(number, *known) for number, known in enumerate(zip(names, opened, strict=True))]
    _check_distinct(names, members)
    temperatures = [_temperature(*known) for known in zip(names, opened, members, strict=True)]
    network = EnsembleClassifier(members=members, temperatures=temperatures, class_names=opened[0].class_names)
    _check_free(checkpoint, overwrite=overwrite)
    check_output_dir(output_dir)
    record = _record(opened, members, temperatures) | {"splits_sha256": hashlib.sha256(splits).hexdigest()}
    _write(checkpoint, network, record, splits)
    made = open_run(output_dir, trust=trust)
    made.network()  # checks early that it can be built
    return made


def _split(overrides: Mapping[str, Any], *, count: int) -> list[dict[str, Any]]:
    """Return the overrides of each member, under their names in its own run."""
    own: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in overrides.items():
        match = MEMBER_ID.fullmatch(name)
        if match is None or int(match[1]) >= count:
            raise ConfigError(
                f"'{name}' is no setting of a member; expected member_0_ to member_{count - 1}_ and an id of its run."
            )
        own[int(match[1])][match[2]] = value
    return own


def _network(number: int, name: str, run: Run) -> Any:
    try:
        return run.network()
    except WeightsError as error:
        # the message names the option for a single run
        raise WeightsError(
            f"{name}: {error} Of this member of an ensemble it is member_{number}_backbone_weights."
        ) from error


def _check_free(checkpoint: Path, *, overwrite: bool) -> None:
    found = [name for name in (checkpoint.name, RECORD_FILE, SPLITS_FILE) if checkpoint.with_name(name).exists()]
    if found and not overwrite:
        raise ConfigError(
            f"--output_dir holds a run already ({', '.join(found)} in {checkpoint.parent.name}), which the ensemble "
            "would replace. Choose another folder, or replace it by `--overwrite true`."
        )


def _write(checkpoint: Path, network: Any, record: Mapping[str, Any], splits: bytes) -> None:
    checkpoint.with_name(TRUST_FILE).unlink(missing_ok=True)  # of the previous run
    save_atomically(network.state_dict(), checkpoint)
    write_atomically(checkpoint.with_name(SPLITS_FILE), splits)
    write_atomically(checkpoint.with_name(RECORD_FILE), to_json(dict(record)).encode())


def _check_alike(names: Sequence[str], runs: Sequence[Run]) -> bytes:
    """Raise ConfigError unless all runs have the common properties; return the splits of the first."""
    first, facts = names[0], [_facts(run) for run in runs]
    for name, other in zip(names[1:], facts[1:], strict=True):
        for what, value in facts[0].items():
            if value != other[what]:
                raise ConfigError(
                    f"{first} and {name} differ in {_difference(what, value, other[what])}. The runs of an ensemble "
                    f"must share {_MUST[what]}."
                )
    known = [_splits_of(name, run) for name, run in zip(names, runs, strict=True)]
    for name, kept in zip(names[1:], known[1:], strict=True):
        if said := splits_differ(known[0], kept):
            raise ConfigError(
                f"{first} and {name} differ in their splits: {said}. The runs of an ensemble must have learned from "
                "the same images, or it would be tested on images that one of them knows; train them with the same "
                "dataset_dir, split settings and seed."
            )
    return runs[0].checkpoint.with_name(SPLITS_FILE).read_bytes()


_MUST = {
    "classes": "classes and their order; train again with the same data set",
    "preprocessing": "one preprocessing, as they see the same image; train again with the same settings",
    "id_domain": "the in-distribution domain; train again with the same id_domain",
}


def _facts(run: Run) -> dict[str, Any]:
    parser = run.parser("inference")
    try:
        preprocessing = literal_config(parser, "preprocessing")
    except ConfigError:  # with a part that JSON cannot hold
        preprocessing = run.record["settings"].get("preprocessing")
    domain = run.record["training"].get("id_domain", "id")
    return {"classes": run.class_names, "preprocessing": preprocessing, "id_domain": domain}


def _difference(place: str, one: Any, other: Any) -> str:
    """Describe the first difference of two JSON values: ``preprocessing, transforms, 1, image_size: 32 and 64``."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        key = next(key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key))
        return _difference(f"{place}, {key}", one.get(key), other.get(key))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other) and place != "classes":
        number = next(number for number in range(len(one)) if one[number] != other[number])
        kind = one[number].get("_target_", "") if isinstance(one[number], Mapping) else ""
        return _difference(f"{place}, {kind.rpartition('.')[2] or number}", one[number], other[number])
    return f"{place}: {json.dumps(one)} and {json.dumps(other)}"


def _splits_of(name: str, run: Run) -> KeptSplits:
    kept = read_kept_splits(run.checkpoint.with_name(SPLITS_FILE))
    if kept is None:
        raise ConfigError(
            f"{name} keeps no {SPLITS_FILE} beside its checkpoint, so that its test images are not known; train it "
            "again with this version."
        )
    return kept


def _check_distinct(names: Sequence[str], members: Sequence[Any]) -> None:
    seen: dict[str, str] = {}
    for name, member in zip(names, members, strict=True):
        state = trained_state_sha256(member)
        if state in seen:
            raise ConfigError(f"{seen[state]} and {name} hold the same trained state; give each run once.")
        seen[state] = name


def _temperature(name: str, run: Run, network: Any) -> float:
    path = run.checkpoint.with_name(TRUST_FILE)
    if not path.is_file():
        raise TrustError(
            f"{name} was not evaluated, so that its probabilities are not calibrated; run `movl-monai evaluate {name} "
            "--dataset_dir DIR` first."
        )
    found = read_trust(path, network).temperature
    if found is None:
        raise TrustError(
            f"{name} was evaluated without images that say its temperature; evaluate it on a data set with val images."
        )
    return float(found)


def _record(runs: Sequence[Run], members: Sequence[Any], temperatures: Sequence[float]) -> dict[str, Any]:
    """Return the ensemble's record: the first run's, with the settings of every network under separate names."""
    first, info = runs[0].record, run_info()
    own = {**first["settings"], **find_again(runs[0].overrides)}
    settings = {name: own[name] for name in reachable(own, _SHARED)}
    for number, run in enumerate(runs):
        settings |= _renamed({**run.record["settings"], **find_again(run.overrides)}, f"member_{number}_")
    settings["network_def"] = {
        "_target_": "movl_monai.networks.EnsembleClassifier",
        "members": [f"@member_{number}_network_def" for number in range(len(runs))],
        "class_names": "@class_names",
    }
    about = [
        {
            "bundle": run.record.get("bundle"),
            "backbone": member.backbone.spec.name,
            "checkpoint_sha256": trained_state_sha256(member),
            "temperature": temperature,
        }
        for run, member, temperature in zip(runs, members, temperatures, strict=True)
    ]
    return {
        **{name: first.get(name) for name in ("bundle", "bundle_version", "files")},
        **{name: info[name] for name in ("versions", "git_commit", "git_modified")},
        "format": RECORD_FORMAT,
        "checkpoint": "model.pt",
        "overlays": None,
        "imports": list(dict.fromkeys(line for run in runs for line in run.record["imports"])),
        "settings": settings,
        "training": {**first["training"], "strategy": f"ensemble of {len(runs)} runs"},
        "members": about,
    }


def _renamed(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the settings of a network under prefixed names, with adjusted references."""
    names = reachable(settings, _OWN)

    def renamed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: renamed(part) for key, part in value.items()}
        if isinstance(value, list):
            return [renamed(part) for part in value]
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return value
        return _REFERENCE.sub(lambda found: f"{found[1]}{prefix if found[2] in names else ''}{found[2]}", value)

    return {prefix + name: renamed(settings[name]) for name in sorted(names)}
