"""Advice can be followed: commands, run ids and options in messages and manuals exist under the name they are given."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import monai.bundle
import pytest

from benchmarks import __main__ as bench_cli
from benchmarks.readers import __main__ as readers_cli
from movl_monai.bundles import OVERLAY_KINDS
from movl_monai.cli.main import COMMANDS, take_pairs, underscored
from movl_monai.cli.main import parsers as parsers_of_commands
from movl_monai.experiments.robustness.images import DATA_SETTINGS
from movl_monai.predict import listener

ROOT = Path(__file__).resolve().parents[1]
BUNDLE_NAMES = [path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")]
WORKFLOWS = {"training": "train.json", "evaluating": "evaluate.json", "inferring": "inference.json"}

# The commands on which a module's messages appear: an option must exist on one of them ...
ON_ONE = {
    "benchmarks/": ("benchmarks",),
    "benchmarks/readers/": ("benchmarks.readers",),
    "docs/howto/compare.md": ("compare",),
    "docs/howto/ingest.md": ("ingest", "check", "training"),
    "docs/howto/predict.md": ("predict", "movl_monai.predict.listener"),
    "movl_monai/experiments/compare": ("compare",),
    "movl_monai/engines/earlier.py": ("training", "evaluating"),
    "movl_monai/runs/output_dir.py": ("training", "evaluating"),
    "movl_monai/experiments/ensemble.py": ("ensemble",),
    "movl_monai/engines/validation.py": ("training",),
    "movl_monai/cli/ensemble.py": ("ensemble",),
    "movl_monai/export": ("export",),
    "movl_monai/ingest/": ("ingest", "check"),
    "movl_monai/phantom/": ("phantom",),
    "movl_monai/predict": ("predict", "movl_monai.predict.listener"),
    "movl_monai/cli/report.py": ("report",),
    "movl_monai/experiments/robustness": ("robustness",),
}
# ... or, where every one of them shows the same message, on all of them.
_OF_RUNS = ("evaluate", "export", "predict", "robustness", "movl_monai.predict.listener")
ON_ALL = {
    "movl_monai/backbones/": ("training", *_OF_RUNS),
    "movl_monai/backbones/weight_names.py": ("training", "compare"),
    "movl_monai/data/": ("training", "evaluating", "evaluate"),
    "movl_monai/data/read_csv.py": ("training", "ingest", "check", "robustness"),
    "movl_monai/data/keep.py": ("evaluating", "evaluate", "robustness"),
    "movl_monai/data/spelling.py": ("training", "evaluate", "robustness"),
    "movl_monai/engines/checks.py": ("training", "evaluating", "inferring", "evaluate"),
    "movl_monai/data/columns.py": ("training", "evaluating", "evaluate", "ingest"),
    "movl_monai/runs/run_record.py": _OF_RUNS,
    "movl_monai/readers/": ("training", "evaluate", "ingest", "check"),
    "transforms/": ("training", "evaluate", "ingest", "check"),
}
GENERIC = {"id", "name"}  # `--id value`, any setting
FOREIGN = {
    "docs/help.md": {"build-arg"},
    "docs/howto/label.md": {"conf"},
    "benchmarks/readers/truth.py": {"version"},
    "movl_monai/deploy/app.py": {"log-level"},
    **{f"bundles/{bundle}/docs/README.md": {"input_shape"} for bundle in BUNDLE_NAMES},  # of MONAI's onnx_export
    "movl_monai/runs/provenance.py": {"no-optional-locks", "porcelain", "untracked-files"},
}

MONAI_COMMANDS = ("verify_metadata", "verify_net_in_out", "ckpt_export", "onnx_export")

_OPTION = re.compile(r"(?<![\w/-])--([a-z][\w-]*)")
_SPAN = re.compile(r"`+([^`]+)`+")
_COMMAND = re.compile(
    r"(?<![\w/#-])(?<!# )(movl-monai|(?:python )?-m (?:movl_monai|monai\.bundle|benchmarks)[\w.]*)(?= |$)(.*)", re.S
)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_]*(?:[|,.=:/@].*)?|<.+>|\$.*|N")


class _Choices(list[Any]):
    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or bool(_PLACEHOLDER.fullmatch(str(value)))


class _Unfollowable(Exception):
    pass


def _raise(message: str) -> None:
    raise _Unfollowable(message)


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands, which take placeholders and raise."""
    top, found = parsers_of_commands()
    for module in (listener, bench_cli, readers_cli):
        found[module.__name__.removesuffix(".__main__")] = module._parser()
    found[""] = top
    for parser in found.values():
        parser.allow_abbrev = False
        parser.error = _raise  # type: ignore[method-assign, assignment]
        for action in parser._actions:
            kind, choices = action.type, action.choices
            if callable(kind):
                action.type = lambda text, kind=kind: text if _PLACEHOLDER.fullmatch(text) else kind(text)
            if choices is not None:
                action.choices = _Choices(choices)
    return found


