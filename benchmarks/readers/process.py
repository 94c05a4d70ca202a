"""Run a reader on file after file in a separate process, which may crash or hang."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from .judge import Answer

__all__ = ["ReaderProcess"]

_ROOT = Path(__file__).resolve().parents[2]


class ReaderProcess:
    """Reader in a separate process; a crash, or a timeout, affects only one file.

    Args:
        reader: a name of :mod:`benchmarks.readers.worker`.
        seconds: time limit for one file.
        start_seconds: additional time for the first file, for the start of the process.
        command: command that replaces the worker, with the same protocol.

    Example:
        >>> with ReaderProcess("movl_monai") as reader:  # doctest: +SKIP
        ...     reader.read(Path("image.dcm"), frames=[0])
    """

    def __init__(
        self, reader: str, *, seconds: float = 30, start_seconds: float = 300, command: Sequence[str] | None = None
    ) -> None:
        self.reader = reader
        self.seconds, self.start_seconds = seconds, start_seconds
        self._command = command or [sys.executable, "-m", "benchmarks.readers.worker", reader]
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> ReaderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self._folder.cleanup()

    def read(self, path: Path, frames: Sequence[int]) -> Answer:
        """Read a file.

        Args:
            path: the file.
            frames: frames for our reader; MONAI's read all.
        """
        result = Path(self._folder.name) / "array.npy"
        result.unlink(missing_ok=True)
        is_new = self._process is None
        process = self._process = self._process or self._start()
        request = json.dumps({"path": str(path), "frames": list(frames), "result": str(result)}) + "\n"
        line = _ask(process, request.encode(), self.seconds + self.start_seconds * is_new)
        if line is None:
            code = process.poll()
            self._stop()
            return Answer(status="crashed", detail="time limit" if code is None else f"exit {code}")
        reply = json.loads(line)
        array = np.load(result, allow_pickle=False) if reply["status"] == "read" else None
        return Answer(
            status=reply["status"], detail=reply["detail"], array=array, is_display=self.reader == "movl_monai"
        )

    def _start(self) -> subprocess.Popen[bytes]:
        places = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # `benchmarks` is not installed
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)},
        )

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _ask(process: subprocess.Popen[bytes], request: bytes, seconds: float) -> bytes | None:
    """Send a request and return the line of its answer; None if the process ends or takes too long."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process must have been started with pipes.")
    try:
        process.stdin.write(request)
        process.stdin.flush()
    except OSError:
        process.wait(timeout=10)
        return None
    end, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return None
        part = os.read(process.stdout.fileno(), 2**16)
        if not part:
            process.wait(timeout=10)
            return None
        line += part
    return line
