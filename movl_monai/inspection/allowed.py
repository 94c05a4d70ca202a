"""Allow-list of the names that a config may call, import and read by their dotted path.

The decision uses the text alone. `pydoc.locate`, through which MONAI resolves a `_target_`, also walks through the
modules that a module has imported (`monai.data.utils.os.system`). A prefix therefore allows nothing: a name must be
public in one of the packages below, and nothing may follow it.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import lru_cache
from pathlib import Path

from movl_monai._moved import SPLIT, new_name

__all__ = ["ATTRIBUTES", "BUILTINS", "ENVIRONMENT", "is_allowed", "is_allowed_import"]

# packages of movl_monai whose parts configs are composed of; a name counts if the package exports it in `__all__`
_OWN = {
    *("adapters", "backbones", "data", "engines", "evaluation", "heads", "losses", "metrics", "networks"),
    *("prompts", "readers", "runs", "transforms", *SPLIT),
}
_OWN_PATH = re.compile(r"(movl_monai\.(\w+))(?:\.(\w+))?")  # a part may be named with the module that defines it
# exported for programs: they open other records, or write to a given path
_FOR_PROGRAMS = re.compile(r"(open|save|write|rebuild|draw|render|load)_\w+|Run")

_CLASS = re.compile(r"[A-Z]\w*")
# packages whose public classes are parts of networks, data pipelines and trainers
_CLASSES = {
    *("monai.transforms", "monai.inferers", "monai.losses", "monai.metrics", "monai.optimizers", "monai.engines"),
    *("monai.handlers", "monai.networks.nets", "monai.networks.blocks", "monai.networks.layers"),
    *("torch.nn", "torch.optim", "torch.optim.lr_scheduler", "ignite.metrics"),
}
# classes of those packages that look up a name of another library, or load a file with pickle
_EXCEPTIONS = re.compile(r"(Rand)?(TorchVision|TorchIO|CuCIM)\w*|CheckpointLoader|MLFlowHandler|MLflowHandler|Path")
_NAMES = {
    *(
        f"monai.data.{name}"
        for name in (
            *("ArrayDataset", "CacheDataset", "DataLoader", "Dataset", "DistributedSampler", "SmartCacheDataset"),
            *("DistributedWeightedRandomSampler", "GridPatchDataset", "ITKReader", "ImageDataset", "IterableDataset"),
            *("NibabelReader", "PILReader", "PatchIterd", "PydicomReader", "ThreadDataLoader"),
        )
    ),
    *(f"monai.handlers.{name}" for name in ("from_engine", "stopping_fn_from_metric", "stopping_fn_from_loss")),
    *("monai.utils.set_determinism", "monai.data.decollate_batch", "monai.data.list_data_collate"),
    *(f"os.path.{name}" for name in ("abspath", "basename", "dirname", "exists", "expanduser", "isdir", "isfile")),
    *(f"os.path.{name}" for name in ("join", "normpath", "relpath", "splitext")),
    *("os.cpu_count", "os.getcwd", "os.sep"),
    *("torch.nn.parallel.DistributedDataParallel",),
    *(
        f"torch.utils.data.{name}"
        for name in (
            *("ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset", "RandomSampler"),
            *("SequentialSampler", "Subset", "TensorDataset", "WeightedRandomSampler", "BatchSampler"),
        )
    ),
    *("torch.utils.data.distributed.DistributedSampler",),
    *(f"torch.{name}" for name in ("device", "tensor", "as_tensor", "zeros", "ones", "full", "arange", "linspace")),
    *(f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "uint8", "int32", "int64", "bool")),
    *(f"torch.{name}" for name in ("long", "float", "half", "manual_seed", "softmax", "sigmoid", "argmax", "stack")),
    *(f"torch.cuda.{name}" for name in ("is_available", "device_count", "current_device", "set_device")),
    *(
        f"torch.distributed.{name}"
        for name in (
            *("barrier", "destroy_process_group", "get_rank", "get_world_size", "init_process_group"),
            *("is_available", "is_initialized"),
        )
    ),
    *(f"numpy.{name}" for name in ("array", "asarray", "arange", "linspace", "ones", "zeros", "mean", "std", "pi")),
    *(f"numpy.{name}" for name in ("float32", "float64", "int32", "int64", "uint8", "inf", "nan", "sqrt", "log")),
    *(f"math.{name}" for name in ("ceil", "floor", "sqrt", "log", "log2", "log10", "exp", "pi", "inf", "nan")),
}

_MODULES = {"math", "os", "os.path"}
_ROOTS = {"ignite", "monai", "movl_monai", "numpy", "torch"}

BUILTINS = frozenset(
    {
        *("abs", "all", "any", "bool", "dict", "enumerate", "float", "frozenset", "int", "len", "list", "max", "min"),
        *("print", "range", "reversed", "round", "set", "slice", "sorted", "str", "sum", "tuple", "zip"),
    }
)
"""Functions that expressions may use without a module."""

ENVIRONMENT = frozenset({"LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"})
"""Environment variables that expressions may read: those of distributed training."""

ATTRIBUTES = frozenset(
    {
        # of objects of this package and of trainers
        *("class_names", "data", "far_domains", "for_evaluation", "for_training", "labels", "masks", "num_classes"),
        *(
            "num_features",
            "patients",
            "pixel_counts",
            "select",
            "set_trainer",
            "spec",
            "run",
            "image_size",
            "items_of",
            "splits",
        ),
        *("state", "metrics", "key_metric_name", "best_metric", "best_metric_epoch", "epoch", "iteration", "output"),
        *("max_epochs", "batch", "optimizer", "trainer", "evaluator", "network", "handlers", "transforms"),
        # of networks and tensors
        *("to", "eval", "train", "cpu", "cuda", "parameters", "named_parameters", "state_dict", "load_state_dict"),
        *("bias", "weight", "backbone", "encoder", "head", "prompt", "adapter", "shape", "dtype", "ndim", "device"),
        *("type", "index", "item", "size", "dim", "mean", "std", "sum", "min", "max", "float", "long", "numpy"),
        *("tolist", "argmax", "flatten", "reshape", "squeeze", "unsqueeze", "permute", "requires_grad_", "detach"),
        # of lists, dictionaries and texts
        *("get", "items", "keys", "values", "count", "copy", "append", "extend", "add", "union", "join", "split"),
        *("strip", "lower", "upper", "replace", "startswith", "endswith"),
    }
)
"""Attributes and methods of values that expressions may use; none of them leads to a module or runs text as code."""


def is_allowed(path: str) -> bool:
    """Return whether a dotted path is on the allow-list.

    Example:
        >>> is_allowed("movl_monai.prompts.PadPrompt"), is_allowed("monai.transforms.Compose"), is_allowed("torch.load")
        (True, True, False)
        >>> is_allowed("os.system"), is_allowed("movl_monai.runs.run_record.os.system"), is_allowed("print")
        (False, False, False)
    """
    package, _, name = path.rpartition(".")
    if path in _NAMES:
        return True
    if package in _CLASSES:
        return bool(_CLASS.fullmatch(name)) and not _EXCEPTIONS.fullmatch(name)
    own = _OWN_PATH.fullmatch(package)
    if own is None or own[2] not in _OWN or _FOR_PROGRAMS.fullmatch(name):
        return False
    if not any(name in _exported(f"movl_monai.{home}") for home in SPLIT.get(own[2], (own[2],))):
        return False
    return own[3] is None or name in _defined(new_name(package))


def is_allowed_import(module: str) -> bool:
    """Return whether expressions may import a module; each use of it is checked by its dotted path.

    Example:
        >>> is_allowed_import("movl_monai.engines"), is_allowed_import("subprocess"), is_allowed_import("os.path")
        (True, False, True)
    """
    parts = module.split(".")
    return module in _MODULES or (parts[0] in _ROOTS and not any(part.startswith("_") for part in parts))


@lru_cache
def _exported(package: str) -> frozenset[str]:
    """Return the names in `__all__` of a package of this project, read from its source without importing it."""
    for node in _source(f"{package}.__init__"):
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if isinstance(node, ast.Assign) and "__all__" in names:
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


@lru_cache
def _defined(module: str) -> frozenset[str]:
    """Return the classes and functions that a module defines itself."""
    return frozenset(node.name for node in _source(module) if isinstance(node, (ast.ClassDef, ast.FunctionDef)))


def _source(module: str) -> list[ast.stmt]:
    """Return the statements of a module without importing it or its package; [] if there is none."""
    root, package, *rest = module.split(".")
    spec = importlib.util.find_spec(f"{root}.{package}")
    if spec is None or spec.origin is None:
        return []
    file = Path(spec.origin).parent.joinpath(*rest).with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
