"""A run or an exported file behind one interface for prediction."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from movl_monai.data import Units
from movl_monai.engines.checks import check_device
from movl_monai.engines.features import prepare_image_batch
from movl_monai.errors import ConfigError
from movl_monai.evaluation.feature_tap import FeatureTap
from movl_monai.evaluation.trust_record import TRUST_FILE, read_trust
from movl_monai.export import ExportedModel, read_exported
from movl_monai.export.preprocessing import literal_config
from movl_monai.export.sealed import is_exported
from movl_monai.networks import UnitClassifier, trained_state_sha256
from movl_monai.report.tasks import task_named
from movl_monai.runs import Run, as_written, open_run

__all__ = ["Facts", "Forward", "Model", "UnitOutput", "open_model"]


class Forward(Protocol):
    """Map images (B, 3, H, W), uint8 on the CPU, to logits and to features (B, F) or None."""

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        """Compute logits and features."""


@dataclass(frozen=True)
class UnitOutput:
    """Output of a network for one series, study or patient of n images.

    Args:
        logits: float32 (1, C).
        features: float32 (1, F).
        weights: float32 (n,), the weight of each image.
        instances: float32 (n, C), the logits of each image by itself.
    """

    logits: np.ndarray
    features: np.ndarray
    weights: np.ndarray
    instances: np.ndarray

    def key_images(self, most: int = 3) -> list[int]:
        """Return the positions of the images with the largest weights, at most ``most``, the largest first.

        With equal weights, as of the mean, those come first whose own logits are most for the predicted class.
        """
        best = int(self.logits[0].argmax())
        rest = np.delete(self.instances, best, axis=1)
        evidence = self.instances[:, best] - (rest.max(axis=1) if rest.shape[1] else 0)
        return [int(number) for number in np.lexsort((-evidence, -self.weights.round(6)))[:most]]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Description of the model in the outputs; holds no paths.

    Args:
        name: name of the bundle.
        version: version of the bundle.
        backbone: name of the frozen encoder.
        checkpoint_sha256: SHA-256 of the trained state.
        fingerprint: SHA-256 of everything that the numbers depend on: trained state, frozen weights, preprocessing,
            settings, trust record, and the runtime.
    """

    name: str
    version: str
    backbone: str
    checkpoint_sha256: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained network with everything that prediction needs.

    Args:
        task: name of the task, such as "classification" of images or "segmentation" of their pixels.
        class_names: names in the order of the logits.
        facts: description of the model in the outputs.
        preprocessing: maps ``{"image": path, ...}`` to the item with an image on the grid k/255.
        image_size: (H, W) after preprocessing, in pixels.
        forward: runs the network.
        device: device of the network.
        resize_mode: resizing mode of the preprocessing.
        slice_axis: plane of the slices of volumes.
        largest_component: keep only the largest connected component of each predicted class.
        mask_dtype: "uint8", or "source" for the type of the source volume.
        trust: trust record, or None.
        network: the module; None for an exported file.
        units: series, studies or patients that it predicts, whose images make one batch; None for single images.
        unit_forward: runs the network on the images of one unit, uint8 (n, 3, H, W); None for single images.
    """

    task: str
    class_names: list[str]
    facts: Facts
    preprocessing: Any
    image_size: tuple[int, int]
    forward: Forward
    device: torch.device
    resize_mode: str = "stretch"
    slice_axis: str = "axial"
    largest_component: bool = False
    mask_dtype: str = "uint8"
    trust: Any = None
    network: torch.nn.Module | None = None
    units: Units | None = None
    unit_forward: Callable[[torch.Tensor], UnitOutput] | None = None

    @property
    def per_pixel(self) -> bool:
        """True if predictions are masks; see :class:`~movl_monai.report.task.Task`."""
        return task_named(self.task).per_pixel


def open_model(
    path: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
    bundle_dir: str | os.PathLike[str] | None = None,
    task: str | None = None,
    trust: bool = False,
) -> Model:
    """Open a run, a checkpoint beside its record, or an exported file.

    Args:
        path: the ``output_dir`` of a training, a `model.pt` in it, or a file that `movl-monai export` wrote.
        device: device of a run; None takes the first CUDA device, or the CPU. Exported files run on the CPU.
        overrides: ids of the run's config and their values, such as a new path of the backbone's weights.
        bundle_dir: see :func:`movl_monai.engines.open_run`.
        task: a task; models for whole images fit each other, as do those for pixels. None accepts both.
        trust: see :func:`movl_monai.engines.open_run`.

    Raises:
        ConfigError: if the path holds no model, or one for another task.
        ExportError: if an exported file cannot be read.
        MovlError: if the run cannot be opened.
    """
    given = Path(path)
    if not given.exists():
        raise ConfigError(
            f"There is no run and no exported model at {given}; give the output_dir of a training, its model.pt, or a "
            "file of `movl-monai export`."
        )
    if is_exported(given):
        model = _open_exported(given, overrides)
    else:
        model = _open_run(given, device, overrides, bundle_dir, trust=trust)
    if task is not None and task_named(model.task).per_pixel != task_named(task).per_pixel:
        raise ConfigError(f"{given.name} is for {model.task}, wanted was {task}; give the run of another bundle.")
    return model


def _open_run(
    path: Path,
    device: str | torch.device | None,
    overrides: Mapping[str, Any] | None,
    bundle_dir: str | os.PathLike[str] | None,
    *,
    trust: bool,
) -> Model:
    run = open_run(path, overrides=overrides, bundle_dir=bundle_dir, trust=trust)
    chosen = check_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = run.network(chosen)
    parser = run.parser("inference")
    config = as_written(parser.get())
    settings = {name: config[name] for name in _SETTINGS if config.get(name) is not None}
    inferer = parser.get_parsed_content("inferer")
    spec: Any = getattr(network, "backbone").spec  # noqa: B009 - of no known class
    trust, trust_sha256 = _trust_of(run, parser, network)
    facts = _facts(
        bundle=(str(run.record["bundle"] or "movl_monai"), str(run.record.get("bundle_version") or "unknown")),
        backbone=spec.name,
        state=trained_state_sha256(network),
        depends=[
            getattr(network, "backbone").content_sha256(),  # noqa: B009
            getattr(network, "facts")()["parts"],  # noqa: B009
            *([network.unit] if isinstance(network, UnitClassifier) else []),
            _preprocessing_of(run),
            settings,
            trust_sha256,
            _inferer_facts(inferer),
            str(chosen.type),
        ],
    )
    if isinstance(network, UnitClassifier):
        of_unit = _UnitForward(network, chosen)
        settings |= {"units": Units(**network.unit), "unit_forward": of_unit}
        forward: Forward = _AsUnit(of_unit)
    else:
        forward = _NetworkForward(network, inferer, chosen, per_pixel=task_named(run.task).per_pixel)
    return Model(
        task=run.task,
        class_names=run.class_names,
        facts=facts,
        preprocessing=run.preprocessing(),
        image_size=_pair(parser.get_parsed_content("image_size")),
        forward=forward,
        device=chosen,
        trust=trust,
        network=network,
        **settings,
    )


# fields of Model that have the same names in the bundles
_SETTINGS = ("resize_mode", "slice_axis", "largest_component", "mask_dtype")


class _NetworkForward:
    """Run a network as the bundle's evaluator does, and return the features that its head reads."""

    def __init__(self, network: torch.nn.Module, inferer: Any, device: torch.device, *, per_pixel: bool) -> None:
        self.network, self.inferer, self.device = network, inferer, device
        # the head of a segmenter reads feature maps, not vectors
        self.tap = FeatureTap(None if per_pixel else network)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        image, _ = prepare_image_batch({"image": images}, self.device, non_blocking=True)
        self.tap.open()
        try:
            with torch.inference_mode():
                logits = self.inferer(image, self.network)
            features = self.tap.take(len(images)) if logits.ndim == 2 else None
        finally:
            self.tap.close()
        return logits.float(), None if features is None else features.float().cpu().numpy()


