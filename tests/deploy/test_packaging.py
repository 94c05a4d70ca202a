"""The parts of the applications that MONAI Deploy's packager reads, and their start in a container."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import metadata, requires, version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from tests.deploy.conftest import gradient, radiograph
from tests.deploy.test_prediction import CLASSIFIER, rows_of
from tests.predict.conftest import ROOT

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/deploy/app.yaml"))

# in the packager's environment, up to where it would call Docker: what is copied, and both manifests
PACKAGE = """
import json, sys
from pathlib import Path
from holoscan_cli.packager.config_reader import ApplicationConfiguration
from holoscan_cli.packager.container_builder import PythonAppBuilder
from holoscan_cli.packager.models import Models
from holoscan_cli.packager.package_command import create_package_parser
from holoscan_cli.packager.parameters import PackageBuildParameters
import argparse
parser = argparse.ArgumentParser()
create_package_parser(parser.add_subparsers(), "package", parents=[])
target, *words = sys.argv[1:]
args = parser.parse_args(words)
parameters = PackageBuildParameters()
parameters.app_config_file_path = args.config
parameters.application = args.application
parameters.models = Models().build(args.models)
configuration = ApplicationConfiguration()
configuration.read(args.config)
parameters.title, parameters.pip_packages = configuration.title(), configuration.pip_packages()
app, package = configuration.populate_app_manifest(parameters), configuration.populate_package_manifest(parameters)
PythonAppBuilder(parameters, target)._copy_pip_requirements()
print(json.dumps({"title": parameters.title, "app": app.data, "pkg": package.data}, default=str))
"""


def requirements(bundle: str) -> list[Requirement]:
    lines = (ROOT / "bundles" / bundle / "deploy" / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def test_every_bundle_has_an_application() -> None:
    assert sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/train.json")) == BUNDLES


@pytest.mark.parametrize("bundle", BUNDLES)
def test_requirements_name_the_project_with_the_extras_it_has(bundle: str) -> None:
    (requirement,) = requirements(bundle)
    assert requirement.name == metadata(requirement.name)["Name"] == "movl-monai"
    assert requirement.specifier.contains(version(requirement.name))
    assert requirement.extras <= set(metadata(requirement.name).get_all("Provides-Extra") or ())
    extras = [Requirement(line) for line in requires(requirement.name) or ()]
    wanted = {one.name for one in extras if one.marker and one.marker.evaluate({"extra": "deploy"})}
    assert "deploy" in requirement.extras
    assert "monai-deploy-app-sdk" in wanted


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_readme_says_what_the_files_are_called(bundle: str) -> None:
    folder = ROOT / "bundles" / bundle / "deploy"
    text = (folder / "README.md").read_text()
    (command,) = re.findall(r"^monai-deploy package (.*)$", text, re.MULTILINE)
    assert f"--tag {bundle.replace('_', '-')}:" in command
    for name in (command.split()[0], re.findall(r"--config (\S+)", command)[0]):
        assert (folder / name).is_file(), name


@pytest.fixture(scope="module")
def packager() -> str:
    """Python of an environment with the packager."""
    python = os.environ.get("MOVL_PACKAGER", "")
    if not python or not Path(python).is_file():
        pytest.skip("MOVL_PACKAGER names no Python with holoscan-cli<4.3: `make deploy-test` makes one")
    return python


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_packager_reads_what_the_bundle_states(bundle: str, packager: str, tmp_path: Path) -> None:
    folder = ROOT / "bundles" / bundle / "deploy"
    (tmp_path / "model.ts").write_bytes(b"model")
    target = tmp_path / "container"
    target.mkdir()
    command = re.findall(r"^monai-deploy (package .*)$", (folder / "README.md").read_text(), re.MULTILINE)[0].split()
    command[command.index("MODEL_FOLDER/model.ts")] = str(tmp_path / "model.ts")
    done = subprocess.run(
        [packager, "-c", PACKAGE, str(target), *command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    stated = yaml.safe_load((folder / "app.yaml").read_text())
    facts = json.loads((folder.parent / "configs" / "metadata.json").read_text())
    assert found["title"] == bundle
    assert found["app"]["version"] == found["pkg"]["version"] == facts["version"]
    assert json.loads(found["app"]["command"]) == ["python3", "/opt/holoscan/app/app.py"]
    for side in ("input", "output"):
        assert found["app"][side]["formats"] == stated["application"][f"{side}-formats"] == ["file"]
    assert found["pkg"]["resources"] == stated["resources"]
    # nothing of app.yaml is a word that the packager does not know
    assert set(stated["application"]) == {"title", "version", "input-formats", "output-formats"}
    copied = (target / "pip" / "requirements.txt").read_text().splitlines()
    assert [Requirement(line) for line in copied if line.strip() and not line.startswith("#")] == requirements(bundle)
    assert (target / "app" / "app.py").read_bytes() == (folder / "app.py").read_bytes()
    assert [path.name for path in (target / "models").rglob("*") if path.is_file()] == ["model.ts"]


@pytest.mark.usefixtures("with_sdk")
def test_without_arguments_the_variables_of_the_container_are_taken(models: dict[str, Path], tmp_path: Path) -> None:
    radiograph(tmp_path / "input" / "1.dcm", gradient())
    # as the packager lays models out
    (tmp_path / "models" / "model").mkdir(parents=True)
    shutil.copyfile(models[f"{CLASSIFIER}.ts"], tmp_path / "models" / "model" / "model.ts")
    places: dict[str, Any] = {"INPUT": "input", "OUTPUT": "output", "MODEL": "models"}
    variables = {f"HOLOSCAN_{name}_PATH": str(tmp_path / folder) for name, folder in places.items()}
    app = ROOT / "bundles" / CLASSIFIER / "deploy" / "app.py"
    done = subprocess.run(
        [sys.executable, str(app)],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "output")) == 1
