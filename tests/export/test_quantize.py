"""int8 changes linear layers only, and is refused if nothing is gained."""

from __future__ import annotations

import errno
import logging
from typing import Any

import pytest

from movl_monai.backbones import TimmBackbone
from movl_monai.errors import ExportError
from movl_monai.export.graph import exportable
from movl_monai.export.writers import compile_graph, quantize_model
from tests.export.networks import classifier
from tests.helpers import IMAGE_SIZE


@pytest.fixture(scope="module")
def transformer() -> Any:
    vit = TimmBackbone("test_vit", image_size=IMAGE_SIZE, model_options={"depth": 2, "embed_dim": 128})
    return compile_graph(exportable(classifier(vit)), "onnx", size=(IMAGE_SIZE, IMAGE_SIZE))


def test_a_transformer_shrinks_and_its_convolution_stays_float(
    transformer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, size = transformer, transformer.ByteSize()
    with caplog.at_level(logging.WARNING):
        quantized = quantize_model(model)
    assert caplog.messages == []  # onnxruntime advises against what it was told is done
    operations = {node.op_type for node in quantized.graph.node}
    assert quantized.ByteSize() < 0.6 * size
    assert "MatMulInteger" in operations
    assert "Conv" in operations
    assert "ConvInteger" not in operations
    assert model.ByteSize() == size


def test_a_convolutional_network_is_refused_with_the_reason() -> None:
    model = compile_graph(exportable(classifier()), "onnx", size=(IMAGE_SIZE, IMAGE_SIZE))
    with pytest.raises(ExportError, match=r"weights are in convolutions, whose dynamic int8 is slower.*leave --int8"):
        quantize_model(model)


def test_no_space_for_temporary_files_is_said(transformer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx, "save_model", full)
    with pytest.raises(ExportError, match=r"temporary files cannot be used: No space left on device .* TMPDIR"):
        quantize_model(transformer)
