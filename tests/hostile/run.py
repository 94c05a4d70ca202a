"""Read hostile files, each in a process of its own with little memory, and tell what became of them.

The processes are forks of one that has imported everything: importing takes seconds and, with torch, several GB of
address space, which is why the limit counts from what a process has before it reads.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from movl_monai.heap import give_back_free_memory
from movl_monai.readers import MedicalImageError
from movl_monai.transforms import LoadMedicalImage
from tests.hostile.dicom_probes import DICOM_PROBES
from tests.hostile.other_probes import NIFTI_PROBES, PLACE_PROBES, RASTER_PROBES
from tests.hostile.probe import Probe

__all__ = ["LIMIT", "PROBES", "Outcome", "baseline", "run_probes"]

PROBES = [*DICOM_PROBES, *NIFTI_PROBES, *RASTER_PROBES, *PLACE_PROBES]
LIMIT = 2 * 2**30
"""Address space that a process may take to read one file, in bytes, on top of what it has before."""

_HANG = 120  # seconds; a guard, not a figure


@dataclass(frozen=True)
class Outcome:
    """What became of a probe.

    Args:
        name: of the probe.
        size: of its file in bytes, 0 where it is no file.
        result: "image", a reason code, or what went wrong: "exception ...", "signal ...", "hangs".
        message: of the error.
        peak: most memory resident while reading, in bytes, on top of what was there before.
        seconds: wall time.
        executed: whether the file made us execute it.
    """

    name: str
    size: int
    result: str
    message: str
    peak: int
    seconds: float
    executed: bool


def baseline() -> dict[str, int]:
    """Address space and resident memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {key: int(fields[key].split()[0]) * 1024 for key in ("VmSize", "VmRSS", "VmHWM")}


def run_probes(probes: Sequence[Probe] = PROBES, *, limit: int = LIMIT) -> Iterator[Outcome]:
    """Make and read probes one after the other; their files are deleted again."""
    for probe in probes:
        with tempfile.TemporaryDirectory(prefix="hostile_") as folder:
            path = probe.make(Path(folder))
            start = time.monotonic()
            told = _read_in_child(path, limit)
            yield Outcome(
                name=probe.name,
                size=path.stat().st_size if path.is_file() else 0,
                result=told["result"],
                message=told.get("message", ""),
                peak=told.get("peak", 0),
                seconds=round(time.monotonic() - start, 2),
                executed=(Path(folder) / "executed").exists(),
            )


def _read_in_child(path: Path, limit: int) -> dict:
    answers, answer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answers)
        os.write(answer, json.dumps(_read(path, limit)).encode())
        os._exit(0)
    os.close(answer)
    status = _wait(child)
    with os.fdopen(answers, "rb") as pipe:
        told = pipe.read() if status == 0 else b""
    if told:
        return json.loads(told)
    return {"result": "hangs" if status is None else f"ended with status {status}"}


def _wait(child: int) -> int | None:
    """Wait for a child; None if it had to be killed."""
    end = time.monotonic() + _HANG
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _read(path: Path, limit: int) -> dict:
    give_back_free_memory()  # pages that are used again then count as growth
    before = baseline()
    resource.setrlimit(resource.RLIMIT_AS, (before["VmSize"] + limit,) * 2)
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew
    load, message = LoadMedicalImage(), ""
    try:
        frame = 0 if load.frame_count(path) > 1 else None
        image = load(path, frame)
        is_right = image.shape[0] == 3 and bool(image.isfinite().all()) and image.min() >= 0 and image.max() <= 1
        result = "image" if is_right else "exception: not an image"
    except MedicalImageError as error:
        result, message = error.reason, str(error)
    except BaseException as error:
        result, message = f"exception {type(error).__name__}", str(error)
    return {"result": result, "message": message[:1000], "peak": baseline()["VmHWM"] - before["VmRSS"]}


def as_json(outcome: Outcome) -> str:
    """One line of JSON."""
    return json.dumps(asdict(outcome))
