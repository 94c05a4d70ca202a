"""The pieces of work of a comparison, which several commands on one folder share."""

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
        """Name of the folder below that of the arm; the first draw has none in it."""
        return f"seed_{self.seed}" if self.draw == 0 else f"draw_{self.draw}_seed_{self.seed}"

    def said(self, draws: int) -> str:
        """The run in words; the draw where there are several."""
        return f"{self.arm}, seed {self.seed}" + (f", draw {self.draw}" if draws > 1 else "")


def share_work(
    tasks: Sequence[T],
    do: Callable[[T], None],
    *,
    claim: Callable[[T], AbstractContextManager[bool]],
    ready: Callable[[T], bool],
    waiting: Callable[[Sequence[T]], None],
) -> None:
    """Do every task, leaving for later those that another command is at.

    Args:
        tasks: in the order wanted.
        do: does a task, or finds that it is done.
        claim: a context that tells whether the task was free.
        ready: whether a task can begin.
        waiting: called once when all that is left is in other hands.
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
