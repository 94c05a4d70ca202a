"""Columns of findings: copied into the manifest, split by patient, and read by a check as training reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from movl_monai.cli import main
from movl_monai.data import read_datalist
from movl_monai.phantom import write_phantom
from tests.tables import read_rows


def test_findings_are_copied_split_and_checked(tmp_path: Path) -> None:
    write_phantom(tmp_path / "f", kind="findings", patients=(12, 8, 0, 2), images_per_patient=1, size=64)
    rows = read_rows(tmp_path / "f/manifest.csv")
    names = ["Cardiomegaly", "Consolidation", "Effusion", "Nodule"]
    table = [",".join(["path", "patient_id", "domain", "No Finding", *names])]
    for number, row in enumerate(rows):
        cells = ["1" if number == 0 else "", *("" if number == 0 else row[name] for name in names)]
        table.append(",".join([row["path"].removeprefix("images/"), row["patient_id"], row["domain"], *cells]))
    (tmp_path / "labels.csv").write_text("\n".join(table), encoding="utf-8")
    out = tmp_path / "f/images/made.csv"
    words = ["ingest", tmp_path / "f/images", "--labels", tmp_path / "labels.csv", "--output", out, "--headers_only"]
    assert main(list(map(str, words))) == 0
    made = {row["path"]: row for row in read_rows(out)}
    first = rows[0]["path"].removeprefix("images/")
    for row in rows[1:]:
        copied = made.get(row["path"].removeprefix("images/"))
        if copied is not None:  # else nothing is known of it
            assert {name: copied[name] for name in names} == {name: row[name] for name in names}
    assert [made[first][name] for name in names] == ["0"] * 4
    assert {row["split"] for row in made.values() if row["domain"] == "id"} == {"train", "val", "test"}
    datalist = read_datalist(out, task="multilabel", allow_missing_classes=True, split_fractions=None)
    assert datalist.class_names == names


def test_a_check_shows_what_training_reads_of_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_phantom(tmp_path / "f", kind="findings", patients=(12, 10, 2, 2), images_per_patient=1, size=64)
    assert main(["check", str(tmp_path / "f"), "--headers_only", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "Effusion" in found["training"]
    assert "several_labels" in json.dumps(found)
