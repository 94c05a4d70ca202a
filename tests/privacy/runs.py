"""Run commands on planted images, and keep their output and files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.privacy.plant import PATH, TAG, TAG_DATE, TAG_TIME, TAG_UID
from tests.privacy.search import Search

__all__ = ["WORDS", "Runs"]

# of the standard itself (1.2.840.10008) are names of transfer syntaxes and classes
_UID = re.compile(rb"(?<![\w.])(?!1\.2\.840\.10008\.)[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\w.])|2\.25\.\d{9,}")
_TRACEBACK = re.compile(rb"Traceback \(most recent call last\)|panicked at|--- Logging error ---")

WORDS = (TAG, TAG_DATE, TAG_TIME, TAG_UID, PATH)

# several commands in one process, because importing takes longer than what they do here
RUN_COMMANDS = """
import json, sys, traceback
from movl_monai.cli import main
codes = {}
for name, words in json.loads(sys.argv[1]).items():
    print(f"== {name}", file=sys.stderr)
    try:
        codes[name] = main(words)
    except SystemExit as error:
        codes[name] = error.code
    except BaseException as error:
        codes[name] = type(error).__name__
        traceback.print_exc()
print(json.dumps(codes))
"""


@dataclass
class Runs:
    """Output of the processes, and the folders that they wrote to."""

    folder: Path
    planted: int
    said: dict[str, bytes] = field(default_factory=dict)
    codes: dict[str, int | str] = field(default_factory=dict)

    def run(self, name: str, *words: str) -> bytes:
        """Run Python in a process whose home, caches and temporary files are kept for the search."""
        home, scratch = self.folder / "home", self.folder / "tmp"
        home.mkdir(exist_ok=True)
        scratch.mkdir(exist_ok=True)
        places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME"), str(home))
        environment = {
            **os.environ,
            **places,
            "TMPDIR": str(scratch),
            "MPLCONFIGDIR": str(home),
            "OMP_NUM_THREADS": "1",
        }
        result = subprocess.run(
            [sys.executable, *words], cwd=scratch, env=environment, capture_output=True, timeout=500
        )
        self.said[f"stdout of {name}"], self.said[f"stderr of {name}"] = result.stdout, result.stderr
        self.codes[name] = result.returncode
        return result.stdout

    def run_commands(self, name: str, commands: dict[str, list[str]]) -> None:
        """Run several `movl-monai` commands in one process."""
        said = self.run(name, "-c", RUN_COMMANDS, json.dumps(commands))
        if self.codes[name] == 0:
            self.codes |= json.loads(said.splitlines()[-1])

    def uids(self) -> list[str]:
        """Return all texts that look like a UID on any stream, with the name of the stream."""
        return [f"{name}: {found!r}" for name, content in self.said.items() for found in _UID.findall(content)]

    def tracebacks(self) -> list[str]:
        """Return the names of the streams that hold a traceback of Python or of a library below it."""
        return [name for name, content in self.said.items() if _TRACEBACK.search(content)]

    def searched(self, search: Search) -> str:
        """Search all files and output; return a summary for people."""
        search.folder(self.folder)
        for name, content in self.said.items():
            search.text(name, content)
        return (
            f"\n{self.planted} words planted; {search.files} files and {len(self.said)} streams, {search.size} bytes "
            f"searched in {len(WORDS)} words' spellings; {len(search.hits)} hits"
        )
