"""Configs: targets outside the allow-list, expressions outside the grammar, and the bundles within both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from movl_monai.inspection import check_config, check_logging, inspect_file, inspect_path
from movl_monai.inspection.grammar import KNOWN_MODULES, check_expression

BUNDLES = sorted(
    path.parents[1] for path in Path(__file__).resolve().parents[2].glob("bundles/*/configs/metadata.json")
)
MODULES = {name: frozenset({module}) for name, module in KNOWN_MODULES.items()}

TARGETS_OUTSIDE = (
    *("os.system", "builtins.eval", "eval", "print", "subprocess.run", "torch.load", "torch.hub.load", "pydoc.locate"),
    *("monai.bundle.scripts.run", "monai.bundle.load", "monai.bundle.download", "monai.apps.download_url"),
    *("monai.data.utils.os.system", "movl_monai.runs.run_record.os.system", "torch.nn.modules.module.torch.load"),
    *("movl_monai.engines.open_run", "movl_monai.cli.main", "movl_monai.networks.save_atomically", "my_package.Net"),
    *("monai.utils.optional_import", "monai.utils.module.instantiate", "monai.transforms.TorchVisiond", "Compose"),
    *("monai.handlers.CheckpointLoader", "torch.nn.Module.load_state_dict", "functools.partial", "antigravity"),
    *("$os.system", "@name", "%name", 3, None, ["os.system"], "", "movl_monai.prompts.PadPrompt.__init__"),
)


@pytest.mark.parametrize("target", TARGETS_OUTSIDE, ids=str)
@pytest.mark.parametrize("key", ["_target_", "train#trainer#_target_", "+a::_target_"])
def test_targets_outside_of_the_allow_list_are_found(target: Any, key: str) -> None:
    assert [finding.kind for finding in check_config({"a": [{key: target}]})] == ["target"]


@pytest.mark.parametrize(
    "target", ["movl_monai.networks.AdaptedSegmenter", "movl_monai.networks.segmenter.AdaptedSegmenter"]
)
def test_own_parts_are_allowed_under_both_of_their_names(target: str) -> None:
    assert check_config({"_target_": target}) == []


EXPRESSIONS_OUTSIDE = (
    *(
        "__import__('os').system('ls')",
        "os.system('ls')",
        "engines.run_record.os.system('ls')",
        "torch.os.system('ls')",
    ),
    *("monai.bundle.run('x')", "monai.data.utils.os.system('ls')", "open('x')", "getattr(@x, 'y')", "eval('1')"),
    *("@x.__class__", "(lambda: 0).__globals__", "[c for c in ().__class__.__mro__]", "'{0.__class__}'.format(@x)"),
    *("@loader.multiprocessing_context.reducer.os.system('ls')", "lambda x=os.system('ls'): x", "os", "__builtins__"),
    *("import subprocess", "from os import system", "import os; os.system('ls')", "import torch, subprocess"),
    *("os.environ['HOME']", "os.environ.get('SECRET')", "9**9**9", "(x := 5)", "@a @ @b", "1 #", "1 if", "f(1)(2)"),
    *("1 if os.system('ls') else 2", "{'a': os.popen('ls')}", "sorted([1], key=os.system)", "type('A', (), {})"),
    *(
        "engines.open_run('x', trust=True)",
        "networks.load_checkpoint('x')",
        "\U0001d522\U0001d533\U0001d51e\U0001d529('1')",
    ),
    *("(" * 3000 + ")" * 3000, "-" * 3999 + "1", "1+" * 5000 + "1", "1\x00", "@x[os.system('ls')]", "yield 1"),
)


@pytest.mark.parametrize("text", EXPRESSIONS_OUTSIDE, ids=lambda text: text[:40])
def test_expressions_outside_of_the_grammar_are_found(text: str) -> None:
    assert check_expression(text, MODULES) is not None


EXPRESSIONS_INSIDE = (
    *("len(@x)", "@train#trainer.run()", "os.path.join(os.path.dirname(@checkpoint), 'trust.pt')", "[@a#b, @c::0]"),
    *("torch.device('cuda', int(os.environ['LOCAL_RANK'])) if torch.cuda.is_available() else torch.device('cpu')",),
    *("lambda engine: engine.state.metrics[engine.state.key_metric_name]", "[x + 1 for x in @list if x > 2]"),
    *("import movl_monai.engines as engines", "os.path.join(@out, 'Out #7')", "not @resume or 2**4 > -@x"),
)


@pytest.mark.parametrize("text", EXPRESSIONS_INSIDE, ids=lambda text: text[:40])
def test_plain_expressions_are_inside_of_the_grammar(text: str) -> None:
    assert check_expression(text, MODULES) is None


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"imports": ["$import os as torch"], "a": "$torch.system('ls')"}, "expression"),
        ({"imports": ["$import os as engines"], "a": "$engines.check_device('cpu')"}, "expression"),
        ({"a": "%other.json::b"}, "macro"),
        ({"a": {"_target_": "torch.nn.ReLU", "_mode_": "debug"}}, "mode"),
        ({"a": {"_target_": "torch.nn.ReLU", "_disabled_": "$exec('x')"}}, "expression"),
        ({"a": {"_target_": "monai.transforms.LoadImage", "reader": "my.Reader"}}, "target"),
        ({"a": {"_target_": "monai.transforms.SaveImage", "writer": "os.system"}}, "target"),
        ({"weights": "https://example.org/w.pt"}, "network"),
    ],
)
def test_other_ways_to_code_are_found(config: dict[str, Any], kind: str) -> None:
    assert [finding.kind for finding in check_config(config)] == [kind]


def test_values_of_plain_configs_are_no_findings() -> None:
    config = {"class_names": ["a$b", "100 %", "@home ?"], "_meta_": {"schema": "https://example.org"}, "n": 10**30}
    assert check_config(config) == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_bundles_are_clean(bundle: Path) -> None:
    report = inspect_path(bundle)
    assert report.kind == "bundle"
    assert [(file.name, file.findings) for file in report.files if file.findings] == []
    assert len(report.files) > 15


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_an_overlay_alone_is_clean(bundle: Path) -> None:
    for path in sorted((bundle / "configs").glob("*.json")):
        assert inspect_file(path).findings == [], path.name


LOGGING = "[handler_console]\nclass={}\nargs={}\n[formatter_a]\nformat=%(message)s\n"


@pytest.mark.parametrize(
    ("kind", "arguments", "findings"),
    [
        ("StreamHandler", "(sys.stdout,)", 0),
        ("handlers.RotatingFileHandler", "('a.log', 'a', 1000)", 0),
        ("StreamHandler", "(__import__('os').system('ls'),)", 1),
        ("os.system", "('ls',)", 1),
        ("handlers.SocketHandler", "('example.org', 1)", 1),
        ("eval", "(sys.modules['os'],)", 2),
        ("StreamHandler", "(", 1),
    ],
)
def test_logging_that_runs_code_is_found(kind: str, arguments: str, findings: int) -> None:
    assert len(check_logging(LOGGING.format(kind, arguments))) == findings


def test_defaults_of_a_formatter_are_code_too() -> None:
    assert [one.place for one in check_logging("[formatter_a]\ndefaults={'a': open('x')}")] == ["formatter_a.defaults"]


def test_a_config_of_many_findings_ends_in_one_more() -> None:
    found = check_config([{"_target_": "os.system"}] * 3 + [{"_target_": f"os.f{n}"} for n in range(2000)])
    assert len(found) == 1001
    assert found[-1].kind == "limit"


def test_text_of_hostile_files_is_printable() -> None:
    (finding,) = check_config(json.loads(r'{"a\u001b[2J": {"_target_": "x\u001b]0;y\u0007"}}'))
    assert (finding.place + finding.text).isprintable()
