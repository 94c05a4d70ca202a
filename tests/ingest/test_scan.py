"""A folder into the journal: streamed, resumable, and a crash costs one file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from movl_monai.data.ids import Salter
from movl_monai.errors import DataError
from movl_monai.ingest.examine import Examine
from movl_monai.ingest.journal import Journal, add_files, file_key, read_files
from tests.ingest.conftest import SALT, SMALL, MakePng, read_folder

SALTER = Salter(SALT)


@dataclass(frozen=True)
class Deadly:
    """A chain whose decoder crashes on one file."""

    chain: Any

    def __call__(self, item: dict[str, Any]) -> Any:
        if item["image"].endswith("bad.png"):
            time.sleep(0.05)
            os._exit(1)
        return self.chain(item)


def read(root: Path, journal_path: Path | None, *, settings: str = "s", transform: Any = None, workers: int = 0) -> Any:
    with Journal(journal_path, settings=settings) as journal:
        total = add_files(journal, root, SALTER, ignore=())
        examine = Examine(root=root, salter=SALTER, transform=transform or SMALL.build())
        counts = read_files(journal, examine, total=total, num_workers=workers, progress=False)
        statuses = {
            os.fsdecode(path): status
            for path, status in journal.db.execute("SELECT path, status FROM paths JOIN files USING (key)")
        }
    return counts, statuses


def test_a_decoder_that_crashes_costs_its_file_only(tmp_path: Path, make_png: MakePng) -> None:
    for name in ("a", "bad", "c", "d", "e"):
        make_png(tmp_path / f"{name}.png")
    counts, statuses = read(tmp_path, None, transform=Deadly(SMALL.build()), workers=2)
    assert statuses == {f"{name}.png": "worker_died" if name == "bad" else "ok" for name in ("a", "bad", "c", "d", "e")}
    assert counts == {"read": 5, "known": 0}


def test_what_is_known_and_unchanged_is_not_read_again(tmp_path: Path, make_png: MakePng) -> None:
    root, journal = tmp_path / "in", tmp_path / "j.sqlite"
    for name in "abc":
        make_png(root / f"{name}.png", seed=ord(name))
    assert read(root, journal)[0] == {"read": 3, "known": 0}
    assert read(root, journal)[0] == {"read": 0, "known": 3}
    make_png(root / "b.png", seed=7)
    make_png(root / "d.png", seed=8)
    (root / "c.png").unlink()
    counts, statuses = read(root, journal)
    assert counts == {"read": 2, "known": 1}
    assert sorted(statuses) == ["a.png", "b.png", "d.png"]
    assert read(root, journal, settings="others")[0] == {"read": 3, "known": 0}


def test_a_file_that_crashed_is_tried_again(tmp_path: Path, make_png: MakePng) -> None:
    root = tmp_path / "in"
    make_png(root / "bad.png")
    read(root, tmp_path / "j.sqlite", transform=Deadly(SMALL.build()), workers=1)
    assert read(root, tmp_path / "j.sqlite") == ({"read": 1, "known": 0}, {"bad.png": "ok"})


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, make_png: MakePng) -> None:
    root, journal, marker = tmp_path / "in", tmp_path / "j.sqlite", tmp_path / "marker"
    for number in range(14):
        make_png(root / f"{number}.png", seed=number)
    # reads ten files, says so, and hangs at the eleventh
    code = f"""
import time
from pathlib import Path
from movl_monai.ingest import journal
from tests.ingest.test_scan import SMALL, read
journal._SECONDS = 0
chain, calls = SMALL.build(), []
def hang(item):
    calls.append(item)
    if len(calls) == 11:
        Path({str(marker)!r}).touch()
        time.sleep(600)
    return chain(item)
read(Path({str(root)!r}), Path({str(journal)!r}), transform=hang)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2])
    wait_for(marker)
    process.send_signal(signal.SIGKILL)
    process.wait()
    counts, statuses = read(root, journal)
    assert counts == {"read": 4, "known": 10}
    assert Counter(statuses.values()) == {"ok": 14}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        if time.monotonic() > deadline:
            pytest.fail("the run did not begin")
        time.sleep(0.02)


def test_the_journal_names_nobody_and_is_for_its_owner(tmp_path: Path, make_png: MakePng) -> None:
    journal = tmp_path / "j.sqlite"
    make_png(tmp_path / "in/Doe_Jane_1970/scan.png")
    read(tmp_path / "in", journal)
    content = journal.read_bytes()
    assert b"Doe" not in content
    assert b"scan.png" not in content
    assert file_key(SALTER, "Doe_Jane_1970/scan.png").encode() in content
    assert journal.stat().st_mode & 0o777 == 0o600


def test_a_second_run_on_one_journal_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite", settings="") as first:
        first.db.execute("INSERT INTO files (key) VALUES ('x')")
        with pytest.raises(DataError, match="j.sqlite cannot be used .* wait for another run"):
            Journal(tmp_path / "j.sqlite", settings="")


def test_something_else_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j.sqlite").write_text("something else, and long enough " * 20)
    with pytest.raises(DataError, match="cannot be used"):
        Journal(tmp_path / "j.sqlite", settings="")


def test_a_journal_of_another_version_is_begun_again(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "j.sqlite") as db:
        db.execute("CREATE TABLE files (key TEXT PRIMARY KEY, settings TEXT)")
    db.close()
    with Journal(tmp_path / "j.sqlite", settings="") as journal:
        assert journal.known("x") is None


def test_links_pipes_and_hidden_files_have_a_status_and_are_not_opened(tmp_path: Path, make_png: MakePng) -> None:
    outside = make_png(tmp_path / "out/secret.png")
    root = tmp_path / "in"
    make_png(root / "a.png")
    make_png(root / ".hidden/b.png")
    (root / "link.png").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path / "out")
    os.mkfifo(root / "pipe.dcm")
    (root / "text ").write_text("x")
    assert read(root, None)[1] == {
        "a.png": "ok",
        ".hidden/b.png": "hidden_file",
        "link.png": "link_out_of_folder",
        "folder": "linked_folder",
        "pipe.dcm": "not_regular_file",
        "text ": "bad_name",
    }


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no files"):
        read_folder(tmp_path)
