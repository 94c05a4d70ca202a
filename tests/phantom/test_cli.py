"""The command `movl-monai phantom`."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from movl_monai.cli.arguments import add_phantom
from movl_monai.cli.phantom import run
from movl_monai.errors import ConfigError
from movl_monai.phantom.dataset import KINDS


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


@pytest.mark.parametrize("kind", KINDS)
def test_command_writes_each_kind_by_its_option(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [] if kind == "lesion" else [f"--{kind}"]
    assert run(options(str(tmp_path), *given, "--patients", "1", "0", "0", "0", "--size", "64")) == 0
    settings = json.loads((tmp_path / "phantom.json").read_text())["settings"]
    assert settings.get("kind", "lesion") == kind
    assert settings["images_per_patient"] == KINDS[kind].images_per_patient  # type: ignore[index]
    following = capsys.readouterr().err
    # the option chooses an overlay that exists
    option = re.search(r"OUT --(task|unit) (\w+)$", following.strip())
    assert (option is None) == (kind == "lesion")
    if option is not None:
        root = Path(__file__).parents[2] / "bundles/movl_classification/configs"
        assert (root / f"{option[1]}_{option[2]}.json").is_file()


def test_command_takes_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("somewhere", "--findings", "--findings_label")
    assert "not allowed with argument --findings" in capsys.readouterr().err
