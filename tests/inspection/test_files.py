"""Checkpoints, pickles, exported files and folders: expected findings, clean files, and no execution."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._weights_only_unpickler import _get_allowed_globals

from movl_monai.cli import main
from movl_monai.inspection import InspectionError, inspect_file, inspect_path
from movl_monai.inspection.pickles import TENSOR_NAMES

STATE = {"weight": torch.ones(2, 3), "half": torch.ones(2).half(), "step": torch.tensor(3), "names": ["a", "b"]}


class _Hostile:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def _kinds(path: Path) -> list[str]:
    return [finding.kind for finding in inspect_file(path).findings]


def test_the_names_that_torch_takes_are_those_of_torch() -> None:
    assert set(_get_allowed_globals()) >= TENSOR_NAMES


@pytest.mark.parametrize("archive", [True, False])
def test_a_checkpoint_of_tensors_is_clean(tmp_path: Path, archive: bool) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    torch.load(tmp_path / "a.pt", weights_only=True)
    assert _kinds(tmp_path / "a.pt") == []


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("content", ["hostile", "module"])
def test_a_checkpoint_that_imports_more_is_found_and_not_run(tmp_path: Path, archive: bool, content: str) -> None:
    objects = {"hostile": _Hostile(tmp_path / "run"), "module": torch.nn.Linear(2, 2)}
    torch.save({**STATE, "x": objects[content]}, tmp_path / "a.pt", _use_new_zipfile_serialization=archive)
    assert set(_kinds(tmp_path / "a.pt")) == {"pickle"}
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_a_finding_that_names_its_imports(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(_Hostile(tmp_path / "run"), protocol=protocol))
    (finding,) = inspect_file(tmp_path / "a.pkl").findings
    assert "posix.system" in finding.text or "nt.system" in finding.text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02cos\nsystem\n(X\x01", b"cos\nsystem\n(S'ls'\ntR.\xff", b"\x80\x04N."]
)
@pytest.mark.parametrize("name", ["a.pkl", "a.pt"])
def test_damaged_pickles_are_findings(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert _kinds(tmp_path / name)


def _torch_export(path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    metadata = {"preprocessing": {"_target_": "monai.transforms.Compose", "transforms": []}, "backbone": {}}
    torch.export.save(program, path, extra_files={"movl_metadata.json": json.dumps(metadata)})


def test_an_archive_of_torch_export_is_clean(tmp_path: Path) -> None:
    _torch_export(tmp_path / "a.pt2")
    report = inspect_file(tmp_path / "a.pt2")
    assert report.findings == []
    assert report.notes == ["licence of the weights: not stated"]


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("a/extra/movl_metadata.json", b'{"preprocessing": {"_target_": "os.system"}}'),
        ("a/data/sample_inputs/model.pt", pickle.dumps(_Hostile(Path("x")), protocol=2)),
        ("a/data/aotinductor/model.so", b"\x7fELF"),
        ("a/data/x.pkl", b"\x80\x02cposix\nsystem\n."),
        ("a/data/constants/custom_obj_0", b""),
    ],
)
def test_members_of_archives_that_run_code_are_found(tmp_path: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt2", "w") as archive:
        archive.writestr("a/archive_format", "pt2")
        archive.writestr(member, content)
    assert [finding.place for finding in inspect_file(tmp_path / "a.pt2").findings]


def test_bombs_end_in_a_finding(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a/data.pkl", "w") as one,
    ):
        for _ in range(70):
            one.write(bytes(2**20))
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "levels.json").write_text("[" * 300 + "]" * 300)
    (tmp_path / "deep.yaml").write_text("[" * 1000)
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    (tmp_path / "laughs.yaml").write_text("\n".join(["a0: &a0 [x]", *levels]))
    (tmp_path / "self.yaml").write_text("a: &a [*a, {_target_: os.system}]")
    (tmp_path / "object.yaml").write_text("a: !!python/object/apply:os.system ['ls']")
    found = {path.name: _kinds(path) for path in sorted(tmp_path.iterdir())}
    assert found == {
        "a.pt": ["limit"],
        "deep.json": ["damaged"],
        "deep.yaml": ["limit"],
        "laughs.yaml": [],
        "levels.json": ["limit"],
        "object.yaml": ["code"],
        "self.yaml": ["target"],
    }


def test_safetensors_and_arrays_are_looked_into(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    (tmp_path / "cut.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "huge.safetensors").write_bytes(struct.pack("<Q", 2**60) + header)
    np.save(tmp_path / "a.npy", np.ones(3))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    found = {path.name: _kinds(path) for path in sorted(tmp_path.iterdir())}
    assert found == {
        "a.npy": [],
        "a.safetensors": [],
        "cut.safetensors": ["damaged"],
        "huge.safetensors": ["damaged"],
        "objects.npy": ["pickle"],
        "objects.npz": ["pickle"],
    }


def test_onnx_with_data_and_operators_elsewhere_is_found(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", 1, [1])
    for name, domain, location in (("a", "", ""), ("b", "evil", ""), ("c", "", "../../secret")):
        tensor = helper.make_tensor("w", 1, [1], [1.0])
        if location:
            tensor.external_data.add(key="location", value=location)
        node = helper.make_node("Add", ["x", "w"], ["y"], domain=domain)
        model = helper.make_model(helper.make_graph([node], "g", [value], [value], [tensor]))
        entry = model.metadata_props.add()
        entry.key, entry.value = (
            "movl.preprocessing",
            json.dumps({"_target_": "os.system" if name == "b" else "torch.nn.ReLU"}),
        )
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
    found = [_kinds(tmp_path / f"{name}.onnx") for name in "abc"]
    assert found == [[], ["graph", "target"], ["graph"]]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of a bundle."""
    source = Path(__file__).resolve().parents[2] / "bundles" / "movl_classification"
    return Path(shutil.copytree(source, tmp_path / "bundle"))


