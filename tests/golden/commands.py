"""A table of command lines with their exit codes and messages, and the dotted names that configs carry.

`python -m tests.golden.commands` writes `commands.json` and `names.json` again; read the difference before committing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.golden.old_runs import RUNS, WEIGHTS

__all__ = ["COMMANDS", "COMMAND_LINES", "NAMES", "answer", "names_in_bundles"]

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
COMMANDS, NAMES = FOLDER / "commands.json", FOLDER / "names.json"
_EACH = (
    *("phantom", "ingest", "check", "train", "run", "evaluate", "report"),
    *("compare", "ensemble", "robustness", "export", "predict", "inspect", "bundle"),
)
_TRAIN = "run training --config_file {bundles}/movl_classification/configs/train.json"
_IN_EXPRESSIONS = re.compile(
    r"(?<![\w.@'])((?:adapters|backbones|data|engines|evaluation|networks|trust)\.[A-Za-z_]\w*)"
)

COMMAND_LINES = [
    "",
    "--help",
    "--version",
    "--no_such_option",
    "no_such_command",
    *(f"{command} --help" for command in _EACH),
    *(command for command in _EACH),
    "train no_such_bundle empty --output_dir out",
    "train movl_classification nowhere --output_dir out",
    "train movl_classification empty --output_dir out --strategy no_such_strategy",
    "phantom out --no-such-option 1",
    "phantom out --size many",
    "phantom out --patients 1 1 1 1",
    "phantom file.txt",
    "ingest nowhere --out manifest.csv",
    "ingest empty --out manifest.csv",
    "check nowhere.csv",
    "run training --config_file nowhere.json",
    "run training --config_file {bundles}/movl_classification/configs/train.json --epochs",
    "run training --config_file {bundles}/movl_classification/configs/train.json epochs 3",
    f"{_TRAIN} --dataset_dir nowhere --output_dir out",
    f"{_TRAIN} --dataset_dir empty --output_dir out",
    f"{_TRAIN} --dataset_dir empty --output_dir out --no_such_id 1",
    f"{_TRAIN} --dataset_dir empty --output_dir out --device nonsense",
    "evaluate nowhere --dataset_dir empty",
    "evaluate empty --dataset_dir empty",
    "evaluate {runs}/movl_classification --dataset_dir nowhere",
    "report nowhere",
    "report empty empty",
    "compare --bundle nowhere",
    "ensemble nowhere nowhere --output_dir out",
    "robustness nowhere --baseline nowhere --dataset_dir empty --output_dir out",
    "export nowhere",
    "export empty",
    "export nowhere --format pickle",
    "predict nowhere empty --out out",
    "predict empty nowhere --out out",
    "predict {runs}/movl_classification nowhere --out out --device cpu",
    "predict {runs}/movl_classification empty --out out --device cpu",
    "predict {runs}/movl_classification/model.onnx empty --out out --outputs no_such_output",
    "predict file.txt empty --out out",
    "inspect nowhere",
    "inspect file.txt",
    "inspect {runs}/dvpt_classification/models/run.json",
]


def answer(line: str) -> dict[str, Any]:
    """Run a command line in this process, in a new folder with an empty folder, a text file and the runs' weights.

    Args:
        line: without the program's name; {bundles} and {runs} stand for folders.

    Returns:
        ``exit_code`` (the error where one is raised with its traceback), ``stdout`` and ``stderr``, with single blanks
        and without paths of this machine; of argparse the errors without usage.
    """
    from movl_monai.__main__ import main

    places = {"bundles": str(ROOT / "bundles"), "runs": str(RUNS)}
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as place, _inside(place):
        (Path(place) / "empty").mkdir()
        (Path(place) / "file.txt").write_text("no image\n", encoding="utf-8")
        shutil.copy(RUNS / WEIGHTS, place)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = main([word.format(**places) for word in line.split()])
            except SystemExit as error:
                code = int(error.code or 0)
            except Exception as error:  # shown with its traceback
                code = f"{type(error).__name__}: {error}"
        # said by the first command of a process alone
        error = err.getvalue().replace("Loading torch and MONAI ...\n", "")
        texts = {"stdout": _plain(out.getvalue(), place), "stderr": _plain(error, place)}
    return {
        "exit_code": code if isinstance(code, int) else _plain(code, place),
        **{name: text for name, text in texts.items() if text},
    }


@contextlib.contextmanager
def _inside(place: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def _plain(text: str, place: str) -> str:
    for folder, name in ((os.path.realpath(place), "<folder>"), (place, "<folder>"), (str(ROOT), "<root>")):
        text = text.replace(folder, name)
    lines = [line for line in text.splitlines() if not re.match(r"^(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", line)]
    plain = re.sub(r"\s+", " ", " ".join(lines)).strip()
    usage, error, message = plain.rpartition(" error: ")
    return plain if not error or not usage.startswith("usage: ") else error.lstrip() + message.replace("'", "")


def names_in_bundles() -> list[str]:
    """Collect the dotted names of configs: targets, and parts of modules that expressions use, such as `engines.X`."""
    found: set[str] = set()
    for path in sorted(ROOT.glob("bundles/**/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        texts = list(_texts(content))
        found |= {text for key, text in texts if key == "_target_" and text.startswith("movl_monai.")}
        expressions = [text for _, text in texts if text.startswith("$") and not text.startswith("$import")]
        found |= {f"movl_monai.{name}" for text in expressions for name in _IN_EXPRESSIONS.findall(text)}
    return sorted(found)


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)
    elif isinstance(value, str):
        yield key, value


def main() -> None:
    """Write both files; a name that was carried once stays."""
    answers = {}
    for line in COMMAND_LINES:
        answers[line] = answer(line)
    COMMANDS.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    carried = json.loads(NAMES.read_text(encoding="utf-8")) if NAMES.exists() else []
    NAMES.write_text(json.dumps(sorted({*carried, *names_in_bundles()}), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
