"""Unusable input of an export gives a clear error and no partial file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from movl_monai.errors import CheckpointMismatchError, ConfigError, ExportError
from movl_monai.export import exporting
from movl_monai.export.exporting import export_network, export_run
from movl_monai.export.graph import exportable
from movl_monai.export.parity import ImageSample
from movl_monai.export.sealed import SUFFIXES
from movl_monai.networks import load_checkpoint, save_atomically
from tests.export.networks import classifier, images, metadata_of
from tests.helpers import QUIET
from tests.workflows import BUNDLES

pytestmark = QUIET
SAMPLE = ImageSample("given", images(1).numpy())


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def _export(path: Path, form: Any = "torchscript") -> None:
    network = classifier()
    export_network(network, path, form, metadata=metadata_of(network), sample=SAMPLE)


@pytest.fixture
def models(run_of: dict[str, Path], tmp_path: Path) -> Path:
    """The folder `models` of a copied run of MoVL classification, for damaging."""
    return Path(shutil.copytree(run_of["movl_classification"] / "models", tmp_path / "run" / "models"))


# checkpoints of a run


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _text(path: Path) -> None:
    path.write_text("no checkpoint", encoding="utf-8")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_off, "is not a checkpoint that can be read safely"),
        (_one_bit, "is not a checkpoint that can be read safely"),
        (_text, "is not a checkpoint that can be read safely"),
        (_empty, "is not a checkpoint that can be read safely"),
        (_missing, "There is no checkpoint at"),
    ],
)
def test_a_damaged_checkpoint_is_refused(damage: Callable[[Path], None], message: str, models: Path) -> None:
    damage(models / "model.pt")
    before = _files(models)
    with pytest.raises(CheckpointMismatchError, match=message):
        export_run(models.parent, "torchscript", output=models / "model.ts")
    assert _files(models) == before


def test_the_checkpoint_of_another_bundle_is_refused(models: Path, run_of: dict[str, Path]) -> None:
    shutil.copy(run_of["dvpt_segmentation"] / "models" / "model.pt", models / "model.pt")
    before = _files(models)
    with pytest.raises(
        CheckpointMismatchError, match="has the parts .*SegmentationHead.* this network has .*LinearHead"
    ):
        export_run(models.parent, "torchscript", output=models / "model.ts")
    assert _files(models) == before


def test_another_bundle_for_the_run_is_refused(models: Path) -> None:
    other = next(path for path in BUNDLES if path.name == "dvpt_segmentation")
    with pytest.raises(ConfigError, match="is the bundle 'DVPT segmentation', but this run was trained by 'MoVL cl"):
        export_run(models.parent, "torchscript", output=models / "model.ts", bundle_dir=other)
    assert "model.ts" not in _files(models)


def test_an_exported_file_is_not_exported_again(models: Path) -> None:
    _export(models / "model.ts")
    with pytest.raises(ExportError, match=r"model.ts is an exported file already \(torchscript\); give the run's"):
        export_run(models / "model.ts", "onnx")
    assert "model.onnx" not in _files(models)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_with_weights_that_are_not_finite_is_refused_by_name(value: float, models: Path) -> None:
    state = load_checkpoint(models / "model.pt")
    state["head.weight"][0, 0] = value
    save_atomically(state, models / "model.pt")
    with pytest.raises(ExportError, match=r"1 tensors of the network are NaN or infinite, the first is head.weight"):
        export_run(models.parent, "torchscript", output=models / "model.ts", trust=False)
    assert "model.ts" not in _files(models)


def test_statistics_that_are_nan_are_found_and_masks_of_infinity_are_not() -> None:
    network = classifier()
    network.register_buffer("mask", torch.full((2,), -torch.inf))
    exportable(network)
    network.register_buffer("running_mean", torch.tensor([0.0, torch.nan]))
    with pytest.raises(ExportError, match="the first is running_mean"):
        exportable(network)


# where the file goes


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_disk_that_becomes_full_leaves_no_half_file_and_keeps_the_one_of_before(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"model{SUFFIXES[form]}"
    path.write_bytes(b"before")
    whole, written = Path.write_bytes, []

    def full(self: Path, data: bytes) -> int:
        written.append(whole(self, data[: len(data) // 2]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match=r"cannot be written: No space left on device .* choose another --output"):
        _export(path, form)
    assert written[0] > 1000  # it was under way
    assert _files(tmp_path) == [path.name]
    assert path.read_bytes() == b"before"


def test_a_disk_that_becomes_full_with_the_second_of_two_files_leaves_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, whole = classifier(), Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if "int8" in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(exporting, "quantize_model", lambda model: model)
    with pytest.raises(ExportError, match="No space left on device"):
        exporting._export_both(
            network,
            tmp_path / "model.onnx",
            metadata=metadata_of(network),
            sample=SAMPLE,
            tolerance=1e-4,
            trust="",
            max_drop=1.0,
        )
    assert _files(tmp_path) == []


def test_no_space_for_the_rendered_images_is_said(
    run_of: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("movl_monai.export.parity.write_phantom", full)
    with pytest.raises(ExportError, match=r"temporary files cannot be used: No space left on device .* TMPDIR"):
        export_run(run_of["movl_classification"], "torchscript", output=tmp_path / "model.ts")
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ExportError, match=r"cannot be written: (Not a directory|File exists)"):
        _export(tmp_path / "file" / "model.ts")
    with pytest.raises(ExportError, match=r"cannot be written: (Not a directory|File exists)"):
        _export(tmp_path / "file" / "below" / "model.ts")
    assert _files(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> int:  # the rights of a folder do not hold for root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", denied)
    with pytest.raises(ExportError, match="cannot be written: Permission denied"):
        _export(tmp_path / "model.ts")
    assert _files(tmp_path) == []


def test_a_folder_of_the_files_name_is_left_as_it_is(run_of: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model.ts").mkdir()
    with pytest.raises(ConfigError, match="--output must name a file that ends in .ts"):
        export_run(run_of["movl_classification"], "torchscript", output=tmp_path / "model.ts")
    assert _files(tmp_path) == ["model.ts"]
