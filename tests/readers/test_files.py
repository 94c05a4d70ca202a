"""Only regular files that have bytes are opened, from their beginning."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.files import open_source


def test_a_path_is_opened_at_its_beginning_and_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    for path in (tmp_path / "file", str(tmp_path / "file")):
        with open_source(path) as file:
            assert file.read() == b"content"
        assert file.closed


def test_a_file_object_is_rewound_and_stays_open() -> None:
    source = io.BytesIO(b"content")
    source.seek(3)
    with open_source(source) as file:
        assert file.read() == b"content"
    assert not source.closed


def test_no_descriptor_is_left_open_by_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "empty", tmp_path / "pipe", tmp_path / "missing"):
        with pytest.raises(MedicalImageError, match="Expected"), open_source(path):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_to_a_device_is_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with (
        pytest.raises(MedicalImageError, match="got a pipe, socket or device") as caught,
        open_source(tmp_path / "link.png"),
    ):
        pass
    assert caught.value.reason == "not_regular_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "DOE^JANE").write_bytes(b"content")
    (tmp_path / "DOE^JANE").chmod(0)
    with pytest.raises(MedicalImageError, match="Permission denied") as caught, open_source(tmp_path / "DOE^JANE"):
        pass
    assert "DOE" not in str(caught.value)


def test_the_cause_that_names_the_path_is_not_chained() -> None:
    with pytest.raises(MedicalImageError, match="No such file") as caught, open_source("/DOE^JANE"):
        pass
    assert caught.value.__suppress_context__
    assert "DOE" not in str(caught.value)
