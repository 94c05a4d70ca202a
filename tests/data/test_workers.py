"""Tasks in processes that may die: streamed, each answered once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from movl_monai.data.workers import map_in_workers


def fragile(task: int) -> int:
    if task in (0, 5):
        time.sleep(0.05)
        os._exit(1)
    return task * task


def touched(path: str) -> int:
    Path(path).touch()
    return 0


def failing(task: int) -> int:
    raise ZeroDivisionError(task)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_task_is_answered_once(num_workers: int, chunk: int) -> None:
    found = sorted(map_in_workers(fragile, iter([1, 2, 3, 7]), num_workers=num_workers, died=lambda: -1, chunk=chunk))
    assert found == [(1, 1), (2, 4), (3, 9), (7, 49)]


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_task_that_kills_its_worker_is_given_up_and_no_other(chunk: int, ahead: bool) -> None:
    found = dict(map_in_workers(fragile, iter(range(12)), num_workers=2, died=lambda: -1, chunk=chunk, ahead=ahead))
    assert found == {task: -1 if task in (0, 5) else task * task for task in range(12)}


def test_tasks_are_taken_as_workers_become_free() -> None:
    taken = []

    def tasks() -> Iterator[int]:
        for task in range(1, 100):
            taken.append(task)
            yield task + 10

    results = map_in_workers(fragile, tasks(), num_workers=1, died=lambda: -1)
    next(results)
    assert len(taken) < 10
    results.close()  # type: ignore[attr-defined]


def test_without_ahead_workers_rest_until_all_results_are_consumed(tmp_path: Path) -> None:
    tasks = [str(tmp_path / name) for name in "abcdef"]
    results = map_in_workers(touched, tasks, num_workers=2, died=lambda: -1, ahead=False)
    for number in range(1, 7):
        next(results)
        time.sleep(0.2)  # in which workers that go on would have done more
        assert len(list(tmp_path.iterdir())) == 2 * ((number + 1) // 2)


def test_no_tasks_are_no_results() -> None:
    assert list(map_in_workers(fragile, iter(()), num_workers=2, died=lambda: -1)) == []


def test_an_exception_of_the_function_ends_the_run() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_in_workers(failing, [1], num_workers=1, died=lambda: -1))