class _UnitForward:
    """Run a network for units on one of them."""

    def __init__(self, network: UnitClassifier, device: torch.device) -> None:
        self.network, self.device = network, device

    def __call__(self, images: torch.Tensor) -> UnitOutput:
        image, _ = prepare_image_batch({"image": images}, self.device, non_blocking=True)
        with torch.inference_mode():
            instances = self.network.instance_features(image)
            logits, features, weights = self.network.from_instances(instances.unsqueeze(0), None)
            own = self.network.instance_logits(instances.unsqueeze(0))
        found = (logits, features, weights[0], own[0])
        return UnitOutput(*(tensor.float().cpu().numpy() for tensor in found))


class _AsUnit:
    """Logits and features of a unit, behind the interface of images."""

    def __init__(self, forward: Callable[[torch.Tensor], UnitOutput]) -> None:
        self.forward = forward

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        found = self.forward(images)
        return torch.from_numpy(found.logits), found.features


def _open_exported(path: Path, overrides: Mapping[str, Any] | None) -> Model:
    if overrides:
        raise ConfigError(
            f"An exported file takes no overrides, got {', '.join(sorted(overrides))}; override the run, and export it "
            "again."
        )
    model = read_exported(path)
    metadata = model.metadata
    settings = _settings_of_chain(metadata["preprocessing"])
    settings |= {name: metadata[name] for name in ("largest_component", "mask_dtype") if metadata.get(name) is not None}
    bundle = metadata.get("bundle") or {}
    trust = model.trust() if callable(getattr(model, "trust", None)) else None
    forward: Forward = _ExportedForward(model)
    if unit := metadata.get("unit"):
        of_unit = _ExportedUnit(model)
        settings |= {"units": Units(**unit), "unit_forward": of_unit}
        forward = _AsUnit(of_unit)
    facts = _facts(
        bundle=(str(bundle.get("name") or "movl_monai"), str(bundle.get("version") or "unknown")),
        backbone=str(metadata["backbone"].get("name")),
        state=str(metadata.get("checkpoint_sha256") or ""),
        depends=[{key: value for key, value in metadata.items() if key != "versions"}, model.format],
    )
    return Model(
        task=model.task,
        class_names=model.class_names,
        facts=facts,
        preprocessing=model.preprocessing(),
        image_size=model.image_size,
        forward=forward,
        device=torch.device("cpu"),
        trust=trust,
        **settings,
    )


