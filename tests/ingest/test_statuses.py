"""The manual's tables agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from movl_monai.cli.ingest import EXIT_LEAKAGE, EXIT_UNREADABLE
from movl_monai.ingest import findings
from movl_monai.ingest.records import LOST, STATUSES, UNREADABLE
from movl_monai.ingest.volumes import FLAGS
from movl_monai.readers.errors import REASONS

MANUAL = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "ingest.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, str]:
    """First and last cell of each row under a heading."""
    section = MANUAL.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \|(?:.*\|)? (.*) \|$", section, re.MULTILINE)
    return dict(rows)


def test_every_status_but_the_reasons_is_in_the_manual() -> None:
    assert table("Status of a file") == {code: text for code, text in STATUSES.items() if code not in REASONS}


def test_every_flag_of_volumes_is_in_the_manual() -> None:
    assert table("Volumes") == FLAGS


def test_every_finding_is_in_the_manual() -> None:
    codes = {query[0] for query in (*findings._GROUPED, *findings._SINGLE)}
    codes |= {code for column, name in findings._SHOULD_BE_ONE.items() for code in (name, f"{column}_tells_label")}
    codes |= set(re.findall(r'\bcode="(\w+)"', Path(findings.__file__).read_text(encoding="utf-8")))
    assert set(table("Findings")) == codes | {"volume_..."}


def test_the_exit_codes_are_in_the_manual() -> None:
    assert f"| {EXIT_LEAKAGE} | `check`: leakage" in MANUAL
    assert f"| {EXIT_UNREADABLE} | `check`: more unreadable" in MANUAL


def test_reports_and_texts_are_no_losses_but_broken_images_are() -> None:
    assert set(REASONS) < set(STATUSES)
    assert {"truncated", "worker_died", "missing_file", "bad_header"} < LOST < UNREADABLE
    assert not {"ok", "not_image", "segmentation", "other_file"} & LOST