def test_findings_of_a_bundle_name_their_files(bundle: Path, tmp_path: Path) -> None:
    (bundle / "configs/evil.json").write_text("{\"initialize\": [\"$__import__('os').system('ls')\"]}")
    (bundle / "scripts").mkdir()
    (bundle / "scripts/x.py").write_text("import os")
    (bundle / "models/link.pt").symlink_to(tmp_path / "outside.pt")
    (bundle / "configs/out").symlink_to(tmp_path)
    os.mkfifo(bundle / "models/pipe")
    (bundle / "LICENSE").unlink()
    app = (bundle / "deploy/app.py").read_text()
    (bundle / "deploy/app.py").write_text(app.replace("class App", "import os\n\n\nclass App"))
    found = {file.name: [one.kind for one in file.findings] for file in inspect_path(bundle).files if file.findings}
    assert found == {
        "LICENSE": ["licence"],
        "configs/evil.json": ["expression"],
        "configs/out": ["link"],
        "deploy/app.py": ["code"],
        "models/link.pt": ["link"],
        "models/pipe": ["link"],
        "scripts/x.py": ["code"],
    }


def test_declared_hashes_are_compared_with_the_files(bundle: Path) -> None:
    weights = bundle / "models/weights.safetensors"
    weights.write_bytes(struct.pack("<Q", 2) + b"{}")
    right = inspect_file(weights).sha256
    said = [{"_target_": "movl_monai.backbones.WeightsFile", "path": "models/weights.safetensors", "license": "MIT"}]
    said = [{**said[0], "sha256": sha256} for sha256 in (right, "0" * 64)]
    (bundle / "configs/weights.json").write_text(json.dumps({"a": said[0], "b": said[1]}))
    (report,) = [file for file in inspect_path(bundle).files if file.name == "configs/weights.json"]
    assert [(one.kind, one.place) for one in report.findings] == [("hash", "b")]
    assert "licence of weights.safetensors: MIT" in report.notes
    assert "SHA-256 as declared: weights.safetensors" in report.notes


def test_the_command_tells_by_its_exit_code(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    assert capsys.readouterr().out.endswith("bundle (bundle): clean\n")
    (bundle / "configs/evil.json").write_text('{"a": {"_target_": "os.system"}}')
    assert main(["inspect", str(bundle / "configs/evil.json"), "--json"]) == 5
    report = json.loads(capsys.readouterr().out)
    assert report["clean"] is False
    assert report["files"][0]["findings"][0]["text"] == "'os.system' is outside of the allow-list of targets."
    assert main(["inspect", str(bundle / "nowhere")]) == 2
    assert main(["inspect", str(bundle / "docs")]) == 2


def test_a_file_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InspectionError, match="of no kind that can be inspected"):
        inspect_path(tmp_path / "a.txt")


def test_inspecting_imports_no_framework(bundle: Path) -> None:
    torch.save(STATE, bundle / "models/model.pt")
    code = (
        "import sys; from movl_monai.cli import main; code = main(['inspect', sys.argv[1]]); "
        "sys.exit(code or bool({'torch', 'monai'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(bundle)], capture_output=True, check=False).returncode == 0
