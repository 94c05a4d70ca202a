from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.arms import Arm, parse_space
from movl_monai.experiments.compare.search import Trial, delete_study, search
from movl_monai.experiments.compare.setup import ArmSetup

SPACE = {"lr": {"log": [1e-3, 1e-1]}, "kind": {"choice": ["kl", "mse"]}, "width": {"share_of_image": [0.03, 0.2]}}
DEFAULTS = {"lr": 0.01, "kind": "kl", "width": 8}


def _setup(**changes: Any) -> ArmSetup:
    arm = Arm(name="joint", about="", overlays=(), overrides={}, space={})
    setup = ArmSetup(
        arm=arm, train={}, evaluate={}, space=parse_space(SPACE), defaults=DEFAULTS, image_size=64, digest="digest"
    )
    return replace(setup, **changes)


def _score(trial: Trial) -> float:
    return -abs(trial.values["lr"] - 0.02)


def _search(storage: Path, evaluate: Any = _score, *, budget: int = 4, setup: ArmSetup | None = None, **options: Any):  # noqa: ANN202
    def tried(trial: Trial) -> Trial:
        found = evaluate(trial)
        score, tie_break = found if isinstance(found, tuple) else (found, None)
        return replace(trial, score=score, tie_break=tie_break)

    options = {"data_digest": "data", **options}
    return search(setup or _setup(), tried, budget=budget, storage=storage, **options)


def test_the_budget_is_spent_and_trial_0_has_the_arms_own_values(tmp_path: Path) -> None:
    best, trials = _search(tmp_path / "s.sqlite3")
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert trials[0].values == DEFAULTS
    assert best == max(trials, key=lambda trial: trial.score)
    assert all(0.03 * 64 - 1 < trial.values["width"] < 0.2 * 64 + 1 for trial in trials)


def test_a_killed_search_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = _search(tmp_path / "whole.sqlite3")
    seen: list[int] = []

    def killed(trial: Trial) -> float:
        seen.append(trial.number)
        if len(seen) in (1, 3, 4):
            raise KeyboardInterrupt
        return _score(trial)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            _search(tmp_path / "killed.sqlite3", killed)
    assert _search(tmp_path / "killed.sqlite3", killed) == whole
    assert seen == [0, 0, 1, 1, 1, 2, 3]


def test_a_search_that_is_done_tries_nothing(tmp_path: Path) -> None:
    first = _search(tmp_path / "s.sqlite3")

    def never(trial: Trial) -> float:
        raise AssertionError(f"trial {trial.number} ran again")

    assert _search(tmp_path / "s.sqlite3", never) == first
    assert len(_search(tmp_path / "s.sqlite3", never, budget=2)[1]) == 2


def test_a_larger_budget_goes_on_with_the_trials_there_are(tmp_path: Path) -> None:
    _search(tmp_path / "s.sqlite3", budget=2)
    assert _search(tmp_path / "s.sqlite3", budget=4) == _search(tmp_path / "whole.sqlite3", budget=4)


def test_equal_figures_keep_the_earliest_trial_so_the_arms_own_values_win_ties(tmp_path: Path) -> None:
    best, _ = _search(tmp_path / "s.sqlite3", lambda trial: 0.5)
    assert best.number == 0


def test_equal_figures_are_told_apart_by_the_tie_break_also_after_a_kill(tmp_path: Path) -> None:
    ties = [-0.5, -0.3, -0.4, -0.3]
    best, trials = _search(tmp_path / "s.sqlite3", lambda trial: (0.5, ties[trial.number]))
    assert best.number == 1
    assert [trial.tie_break for trial in trials] == ties
    assert _search(tmp_path / "s.sqlite3", lambda trial: None) == (best, trials)
    better = _search(tmp_path / "b.sqlite3", lambda trial: (0.5 + (trial.number == 2), ties[trial.number]))[0]
    assert better.number == 2, "the score comes first"


def test_a_diverged_training_counts_as_a_trial_and_cannot_win(tmp_path: Path) -> None:
    best, trials = _search(tmp_path / "s.sqlite3", lambda trial: None if trial.number != 2 else 0.1)
    assert len(trials) == 4
    assert best.number == 2
    with pytest.raises(ConfigError, match="Every one of the 4 trials"):
        _search(tmp_path / "none.sqlite3", lambda trial: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"space": parse_space({**SPACE, "lr": {"log": [1e-4, 1e-1]}})},
        {"defaults": {**DEFAULTS, "lr": 0.05}},
        {"digest": "another configuration"},
    ],
    ids=["space", "defaults", "configuration"],
)
def test_a_study_of_another_search_is_refused_and_says_what_to_do(changes: dict[str, Any], tmp_path: Path) -> None:
    _search(tmp_path / "s.sqlite3", budget=1)
    with pytest.raises(ConfigError, match="another search space.*--restart joint"):
        _search(tmp_path / "s.sqlite3", setup=_setup(**changes))
    with pytest.raises(ConfigError, match="another search space"):
        _search(tmp_path / "s.sqlite3", data_digest="other data")


def test_a_deleted_study_begins_again_in_another_space(tmp_path: Path) -> None:
    _search(tmp_path / "s.sqlite3", budget=1)
    delete_study(tmp_path / "s.sqlite3", "joint")
    delete_study(tmp_path / "s.sqlite3", "never begun")
    other = _setup(space=parse_space({"lr": {"log": [1e-4, 1e-1]}}), defaults={"lr": 0.05})
    assert _search(tmp_path / "s.sqlite3", setup=other, budget=1)[0].values == {"lr": 0.05}


def test_without_a_budget_or_a_space_nothing_is_tried_and_no_file_is_made(tmp_path: Path) -> None:
    best, trials = _search(tmp_path / "s.sqlite3", budget=0)
    assert best.values == DEFAULTS
    assert trials == []
    assert _search(tmp_path / "s.sqlite3", setup=_setup(space={}, defaults={}))[0].values == {}
    assert not (tmp_path / "s.sqlite3").exists()
