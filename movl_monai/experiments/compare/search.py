"""Search of an arm's settings on `val`, with the same budget as every other arm, resumable after a kill."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.setup import ArmSetup

__all__ = ["Trial", "delete_study", "is_searched", "prepare_storage", "search"]

_SPACE = "search_space_sha256"
_DIVERGED = "diverged"
_TIE_BREAK = "tie_break"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Finished trial.

    Args:
        number: from 0 in the arm's budget; 0 has the arm's own values.
        values: of the searched ids, in the form of the config.
        score: the selecting figure on ``val``; None if the training diverged.
        tie_break: the figure on ``val`` that decides between equal scores; None if there is none.
    """

    number: int
    values: dict[str, Any]
    score: float | None
    tie_break: float | None = None


def search(
    setup: ArmSetup,
    evaluate: Callable[[Trial], Trial],
    *,
    budget: int,
    storage: Path,
    data_digest: str,
    seed: int = 0,
) -> tuple[Trial, list[Trial]]:
    """Try ``budget`` sets of values and return the best: by score, then tie-break, then the earliest.

    Trial 0 has the arm's own values, so a search never makes an arm worse on ``val``; the others are drawn by optuna's
    TPE sampler, whose first ten draws are random. The sampler of trial k is seeded with ``seed + k``, so that a killed
    search resumes as if uninterrupted, and arms with the same space get the same draws. A diverged training counts as a
    trial. Nothing is pruned.

    Args:
        setup: the arm; without a search space nothing is tried, and the arm's own values are returned.
        evaluate: trains with the values of a trial and returns it with its figures, higher is better; a score of None
            for a diverged training.
        budget: number of trials, >= 0; 0 uses the arm's own values.
        storage: SQLite file with one study per arm. Only the first ``budget`` trials of a study count.
        data_digest: fingerprint of the images of the search.
        seed: of the sampler.

    Returns:
        The best trial, and all trials.

    Raises:
        ConfigError: if the file has a study of this arm with another search space, or every trial diverged.
    """
    own = Trial(number=0, values=dict(setup.defaults), score=None)
    if budget == 0 or not setup.space:
        return own, []
    with _study(storage, setup, data_digest) as study:
        _forget_killed(study)
        done = _finished(study, setup)
        while len(done) < budget:
            _run_trial(study, setup, evaluate, number=len(done), seed=seed)
            done = _finished(study, setup)
    done = done[:budget]
    scored = [trial for trial in done if trial.score is not None]
    if not scored:
        raise ConfigError(
            f"Every one of the {len(done)} trials of the arm '{setup.name}' diverged; lower its search ranges."
        )
    return min(scored, key=_rank), done


def _rank(trial: Trial) -> tuple[float, float, int]:
    """Return a sort key that puts the better trial first."""
    score = -math.inf if trial.score is None else trial.score
    tie_break = -math.inf if trial.tie_break is None else trial.tie_break
    return -score, -tie_break, trial.number


def delete_study(storage: Path, arm: str) -> None:
    """Delete an arm's study, if there is one."""
    import optuna

    if storage.is_file():
        with _storage(storage) as opened, contextlib.suppress(KeyError):
            optuna.delete_study(study_name=arm, storage=opened)


def is_searched(setup: ArmSetup, *, budget: int, storage: Path, data_digest: str) -> bool:
    """Return True if all trials of the budget are done, or there is nothing to search."""
    if budget == 0 or not setup.space:
        return True
    with _study(storage, setup, data_digest) as study:
        return len(_finished(study, setup)) >= budget


def prepare_storage(path: Path) -> None:
    """Make the file of the studies, which two processes cannot do at once."""
    with _storage(path):
        pass


def _run_trial(study: Any, setup: ArmSetup, evaluate: Callable[[Trial], Trial], *, number: int, seed: int) -> None:
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed + number)
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    if number == 0 and not waiting:
        drawn = {
            name: part.drawn(setup.defaults[name], image_size=setup.image_size) for name, part in setup.space.items()
        }
        study.enqueue_trial(drawn)
    trial = study.ask({name: part.distribution() for name, part in setup.space.items()})
    values = setup.defaults if number == 0 else _values(setup, trial.params)
    done = evaluate(Trial(number=number, values=dict(values), score=None))
    if done.score is None:
        trial.set_user_attr(_DIVERGED, True)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        trial.set_user_attr(_TIE_BREAK, done.tie_break)
        study.tell(trial, done.score)


def _values(setup: ArmSetup, drawn: dict[str, Any]) -> dict[str, Any]:
    return {name: part.value(drawn[name], image_size=setup.image_size) for name, part in setup.space.items()}


def _finished(study: Any, setup: ArmSetup) -> list[Trial]:
    """Return the trials of the budget in order: those with a figure, and diverged ones."""
    from optuna.trial import TrialState

    found = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state == TrialState.COMPLETE or trial.user_attrs.get(_DIVERGED)
    ]
    return [
        Trial(
            number=index,
            values=dict(setup.defaults) if index == 0 else _values(setup, trial.params),
            score=None if trial.user_attrs.get(_DIVERGED) else float(trial.value),
            tie_break=trial.user_attrs.get(_TIE_BREAK),
        )
        for index, trial in enumerate(found)
    ]


def _forget_killed(study: Any) -> None:
    """Close trials that a killed run left open; the next trial has their number, seed and values."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[Any]:
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    # several commands may search, each a different arm
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
        optuna.logging.set_verbosity(level)


@contextlib.contextmanager
def _study(path: Path, setup: ArmSetup, data_digest: str) -> Iterator[Any]:
    import optuna

    wanted = f"{setup.space_digest()}-{data_digest}"
    with _storage(path) as storage:
        study = optuna.create_study(storage=storage, study_name=setup.name, direction="maximize", load_if_exists=True)
        found = study.user_attrs.get(_SPACE)
        if found is None:
            study.set_user_attr(_SPACE, wanted)
        elif found != wanted:
            raise ConfigError(
                f"{path.name} holds a search of the arm '{setup.name}' with another search space, configuration or "
                f"data. Go on with the settings it was begun with, choose another output_dir, or start this arm again "
                f"with `--restart {setup.name}`, which deletes its search and its results."
            )
        yield study
