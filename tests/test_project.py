"""The project's files agree with each other."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import benchmarks
import movl_monai
from tests import house

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _listed_packages() -> set[str]:
    block = re.search(r"^packages = \[(.*?)\]", PYPROJECT, re.DOTALL | re.MULTILINE)
    if block is None:
        pytest.fail("pyproject.toml lists no packages")
    return set(re.findall(r'"([\w.]+)"', block.group(1)))


def test_every_package_is_listed_for_installation() -> None:
    folders = {
        path.parent.relative_to(ROOT)
        for top in ("movl_monai", "transforms")
        for path in (ROOT / top).rglob("__init__.py")
    }
    names = {".".join(folder.parts).replace("transforms", "movl_monai.transforms", 1) for folder in folders}
    assert _listed_packages() == names | {"movl_monai.bundled"}


def test_environment_yml_installs_the_project_with_pyprojects_python_and_extras() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", pip[0])
    if extras is None:
        pytest.fail(f"the pip section must install the project itself, got {pip}")
    known = set(
        re.findall(r"^(\w+) = \[", PYPROJECT.split("[project.optional-dependencies]")[1].split("\n[")[0], re.MULTILINE)
    )
    assert set(extras.group(1).split(",")) <= known
    minimum = re.search(r'requires-python = ">=([\d.]+)"', PYPROJECT)
    assert minimum is not None
    assert any(entry.startswith(f"python>={minimum.group(1)}") for entry in plain)
    assert "pip" in plain


def test_constraints_name_every_dependency_in_a_version_that_it_may_have() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    tested = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, lines)}
    project = pytest.importorskip("tomllib").loads(PYPROJECT)["project"]  # Python >= 3.11
    extras = project["optional-dependencies"]
    for wanted in map(Requirement, [*project["dependencies"], *extras["export"], *extras["listener"]]):
        (pin,) = tested[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(pin.version), wanted


def test_the_image_is_built_from_files_that_exist_and_are_sent() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {
        name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]
    }
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == {name for name in sent if "*" not in name}
    assert all((ROOT / name).exists() for name in copied)


def test_the_version_is_the_same_everywhere() -> None:
    assert f'version = "{movl_monai.__version__}"' in PYPROJECT
    assert f"## {movl_monai.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (movl_monai.__version__, "Apache-2.0")


def test_every_module_imports() -> None:
    folders = ((movl_monai.__path__, "movl_monai."), (benchmarks.__path__, "benchmarks."))
    for module in (module for path, prefix in folders for module in pkgutil.walk_packages(path, prefix)):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_importing_the_package_imports_none_of_its_parts() -> None:
    code = "import movl_monai, sys; sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'movl_monai.engines')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_page_has_the_names_of_its_stub() -> None:
    stub = ast.parse((ROOT / "movl_monai/__init__.pyi").read_text(encoding="utf-8"))
    imported = {name.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert sorted([*imported, "__version__"]) == sorted(movl_monai.__all__)
    for name, module in imported.items():
        assert getattr(movl_monai, name) is getattr(importlib.import_module(module), name)
    assert set(movl_monai.__all__) <= set(dir(movl_monai))
    with pytest.raises(AttributeError, match="no attribute 'AdaptedClasifier'"):
        getattr(movl_monai, "AdaptedClasifier")  # noqa: B009


@pytest.mark.parametrize(
    ("folder", "known"),
    [("movl_monai/readers", ("readers",)), ("transforms", ("readers", "transforms"))],
)
def test_readers_and_transforms_know_nothing_of_the_rest(folder: str, known: tuple[str, ...]) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        imported = re.findall(r"^\s*(?:from|import) (movl_monai[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert all(name.split(".")[1] in known for name in imported), path


def test_transforms_are_not_installed_under_a_general_name() -> None:
    assert (
        subprocess.run(
            [sys.executable, "-c", "import transforms"], cwd="/", capture_output=True, check=False
        ).returncode
        == 1
    )


def test_imports_form_no_circles_and_stand_at_the_top_of_modules() -> None:
    assert house.circles() == 0
    assert house.upward() == 0
    assert sum(house.inner_imports(path) for path in house.files(*house.CODE)) <= 40
