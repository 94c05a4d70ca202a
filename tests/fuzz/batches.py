"""The process that damages and reads files for `python -m tests.fuzz`; it tells what it finds in lines of JSON."""

from __future__ import annotations

import json
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.mutate import damaged_files
from tests.fuzz.target import check_file

_BATCH = 200
_HANG = 60  # seconds for one file; a guard, not a figure


def main(seed: int, seconds: float, case: Path) -> int:
    """Run batches until the time is up."""
    _limit_memory(2 * 2**30)
    signal.signal(signal.SIGALRM, _hang)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        counts: Counter[str] = Counter()
        _batch(seed, case, counts, end)
        seed += 1
        print(json.dumps({"seed": seed, "counts": counts}), flush=True)
    return 0


def _batch(seed: int, case: Path, counts: Counter[str], end: float) -> None:
    # findings are told and the batch goes on: nothing is raised, so nothing is replayed or shrunk
    @hypothesis.seed(seed)
    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged_files())
    def read(content: bytes) -> None:
        if time.monotonic() > end:
            return
        case.write_bytes(content)
        signal.alarm(_HANG)
        try:
            counts[check_file(content)] += 1
        except BaseException as error:
            counts["finding"] += 1
            print(json.dumps({"finding": _signature(error), "content": content.hex()}), flush=True)
        finally:
            signal.alarm(0)

    read()


def _signature(error: BaseException) -> str:
    """Kind and place of an error, the same for all files that lead to it."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "fuzz" not in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in ours[-3:]]
    return f"{type(error).__name__} at {' > '.join(places)}: {str(error)[:120]}"


def _hang(*_: object) -> None:
    raise TimeoutError(f"one file took more than {_HANG} s")


def _limit_memory(limit: int) -> None:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (int(line.split()[1]) * 1024 + limit,) * 2)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])))
