"""Run the pieces of a comparison in parallel, each in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare.comparison import Comparison
from movl_monai.experiments.compare.work import RunTask

__all__ = ["run_jobs"]

_POLL = 0.1  # seconds


def run_jobs(comparison: Comparison, jobs: int, words: Sequence[str]) -> None:
    """Run every unfinished search and run in separate commands, some at once.

    The cores are divided by ``OMP_NUM_THREADS``, unless it is already set.

    Args:
        comparison: already checked; its images are not decoded.
        jobs: number of simultaneous processes.
        words: arguments of `movl-monai compare`, to which ``--task`` is appended.

    Raises:
        ConfigError: if ``jobs`` is below 1, or pieces failed; simultaneous ones are finished first.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs must be 1 or more, got {jobs}.")
    searches = [arm for arm in comparison.searches() if not comparison.is_searched(arm)]
    pending: list[RunTask | str] = [*searches, *comparison.tasks()]
    running: dict[RunTask | str, subprocess.Popen[bytes]] = {}
    failed: list[str] = []
    environment = {"OMP_NUM_THREADS": str(max(1, _cores() // jobs)), **os.environ}
    command = [sys.executable, "-m", "movl_monai", "compare", *words, "--task"]
    try:
        while running or (pending and not failed):
            for piece in [piece for piece, process in running.items() if process.poll() is not None]:
                if running.pop(piece).returncode != 0:
                    failed.append(str(piece))
            unsearched = {piece for piece in (*pending, *running) if isinstance(piece, str)}
            for piece in list(pending):
                if failed or len(running) >= jobs:
                    break
                if isinstance(piece, RunTask) and unsearched & {piece.arm, *comparison.needed(piece.arm)}:
                    continue
                if isinstance(piece, RunTask) and _has_waiting_members(comparison, piece, [*pending, *running]):
                    continue
                pending.remove(piece)
                if isinstance(piece, str) or not comparison.is_done(piece):
                    running[piece] = subprocess.Popen([*command, str(piece)], env=environment)
            time.sleep(_POLL if running else 0)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    if failed:
        raise ConfigError(
            f"These pieces of the comparison failed, with their messages above: {', '.join(failed)}. What is done is "
            "kept; give the same command again to go on."
        )


def _has_waiting_members(comparison: Comparison, task: RunTask, left: Sequence[RunTask | str]) -> bool:
    return any(replace(task, arm=arm) in left for arm in comparison.needed(task.arm))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
