"""The command line: pairs, errors as one paragraph, exit codes."""

from __future__ import annotations

import argparse
import pkgutil
import re
import subprocess
import sys
import warnings
from pathlib import Path

import monai.bundle.scripts  # noqa: F401 - its log keeps the stream of its first import, which must outlive a test
import pytest

from movl_monai.cli import main
from movl_monai.cli.main import COMMANDS, Command, parsers
from movl_monai.cli.output import keep_stdout, open_log
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


@pytest.mark.parametrize(
    ("words", "code"),
    [*((["--help"], 0), (["no_such_command"], 2)), *(([name, "--help"], 0) for name in COMMANDS), (["predict"], 2)],
)
def test_help_and_wrong_words_import_no_framework(words: list[str], code: int) -> None:
    script = (
        "import sys; from movl_monai.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: sys.exit(99 if {'torch', 'monai', 'numpy'} & {*sys.modules} else end.code)"
    )
    assert subprocess.run([sys.executable, "-c", script, *words], check=False, capture_output=True).returncode == code


@pytest.mark.parametrize("name", COMMANDS)
def test_options_have_one_spelling_and_every_command_those_of_messages(name: str) -> None:
    command = parsers()[1][name]
    nested = [action.choices.values() for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    options = {option for option in command._option_string_actions if option != "-h"}
    for one in (part for parts in nested or [[command]] for part in parts):
        assert {"--log_file", "--quiet", "--json"} <= {*one._option_string_actions}
    assert all(re.fullmatch("--[a-z0-9_]+", option) for option in options)
    assert not options & {"--out", "--workers", "--overlays", "--manifest", "--run", "--data_dir", "--seeds_list"}
    old = command.get_default("old_names") or {}
    assert {f"--{today}" for today in old.values()} <= options
    assert not {f"--{earlier}" for earlier in old} & options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ingest", "in", "--out", "m.csv", "--workers=3"], {"output": "m.csv", "num_workers": 3}),
        (
            ["predict", "--device", "cpu", "run", "--out", "o", "in"],
            {"output_dir": "o", "device": "cpu", "model": "run"},
        ),
        (["evaluate", "--image-size", "64", "run", "--dataset-dir", "d"], {"run_dir": "run", "dataset_dir": "d"}),
        (
            ["compare", "--train-images", "8", "--overlays", "a", "--output-dir", "o"],
            {"train_images": 8, "overlay": "a"},
        ),
    ],
)
def test_hyphens_and_earlier_spellings_are_accepted(
    monkeypatch: pytest.MonkeyPatch, words: list[str], expected: dict[str, object]
) -> None:
    given: list[argparse.Namespace] = []
    monkeypatch.setattr("pkgutil.resolve_name", lambda _: given.append)
    assert main(words) == 0
    *_, options = given  # the early check of a command gets them, too
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.overrides == (["--image_size", "64"] if words[0] == "evaluate" else [])


def _speak(log: Path, *, quiet: bool) -> None:
    with open_log(str(log), quiet=quiet):
        print("one", file=sys.stderr)
        print("\r 50 %|\r100 %|\ntw", end="", file=sys.stderr)
        print("o", file=sys.stderr)
        with keep_stdout():
            print("of a library")
        print("result")
        raise ConfigError("no such thing")


def test_a_log_file_has_every_line_but_progress_and_quiet_shows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    for quiet in (False, True):
        with pytest.raises(ConfigError):
            _speak(log, quiet=quiet)
    assert log.read_text() == "one\ntwo\nof a library\nConfigError: no such thing\n" * 2
    shown = capsys.readouterr()
    assert shown.out == "result\nresult\n"
    assert shown.err == "one\n\r 50 %|\r100 %|\ntwo\nof a library\n"
    assert main(["check", str(tmp_path), "--log-file", str(tmp_path)]) == 2
    assert "--log_file cannot be written (Is a directory)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_each_command_has_a_program(command: Command) -> None:
    assert callable(pkgutil.resolve_name(command.program))


_TRAIN = str(Path(__file__).resolve().parents[1] / "bundles/movl_classification/configs/train.json")


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        (["nowhere.json"], [], "There is no config file 'nowhere.json'. Expected the files of a bundle"),
        ([_TRAIN, "epochs", "3"], [], "Overrides are written `--epochs VALUE`"),
        (["notes.txt"], [], "ends in .json, .yaml or .yml, got 'notes.txt'"),
        (["broken.json"], [], "broken.json cannot be read as a config: Expecting"),
        (["list.json"], [], "must hold ids and their values ({...}), got a list"),
        ([_TRAIN], ["--no_such_id#name", "x"], "replaces 'name' of 'no_such_id', which has no parts"),
        ([_TRAIN], ["--epochs#name", "x"], "replaces 'name' of 'epochs', which has no parts"),
        ([_TRAIN], ["--imports#99", "x"], "replaces '99' of 'imports', which has"),
    ],
)
def test_wrong_files_and_places_of_a_run_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    files: list[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("notes.txt", "{}"), ("broken.json", "{"), ("list.json", "[]")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["run", "training", "--config_file", *files, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_null_override_of_a_run_replaces_the_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "train.json"
    config.write_text('{"weights": "hub", "training": ["$print(@weights is None)"]}', encoding="utf-8")
    (tmp_path / "metadata.json").write_text("{}", encoding="utf-8")
    with warnings.catch_warnings(action="ignore"):
        assert main(["run", "training", "--config_file", str(config), "--weights", "null"]) == 0
    assert capfd.readouterr().err.splitlines()[-1] == "True"
