"""Run a comparison: read the data once, search every arm, run every arm, seed and draw, and collect the results."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from movl_monai.engines import check_output_dir
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.arms import Plan
from movl_monai.experiments.compare.data import ComparisonData, TestData, TrainingData
from movl_monai.experiments.compare.folder import ComparisonFolder
from movl_monai.experiments.compare.images import ComparisonImages
from movl_monai.experiments.compare.runs import (
    Result,
    copy_training,
    ensemble_run,
    ensemble_settings,
    final_run,
    read_result,
    result_settings,
)
from movl_monai.experiments.compare.search import Trial, is_searched, prepare_storage, search
from movl_monai.experiments.compare.setup import ArmSetup, set_up
from movl_monai.experiments.compare.training import Training, train_arm
from movl_monai.experiments.compare.work import RunTask, share_work

__all__ = ["Comparison", "Outcome"]

# settings that may differ between calls on one folder
_FREE = ("num_workers", "cache_dir")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of a comparison.

    Args:
        results: of every arm, seed and draw.
        trials: of every searched arm.
        best: number of the trial with the used values, by arm; None without a search.
    """

    results: list[Result]
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    best: dict[str, int | None] = field(default_factory=dict)


class Comparison:
    """Arms x seeds x draws on one data set, in one resumable run.

    The constructor checks all settings before any image is decoded. The data is read with the configuration's own
    ``seed``, so that all seeds of the comparison have the same splits.

    Several comparisons may work on one folder at once. Each claims one search or run at a time, skips those of others,
    and finally waits for them, so that each has all results.

    A comparison needs a bundle with the ids ``datalist``, ``images`` (train and val, decoded), ``id_map``,
    ``output_dir``, ``cache_dir``, ``checkpoint``, ``resume``, ``seed``, ``train#trainer`` and ``validate#evaluator`` in
    its training and ``dataset`` and ``evaluator`` in its evaluation configuration.

    Args:
        plan: the arms file.
        arms: names of the arms; the first reference joins them, and so do the members of ensembles.
        seeds: of the runs; the first one is used for the search.
        output_dir: for all outputs.
        dataset_dir: the data set.
        budget: trials per arm.
        overrides: ids of the configuration, for all arms.
        train_images: number of training images, see :func:`choose_images`; None uses all.
        val_images: number of val images, chosen in the same way; None uses all.
        train_fraction: part of the training images to use, in whole patients; None uses all.
        draws: number of choices of training (and val) images; the search uses the first draw.
        restart: arms whose search and results are deleted first.

    Raises:
        ConfigError: for unknown arms or ids, or a folder with another comparison.
        DataError: if the data is not suitable.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        arms: Sequence[str],
        seeds: Sequence[int],
        output_dir: Path,
        dataset_dir: str,
        budget: int = 0,
        overrides: Mapping[str, Any] | None = None,
        train_images: int | None = None,
        val_images: int | None = None,
        train_fraction: float | None = None,
        draws: int = 1,
        restart: Sequence[str] = (),
    ) -> None:
        if not seeds or budget < 0:
            raise ConfigError(f"A comparison needs one or more seeds and a budget >= 0, got {list(seeds)}, {budget}.")
        if draws < 1:
            raise ConfigError(f"--draws must be 1 or more, got {draws}.")
        self.plan, self.seeds, self.budget, self.draws = plan, list(dict.fromkeys(seeds)), budget, draws
        self.overrides = dict(overrides or {})
        self.joined, self.members = plan.joined(arms), plan.members(arms)
        self.renamed = {name: plan.aliases[name] for name in arms if name in plan.aliases}
        chosen = plan.select([*self.joined, *arms, *self.members])
        # an ensemble is made from the results of the others
        self.setup = set_up(plan, sorted(chosen, key=lambda arm: bool(arm.members)), self.overrides)
        self.setups = self.setup.arms
        again = [arm.name for arm in plan.select(restart)] if restart else []
        self.folder = ComparisonFolder(check_output_dir(output_dir))
        self.chosen: dict[str, Any] = {"train_images": train_images, "val_images": val_images}
        if train_fraction is not None:
            self.chosen["train_fraction"] = train_fraction
        with self.folder.opened(alone=bool(again)):
            self.images = ComparisonImages(
                self.setup,
                self.folder,
                dataset_dir=dataset_dir,
                cache_dir=self.cache_dir,
                draws=draws,
                chosen=self.chosen,
            )
            self.folder.claim(self._settings(), self.setups, restart=again)
            if budget:
                prepare_storage(self.folder.storage)
        self._found: dict[str, tuple[Trial, list[Trial]]] = {}
        self._results: dict[RunTask, Result] = {}

    def run(self) -> Outcome:
        """Run all unfinished searches and runs; return all results."""
        self._say_arms()
        with self.folder.at_work():
            self._work([*self.searches(), *self.tasks()])
        return Outcome(
            results=[self._results[task] for task in self.tasks()],
            trials={name: trials for name, (_, trials) in self._found.items()},
            best={name: best.number if trials else None for name, (best, trials) in self._found.items()},
        )

    def run_task(self, task: RunTask | str) -> None:
        """Do one run, with the search of its arm if that is not done; for the name of an arm, only its search."""
        with self.folder.at_work():
            self._work([task] if isinstance(task, str) else self._with_members(task))

    def needed(self, arm: str) -> list[str]:
        """Return the arms that must be done before a run of an arm: the members of an ensemble."""
        return list(self._setup(arm).arm.members)

    def searches(self) -> list[str]:
        """Return the arms, each a piece of work: its search, possibly empty."""
        return [setup.name for setup in self.setups]

    def tasks(self) -> list[RunTask]:
        """Return all runs, ordered by draw, so that the images of a draw are decoded once."""
        return [
            RunTask(arm, seed, draw) for draw in range(self.draws) for seed in self.seeds for arm in self.searches()
        ]

    def is_searched(self, arm: str) -> bool:
        """Return True if the search of an arm is done, or there is none."""
        return is_searched(self._setup(arm), budget=self.budget, storage=self.folder.storage, data_digest=self._digest)

    def is_done(self, task: RunTask) -> bool:
        """Return True if a run has its result; searches of its arm are completed first."""
        for arm in (*self.needed(task.arm), task.arm):
            self._search(arm)
        return self._known(task) is not None

    @property
    def data(self) -> ComparisonData:
        """Lists of the first draw."""
        return self.images.lists[0]

    @property
    def training_data(self) -> TrainingData:
        """Train and val images of the first draw."""
        return self.images.training()

    @property
    def test_data(self) -> TestData:
        """Images of the reported figures."""
        return self.images.test

    @property
    def cache_dir(self) -> Path:
        """Folder of the features that all arms share."""
        return Path(self.overrides.get("cache_dir") or self.folder.path / "cache")

    @property
    def _digest(self) -> str:
        """Digest of the images and the seed of the search."""
        return self.data.fingerprints["training"] + f"-seed{self.seeds[0]}"

    def _work(self, tasks: Sequence[RunTask | str]) -> None:
        def claim(task: RunTask | str) -> AbstractContextManager[bool]:
            name = f"search-{task}" if isinstance(task, str) else f"run-{task.arm}-{task.folder}"
            return self.folder.piece(name)

        def do(task: RunTask | str) -> None:
            if isinstance(task, str):
                self._search(task)
            else:
                self._final(task)

        share_work(
            tasks,
            do,
            claim=claim,
            ready=self._is_ready,
            waiting=lambda left: _say(f"waiting for another command that is at work on {', '.join(map(str, left))}"),
        )

    def _is_ready(self, task: RunTask | str) -> bool:
        if isinstance(task, str):
            return True
        return task.arm in self._found and all(member in self._results for member in self._member_tasks(task))

    def _member_tasks(self, task: RunTask) -> list[RunTask]:
        return [replace(task, arm=arm) for arm in self.needed(task.arm)]

    def _with_members(self, task: RunTask) -> list[RunTask | str]:
        tasks = [*self._member_tasks(task), task]
        return [piece for one in tasks for piece in (one.arm, one)]

    def _say_arms(self) -> None:
        for name, arm in self.renamed.items():
            _say(f"{name} is the arm {arm}")
        for name in self.joined:
            _say(f"{name} joins as the reference")
        for name in self.members:
            _say(f"{name} joins as a member of an ensemble")
        draws = f"{self.draws} draws, " if self.draws > 1 else ""
        _say(f"{len(self.setups)} arms, {len(self.seeds)} seeds, {draws}{self.budget} trials per arm with a search")

    def _setup(self, arm: str) -> ArmSetup:
        return next(setup for setup in self.setups if setup.name == arm)

    def _search(self, arm: str) -> None:
        if arm in self._found:
            return
        setup, first = self._setup(arm), RunTask(arm, self.seeds[0])

        def evaluate(trial: Trial) -> Trial:
            started = time.perf_counter()
            training = self._train(first, trial.values, self.folder.trial(arm, trial.number))
            score = "diverged" if training.score is None else f"{training.metric} {training.score:.4f}"
            _say(f"search {arm}: trial {trial.number + 1}/{self.budget}: {score}, {_since(started)}")
            return replace(trial, score=training.score, tie_break=training.tie_break)

        best, trials = search(
            setup,
            evaluate,
            budget=self.budget,
            storage=self.folder.storage,
            data_digest=self._digest,
        )
        for trial in trials:
            if trial.number != best.number:
                (self.folder.trial(arm, trial.number) / "models/model.pt").unlink(missing_ok=True)
        self._found[arm] = best, trials

    def _known(self, task: RunTask) -> Result | None:
        folder = self.folder.run(task.arm, task.seed, task.draw)
        if self.needed(task.arm):
            members = [self._results.get(one) or self._known(one) for one in self._member_tasks(task)]
            known = [one for one in members if one is not None]
            whole = len(known) == len(members)
            return read_result(folder, ensemble_settings(self._setup(task.arm), known)) if whole else None
        values, prints = self._found[task.arm][0].values, self.images.lists[task.draw].fingerprints
        settings = result_settings(self._setup(task.arm), values, task.seed, prints)
        return read_result(folder, settings)

    def _final(self, task: RunTask) -> None:
        every = self.tasks()
        place = f"[{every.index(task) + 1}/{len(every)}] {task.said(self.draws)}"
        known = self._known(task)
        if known is not None:
            self._results[task] = known
            _say(f"{place}: done before")
            return
        folder = self.folder.run(task.arm, task.seed, task.draw)
        started = time.perf_counter()
        if self.needed(task.arm):
            members = [self._results[one] for one in self._member_tasks(task)]
            result = ensemble_run(self._setup(task.arm), members, folder=folder)
        else:
            result = self._trained(task, folder)
        score = result.training.failed or f"{result.training.metric} {result.training.score:.4f}"
        _say(f"{place}: {score}, {_since(started)}")
        self._results[task] = result

    def _trained(self, task: RunTask, folder: Path) -> Result:
        best, trials = self._found[task.arm]
        if trials and (task.seed, task.draw) == (self.seeds[0], 0):
            copy_training(self.folder.trial(task.arm, best.number), folder)
        return final_run(
            self._setup(task.arm),
            values=best.values,
            seed=task.seed,
            draw=task.draw,
            folder=folder,
            fingerprints=self.images.lists[task.draw].fingerprints,
            train=lambda: self._train(task, best.values, folder),
            test=lambda: self.images.evaluated(task.draw),
        )

    def _train(self, task: RunTask, values: Mapping[str, Any], folder: Path) -> Training:
        return train_arm(
            self._setup(task.arm),
            self.images.training(task.draw),
            values=values,
            seed=task.seed,
            folder=folder,
            cache_dir=self.cache_dir,
            data_digest=self.images.lists[task.draw].fingerprints["training"],
        )

    def _settings(self) -> dict[str, Any]:
        """Return the settings that all results of the folder share, by name, for messages about differences."""
        overrides = {name: value for name, value in self.overrides.items() if name not in _FREE}
        prints = {f"{name} data": digest for name, digest in self.data.fingerprints.items()}
        return {**overrides, **self.chosen, **prints, "seed of the search": self.seeds[0]}


def _say(text: str) -> None:
    print(f"compare: {text}", file=sys.stderr, flush=True)


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"
