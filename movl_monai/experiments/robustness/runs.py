"""Open and name the runs of a suite, and check that they are comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from movl_monai.data.kept_splits import SPLITS_FILE, KeptSplits, read_kept_splits
from movl_monai.errors import ConfigError
from movl_monai.report.tasks import CLASSIFICATION, ORDINAL
from movl_monai.runs.overrides import find_ids, reachable
from movl_monai.runs.provenance import run_info
from movl_monai.runs.run_record import Run, open_run
from movl_monai.runs.verbatim import verbatim

__all__ = ["NamedRun", "data_settings", "kept_splits_of", "open_runs", "run_facts", "splits_file_of"]


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run with its name in tables.

    Args:
        name: unique name.
        run: its record.
    """

    name: str
    run: Run

    def digest(self) -> str:
        """Return the SHA-256 of the checkpoint file and the settings of the network."""
        content = hashlib.sha256(Path(self.run.checkpoint).read_bytes())
        content.update(json.dumps(self.run.record["settings"], sort_keys=True, default=str).encode())
        return content.hexdigest()

    def preprocessing_key(self) -> str:
        """Return a text that is equal for runs with the same preprocessing."""
        config = self.run.parser().get()
        names = sorted(reachable(config, find_ids(config["preprocessing"])))
        parts = [config["preprocessing"], {name: config[name] for name in names}]
        return json.dumps(parts, sort_keys=True, default=str)


def open_runs(
    paths: Sequence[str],
    *,
    baseline: str,
    bundle_dir: str | None = None,
    backbone_weights: str | None = None,
    trust: bool = False,
) -> tuple[list[NamedRun], str]:
    """Open runs and check that they fit into one table.

    Args:
        paths: folders of runs, or their ``model.pt``; ``NAME=FOLDER`` gives a name, else the folder name is used.
        baseline: name or path of one of the runs, or of a further run, which is added.
        bundle_dir: see :func:`movl_monai.engines.open_run`.
        backbone_weights: file of the pretrained weights, for all runs that have a setting of this name; None takes
            the recorded ones.
        trust: see :func:`movl_monai.engines.open_run`.

    Returns:
        the runs, and the name of the baseline.

    Raises:
        ConfigError: if two runs have the same name, the baseline is not a run, a run is a segmentation, or the classes
            of the runs differ.
    """
    given = [_split(path) for path in paths]
    names = _names([name for name, _ in given], [path for _, path in given])
    chosen = _find(baseline, names, [path for _, path in given])
    if chosen is None:
        name, path = _split(baseline)
        if not path.exists():
            raise ConfigError(
                f"--baseline must be the name or the folder of a run, got '{path.name}'; the runs are "
                f"{', '.join(names)}."
            )
        given.append((name, path))
        names = _names([*names, name], [path for _, path in given])
        chosen = names[-1]
    opened = [open_run(path, bundle_dir=bundle_dir, trust=trust) for _, path in given]
    if backbone_weights is not None:
        opened = [_with_weights(run, backbone_weights) for run in opened]
    runs = [NamedRun(name=name, run=run) for name, run in zip(names, opened, strict=True)]
    _check(runs)
    return runs, chosen


def _with_weights(run: Run, file: str) -> Run:
    name = "backbone_weights"
    return replace(run, overrides={name: verbatim(file)}) if name in run.parser().get() else run


def data_settings(runs: Sequence[NamedRun], names: Sequence[str]) -> dict[str, Any]:
    """Return the recorded data settings in which all runs agree, without those that are expressions."""
    records = [{**named.run.record["settings"], **named.run.record["training"]} for named in runs]
    common = {name: records[0][name] for name in names if all(name in record for record in records)}
    return {
        name: value
        for name, value in common.items()
        if all(record[name] == value for record in records) and not str(value).startswith(("$", "@", "%"))
    }


def splits_file_of(named: NamedRun) -> Path:
    """Return the path of the splits that a run's training wrote."""
    return Path(named.run.checkpoint).with_name(SPLITS_FILE)


def kept_splits_of(named: NamedRun) -> KeptSplits | None:
    """Return the splits of a run's training, or None if it kept none."""
    return read_kept_splits(splits_file_of(named))


def _split(text: str) -> tuple[str | None, Path]:
    name, equals, path = str(text).partition("=")
    return (name, Path(path)) if equals and name and "/" not in name else (None, Path(text))


def _folder(path: Path) -> Path:
    # models/model.pt is two levels below the run's folder
    return path.parent.parent if path.is_file() else path


def _names(given: Sequence[str | None], paths: Sequence[Path]) -> list[str]:
    """Return the given names; an unnamed run is named by the shortest end of its path that is unique."""
    folders = [_folder(path).absolute().parts[1:] for path in paths]
    names = [name or "" for name in given]
    for index, folder in enumerate(folders):
        others = [other for row, other in enumerate(folders) if row != index and other != folder]
        length = 1
        while length < len(folder) and any(other[-length:] == folder[-length:] for other in others):
            length += 1
        names[index] = names[index] or "/".join(folder[-length:])
    double = {name for name in names if names.count(name) > 1}
    if double:
        raise ConfigError(f"Two runs are called '{min(double)}'; give each once, or names as NAME=FOLDER.")
    return names


def _find(baseline: str, names: Sequence[str], paths: Sequence[Path]) -> str | None:
    if baseline in names:
        return baseline
    wanted = _folder(_split(baseline)[1]).resolve()
    return next((name for name, path in zip(names, paths, strict=True) if _folder(path).resolve() == wanted), None)


def _check(runs: Sequence[NamedRun]) -> None:
    for named in runs:
        if named.run.task not in (CLASSIFICATION.name, ORDINAL.name):
            raise ConfigError(
                f"The run '{named.name}' is a {named.run.task}; the robustness suite is about classifications, whose "
                "labels corruptions do not move. Leave it out."
            )
    first = runs[0]
    for named in runs[1:]:
        if named.run.task != first.run.task:
            raise ConfigError(
                f"The runs are of different tasks: '{first.name}' is a {first.run.task}, '{named.name}' a "
                f"{named.run.task}. Give runs of one task."
            )
        if list(named.run.class_names) != list(first.run.class_names):
            raise ConfigError(
                f"The runs have other classes: {list(first.run.class_names)} in '{first.name}', "
                f"{list(named.run.class_names)} in '{named.name}'. Their errors cannot be compared; give runs of one "
                "data set."
            )


def run_facts(named: NamedRun, network: Any) -> dict[str, Any]:
    """Return facts about a run for readers, without paths: parts, parameters, checkpoint."""
    facts = run_info(network=network, checkpoint=named.run.checkpoint)
    backbone = facts["backbone"] or {}
    keys = ("checkpoint_sha256", "weights_sha256", "trainable_parameters", "prompt", "adapter", "head")
    return {"bundle": named.run.record.get("bundle"), "backbone": backbone.get("name")} | {
        key: facts[key] for key in keys
    }
