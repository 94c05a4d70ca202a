"""`python -m tests.fuzz [--minutes 5] [--seed 0] [--out FOLDER]`: damage and read files until the time is up.

The work is done in a process of its own with little memory, which may die; the file that killed it is a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run until the time is up.

    Returns:
        1 if something was found.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Damage files at random and read them.")
    parser.add_argument("--minutes", type=float, default=5.0, help="(default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("fuzz_findings"), help="(default: fuzz_findings)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    end, seed, findings, counts = time.monotonic() + options.minutes * 60, options.seed, {}, {}
    while (left := end - time.monotonic()) > 0:
        case = options.out / "under_way.bin"
        command = [sys.executable, "-m", "tests.fuzz.batches", str(seed), str(left), str(case)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_one_thread()
        )
        for line in child.stdout or ():
            message = json.loads(line)
            seed = message.get("seed", seed)
            if "finding" in message:
                _keep(findings, message["finding"], bytes.fromhex(message["content"]), options.out)
            for result, count in message.get("counts", {}).items():
                counts[result] = counts.get(result, 0) + count
        if child.wait() not in (0, None):
            content = case.read_bytes() if case.exists() else b""
            _keep(findings, f"the process ended with status {child.returncode}", content, options.out)
        seed += 1
    (options.out / "under_way.bin").unlink(missing_ok=True)
    total = sum(counts.values())
    print(f"{total} files read: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    print(f"{len(findings)} findings" + (f", in {options.out}" if findings else ""))
    return int(bool(findings))


def _keep(findings: dict[str, int], what: str, content: bytes, folder: Path) -> None:
    if what not in findings:
        (folder / f"finding_{len(findings)}.bin").write_bytes(content)
        print(f"finding {len(findings)}: {what}", flush=True)
    findings[what] = findings.get(what, 0) + 1


def _one_thread() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


if __name__ == "__main__":
    raise SystemExit(main())
