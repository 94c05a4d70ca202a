"""The scan benchmark compares equal work; no test looks at a time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.scan_speed import scan_with_pydicom, shipped_files, write_slices
from movl_monai.readers.dicom import scan_header


def test_the_slices_have_usual_headers_and_differ(tmp_path: Path) -> None:
    paths = write_slices(tmp_path, 3, 16)
    headers = scan_with_pydicom(paths)
    assert all(80 < len(header) < 200 for header in headers)
    scans = [scan_header(path) for path in paths]
    assert len({scan.instance for scan in scans}) == 3
    assert [scan.frames[0].position for scan in scans] == [(-180.0, -180.0, float(z)) for z in range(3)]


def test_both_read_the_same_files_to_the_same_values() -> None:
    files = shipped_files()
    assert len(files) > 150
    for path, header in zip(files, scan_with_pydicom(files), strict=True):
        assert scan_header(path).shape == (header.get("Rows") or 0, header.get("Columns") or 0)
