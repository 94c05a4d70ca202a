"""The ingest report names nobody."""

from __future__ import annotations

from pathlib import Path

from movl_monai.data import IdMap
from movl_monai.data.duplicates import Duplicate
from movl_monai.data.entries import SkippedFile
from movl_monai.data.report import COLUMNS, mark_duplicates, report_rows, write_report
from tests.tables import read_rows

IDS = IdMap(salt="0123456789abcdef")
ITEM = {"image": "/jane/1.png", "label": 1, "patient_id": "jane", "split": "val", "domain": "id", "id": "0" * 12}


def written(tmp_path: Path) -> list[dict[str, str]]:
    items = [ITEM, ITEM | {"id": "1" * 12, "label": None, "patient_id": None, "split": None, "frame": 3}]
    rows = report_rows(
        items,
        [
            ("", "", {"rows": 512, "flags": ["a", "b"], "window": None, "voi": {"level": 40}, "id": "forged"}),
            ("truncated", "Too short.", {}),
        ],
        class_names=["well", "ill"],
        id_map=IDS,
        skipped=[SkippedFile(Path("/jane/2.png"), "jane/2.png", "empty_file", "far", "test", id="2" * 12)],
    )
    mark_duplicates(rows, [Duplicate(1, 0, leaks=True, contradicts=False)])
    write_report(tmp_path / "new" / "report.csv", rows)
    return read_rows(tmp_path / "new" / "report.csv")


def test_every_file_has_a_row_with_its_status(tmp_path: Path) -> None:
    rows = written(tmp_path)
    assert list(rows[0]) == [*COLUMNS, "flags", "rows", "voi", "window"]
    assert [(row["id"], row["status"], row["reason"], row["domain"], row["split"]) for row in rows] == [
        ("0" * 12, "ok", "", "id", "val"),
        ("1" * 12, "unreadable", "truncated", "id", ""),
        ("2" * 12, "skipped", "empty_file", "far", "test"),
    ]


def test_labels_are_named_records_have_columns_and_copies_are_marked(tmp_path: Path) -> None:
    first, second, _ = written(tmp_path)
    assert (first["label"], first["rows"], first["flags"], first["window"]) == ("ill", "512", "a b", "")
    assert first["voi"] == '{"level": 40}'
    assert (second["label"], second["frame"], second["detail"]) == ("", "3", "Too short.")
    assert (second["duplicate_of"], second["duplicate_kind"]) == ("0" * 12, "other_split")


def test_patients_are_salted_and_paths_are_absent(tmp_path: Path) -> None:
    assert written(tmp_path)[0]["patient"] == IDS.patient_id("jane")
    assert "jane" not in (tmp_path / "new" / "report.csv").read_text()
