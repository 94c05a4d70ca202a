"""A prediction that is killed at any moment and resumed gives the same bytes; so do several processes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai import files as atomic
from movl_monai.predict.journal import Journal
from movl_monai.predict.run import predict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes of these tests are forked")

OUTPUTS = {"classification": ["csv", "json", "sr", "sc", "png"], "segmentation": ["csv", "json", "seg", "sc", "nifti"]}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def without_journals(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if "journal" not in name}


def in_process(work: Callable[[], Any], **environment: str) -> multiprocessing.process.BaseProcess:
    def run() -> None:
        torch.set_num_threads(1)
        os.environ.update(environment)
        work()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def kill_at(owner: Any, name: str, call: int) -> None:
    """Let the process kill itself, so that no handler can run, at the n-th call of a function."""
    original = getattr(owner, name)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, counted)


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An uninterrupted prediction, and a function that makes another with the same ids."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    # a forked process can only count with one thread, and the last bits of a sum depend on how many there are
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(run: Path, source: Path, task: str) -> tuple[dict[str, bytes], Callable[[Path], Any]]:
        def again(out: Path) -> Any:
            settings: dict[str, Any] = {"batch_size": 2, "num_workers": 0, "device": "cpu", "progress": False}
            return predict(run, source, out=out, outputs=OUTPUTS[task], **settings)

        assert again(tmp_path / "whole") is not None
        return files_of(tmp_path / "whole"), again

    yield make
    torch.set_num_threads(threads)


def start_alike(tmp_path: Path) -> Path:
    """A folder with the salt of the uninterrupted prediction and nothing else."""
    out = tmp_path / "killed"
    (out / "local").mkdir(parents=True)
    shutil.copy(tmp_path / "whole" / "local" / "id_map.json", out / "local")
    return out


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (Journal, "add", 1),  # outputs of the first unit are there, its rows are not
        (Journal, "add", 3),
        (atomic.os, "replace", 2),  # a file is written and not yet called by its name
        (atomic.os, "replace", 13),  # all images are done, the first report is not
    ],
)
def test_a_killed_classification_goes_on_to_the_same_bytes(
    whole: Any, classifier_run: Path, phantom_files: Path, tmp_path: Path, owner: Any, name: str, call: int
) -> None:
    expected, again = whole(classifier_run, phantom_files, "classification")
    out = start_alike(tmp_path)

    def work() -> None:
        kill_at(owner, name, call)
        again(out)

    process = in_process(work)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (out / "predictions.csv").exists()
    assert again(out) is not None
    assert files_of(out) == expected


def test_a_killed_segmentation_goes_on_to_the_same_bytes(
    whole: Any, segmenter_run: Path, test_data: Path, tmp_path: Path
) -> None:
    source = tmp_path / "input"
    for number, study in enumerate(("a", "b")):  # two copies of a series, so that one is done and one is not
        folder = source / study
        folder.mkdir(parents=True)
        for path in sorted((test_data / "data" / "mr_series_dicom" / "hippocampus_crop").iterdir())[
            number : number + 3
        ]:
            shutil.copy(path, folder)
    expected, again = whole(segmenter_run, source, "segmentation")
    out = start_alike(tmp_path)

    def work() -> None:
        kill_at(Journal, "add", 2)
        again(out)

    process = in_process(work)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    summary = again(out)
    assert summary is not None
    assert summary.resumed == 3
    assert files_of(out) == expected


def test_two_processes_give_what_one_gives(
    whole: Any, classifier_run: Path, phantom_files: Path, tmp_path: Path
) -> None:
    expected, again = whole(classifier_run, phantom_files, "classification")
    out = start_alike(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [in_process(lambda: again(out), RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert without_journals(files_of(out)) == without_journals(expected)
    # both had a part, and one process alone finds nothing left to do
    lines = [len(path.read_bytes().splitlines()) for path in sorted((out / "local").glob("journal*.jsonl"))]
    assert lines == [2, 3] or lines == [3, 2]
    assert again(out).resumed == 6


def test_a_full_disk_ends_the_run_with_a_clear_error_and_it_goes_on_later(
    whole: Any, classifier_run: Path, phantom_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from movl_monai.errors import MovlError

    expected, again = whole(classifier_run, phantom_files, "classification")
    out = start_alike(tmp_path)
    original = atomic.os.replace
    calls = []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        original(*arguments)

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(MovlError, match="No space left on device"):
        again(out)
    monkeypatch.setattr(atomic.os, "replace", original)
    assert again(out) is not None
    assert files_of(out) == expected
