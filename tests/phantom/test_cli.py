"""The command `movl-monai phantom`."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from movl_monai.cli.arguments import add_phantom
from movl_monai.cli.phantom import run
from movl_monai.errors import ConfigError


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_phantom(parser)
    return parser.parse_args(arguments)


def test_command_writes_then_says_that_nothing_is_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = options(str(tmp_path), "--patients", "1", "0", "0", "1", "--images_per_patient", "2", "--size", "64")
    assert run(wanted) == 0
    first = capsys.readouterr().out
    assert "4 DICOM files: written" in first
    assert "id/train/lesion: 1" in first
    assert run(wanted) == 0
    assert "is there already, nothing to do" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("*.dcm"))) == 4


def test_command_reports_an_impossible_number_as_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size >= 64"):
        run(options(str(tmp_path), "--size", "10"))


def test_command_defaults_are_those_of_the_function() -> None:
    given = options("somewhere")
    assert (given.seed, tuple(given.patients), given.images_per_patient, given.size) == (0, (60, 20, 30, 30), 4, 256)
