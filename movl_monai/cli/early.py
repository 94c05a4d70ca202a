"""Checks of paths, names and settings before the program of a command, which imports torch and MONAI, is loaded."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.bundles import find_bundle, find_overlays
from movl_monai.cli.options import CORRUPTION_NAMES, split_numbers, split_words
from movl_monai.errors import ConfigError, DataError
from movl_monai.experiments.compare.arms import Plan, read_plan
from movl_monai.export.sealed import is_exported
from movl_monai.files import missing_part
from movl_monai.fit.task import BUNDLES, check_minutes, decide, decide_task, unit_overlays
from movl_monai.id_values import parse_overrides
from movl_monai.predict.outputs import check_names, check_outside
from movl_monai.runs.config_files import find_place, merge_configs, read_config
from movl_monai.runs.overrides import KNOWN_IDS, check_ids
from movl_monai.runs.preflight import check_apart, check_paths, check_workflow
from movl_monai.runs.run_record import Workflow, open_run
from movl_monai.runs.settings import check_values

__all__ = [
    "check_compare",
    "check_ensemble",
    "check_evaluate",
    "check_export",
    "check_fit",
    "check_predict",
    "check_robustness",
]


def check_evaluate(options: argparse.Namespace) -> None:
    """Check the run, the settings, the data set and its lists, and the runs to compare with."""
    overrides = {"dataset_dir": options.dataset_dir, **parse_overrides(options.overrides)}
    check_paths(_check_run(options.run_dir, "evaluate", overrides, options), "evaluating")
    for path in options.against:
        _check_there(path, "--against")


def check_export(options: argparse.Namespace) -> None:
    """Check the run, the settings and the images."""
    _check_run(options.run_dir, "inference", parse_overrides(options.overrides), options)
    for path in options.images:
        _check_there(path, "--images")


def check_predict(options: argparse.Namespace) -> None:
    """Check the model, the input, the outputs and the settings."""
    model = Path(options.model)
    if not model.exists():
        raise ConfigError(
            f"There is no run and no exported model at {model.absolute()}; give the output_dir of a training, its "
            "model.pt, or a file of `movl-monai export`."
        )
    _check_there(options.input, "INPUT")
    check_names(split_words(options.outputs))
    check_outside(options.input, options.output_dir)
    check_batch_size(options.batch_size)
    read_codes(options.codes)
    overrides = parse_overrides(options.overrides)
    if not is_exported(model):
        _check_run(options.model, "inference", overrides, options)


def check_ensemble(options: argparse.Namespace) -> None:
    """Check the runs and the data set."""
    for path in options.run_dirs:
        open_run(path, trust=options.trust)
    if options.dataset_dir is not None:
        _check_there(options.dataset_dir, "--dataset_dir")


def check_robustness(options: argparse.Namespace) -> None:
    """Check the runs, the data set, the corruptions and the severities."""
    for word in [*options.runs, options.baseline]:
        path = Path(word.partition("=")[2] or word)
        if path.exists() or word is not options.baseline:
            open_run(path, bundle_dir=options.bundle_dir, trust=options.trust)
    _check_there(options.dataset_dir, "--dataset_dir")
    check_apart(options.dataset_dir, options.output_dir)
    split_numbers(options.severities, option="--severities", example="1,3,5")
    unknown = [name for name in split_words(options.corruptions or "") if name not in CORRUPTION_NAMES]
    if unknown:
        raise ConfigError(f"--corruptions must be of {', '.join(CORRUPTION_NAMES)}, got '{unknown[0]}'.")


def check_compare(options: argparse.Namespace) -> None:
    """Check the bundle, the arms, the data set and the settings; or the comparisons to be summarised."""
    if options.summary:
        for path in options.summary:
            _check_there(path, "--summary")
        return
    for name in ("bundle", "dataset_dir"):
        if getattr(options, name) is None:
            raise ConfigError(f"--{name} is missing; only --summary works without it.")
    bundle = find_bundle(options.bundle)
    plan = read_plan(options.arms_file or bundle / "compare.json", bundle=bundle, overlays=split_words(options.overlay))
    if options.arms:
        plan.select(split_words(options.arms))
    if options.restart:
        plan.select(split_words(options.restart))
    _check_there(options.dataset_dir, "--dataset_dir")
    check_apart(options.dataset_dir, options.output_dir)
    split_numbers(options.seeds, option="--seeds", example="0,1,2")
    _check_settings(plan, parse_overrides(options.overrides))


def check_fit(options: argparse.Namespace) -> None:
    """Check the budget, the data set and its list, the backbones, the settings and the output folder."""
    _check_there(options.dataset_dir, "DATA")
    check_minutes(options.minutes)
    given = parse_overrides(options.overrides)
    unit = given.pop("unit", None)
    task, _ = decide_task(Path(options.dataset_dir), task=options.task, given=given)
    bundle = find_bundle(options.bundle or BUNDLES[task])
    find_overlays(bundle, {"backbone": [name for name in split_words(options.backbones) if name != "default"]})
    overlays: Sequence[str] = ()
    if task in ("multilabel", "regression"):
        decision = decide(Path(options.dataset_dir), task=task, given=given)
        overlays, given = decision.overlays, {**decision.settings, **given}
    overlays = [*overlays, *unit_overlays(bundle, unit)]
    files = [str(bundle / "configs" / name) for name in ("train.json", *overlays, "evaluate.json")]
    places = {"dataset_dir": options.dataset_dir, "output_dir": options.output_dir, "overwrite": True}
    # fit lists the images of a leak, and goes on in no case
    check_workflow("training", files, {**given, **places, "allow_patient_overlap": True})


def check_batch_size(text: str) -> int | None:
    """Return the number of `--batch_size`, or None for "auto".

    Raises:
        ConfigError: for anything else.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"--batch_size must be 'auto' or a number of at least 1, got {text!r}.")
    return int(text)


