"""The command line: pairs, errors as one paragraph, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from movl_monai.cli import main
from movl_monai.errors import ConfigError, DataError, user_error
from movl_monai.id_values import parse_overrides
from movl_monai.prompts import PadPrompt


def test_overrides_become_literals_where_they_are_and_text_where_not() -> None:
    words = [
        "--epochs",
        "3",
        "--lr=1e-3",
        "--names",
        "['a', 'b']",
        "--dir",
        "/data/x",
        "--resume",
        "true",
        "--weights",
        "null",
    ]
    expected = {"epochs": 3, "lr": 1e-3, "names": ["a", "b"], "dir": "/data/x", "resume": True, "weights": None}
    assert parse_overrides(words) == expected


@pytest.mark.parametrize(
    ("words", "message"), [(["epochs", "3"], "got 'epochs'"), (["--epochs"], "`--epochs` has no value")]
)
def test_words_that_are_no_pairs_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(words)


def test_a_known_error_is_found_below_those_it_caused() -> None:
    inner = DataError("no images")
    outer = RuntimeError("Failed to evaluate")
    outer.__cause__ = inner
    assert user_error(outer) is inner
    assert user_error(RuntimeError("unknown")) is None


def test_a_setting_that_a_part_refuses_is_an_error_of_the_user_and_a_stumble_is_not() -> None:
    with pytest.raises(ValueError, match="width") as refused:
        PadPrompt(image_size=64, width=32)
    outer = RuntimeError("Failed to instantiate component")
    outer.__cause__ = refused.value
    assert user_error(outer) is refused.value
    with pytest.raises(TypeError) as stumble:
        PadPrompt(image_size=None, width=3)  # type: ignore[arg-type]
    assert user_error(stumble.value) is None
    with pytest.raises(ValueError, match="invalid literal") as foreign:
        int("x")
    assert user_error(foreign.value) is None


def test_a_known_error_is_one_paragraph_and_exit_code_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "training", "--config_file", "train.json", "--epochs"]) == 2
    err = capsys.readouterr().err
    assert err == "movl-monai: `--epochs` has no value; write `--epochs value`.\n"


def test_other_commands_take_no_stray_words() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "/tmp/unused", "--no-such-option", "1"])


def test_building_the_command_line_imports_no_framework() -> None:
    code = (
        "import sys; from movl_monai.cli.main import _parser; _parser(); "
        "sys.exit(bool({'torch', 'monai'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