class _ExportedForward:
    """Run an exported file."""

    def __init__(self, model: ExportedModel) -> None:
        self.model = model

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, np.ndarray | None]:
        output = self.model(images.numpy().astype(np.float32) / np.float32(255))
        return torch.from_numpy(output.logits), output.features


class _ExportedUnit:
    """Run an exported file for units on one of them."""

    def __init__(self, model: ExportedModel) -> None:
        self.model = model

    def __call__(self, images: torch.Tensor) -> UnitOutput:
        found = self.model(images.numpy().astype(np.float32) / np.float32(255))
        parts = (found.logits, found.features, found.weights, found.instances)
        if any(part is None for part in parts):
            raise ConfigError("The exported file lacks outputs of a model for units; export the run again.")
        return UnitOutput(*parts)  # type: ignore[arg-type]


def _settings_of_chain(config: Any) -> dict[str, Any]:
    """Return resizing mode and slice plane of the transform chain in an exported file."""
    found: dict[str, Any] = {}
    for step in config.get("transforms", []):
        if "slice_axis" in step:
            found["slice_axis"] = step["slice_axis"]
        if str(step.get("_target_", "")).endswith(".ResizeImaged"):
            found["resize_mode"] = step.get("mode", "stretch")
    return found


def _preprocessing_of(run: Run) -> Any:
    try:
        return literal_config(run.parser("inference"), "preprocessing")
    except ConfigError:  # a part cannot be written as JSON
        return run.parser("inference")["preprocessing"]


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _inferer_facts(inferer: Any) -> Any:
    """Return the class name of an inferer and its plain settings, such as the overlap of its windows."""
    plain = (bool, int, float, str, list, tuple)
    settings = {name: str(value) for name, value in vars(inferer).items() if isinstance(value, plain)}
    return {"kind": type(inferer).__name__, **settings}


def _trust_of(run: Run, parser: Any, network: torch.nn.Module) -> tuple[Any, str]:
    """Return the trust record and its SHA-256; (None, "") without a record, or if the setting ``trust`` is null."""
    beside = run.checkpoint.with_name(TRUST_FILE)
    said = parser.get_parsed_content("trust") if "trust" in parser.get() else beside
    if said is None or not Path(said).is_file():
        return None, ""
    return read_trust(said, network), hashlib.sha256(Path(said).read_bytes()).hexdigest()


def _facts(*, bundle: tuple[str, str], backbone: str, state: str, depends: list[Any]) -> Facts:
    text = json.dumps([bundle, backbone, state, depends], sort_keys=True, default=str)
    return Facts(
        name=bundle[0],
        version=bundle[1],
        backbone=backbone,
        checkpoint_sha256=state,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(),
    )
