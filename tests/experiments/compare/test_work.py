from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from movl_monai.errors import ConfigError
from movl_monai.experiments.compare import work
from movl_monai.experiments.compare.folder import lock
from movl_monai.experiments.compare.work import RunTask, share_work


@pytest.mark.parametrize("text", ["joint:", ":0:1", "joint:a", "joint:0:1:2", "joint:-1"])
def test_a_task_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--task must be ARM:SEED or ARM:SEED:DRAW"):
        RunTask.parse(text)


def test_what_others_are_at_is_left_for_later_and_dependent_work_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, done, told = {"b"}, [], []

    @contextlib.contextmanager
    def claim(task: str) -> Iterator[bool]:
        yield task not in taken

    def waiting(left: Sequence[str]) -> None:
        told.append(list(left))

    monkeypatch.setattr(work, "time", SimpleNamespace(sleep=lambda _: taken.clear()))
    ready = lambda task: task != "needs b" or "b" in done  # noqa: E731
    share_work(["needs b", "a", "b", "c"], done.append, claim=claim, ready=ready, waiting=waiting)
    assert done == ["a", "c", "b", "needs b"]
    assert told == [["needs b", "b"]]


def test_a_lock_keeps_others_out_until_its_process_ends_even_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "one.lock"
    script = (
        "import pathlib, sys, time; from movl_monai.experiments.compare.folder import lock\n"
        "with lock(pathlib.Path(sys.argv[1]), wait=True) as held: print(held, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with lock(path, wait=False) as held:
            assert not held
        process.kill()
    with lock(path, wait=False) as held:
        assert held


def test_shared_locks_go_together_and_not_with_one_that_is_alone(tmp_path: Path) -> None:
    with lock(tmp_path / "a", wait=True, shared=True), lock(tmp_path / "a", wait=False, shared=True) as second:
        assert second
        with lock(tmp_path / "a", wait=False) as alone:
            assert not alone
