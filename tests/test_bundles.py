"""Bundles of the package: found by name or folder, listed, copied, and complete in the built distributions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from movl_monai.bundles import find_bundle, installed_bundles
from movl_monai.cli import main
from movl_monai.errors import ConfigError
from tests.workflows import BUNDLES, ROOT


@pytest.mark.parametrize("name", [bundle.name for bundle in BUNDLES])
def test_a_bundle_is_found_by_name_and_by_folder(name: str) -> None:
    for given in (name, name.replace("_", "-"), ROOT / "bundles" / name):
        assert find_bundle(given).samefile(ROOT / "bundles" / name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("movl_clasification", r"no bundle 'movl_clasification' \(did you mean 'movl_classification'\?\)"),
        ("nowhere", "no bundle 'nowhere'. Expected one of dvpt_classification, .*, or the folder of a bundle"),
        ("empty", "folder 'empty' has no configs/metadata.json. Expected one of"),
    ],
)
def test_another_name_is_told_the_bundles_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        find_bundle(given)


def test_bundles_are_listed_with_version_and_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {Path(entry["folder"]) for entry in listed} == set(BUNDLES)
    assert main(["bundle", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        f"{entry['name']} {entry['version']}  {entry['folder']}" for entry in listed
    ]


def test_a_copied_bundle_has_every_file_but_trained_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, copy = tmp_path / "trained", tmp_path / "mine"
    assert main(["bundle", "copy", "movl_classification", str(source)]) == 0
    (source / "models/model.pt").touch()
    assert main(["bundle", "copy", str(source), str(copy)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(source), str(copy)]
    assert _files(copy) == _files(source) - {"models/model.pt"} == _shipped(ROOT / "bundles/movl_classification")
    assert main(["bundle", "copy", "movl_classification", str(copy)]) == 2
    assert "must be a new or empty folder" in " ".join(capsys.readouterr().err.split())


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _shipped(bundle: Path) -> set[str]:
    left_out = ("models/", "deploy/__pycache__/")
    return {name for name in _files(bundle) if not name.startswith(left_out)} | {"models/.gitignore"}


@pytest.mark.slow
def test_sdist_and_wheel_hold_the_code_and_every_bundle(tmp_path: Path) -> None:
    tops = ("pyproject.toml", "README.md", "LICENSE", "movl_monai", "transforms", "bundles")
    tree = tmp_path / "tree"
    tree.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z", *tops], cwd=ROOT, check=True, capture_output=True
    )
    for name in tracked.stdout.decode().strip("\0").split("\0"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tree, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "sdist", filter="data")
    (source,) = (tmp_path / "sdist").iterdir()
    build_wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build_wheel, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)

    code = {f"movl_monai/{name}" for name in _files(tree / "movl_monai") if not name.endswith(".md")}
    code |= {f"movl_monai/transforms/{name}" for name in _files(tree / "transforms") if not name.endswith(".md")}
    bundles = {
        f"movl_monai/bundled/{path.name}/{name}" for path in BUNDLES for name in _shipped(tree / "bundles" / path.name)
    }
    assert {name for name in _files(site) if ".dist-info/" not in name} == code | bundles
    assert {"movl_monai/py.typed", "movl_monai/bundled/movl_classification/configs/train.json"} <= _files(site)

    script = "from movl_monai.bundles import installed_bundles as found; print(*(each.folder for each in found()))"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    found = subprocess.run(
        [sys.executable, "-c", script], cwd="/", env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout.split() == [str(site / "movl_monai/bundled" / each.name) for each in installed_bundles()]
