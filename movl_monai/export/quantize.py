"""Dynamic int8 quantisation for CPUs."""

from __future__ import annotations

from typing import Any

from movl_monai.errors import ExportError

from .disk import scratch_folder

__all__ = ["quantize_model"]

_OPERATIONS = ("MatMul", "Gemm")
_WORTHWHILE = 0.6  # share of the original size
# states that shapes are inferred and constants folded, which torch's exporter has done
_PREPARED = {"onnx.infer": "onnxruntime.quant", "onnx.quant.pre_process": "onnxruntime.quant"}


def quantize_model(model: Any) -> Any:
    """Return an ONNX model whose linear layers multiply in int8, with scales per output channel.

    Weights have 7 bits: with 8, CPUs without VNNI instructions saturate and would give other results than the machine
    that tested the file. Convolutions stay in float: onnxruntime has no fast dynamic int8 convolution (it was slower
    than float in all tested networks), and depthwise convolutions lose much accuracy.

    Args:
        model: ONNX protobuf; it is not changed.

    Raises:
        ExportError: if most weights are outside linear layers, so that nothing is gained, or there is no space for
            temporary files.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    del prepared.metadata_props[:]
    for key, value in _PREPARED.items():
        entry = prepared.metadata_props.add()
        entry.key, entry.value = key, value
    with scratch_folder() as folder:
        path = folder / "int8.onnx"
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
