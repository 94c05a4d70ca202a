"""Commands answer as they did, with the same exit codes and messages; names that configs carry can be found."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from tests.golden.commands import COMMAND_LINES, COMMANDS, NAMES, answer, names_in_bundles

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:monai"),
    pytest.mark.filterwarnings("ignore::UserWarning:ignite"),
]
KNOWN = json.loads(COMMANDS.read_text(encoding="utf-8"))
KNOWN_NAMES = json.loads(NAMES.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("MOVL_TRACEBACK", raising=False)
    monkeypatch.setattr("sys.argv", ["movl-monai"])


def test_the_table_has_every_command_line_once() -> None:
    assert list(KNOWN) == COMMAND_LINES
    assert len({*COMMAND_LINES}) == len(COMMAND_LINES)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_exit_code_and_messages_are_those_of_the_table(line: str) -> None:
    if line.endswith("--help") and sys.version_info >= (3, 13):
        pytest.skip("argparse lays its help out in another way since Python 3.13")
    assert answer(line) == KNOWN[line], "if this is meant: python -m tests.golden.commands, and read the difference"


def test_every_name_in_the_bundles_is_in_the_list() -> None:
    assert set(names_in_bundles()) <= set(KNOWN_NAMES)


@pytest.mark.parametrize("name", KNOWN_NAMES)
def test_names_that_configs_carry_or_once_carried_are_found(name: str) -> None:
    module, _, part = name.rpartition(".")
    assert hasattr(importlib.import_module(module), part)