@cache
def config_ids() -> dict[tuple[str, str], set[str]]:
    """The top-level ids of each config file of each bundle."""
    return {
        (file.parents[1].name, file.name): {name.partition("#")[0].lstrip("+") for name in json.loads(file.read_text())}
        for file in ROOT.glob("bundles/*/configs/*.json")
        if file.name != "metadata.json"
    }


def ids_of(run_id: str, *, bundle: str = "", files: tuple[str, ...] = ()) -> set[str]:
    """The ids that a workflow can take: of the named files, or of its own file and all overlays."""
    bases = set(WORKFLOWS.values())
    own = {"training": {"train.json"}, "evaluating": {"train.json", "evaluate.json"}, "inferring": {"inference.json"}}
    found: set[str] = set()
    for name in {name for name, _ in config_ids()}:
        there = {file for other, file in config_ids() if other == name}
        taken = set(files) or own[run_id] | (there - bases)
        if (not bundle or name == bundle) and taken <= there:
            found |= set().union(*(config_ids()[name, file] for file in taken))
    return found


def accepts(command: str, option: str, *, bundle: str = "") -> bool:
    """Tell whether a command, or a workflow of `run`, takes an option, with hyphens or underscores."""
    option = option.replace("-", "_") if command in COMMANDS else option
    if command in WORKFLOWS:
        return option in ids_of(command, bundle=bundle) or f"--{option}" in parsers()["run"]._option_string_actions
    parser = parsers()[command]
    if f"--{option}" in parser._option_string_actions:
        return True
    if not parser.get_default("takes_overrides"):
        return False
    if command == "robustness":
        return option in DATA_SETTINGS
    workflows = {"evaluate": "evaluating", "ensemble": "evaluating", "compare": "training", "train": "training"}
    if command == "train" and option in OVERLAY_KINDS:
        return True
    if command == "run":
        return any(option in ids_of(workflow, bundle=bundle) for workflow in WORKFLOWS)
    return option in ids_of(workflows.get(command, "inferring"), bundle=bundle)


