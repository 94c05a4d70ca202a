"""Run a comparison: read the data once, search every arm, run every arm and seed, and collect the results."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from movl_monai.compare.arms import Plan
from movl_monai.compare.configs import make_parser
from movl_monai.compare.data import ComparisonData, TestData, TrainingData, split_lists
from movl_monai.compare.folder import ComparisonFolder
from movl_monai.compare.runs import Result, copy_training, final_run, read_result, result_settings
from movl_monai.compare.search import Trial, search
from movl_monai.compare.setup import ArmSetup, set_up
from movl_monai.compare.training import Training, read_record, train_arm
from movl_monai.data.keep import Keeping
from movl_monai.data.make_splits import make_kept_splits
from movl_monai.engines import check_output_dir
from movl_monai.errors import ConfigError
from movl_monai.evaluation.files import to_json, write_atomically

__all__ = ["Comparison", "Outcome"]

# the command line's settings that may differ between the calls that fill one folder
_FREE = ("num_workers", "cache_dir")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a comparison found.

    Args:
        results: of every arm and seed.
        trials: of every arm that was searched.
        best: number of the trial whose values were used, by arm; None if nothing was searched.
    """

    results: list[Result]
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    best: dict[str, int | None] = field(default_factory=dict)


class Comparison:
    """Arms x seeds on one data set, in one resumable run.

    Everything that can be wrong with the settings is found by the constructor, before an image is decoded. The data is
    read with the configuration's own ``seed``, so that all seeds of the comparison have the same splits.

    A bundle that can be compared has the ids ``datalist``, ``images`` (train and val, decoded), ``id_map``,
    ``output_dir``, ``cache_dir``, ``checkpoint``, ``resume``, ``seed``, ``train#trainer`` and ``validate#evaluator``
    in its training and ``dataset`` and ``evaluator`` in its evaluation configuration.

    Args:
        plan: the arms file.
        arms: names of the arms.
        seeds: of the runs; the first one is that of the search.
        output_dir: for everything.
        dataset_dir: the data set.
        budget: trials per arm.
        overrides: ids of the configuration, for all arms.
        train_images: how many training images to use, see :func:`choose_images`; None uses all.
        val_images: the same for val.
        train_fraction: part of the training images to use, in whole patients; None uses all.
        restart: arms whose search and results are deleted first.

    Raises:
        ConfigError: for unknown arms or ids, or a folder with another comparison.
        DataError: if the data cannot be compared on.
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
        restart: Sequence[str] = (),
    ) -> None:
        if not seeds or budget < 0:
            raise ConfigError(f"A comparison needs one or more seeds and a budget >= 0, got {list(seeds)}, {budget}.")
        self.plan, self.seeds, self.budget = plan, list(dict.fromkeys(seeds)), budget
        self.overrides = dict(overrides or {})
        self.setup = set_up(plan, plan.select(arms), self.overrides)
        self.setups = self.setup.arms
        again = [arm.name for arm in plan.select(restart)] if restart else []
        self.folder = ComparisonFolder(check_output_dir(output_dir))
        self._paths = {"dataset_dir": dataset_dir, "output_dir": str(output_dir)}
        self.chosen: dict[str, Any] = {"train_images": train_images, "val_images": val_images}
        if train_fraction is not None:
            self.chosen["train_fraction"] = train_fraction
        with self.folder.locked():
            self.data = self._read_lists()
            self.folder.claim(self._settings(), self.setups, restart=again)

    def run(self) -> Outcome:
        """Search and run what is not done yet; return all of it."""
        with self.folder.locked():
            return self._run()

    @cached_property
    def training_data(self) -> TrainingData:
        """The train and val images, decoded at first use, with their shared features."""
        images = self._load(self.setup.train, datalist=self.data.training).get_parsed_content("images")
        data = TrainingData(self.data.training, images)
        self._keep_splits(data)
        self._prepare_features(data)
        return data

    @cached_property
    def test_data(self) -> TestData:
        """The images that are reported, decoded at first use: after the search."""
        images = self._load(self.setup.evaluate, datalist=self.data.test).get_parsed_content("dataset")
        return TestData(self.data.test, images)

    @property
    def cache_dir(self) -> Path:
        """Features that all arms share."""
        return Path(self.overrides.get("cache_dir") or self.folder.path / "cache")

    def feature_seconds(self) -> float | None:
        """Seconds that the shared features took, if they were computed here."""
        return read_record(self.folder.path / "features.json").get("seconds")

    def _run(self) -> Outcome:
        outcome = Outcome(results=[])
        _say(f"{len(self.setups)} arms, {len(self.seeds)} seeds, {self.budget} trials per arm with a search")
        chosen: dict[str, dict[str, Any]] = {}
        for setup in self.setups:
            best, trials = self._search(setup)
            chosen[setup.name] = best.values
            outcome.trials[setup.name] = trials
            outcome.best[setup.name] = best.number if trials else None
        total, number = len(self.setups) * len(self.seeds), 0
        for seed in self.seeds:
            for setup in self.setups:
                number += 1
                result = self._final(setup, chosen[setup.name], seed, f"[{number}/{total}]", outcome.best[setup.name])
                outcome.results.append(result)
        return outcome

    def _search(self, setup: ArmSetup) -> tuple[Trial, list[Trial]]:
        def evaluate(trial: Trial) -> Trial:
            started = time.perf_counter()
            training = self._train(setup, trial.values, self.seeds[0], self.folder.trial(setup.name, trial.number))
            score = "diverged" if training.score is None else f"{training.metric} {training.score:.4f}"
            _say(f"search {setup.name}: trial {trial.number + 1}/{self.budget}: {score}, {_since(started)}")
            return replace(trial, score=training.score, tie_break=training.tie_break)

        best, trials = search(
            setup,
            evaluate,
            budget=self.budget,
            storage=self.folder.storage,
            data_digest=self.data.fingerprints["training"] + f"-seed{self.seeds[0]}",
        )
        for trial in trials:
            if trial.number != best.number:
                (self.folder.trial(setup.name, trial.number) / "models/model.pt").unlink(missing_ok=True)
        return best, trials

    def _final(self, setup: ArmSetup, values: Mapping[str, Any], seed: int, place: str, best: int | None) -> Result:
        folder, prints = self.folder.run(setup.name, seed), self.data.fingerprints
        known = read_result(folder, result_settings(setup, values, seed, prints))
        if known is not None:
            _say(f"{place} {setup.name}, seed {seed}: done before")
            return known
        if best is not None and seed == self.seeds[0]:
            copy_training(self.folder.trial(setup.name, best), folder)
        started = time.perf_counter()
        result = final_run(
            setup,
            values=values,
            seed=seed,
            folder=folder,
            fingerprints=prints,
            train=lambda: self._train(setup, values, seed, folder),
            test=lambda: self.test_data,
        )
        score = result.training.failed or f"{result.training.metric} {result.training.score:.4f}"
        _say(f"{place} {setup.name}, seed {seed}: {score}, {_since(started)}")
        return result

    def _train(self, setup: ArmSetup, values: Mapping[str, Any], seed: int, folder: Path) -> Training:
        return train_arm(
            setup,
            self.training_data,
            values=values,
            seed=seed,
            folder=folder,
            cache_dir=self.cache_dir,
            data_digest=self.data.fingerprints["training"],
        )

    def _load(self, config: Mapping[str, Any], *, progress: bool = False, **objects: Any) -> Any:
        """A parser of what all arms share."""
        own = {"cache_dir": str(self.cache_dir), **self._paths}
        return make_parser(config, own, progress=progress, **objects)

    def _read_lists(self) -> ComparisonData:
        kept: dict[str, Any] = {}
        if self.folder.splits.is_file():
            kept["datalist#kept_splits"] = str(self.folder.splits)
        parser = self._load(self.setup.train, **kept)
        return split_lists(parser.get_parsed_content("datalist"), **self.chosen, seed=parser.get_parsed_content("seed"))

    def _keep_splits(self, data: TrainingData) -> None:
        """Keep the splits for later calls, for the folders of the runs, and for a look at the test images."""
        if data.datalist.keeping is not None:
            return
        kept = make_kept_splits(data.datalist, data.images)
        write_atomically(self.folder.splits, kept.write())
        for item in data.datalist.whole:
            item["known"] = item["split"] or "" if item["domain"] == data.datalist.id_domain else ""
        self.data.training.keeping = self.data.test.keeping = Keeping(kept=kept)

    def _prepare_features(self, data: TrainingData) -> None:
        """Compute the features that arms share before any arm is timed."""
        parser = self._load(self.setup.train, progress=True, datalist=data.datalist, images=data.images)
        begin = time.perf_counter()
        for section in ("train", "validate"):
            if "features" in parser.get().get(section, {}):
                _ = parser.get_parsed_content(f"{section}#features").values
        path = self.folder.path / "features.json"
        if not path.is_file():
            write_atomically(path, to_json({"seconds": time.perf_counter() - begin}).encode())

    def _settings(self) -> dict[str, Any]:
        """What all results of the folder share, by name, for the message where it differs."""
        overrides = {name: value for name, value in self.overrides.items() if name not in _FREE}
        prints = {f"{name} data": digest for name, digest in self.data.fingerprints.items()}
        return {**overrides, **self.chosen, **prints, "seed of the search": self.seeds[0]}


def _say(text: str) -> None:
    print(f"compare: {text}", file=sys.stderr, flush=True)


def _since(started: float) -> str:
    return f"{time.perf_counter() - started:.1f} s"
