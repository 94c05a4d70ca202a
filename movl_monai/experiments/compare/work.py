"""Pieces of work of a comparison, shared by several commands on one folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from movl_monai.errors import ConfigError

__all__ = ["RunTask", "share_work"]

_POLL = 1.0  # seconds
T = TypeVar("T")


@dataclass(frozen=True, order=True)
class RunTask:
    """One training and evaluation.

    Args:
        arm: name of the arm.
        seed: of the run.
        draw: of the training images.

    Example:
        >>> RunTask.parse("joint:1"), str(RunTask("joint", 1, 2)), RunTask("joint", 1, 2).folder
        (RunTask(arm='joint', seed=1, draw=0), 'joint:1:2', 'draw_2_seed_1')
    """

    arm: str
    seed: int
    draw: int = 0

    @classmethod
    def parse(cls, text: str) -> RunTask:
        """Read ARM:SEED or ARM:SEED:DRAW.

        Raises:
            ConfigError: for anything else.
        """
        arm, *numbers = text.split(":")
        if not arm or not 1 <= len(numbers) <= 2 or not all(number.strip().isdecimal() for number in numbers):
            raise ConfigError(f"--task must be ARM:SEED or ARM:SEED:DRAW, such as joint:0:2, or an arm, got '{text}'.")
        return cls(arm, *map(int, numbers))

    def __str__(self) -> str:
        return f"{self.arm}:{self.seed}:{self.draw}"

    @property
    def folder(self) -> str:
        """Name of the folder below the arm's folder; the first draw is not named."""
        return f"seed_{self.seed}" if self.draw == 0 else f"draw_{self.draw}_seed_{self.seed}"

    def said(self, draws: int) -> str:
        """Return the run in words, with the draw if there are several."""
        return f"{self.arm}, seed {self.seed}" + (f", draw {self.draw}" if draws > 1 else "")


def share_work(
    tasks: Sequence[T],
    do: Callable[[T], None],
    *,
    claim: Callable[[T], AbstractContextManager[bool]],
    ready: Callable[[T], bool],
    waiting: Callable[[Sequence[T]], None],
) -> None:
    """Do every task, postponing tasks that another command works on.

    Args:
        tasks: in the desired order.
        do: does a task, unless it is already done.
        claim: context whose value is True if the task was free.
        ready: returns True if a task can begin.
        waiting: called once when other commands work on all remaining tasks.
    """
    left, told = list(tasks), False
    while left:
        later = []
        for task in left:
            if not ready(task):
                later.append(task)
                continue
            with claim(task) as mine:
                if mine:
                    do(task)
                else:
                    later.append(task)
        if len(later) == len(left):
            if not told:
                waiting(later)
            told = True
            time.sleep(_POLL)
        left = later