def read_codes(path: str | None) -> dict[str, list[str]] | None:
    """Return the content of the file of `--codes`.

    Raises:
        ConfigError: if it cannot be read, or does not hold a code by class name.
    """
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--codes cannot be read as JSON ({type(error).__name__}): {path}.") from error
    if not isinstance(content, dict):
        raise ConfigError('--codes must hold {"class name": [value, scheme designator, meaning], ...}.')
    return content


def _check_there(path: str, option: str) -> None:
    if not str(path):
        raise DataError(f"`{option}` is empty; if it was written with a shell variable, that variable is not set.")
    if not Path(path).exists():
        raise DataError(f"`{option}` names no file or folder: {missing_part(path)}. Correct the path.")


def _check_run(
    path: str, workflow: Workflow, overrides: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Return the config of a run's workflow with the overrides, which are checked."""
    config = open_run(path, bundle_dir=options.bundle_dir, trust=options.trust).config(workflow)
    for name in overrides:
        find_place(config, name, of=f"`--{name}`")
    merged = merge_configs([("", config), ("", overrides)])
    check_ids(merged, known=config[KNOWN_IDS])
    check_values(config, overrides)
    return merged


def _check_settings(plan: Plan, overrides: Mapping[str, Any]) -> None:
    """Check settings of all arms against the ids of any arm's config files."""
    files = dict.fromkeys([*plan.train, *(file for arm in plan.arms.values() for file in arm.overlays)])
    config = merge_configs([(file.name, read_config(file)) for file in plan.train])
    known = set(_ids([*files, *plan.evaluate]))
    check_ids({**config, **overrides}, known=known - (set(overrides) - known))
    check_values(config, overrides)


def _ids(files: Sequence[Path]) -> list[str]:
    return [name.lstrip("+").replace("#", "::").split("::")[0] for file in files for name in read_config(file)]
