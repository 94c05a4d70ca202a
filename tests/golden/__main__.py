"""`python -m tests.golden write DIR` and `python -m tests.golden check DIR`."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import tempfile
from pathlib import Path

_FIXED = {
    "SOURCE_DATE_EPOCH": "1700000000",
    "PYTHONHASHSEED": "0",
    "COLUMNS": "120",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
_MOST_LINES = 40


def main() -> int:
    """Write or check a golden set; exit code 1 if files differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("action", choices=["write", "check"])
    parser.add_argument("folder", type=Path, help="of the golden set, outside of the checkout")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in _FIXED.items()):  # some are read when Python starts
        os.execve(sys.executable, [sys.executable, "-m", "tests.golden", *sys.argv[1:]], os.environ | _FIXED)

    from tests.golden.pipeline import run_steps
    from tests.golden.snapshot import snapshot

    with tempfile.TemporaryDirectory(prefix="movl-golden-") as place:
        run_steps(Path(place))
        found = snapshot(Path(place))
    if options.action == "check":
        known = {
            path.relative_to(options.folder).as_posix(): path.read_bytes()
            for path in options.folder.rglob("*")
            if path.is_file()
        }
        return _compare(known, found)
    for name, content in found.items():
        (options.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (options.folder / name).write_bytes(content)
    print(f"{len(found)} files recorded in {options.folder}")
    return 0


def _compare(known: dict[str, bytes], found: dict[str, bytes]) -> int:
    different = [name for name in sorted(known.keys() | found.keys()) if known.get(name) != found.get(name)]
    for name in different:
        if name not in known or name not in found:
            print(f"{name}: {'missing now' if name in known else 'new'}")
            continue
        old, new = (side[name].decode().splitlines() for side in (known, found))
        lines = list(difflib.unified_diff(old, new, f"{name} (golden)", f"{name} (now)", lineterm="", n=0))
        print("\n".join(line[:400] for line in lines[:_MOST_LINES]))
    print(f"{len(known)} files in the golden set, {len(found)} now; {len(different)} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
