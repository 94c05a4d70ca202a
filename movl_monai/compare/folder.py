"""The folder of a comparison: which comparison it holds, and nothing of another one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from movl_monai.compare.search import delete_study
from movl_monai.compare.setup import ArmSetup
from movl_monai.compare.training import read_record
from movl_monai.data.kept_splits import SPLITS_FILE
from movl_monai.errors import ConfigError
from movl_monai.evaluation.files import jsonable, to_json, write_atomically

__all__ = ["ComparisonFolder"]


class ComparisonFolder:
    """Where a comparison keeps its results.

    - ``comparison.json``: the settings that all results share, and the digest of each arm
    - ``splits.csv``: the splits, which later calls keep; see :class:`~movl_monai.data.kept_splits.KeptSplits`
    - ``search.sqlite3``: one optuna study per arm
    - ``search/<arm>/trial_<n>/``: the trainings of the trials
    - ``runs/<arm>/seed_<s>/``: the final runs: ``result.json``, ``models/model.pt``, ``evaluation/``
    - ``cache/``: features; ``local/``: the way back from ids to files, not to be shared

    Args:
        path: made if it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.storage = self.path / "search.sqlite3"
        self.record = self.path / "comparison.json"
        self.splits = self.path / SPLITS_FILE

    def trial(self, arm: str, number: int) -> Path:
        """Folder of a trial."""
        return self.path / "search" / arm / f"trial_{number}"

    def run(self, arm: str, seed: int) -> Path:
        """Folder of a final run."""
        return self.path / "runs" / arm / f"seed_{seed}"

    def claim(self, settings: Mapping[str, Any], setups: Sequence[ArmSetup], *, restart: Sequence[str] = ()) -> None:
        """Make the folder that of this comparison.

        Args:
            settings: what all results share; a value per setting.
            setups: the arms.
            restart: arms whose search and results are deleted, if the settings are those of the folder.

        Raises:
            ConfigError: if it holds another comparison, naming the settings that differ, or an arm in another form.
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

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; the lock ends with the process, however it ends.

        Raises:
            ConfigError: if another comparison is running in the folder.
        """
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    "Another comparison is running in this output_dir; wait for it, or choose another output_dir."
                ) from error
            yield

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
