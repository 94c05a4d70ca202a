"""List the names that a pickle would import, without loading it, and compare them with torch's allow-list.

The lists are those of `torch.load(weights_only=True)`; tests compare them with torch.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import IO

__all__ = ["LEGACY_MAGIC", "TENSOR_NAMES", "TORCHSCRIPT_NAMES", "foreign_names", "is_pickle", "scan_pickle"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""Number in the first pickle of files from torch before version 1.6."""

_NUMBERS = (
    *("BFloat16", "Bool", "Byte", "Char", "ComplexDouble", "ComplexFloat", "Double", "Float", "Half", "Int", "Long"),
    *("Short",),
)
_QUANTIZED = ("QInt32", "QInt8", "QUInt2x4", "QUInt4x2", "QUInt8")
_TENSORS = tuple(name for name in _NUMBERS if not name.startswith("Complex"))
_SPARSE = tuple(name for name in _TENSORS if name != "Bool")
_REBUILD = (
    *("device_tensor_from_cpu_tensor", "device_tensor_from_numpy", "meta_tensor_no_storage", "nested_tensor"),
    *("parameter", "parameter_with_state", "qtensor", "sparse_tensor", "tensor", "tensor_v2", "tensor_v3"),
    *("wrapper_subclass",),
)
_DTYPES = (
    *("bfloat16", "bool", "complex128", "complex32", "complex64", "float16", "float32", "float64", "float8_e4m3fn"),
    *("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "int16", "int32", "int64", "int8", "uint16", "uint32"),
    *("uint64", "uint8", "qint32", "qint8", "quint2x4", "quint4x2", "quint8", "per_channel_affine"),
    *("per_channel_affine_float_qparams", "per_channel_symmetric", "per_tensor_affine", "per_tensor_symmetric"),
)
TENSOR_NAMES = frozenset(
    {
        *("_codecs.encode", "builtins.bytearray", "builtins.complex", "builtins.set"),
        *("collections.Counter", "collections.OrderedDict"),
        *("torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Parameter"),
        *("torch.serialization._get_layout", "torch._tensor._rebuild_from_type_v2"),
        *("torch.storage.TypedStorage", "torch.storage.UntypedStorage"),
        *(f"torch.{name}" for name in _DTYPES),
        *(f"torch.{name}Storage" for name in (*_NUMBERS, *_QUANTIZED)),
        *(f"torch.cuda.{name}Storage" for name in _NUMBERS),
        *(f"torch.{place}{name}Tensor" for place in ("", "cuda.") for name in _TENSORS),
        *(f"torch.{place}sparse.{name}Tensor" for place in ("", "cuda.") for name in _SPARSE),
        *(f"torch._utils._rebuild_{name}" for name in _REBUILD),
    }
)
"""Names that the restricted unpickler of torch accepts."""

TORCHSCRIPT_NAMES = TENSOR_NAMES | {
    f"torch.jit._pickle.{name}"
    for name in ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")
}
"""Names in TorchScript files beside their own classes, `__torch__.*`; C++ reads them."""

_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_OPCODES = frozenset(
    {
        *("APPEND", "APPENDS", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPERSID", "BINPUT"),
        *("BINUNICODE", "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "EMPTY_TUPLE", "GLOBAL", "LONG1"),
        *("LONG_BINGET", "LONG_BINPUT", "MARK", "NEWFALSE", "NEWOBJ", "NEWTRUE", "NONE", "PROTO", "REDUCE"),
        *("SETITEM", "SETITEMS", "SHORT_BINSTRING", "STOP", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    }
)
_IMPORTS = {"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}


def is_pickle(start: bytes) -> bool:
    """Return whether the first bytes of a file begin a pickle of protocol 2 to 5."""
    return len(start) > 2 and start[0] == 0x80 and 2 <= start[1] <= 5


def scan_pickle(stream: IO[bytes]) -> tuple[set[str], set[str], int | None]:
    """Read one pickle up to its end without building anything.

    Returns:
        the dotted names that it imports; its opcodes that torch refuses; and its number if it holds a single number.

    Raises:
        ValueError: if it is cut off or damaged; its names up to there are in ``args[1]``.
    """
    names: set[str] = set()
    foreign: set[str] = set()
    texts: list[str] = []
    number = None
    try:
        for code, argument, _ in pickletools.genops(stream):
            if isinstance(argument, str):
                texts = [*texts[-1:], argument]
            if code.name in _IMPORTS:
                names.add(_name(code.name, argument, texts))
            if code.name not in _OPCODES:
                foreign.add(code.name)
            number = argument if code.name == "LONG1" else number
    except Exception as error:  # pickletools raises many kinds of errors for damaged files
        raise ValueError("The pickle is cut off or damaged.", names) from error
    return names, foreign, number


def _name(code: str, argument: object, texts: list[str]) -> str:
    if code.startswith("EXT"):
        return f"copyreg extension {argument}"
    parts = texts[-2:] if code == "STACK_GLOBAL" else str(argument).split(" ", 1)
    module = parts[0] if parts else ""
    return ".".join([_OLD_MODULES.get(module, module), *parts[1:]])


def foreign_names(names: set[str], *, torchscript: bool = False) -> Iterator[str]:
    """Yield the names that torch's restricted unpickler refuses, in order."""
    allowed = TORCHSCRIPT_NAMES if torchscript else TENSOR_NAMES
    for name in sorted(names):
        own = torchscript and name.startswith("__torch__.")
        if name not in allowed and not own:
            yield name
