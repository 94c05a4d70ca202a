"""Folder of a comparison, which holds the results of only one comparison."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from movl_monai.data.kept_splits import SPLITS_FILE
from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.search import delete_study
from movl_monai.experiments.compare.setup import ArmSetup
from movl_monai.experiments.compare.training import read_record
from movl_monai.experiments.compare.work import RunTask
from movl_monai.files import jsonable, to_json, write_atomically

__all__ = ["ComparisonFolder", "lock"]


@contextlib.contextmanager
def lock(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a file while the ``with`` block runs.

    The operating system holds it (``flock``), so that the lock of a killed process is released. Without ``flock``
    (Windows) every lock is granted, and two commands must not share a folder.

    Args:
        path: of the file, which is made and kept.
        wait: whether to wait until it is free.
        shared: whether to share it with other shared holders.

    Yields:
        True if the lock is held.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class ComparisonFolder:
    """Folder of a comparison's results.

    - ``comparison.json``: the settings that all results share, and the digest of each arm
    - ``splits.csv``: the splits, which later calls keep; see :class:`~movl_monai.data.kept_splits.KeptSplits`
    - ``search.sqlite3``: one optuna study per arm
    - ``search/<arm>/trial_<n>/``: the trainings of the trials
    - ``runs/<arm>/seed_<s>/``, ``draw_<d>_seed_<s>`` for later draws: the final runs: ``result.json``,
      ``models/model.pt``, ``evaluation/``
    - ``locks/``: empty lock files of the pieces of work
    - ``cache/``: features; ``local/``: the map from ids back to files, not to be shared

    Args:
        path: made if it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.storage = self.path / "search.sqlite3"
        self.record = self.path / "comparison.json"
        self.splits = self.path / SPLITS_FILE

    def trial(self, arm: str, number: int) -> Path:
        """Return the folder of a trial."""
        return self.path / "search" / arm / f"trial_{number}"

    def run(self, arm: str, seed: int, draw: int = 0) -> Path:
        """Return the folder of a final run."""
        return self.path / "runs" / arm / RunTask(arm, seed, draw).folder

    def claim(self, settings: Mapping[str, Any], setups: Sequence[ArmSetup], *, restart: Sequence[str] = ()) -> None:
        """Claim the folder for this comparison.

        Args:
            settings: the settings that all results share.
            setups: the arms.
            restart: arms whose search and results are deleted, if the settings match the folder.

        Raises:
            ConfigError: if the folder holds another comparison, with the differing settings, or an arm in another form.
        """
        wanted = jsonable(dict(settings))
        found = read_record(self.record).get("settings", wanted)
        differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        if differing:
            shown = "; ".join(f"{n}: {_shown(found.get(n))} there, {_shown(wanted.get(n))} now" for n in differing)
            raise ConfigError(
                f"The output_dir holds a comparison with other settings ({shown}). Results of both cannot be in one "
                "table: use the same settings to go on, or choose another output_dir."
            )
        for name in restart:
            self._restart(name)
        arms = dict(read_record(self.record).get("arms", {}))
        for setup in setups:
            if arms.setdefault(setup.name, setup.digest) != setup.digest:
                raise ConfigError(
                    f"The output_dir holds results of the arm '{setup.name}' in another form: its config files or "
                    f"overrides were changed. Undo that, choose another output_dir, or start this arm again with "
                    f"`--restart {setup.name}`, which deletes its search and its results."
                )
        write_atomically(self.record, to_json({"format": 1, "settings": wanted, "arms": arms}).encode())

    def at_work(self) -> AbstractContextManager[bool]:
        """Signal that this command works in the folder; several may at once."""
        return lock(self.path / ".lock", wait=True, shared=True)

    @contextlib.contextmanager
    def opened(self, *, alone: bool = False) -> Iterator[None]:
        """Lock the common files, such as the record, against other commands.

        Args:
            alone: also require that no other command is at work.

        Raises:
            ConfigError: with ``alone``, if another command is at work.
        """
        with lock(self.path / ".record.lock", wait=True), contextlib.ExitStack() as stack:
            if alone and not stack.enter_context(lock(self.path / ".lock", wait=False)):
                raise ConfigError(
                    "Another comparison is running in this output_dir, and --restart would delete what it works on; "
                    "wait for it, or choose another output_dir."
                )
            yield

    def piece(self, name: str, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Claim a piece of work; without ``wait`` it is not granted while another command works on it."""
        return lock(self.path / "locks" / f"{name}.lock", wait=wait)

    def _restart(self, arm: str) -> None:
        delete_study(self.storage, arm)
        for part in ("search", "runs"):
            shutil.rmtree(self.path / part / arm, ignore_errors=True)
        known = read_record(self.record)
        if known.get("arms", {}).pop(arm, None) is not None:
            write_atomically(self.record, to_json(known).encode())


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."