def check_command(program: str, rest: str, *, bundle: str = "") -> tuple[str, list[str]]:
    """Return the command of a text such as "run training --config_file FILE", and its problems."""
    text = re.sub(r"\[(?=[-A-Z])|(?<=[\w.])\](?![\w'\"])", " ", rest.replace("\\\n", " "))
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = text.split()
    words = [word.removesuffix("...") for word in words if word not in ("...", "|")]
    module = program.rpartition(" ")[2]
    name = module if module in parsers() else (words.pop(0) if words else "")
    name = name.rstrip(".,:;)")
    if not name or _PLACEHOLDER.fullmatch(name) or name in parsers()[""]._option_string_actions:
        return "", []
    if module == "monai.bundle" and name in MONAI_COMMANDS:
        own = set(inspect.signature(getattr(monai.bundle, name)).parameters) | ids_of("inferring", bundle=bundle)
        given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
        return "", [f"'{program} {name}' takes no --{option}" for option in given if option not in own]
    if name not in parsers():
        return "", [f"there is no command '{program} {name}'"]
    if not words or "--help" in words:
        return name, []
    pairs: list[str] = []
    if name in COMMANDS:
        words = [underscored(word) for word in words]
    if parsers()[name].get_default("takes_overrides"):
        words, pairs = take_pairs(words, parsers()[name])
    try:
        options, overrides = parsers()[name].parse_known_args(words)
    except _Unfollowable as error:
        return name, [f"'{program} {name} {' '.join(words)}': {error}"]
    given = [word[2:].partition("=")[0] for word in [*overrides, *pairs] if word.startswith("--")]
    if name != "run":
        wrong = [option for option in given if option not in GENERIC and not accepts(name, option, bundle=bundle)]
    elif options.run_id not in WORKFLOWS and not _PLACEHOLDER.fullmatch(options.run_id):
        return name, [f"no bundle has the run id {options.run_id}"]
    else:
        files = tuple(re.findall(r"\w+\.json", " ".join(options.config_file)))
        known = ids_of(options.run_id, bundle=bundle, files=files)
        wrong = [option for option in given if option not in known | GENERIC]
    return name, [f"'{program} {name}' takes no --{option}" for option in wrong]


def _longest(table: dict[str, tuple[str, ...]], path: str) -> str:
    return max((prefix for prefix in table if path.startswith(prefix)), key=len, default="")


def takes_option(path: str, option: str, *, bundle: str = "") -> bool:
    """Tell whether an option that a file names without a command can be given where its messages appear."""
    if option in GENERIC | FOREIGN.get(path, set()):
        return True
    if prefix := _longest(ON_ALL, path):
        return all(accepts(command, option) for command in ON_ALL[prefix])
    commands = ON_ONE[prefix] if (prefix := _longest(ON_ONE, path)) else (*parsers(), *WORKFLOWS)
    return any(accepts(command, option, bundle=bundle) for command in commands)


def check_text(text: str, path: str) -> list[str]:
    """Return the advice in a message or a paragraph of a manual that cannot be followed."""
    folder = path.split("/")[1] if path.startswith("bundles/") else ""
    bundle = folder if (ROOT / "bundles" / folder / "configs").is_dir() else ""
    problems: list[str] = []
    named: list[str] = []

    def look(part: str, *, quoted: bool) -> None:
        found = _COMMAND.search(part)
        if found:
            rest = found[2] if quoted else " ".join(found[2].split()[:1])
            command, wrong = check_command(found[1], rest, bundle=bundle)
            named.extend([command] if command else [])
            problems.extend(wrong)
            if not quoted and found[2]:
                look(found[2], quoted=False)
        elif quoted and not part.startswith("--"):
            return  # of another program
        else:
            for option in _OPTION.findall(part):
                if not any(accepts(one, option, bundle=bundle) for one in named[-1:]) and not takes_option(
                    path, option, bundle=bundle
                ):
                    problems.append(f"--{option} does not exist where this is shown")

    for number, part in enumerate(_SPAN.split(text)):
        look(part, quoted=bool(number % 2))
    return problems


def strings_of(tree: ast.AST) -> Iterator[str]:
    """Yield all strings of a module, with VALUE for the fields of f-strings."""
    if isinstance(tree, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in tree.values)
        children: list[ast.AST] = [part for part in tree.values if not isinstance(part, ast.Constant)]
    else:
        if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
            yield tree.value
        children = list(ast.iter_child_nodes(tree))
    for child in children:
        yield from strings_of(child)


