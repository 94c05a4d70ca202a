"""Hooks of MkDocs: pages made from examples, bundles and the public page, and links to files of the repository.

A page links to a file of the repository by its relative path, as on any page of Markdown. Where the file is a page of
the site, too, the link leads there; other files are named without a link.
"""

from __future__ import annotations

import ast
import posixpath
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import griffe
import jupytext
from mkdocs.structure.files import File

import movl_monai

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = ("BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
GROUPS = {
    "api": "Runs",
    "data": "Data",
    "transforms": "Images",
    "backbones": "Backbones",
    "prompts": "Prompts",
    "adapters": "Adapters",
    "heads": "Heads",
    "losses": "Losses",
    "networks": "Networks",
    "engines": "Training",
    "evaluation": "Evaluation",
    "export": "Export",
    "errors": "Errors",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`~?([^`]+)`")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and those that lie elsewhere in the repository."""
    for path in sorted(ROOT.glob("examples/*.py")):
        notebook = jupytext.read(path, fmt="py:percent")
        if notebook.cells[0].cell_type == "markdown":
            files.append(File.generated(config, f"tutorials/{path.stem}.md", content=tutorial(notebook, path.stem)))
            text = jupytext.writes(notebook, fmt="ipynb")
            files.append(File.generated(config, f"tutorials/{path.stem}.ipynb", content=text))
    for path in sorted(ROOT.glob("bundles/*/docs/manual.json")):
        bundle = path.parts[-3]
        files.append(File.generated(config, f"reference/{bundle}.md", content=settings(bundle)))
    files.append(File.generated(config, "reference/api.md", content=api()))
    elsewhere = [ROOT / name for name in ROOT_PAGES] + [path for path in ROOT.glob("results/**/*") if path.is_file()]
    for path in elsewhere:
        place = path.relative_to(ROOT).as_posix()
        if path.suffix in (".md", ".png"):
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files of the repository at their pages."""
    place = page.file.src_uri
    source = ROOT / place if place.startswith((*ROOT_PAGES, "results/")) else ROOT / "docs" / place

    def resolved(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path) or image:
            return match[0]
        found = (source.parent / path).resolve()
        if not found.exists() or not found.is_relative_to(ROOT):
            return match[0]  # a page that is made, or a dead link, which MkDocs tells
        name = found.relative_to(ROOT).as_posix().removeprefix("docs/")
        if name == "README.md" or files.get_file_from_path(name) is None:
            return text
        link = posixpath.relpath(name, posixpath.dirname(place))
        return f"[{text}]({link}{'#' + anchor if anchor else ''})"

    markdown = markdown.replace("<!-- example: start -->", start())
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if number % 2 else _LINK.sub(resolved, part) for number, part in enumerate(parts))


class PlainDocstrings(griffe.Extension):
    """Roles as code, and examples under the heading that the parser knows."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object."""
        if obj.docstring:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def tutorial(notebook: Any, name: str) -> str:
    """Return a page of the cells of an example, each with its recorded output (`make examples`)."""
    recorded = _outputs(name)[1:]
    parts = []
    for cell in notebook.cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        if cell.cell_type == "code" and (output := recorded.pop(0)):
            parts.append(f"```text\n{output}```")
    title, _, first = parts[0].partition("\n")
    note = f"This page is `examples/{name}.py`; the project's tests run it and hold it to the output shown."
    note += f" [Download as a notebook]({name}.ipynb)."
    return "\n\n".join([title, note, first, *parts[1:]]) + "\n"


def start() -> str:
    """Return the code of the first example, and its recorded output."""
    code = (ROOT / "examples/start.py").read_text(encoding="utf-8")
    _, output = _outputs("start")
    return f"```python\n{code}```\n\nThis prints:\n\n```text\n{output}```"


def _outputs(name: str) -> list[str]:
    return (ROOT / f"examples/outputs/{name}.txt").read_text(encoding="utf-8").split("# %%\n")


def settings(bundle: str) -> str:
    """Return the page of a bundle's settings and overlays, from bundles/_shared/manual.json."""
    make = runpy.run_path(str(ROOT / "bundles/_shared/make.py"))
    manual = make["make_config"](bundle, make["MANUAL"])
    command = f"movl-monai train {bundle} DATA --output_dir OUT --SETTING VALUE"
    tables = {"Settings": make["_setting_rows"](bundle, manual), "Overlays": make["_overlay_rows"](manual)}
    parts = [f"# Settings of {bundle}", f"```bash\n{command}\n```"]
    for title, rows in tables.items():
        parts += [f"## {title}", '<div class="settings" markdown>', "\n".join(rows), "</div>"]
    return "\n\n".join(parts) + "\n"


def api() -> str:
    """Return the page of the names of `import movl_monai`."""
    parts = ["# Python", "", movl_monai.__doc__ or "", "", "```python\nimport movl_monai as mm\n```", ""]
    for package, names in movl_monai._PAGE.items():
        parts += [f"## {GROUPS[package]}", ""]
        parts += [f"::: {_home(package, name)}\n" for name in names]
    return "\n".join(parts)


def _home(package: str, name: str) -> str:
    """Return the dotted path under which a tool that does not import finds a name; transforms lie at the top level."""
    if package != "transforms":
        return f"movl_monai.{package}.{name}"
    for node in ast.parse((ROOT / "transforms/__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return f"{node.module}.{name}".replace("movl_monai.transforms", "transforms")
    raise ValueError(f"transforms/__init__.py does not import {name}.")
