"""Pages keep their promises: examples print the output shown, commands run, names exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import movl_monai
from movl_monai.cli import main
from movl_monai.export import read_exported
from tests import examples

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = {
    "phantom": "--images_per_patient 1 --size 64",
    "fit": "--image_size 64 --epochs 1 --batch_size 16 --num_workers 0 --device cpu",
    "predict": "--num_workers 0",
}


def _blocks(path: Path, language: str) -> list[str]:
    """The blocks of a page in a language, without those that need a network."""
    text = re.sub(r"<!-- needs a network -->\n```.*?\n```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder, in which examples share their data."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.parametrize("name", examples.names())
def test_an_example_prints_what_its_page_shows(name: str, place: Path) -> None:
    assert examples.words(examples.run(name, place)) == examples.words(examples.recorded(name))


@pytest.mark.slow
def test_the_commands_of_the_readme_lead_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks(ROOT / "README.md", "bash") for line in block.splitlines()]
    assert [line.split()[1] for line in lines] == ["phantom", "fit", "predict"]
    for line in lines:
        _, command, *words = shlex.split(line)
        assert main([command, *words, *SMALL[command].split()]) == 0, line
    assert len(read_exported("out/model.onnx").class_names) == 2
    assert (tmp_path / "predictions" / "predictions.csv").is_file()


def test_python_of_pages_is_in_examples_or_tested_elsewhere() -> None:
    assert [path for path in PAGES if _blocks(path, "python")] == [ROOT / "docs" / "reference" / "images.md"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_a_page_names_exist(path: Path) -> None:
    named = re.findall(r"`((?:movl_monai|transforms|bundles|tests|examples|docs)/[\w./-]+)`", path.read_text("utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_other_sites_are_well_formed(path: Path) -> None:
    links = [urlsplit(link) for link in re.findall(r"\]\((\w+:[^)]*)\)", path.read_text("utf-8"))]
    right = [link for link in links if link.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", link.netloc)]
    assert right == links


def test_targets_of_make_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    sources = [*PAGES, *ROOT.glob(".github/**/*"), ROOT / ".pre-commit-config.yaml", ROOT / ".ci" / "run"]
    for path in (path for path in sources if path.is_file()):
        text = path.read_text(encoding="utf-8")
        named = re.findall(r"(?:`|run: |^)make ((?:[a-z-]+ ?)+)", text, re.MULTILINE)
        assert {target for line in named for target in line.split()} <= known, path


def test_the_exit_codes_of_the_code_are_on_their_page() -> None:
    page = (ROOT / "docs" / "reference" / "exit_codes.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| (\d+) \|", page, re.MULTILINE))
    sources = (path.read_text(encoding="utf-8") for path in Path(movl_monai.__file__).parent.rglob("*.py"))
    used = {code for text in sources for code in re.findall(r"^_?EXIT_\w+ = (\d+)$|exit_code = (\d+)$", text, re.M)}
    assert {one or other for one, other in used} | {"0"} == listed