def texts_of(path: Path) -> Iterator[str]:
    """The messages of a module, the paragraphs and commands of a manual, the texts of a JSON file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from strings_of(ast.parse(content))
    elif path.suffix == ".json":
        yield from (str(json.loads(found)) for found in re.findall(r'"(?:[^"\\]|\\.)*"', content))
    else:
        for number, block in enumerate(re.split(r"^```.*$", content, flags=re.MULTILINE)):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (f"`{line}`" for line in lines if _COMMAND.search(line)) if number % 2 else lines


def _sources() -> list[str]:
    kinds = (
        "movl_monai/**/*.py",
        "transforms/**/*.py",
        "benchmarks/**/*.py",
        "bundles/**/*.py",
        "bundles/**/*.json",
        "**/README.md",
        "docs/**/*.md",
    )
    found = {path for kind in kinds for path in ROOT.glob(kind)} | {*ROOT.glob("results/*.md")}
    found |= {ROOT / name for name in ("BENCHMARKS.md", "CONTRIBUTING.md", "SECURITY.md")}
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    kept = [name for name in names if not name.startswith(("tests/", ".", "build/", "dist/"))]
    return [
        name
        for name in kept
        if re.search(r"--[a-z]|movl-monai|-m (mo|benchmarks)", (ROOT / name).read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("path", _sources())
def test_what_is_advised_exists(path: str) -> None:
    problems = [problem for text in texts_of(ROOT / path) for problem in check_text(text, path)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("movl_monai/metrics/x.py", "Evaluate again (`movl-monai run evaluating ...`).", "required: --config_file"),
        ("movl_monai/metrics/x.py", "`movl-monai evaluate RUN`", "required: --dataset_dir"),
        ("movl_monai/metrics/x.py", "Run `movl-monai evalaute` first.", "no command 'movl-monai evalaute'"),
        ("movl_monai/metrics/x.py", "see movl-monai look, which tells", "no command 'movl-monai look'"),
        ("movl_monai/metrics/x.py", "`movl-monai export RUN --format onxn`", "invalid choice: 'onxn'"),
        ("movl_monai/metrics/x.py", "`movl-monai run train --config_file FILE`", "no bundle has the run id train"),
        ("movl_monai/metrics/x.py", "`movl-monai run inferring --config_file FILE --l2 1`", "takes no --l2"),
        (
            "movl_monai/metrics/x.py",
            "`movl-monai run training --config_file train.json --prompt-with 9`",
            "--prompt_with",
        ),
        ("movl_monai/ingest/x.py", "set --epochs", "--epochs"),
        ("movl_monai/data/x.py", "set `--labels folders`", "--labels"),
        ("movl_monai/predict/x.py", "choose another --output", "--output"),
        ("transforms/x.py", "set `--mask_suffix _mask`", "--mask_suffix"),
        ("bundles/movl_classification/docs/README.md", "`--num_prompts 3` sets it", "--num_prompts"),
    ],
)
def test_what_cannot_be_followed_is_found(path: str, text: str, problem: str) -> None:
    (found,) = check_text(text, path)
    assert problem in found


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "movl_monai/metrics/x.py",
            "`movl-monai ingest` with --merge_labels, or `movl-monai evaluate RUN --dataset_dir DIR`",
        ),
        ("movl_monai/data/x.py", "`git log --oneline`; set `--merge_labels true`; every `--id value`"),
        ("README.md", "`movl-monai evaluate OUT --dataset_dir DATA [--against OTHER ...] [--id value ...]`"),
        ("README.md", "`movl-monai robustness RUN --baseline RUN --dataset_dir D --output_dir O --images N`"),
    ],
)
def test_what_can_be_followed_is_not(path: str, text: str) -> None:
    assert check_text(text, path) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_names_its_own_options(command: str) -> None:
    parser = parsers()[command]
    text = " ".join(filter(None, [parser.epilog, *(action.help for action in parser._actions)]))
    own = (command, "check") if command == "ingest" else (command,)  # both have one list of exit codes
    named = [option for option in _OPTION.findall(text) if option not in GENERIC]
    assert [option for option in named if not any(accepts(one, option) for one in own)] == []


def test_strings_are_whole_where_they_are_filled_in() -> None:
    tree = ast.parse("def f():\n    raise E(f'a {x + \"--b\"} '\n        '--c')")
    assert list(strings_of(tree)) == ["a VALUE --c", "--b"]
