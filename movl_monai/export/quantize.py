"""Dynamic int8 for CPUs, and what it changes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from movl_monai.errors import ExportError

from .exported import ExportedOutput
from .images import ImageSample

__all__ = ["describe_change", "quantize_model"]

_OPERATIONS = ("MatMul", "Gemm")
_WORTHWHILE = 0.6  # of the size before
_PREPARED = ("onnx.infer", "onnxruntime.quant")  # says that shapes are known, which torch's exporter sees to
_BATCH = 8


def quantize_model(model: Any) -> Any:
    """Return an ONNX model whose linear layers multiply in int8, with scales per output channel.

    Weights have 7 bits: with 8, CPUs without VNNI instructions saturate, and would give other results than the machine
    that the file was tried on. Convolutions stay as they are: onnxruntime has no fast dynamic int8 convolution (it was
    slower than float in all networks tried), and depthwise ones lose much.

    Args:
        model: ONNX protobuf; it stays as it is.

    Raises:
        ExportError: if most of the weights are not in linear layers, so that there is nothing to win.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    del prepared.metadata_props[:]
    entry = prepared.metadata_props.add()
    entry.key, entry.value = _PREPARED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=list(_OPERATIONS),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        quantized = onnx.load(str(path))
    before, after = model.ByteSize(), quantized.ByteSize()
    if after > _WORTHWHILE * before:
        raise ExportError(
            f"int8 would only shrink this network from {before / 1e6:.1f} to {after / 1e6:.1f} MB: its weights are in "
            "convolutions, whose dynamic int8 is slower and less exact on a CPU. It pays in Transformers; leave --int8 "
            "out for this run."
        )
    return quantized


def describe_change(
    exact: Callable[[np.ndarray], ExportedOutput],
    quantized: Callable[[np.ndarray], ExportedOutput],
    sample: ImageSample,
) -> dict[str, Any]:
    """Compute what quantisation changes on images.

    Args:
        exact: the float model.
        quantized: the same in int8.
        sample: the images, with labels where they are known.

    Returns:
        JSON-able: ``images``, ``kind``, ``same_class`` (share of images, or of pixels), ``max_logit_difference``,
        ``max_probability_difference``, and with labels of whole images ``accuracy_before``, ``accuracy_after``,
        ``accuracy_change`` (after minus before), else None.
    """
    same: list[float] = []
    right: list[tuple[bool, bool]] = []
    logits = probabilities = 0.0
    for start in range(0, len(sample), _BATCH):
        batch = sample.images[start : start + _BATCH]
        before, after = exact(batch).logits, quantized(batch).logits
        logits = max(logits, float(np.abs(before - after).max()))
        probabilities = max(probabilities, float(np.abs(softmax(before, axis=1) - softmax(after, axis=1)).max()))
        classes = before.argmax(axis=1), after.argmax(axis=1)
        same += [float((one == other).mean()) for one, other in zip(*classes, strict=True)]
        if sample.labels is not None and classes[0].ndim == 1:
            labels = sample.labels[start : start + _BATCH]
            right += list(zip(classes[0] == labels, classes[1] == labels, strict=True))
    change: dict[str, Any] = {"images": len(sample), "kind": sample.kind, "same_class": float(np.mean(same))}
    change |= {"max_logit_difference": logits, "max_probability_difference": probabilities}
    if not right:
        return change | {"accuracy_before": None, "accuracy_after": None, "accuracy_change": None}
    first, second = np.mean(right, axis=0).tolist()
    return change | {"accuracy_before": first, "accuracy_after": second, "accuracy_change": second - first}
