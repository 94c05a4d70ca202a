"""Facts below the table of a comparison: its data, settings and machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.statistics import DomainFigures
from movl_monai.experiments.compare.tasks import SEGMENTATION
from movl_monai.experiments.compare.work import RunTask

__all__ = ["facts"]


def facts(comparison: Comparison, outcome: Outcome, figures: Sequence[DomainFigures], command: str) -> list[str]:
    """Return lines on the data, the settings, the search, the intervals and the machine."""
    example = next((result for result in outcome.results if not result.training.failed), outcome.results[0])
    once = ", the first draw" if comparison.draws > 1 else ""
    sizes = [
        f"{name}: {part['images']} images{once if name in ('train', 'val') else ''} "
        f"({', '.join(f'{key} {count}' for key, count in part['classes'].items())}; "
        f"patients: {'not known' if part['patients'] is None else part['patients']})"
        for name, part in comparison.data.sizes().items()
    ]
    settings = (
        ", ".join(f"{name} {_shown(value)}" for name, value in comparison.overrides.items()) or "as in the config"
    )
    epochs = sorted({result.training.epochs for result in outcome.results})
    classified = bool(figures) and figures[0].task is not SEGMENTATION
    seconds = comparison.images.feature_seconds()
    lines = [
        f"Command: `{command}`",
        "",
        *[f"- {line}" for line in sizes],
        *_chosen(comparison),
        f"- image size: {comparison.setups[0].image_size or 'as in the config'}; epochs trained: "
        f"{', '.join(map(str, epochs))}; settings for all arms: {settings}",
        _seeds(comparison),
        _search_fact(comparison, outcome),
        "- Selection: of the start, the states after each epoch and further candidates of the bundle (shown as later "
        f"epochs), the one with the best {example.training.metric} on val, of equals the one with the lower cross "
        f"entropy on val{_clear(comparison)}; test images are evaluated once per final run.",
        *([_threshold(figures)] if classified else []),
        _intervals(comparison, figures),
        "- Trained parameters: numbers in the parts that are trained or solved. Train seconds: wall time of training "
        "with its validations; rough where several runs share the machine, as with --jobs."
        + (
            f" The features of the plain images are computed once for all arms ({seconds:.1f} s{once}, not in the "
            "table); those of a fixed prompt belong to its arm."
            if seconds
            else ""
        ),
        "- Peak memory: " + _memory(example.training.memory),
        f"- Machine: {_machine()}; versions: {', '.join(f'{k} {v}' for k, v in example.versions.items() if v)}",
        *[f"- {name} joined as the reference; `--arms` did not name it." for name in comparison.joined],
        *[f"- {name} joined as a member of an ensemble; `--arms` did not name it." for name in comparison.members],
        *[
            f"- {setup.name}: mean of the calibrated probabilities of {', '.join(setup.arm.members)}, of one seed and "
            "draw each; what it costs is the sum of its members, and its memory that of the largest."
            for setup in comparison.setups
            if setup.arm.members
        ],
        *[f"- {setup.name}: {setup.arm.about}" for setup in comparison.setups if setup.arm.about],
    ]
    failed = [result for result in outcome.results if result.training.failed]
    return lines + [
        f"- {RunTask(run.arm, run.seed, run.draw).said(comparison.draws)}, has no result: {run.training.failed}"
        for run in failed
    ]


def _seeds(comparison: Comparison) -> str:
    several = comparison.draws > 1
    return (
        f"- seeds: {', '.join(map(str, comparison.seeds))}. A seed changes the order of the images, the random border "
        "and where an adapter or queries start; arms without these (the exact linear probe) have the same result for "
        "all seeds"
        + ("" if several else ", so their sd is 0")
        + ". The data set's splits are the same for all seeds. ± is the standard deviation over the "
        + ("draws of the means over the seeds." if several else "seeds.")
    )


def _threshold(figures: Sequence[DomainFigures]) -> str:
    text = (
        "- Moved threshold: offsets of the classes' logits that maximise balanced accuracy on val, for each run; test "
        "images have no part in them. AUROC needs no threshold."
    )
    missing = sorted({entry.arm for entry in figures if np.isnan(entry.values["accuracy_moved"]).any()})
    if missing:
        text += (
            f" None for {', '.join(missing)}: results of an earlier version, which kept no outputs of val; "
            f"`--restart {','.join(missing)}` makes them again."
        )
    return text


def _intervals(comparison: Comparison, figures: Sequence[DomainFigures]) -> str:
    patients = all(entry.patients is not None for entry in figures)
    drawn = "whole patients" if patients else "images one by one where patients are not known, else whole patients"
    if comparison.draws == 1:
        return (
            f"- Intervals: 95 %, paired bootstrap with 2000 rounds that draw {drawn}; mean over the seeds of the "
            "difference of each seed. They hold the chance of the test images, not that of the training images; "
            "`--draws` adds it."
        )
    count = comparison.draws
    return (
        f"- Intervals: 95 %, hierarchical bootstrap with 2000 rounds, paired between the arms: each draws "
        f"{count - 1} of the {count} draws of training images with replacement (one less, so that the spread of "
        f"their mean is unbiased), and {drawn} of the test images. They hold the chance of both"
        + (f"; with {count} draws the part of the training images is rough." if count < 5 else ".")
    )


def _choice(comparison: Comparison) -> str:
    return f"{comparison.draws} seeded draws" if comparison.draws > 1 else "a seeded choice"


def _first(comparison: Comparison) -> str:
    return " and the first draw" if comparison.draws > 1 else ""


def _shown(value: Any) -> Any:
    """Return only the last part of a full path: the table may leave this machine."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _search_fact(comparison: Comparison, outcome: Outcome) -> str:
    if not any(outcome.trials.values()):
        return "- Search: none (`--search 0`); every arm has its own values."
    nothing = [name for name, trials in outcome.trials.items() if not trials]
    probes = any("head_solver" in setup.train for setup in comparison.setups)
    solved = " but the L2 strength, whose whole path is solved" if probes else ""
    without = f" {', '.join(nothing)}: nothing to search{solved}." if nothing else ""
    return (
        f"- Search: {comparison.budget} trials per arm on val with seed {comparison.seeds[0]}{_first(comparison)} "
        "(optuna TPE, random for its first ten; trial 0 has the arm's own values; of equal trials the one with the "
        "lower cross entropy on val wins); the best values are used for all "
        f"seeds{' and draws' if comparison.draws > 1 else ''}.{without}"
        + (" Exact linear probes choose their L2 strength on val inside of every run." if probes else "")
    )


def _clear(comparison: Comparison) -> str:
    """Return the further condition of ``selection: clear``, where the bundle has it."""
    if comparison.setups[0].train.get("selection") != "clear":
        return ""
    return "; a state replaces the start only if it is ahead of it in 95 % of resamples of the val patients"


def _chosen(comparison: Comparison) -> list[str]:
    lines = []
    for name, count in comparison.chosen.items():
        if name == "train_fraction":
            lines.append(f"- train: {count:.0%} of the images, whole patients in a seeded order that mixes the classes")
        elif count is not None:
            lines.append(
                f"- {name.replace('_', ' ')}: {count} asked for; {_choice(comparison)}, the same for all arms and "
                "seeds, with equally many of each class and as many patients as possible"
            )
    return lines


def _memory(kind: str) -> str:
    if kind == "cuda":
        return "largest memory of tensors on the CUDA device while training."
    return (
        "resident memory of the whole process while training, with libraries and the shared images in it. Only with "
        "--jobs has each run a process of its own; else it may hold what an earlier run left."
    )


def _machine() -> str:
    facts: Mapping[str, Any] = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, " + ", ".join(f"{count} {name}" for name, count in facts.items()) + gpu
