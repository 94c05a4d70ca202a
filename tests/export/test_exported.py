"""An exported file gives the network's numbers, or a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.errors import ExportError
from movl_monai.export import ExportedModel, read_exported
from movl_monai.export.sealed import SUFFIXES
from movl_monai.networks import save_atomically
from tests.export.networks import CLASS_NAMES, classifier, images, metadata_of, segmenter, write

NETWORKS = {"classification": classifier, "segmentation": segmenter}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A file of every format for both tasks."""
    made: dict[tuple[str, str], Path] = {}
    for task, make in NETWORKS.items():
        for form in SUFFIXES:
            made[task, form] = write(make(), tmp_path_factory.mktemp(f"{task}_{form}"), form)
    return made


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("task", NETWORKS)
def test_a_file_gives_the_logits_and_features_of_the_network_for_any_batch_size(
    task: str, form: str, exported: dict[tuple[str, str], Path]
) -> None:
    network, model = NETWORKS[task](), read_exported(exported[task, form], task=task, num_threads=1)
    for count in (1, 2, 3, 5):
        image = images(count)
        with torch.no_grad():
            expected = network(image).numpy()
        got = model(image.numpy())
        assert got.logits.dtype == np.float32
        np.testing.assert_allclose(got.logits, expected, atol=1e-5)
        if task == "segmentation":
            assert got.features is None
        else:
            with torch.no_grad():
                np.testing.assert_allclose(got.features, network.features(image).numpy(), atol=1e-5)


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_file_tells_what_it_is_and_carries_the_trust_record(form: str, exported: dict[tuple[str, str], Path]) -> None:
    model = read_exported(exported["classification", form])
    assert model.metadata == metadata_of(classifier())
    assert (model.format, model.task, model.class_names) == (form, "classification", CLASS_NAMES)
    assert model.image_size == (32, 32)
    assert model._runtime.trust == "QUJD"
    assert "Research use only" in model.metadata["use"]


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("task", NETWORKS)
def test_no_folder_of_this_machine_is_in_a_file(task: str, form: str, exported: dict[tuple[str, str], Path]) -> None:
    content = exported[task, form].read_bytes()
    folders = (Path(__file__).parents[2], Path(torch.__file__).parent, Path.home(), exported[task, form].parent)
    assert [folder for folder in folders if str(folder).encode() in content] == []


@pytest.mark.parametrize("form", SUFFIXES)
def test_a_file_is_recognised_whatever_its_suffix_and_any_changed_byte_is_noticed(
    form: str, exported: dict[tuple[str, str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(exported["classification", form].read_bytes())
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(content)
    assert read_exported(renamed).format == form
    assert "".join(capfd.readouterr()) == ""
    content[len(content) // 2] ^= 1  # inside a weight: no parser would see it
    renamed.write_bytes(content)
    with pytest.raises(ExportError, match=r"model.bin is damaged"):
        read_exported(renamed)


@pytest.mark.parametrize("form", SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(
    form: str, share: float, exported: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    content = exported["classification", form].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ExportError, match=r"export it again|movl-monai export"):
        read_exported(path)


def test_other_files_are_refused_with_what_to_do(tmp_path: Path, exported: dict[tuple[str, str], Path]) -> None:
    with pytest.raises(ExportError, match="There is no exported model"):
        read_exported(tmp_path / "nothing.onnx")
    save_atomically(classifier().state_dict(), tmp_path / "model.pt")
    with pytest.raises(ExportError, match="is a checkpoint and not an exported model"):
        read_exported(tmp_path / "model.pt")
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    with pytest.raises(ExportError, match="is not an exported model"):
        read_exported(tmp_path / "text")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "linear.ts")
    with pytest.raises(ExportError, match="was not written by `movl-monai export`"):
        read_exported(tmp_path / "linear.ts")
    with pytest.raises(ExportError, match=r"is for classification \(a, b, c\), wanted was segmentation"):
        read_exported(exported["classification", "onnx"], task="segmentation")
    with pytest.raises(ExportError, match="num_threads must be at least 1"):
        read_exported(exported["classification", "onnx"], num_threads=0)


def test_metadata_of_another_version_is_refused(tmp_path: Path) -> None:
    path = write(classifier(), tmp_path, "torchscript", schema_version=99)
    with pytest.raises(ExportError, match="has metadata of version 99, this movl_monai understands version 1"):
        read_exported(path)


@pytest.fixture(scope="module")
def model(exported: dict[tuple[str, str], Path]) -> ExportedModel:
    return read_exported(exported["classification", "onnx"])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (images(1).numpy()[:, :1], r"must be \(B, 3, 32, 32\)"),
        (images(1, size=16).numpy(), r"got \(1, 3, 16, 16\)"),
        (images(1).numpy()[:0], "with B >= 1"),
        (images(1).numpy().astype(np.float64), "float32 in .0, 1., got float64"),
        ((images(1).numpy() * 255).astype(np.uint8), "got uint8; divide 0..255 by 255"),
        (images(1), "got torch.float32"),
        (images(1).numpy() * 255, r"got values from 0.\d+ to 25\d; the model normalises inside"),
        (images(1).numpy() - 0.5, r"got values from -0.5"),
        (images(1).numpy() * np.float32(np.nan), "got values from nan"),
    ],
)
def test_images_that_do_not_fit_are_refused(model: ExportedModel, image: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        model(image)


@pytest.mark.parametrize("form", SUFFIXES)
def test_the_number_of_threads_changes_nothing_else(form: str, exported: dict[tuple[str, str], Path]) -> None:
    before = torch.get_num_threads()
    image = images(2).numpy()
    one, two = (read_exported(exported["classification", form], num_threads=count)(image) for count in (1, 2))
    np.testing.assert_allclose(one.logits, two.logits, atol=1e-6)
    assert torch.get_num_threads() == before
