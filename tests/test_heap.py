"""Free memory that is kept: the same block again needs no fresh pages."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import resource, sys
from movl_monai.heap import give_back_free_memory, keep_free_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * 2**26
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    keep_free_memory()
faults(), faults()
if "give" in sys.argv:
    give_back_free_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_block_that_was_kept_needs_no_fresh_pages_until_it_is_given_back() -> None:
    def faults(*words: str) -> int:
        command = [sys.executable, "-c", PROGRAM, *words]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    plain, kept, given_back = faults(), faults("keep"), faults("keep", "give")
    # pages may be large ones, so that 64 MB are few
    assert kept < plain / 4
    assert given_back > plain / 2
