"""int8: linear layers alone, what it changes is counted, and nothing to win is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from movl_monai.backbones import TimmBackbone
from movl_monai.errors import ExportError
from movl_monai.export.exported import ExportedOutput
from movl_monai.export.graph import exportable
from movl_monai.export.images import ImageSample
from movl_monai.export.quantize import describe_change, quantize_model
from movl_monai.export.writers import compile_graph
from tests.export.networks import classifier, images
from tests.helpers import IMAGE_SIZE


def test_a_transformer_shrinks_and_its_convolution_stays_float() -> None:
    vit = TimmBackbone("test_vit", image_size=IMAGE_SIZE, model_options={"depth": 2, "embed_dim": 128})
    model = compile_graph(exportable(classifier(vit)), "onnx", size=(IMAGE_SIZE, IMAGE_SIZE))
    size = model.ByteSize()
    quantized = quantize_model(model)
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


def _fixed(logits: np.ndarray) -> Callable[[np.ndarray], ExportedOutput]:
    # the mean of an image is its number
    return lambda image: ExportedOutput(logits[image.mean(axis=(1, 2, 3)).round().astype(int)], None)


def _numbered(count: int) -> np.ndarray:
    return np.ones((count, 3, 2, 2), dtype=np.float32) * np.arange(count, dtype=np.float32)[:, None, None, None]


def test_the_change_is_that_of_a_written_loop() -> None:
    generator = np.random.default_rng(0)
    before = generator.normal(size=(21, 3)).astype(np.float32)
    after = before + generator.normal(scale=0.8, size=before.shape).astype(np.float32)
    labels = generator.integers(3, size=21)
    change = describe_change(_fixed(before), _fixed(after), ImageSample("val", _numbered(21), labels))
    accuracies = [sum(row.argmax() == labels[number] for number, row in enumerate(one)) / 21 for one in (before, after)]
    assert change["accuracy_before"] == pytest.approx(accuracies[0])
    assert change["accuracy_change"] == pytest.approx(accuracies[1] - accuracies[0])
    assert accuracies[0] != accuracies[1]
    assert change["same_class"] == np.mean(before.argmax(1) == after.argmax(1))
    assert change["max_logit_difference"] == pytest.approx(np.abs(before - after).max())
    one, other = (torch.from_numpy(logits).softmax(1) for logits in (before, after))
    assert change["max_probability_difference"] == pytest.approx(float((one - other).abs().max()), abs=1e-6)
    assert (change["images"], change["kind"]) == (21, "val")


def test_without_labels_and_for_masks_no_accuracy_is_made_up() -> None:
    logits = images(4, size=6).numpy()[:, :2]
    change = describe_change(_fixed(logits), _fixed(logits[:, ::-1]), ImageSample("given", _numbered(4)))
    assert change["accuracy_change"] is None
    assert change["same_class"] == pytest.approx(float(np.mean(logits[:, 0] == logits[:, 1])))
