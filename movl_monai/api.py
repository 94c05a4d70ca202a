"""Train, open, predict, evaluate and explain from Python, with the code of the commands and the same figures."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from movl_monai import runs
from movl_monai.bundles import find_bundle
from movl_monai.cli.run import run_workflow
from movl_monai.cli.train import choose_files
from movl_monai.data import IdMap
from movl_monai.data.decode import Decoded, decode
from movl_monai.errors import ConfigError, DataError
from movl_monai.evaluation.evaluate import evaluate
from movl_monai.evaluation.explain.maps import look
from movl_monai.predict.listing import Listed, list_images
from movl_monai.predict.loader import Decoding, Item, Unit, make_units
from movl_monai.predict.model import Model, open_model
from movl_monai.predict.run import predict_units, skipped_rows
from movl_monai.predict.tasks import Computer, SegmentedCase, worker_for
from movl_monai.report.tasks import task_named
from movl_monai.runs.verbatim import verbatim

__all__ = ["Explanation", "OpenRun", "Prediction", "open_run", "train"]

AnyPath = str | os.PathLike[str]
Array = np.ndarray | torch.Tensor
Images = AnyPath | Array | Sequence[AnyPath] | Sequence[Array]
_BATCH = 16


def train(
    bundle: AnyPath, dataset_dir: AnyPath, output_dir: AnyPath, *, overlays: Sequence[str] = (), **settings: Any
) -> OpenRun:
    """Train a bundle as `movl-monai train` does, and return the run.

    Args:
        bundle: name, such as "movl_classification", or folder of a bundle.
        dataset_dir: class folders, a folder with a list, or a list.
        output_dir: for everything that is written.
        overlays: further overlays by name or path.
        settings: overlays by kind (``strategy="joint"``, ``backbone="resnet50"``) and settings of the bundle
            (``epochs=8``).

    Raises:
        MovlError: as the command; its text names settings as they are typed there.

    Example:
        >>> run = train("movl_classification", "chest", "out", strategy="linear_probe")  # doctest: +SKIP
        >>> run.predict("new/0001.dcm").answers  # doctest: +SKIP
        ['pneumonia']
    """
    if not Path(dataset_dir).exists():
        raise DataError(f"There is no data set at '{dataset_dir}': dataset_dir must be a folder, a CSV or a JSON file.")
    files, own = choose_files(find_bundle(bundle), settings, overlays=list(overlays))
    own |= {"dataset_dir": os.fspath(dataset_dir), "output_dir": os.fspath(output_dir)}
    run_workflow("training", [str(file) for file in files], own)
    return open_run(output_dir)


def open_run(
    path: AnyPath,
    *,
    device: str | torch.device | None = None,
    overrides: Mapping[str, Any] | None = None,
    bundle_dir: AnyPath | None = None,
    trust: bool = False,
) -> OpenRun:
    """Open a run to predict, evaluate and explain.

    Args:
        path: the ``output_dir`` of a training, or a `model.pt` in it.
        device: "cpu", "cuda" or "cuda:N"; None takes a GPU if there is one.
        overrides: ids and values that replace the record's: ``{"backbone_weights": "elsewhere.safetensors"}``.
        bundle_dir: see :func:`movl_monai.runs.open_run`.
        trust: see :func:`movl_monai.runs.open_run`.

    Raises:
        ConfigError: if the record is missing, damaged or of another format.
        UntrustedConfigError: if the record is outside of the allow-list, and ``trust`` is not set.
    """
    run = runs.open_run(path, overrides=overrides, bundle_dir=bundle_dir, trust=trust)
    return OpenRun(**vars(run), device=device)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Predictions of images in memory; the rows are those of `predictions.csv` of `movl-monai predict`.

    Args:
        class_names: the C classes, in the order of the columns.
        sources: path of each image or volume, or its number if it was an array.
        rows: N rows with ``status`` ("ok", "failed" or "skipped"), ``reason``, ``answer`` and all further entries.
        masks: for a segmentation the classes of each image (rows, columns) or volume (rows, columns, slices), uint8;
            None for a classification and for what could not be read.
    """

    class_names: list[str]
    sources: list[str]
    rows: list[dict[str, Any]]
    masks: list[np.ndarray | None]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        counts = Counter(
            name for row in self.rows for name in row.get("findings") or [str(row.get("predicted") or row["status"])]
        )
        listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        flagged = sum(bool(row.get("outside")) for row in self.rows)
        return f"Prediction({len(self)} images: {listed or 'none'}" + (
            f"; {flagged} out of distribution)" if flagged else ")"
        )

    @property
    def answers(self) -> list[str | None]:
        """Class, findings or number of each image, or the sentence that says why there is none; None if not read."""
        return [row.get("answer") for row in self.rows]

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities (N, C) of the raw logits, float64; NaN for an image without them."""
        return self._columns("probabilities")

    @property
    def calibrated(self) -> np.ndarray:
        """Calibrated probabilities (N, C), float64; NaN where the model abstains or has no trust record."""
        return self._columns("calibrated")

    @property
    def prediction_sets(self) -> list[list[Any] | None]:
        """Classes in the prediction set of each image, of findings the set of each; None without one."""
        return [row.get("prediction_set", row.get("prediction_sets")) for row in self.rows]

    @property
    def positive(self) -> np.ndarray:
        """Calls of findings (N, K), float64: 1, 0, or NaN where there is no answer."""
        return self._columns("positive")

    @property
    def values(self) -> np.ndarray:
        """Number of each image of a regression, float64 (N,); NaN without one."""
        return self._numbers("value")

    @property
    def intervals(self) -> np.ndarray:
        """Interval [low, high] of each number, float64 (N, 2); NaN without one."""
        return np.stack([self._numbers("interval_low"), self._numbers("interval_high")], axis=1)

    @property
    def outside(self) -> list[bool | None]:
        """True for images flagged as out of distribution; None if unknown."""
        return [row.get("outside") for row in self.rows]

    @property
    def abstains(self) -> list[bool | None]:
        """True for images whose answer is left to people; None if unknown."""
        return [row.get("abstain") for row in self.rows]

    def _numbers(self, name: str) -> np.ndarray:
        found = [row.get(name) for row in self.rows]
        return np.array([float("nan") if value is None else value for value in found], dtype=np.float64)

    def _columns(self, name: str) -> np.ndarray:
        empty = [float("nan")] * len(self.class_names)
        return np.array([row.get(name) or empty for row in self.rows], dtype=np.float64).reshape(
            -1, len(self.class_names)
        )


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Saliency map of an image.

    Args:
        source: path of the image, or its number if it was an array.
        predicted: the most probable class, which the map is about.
        method: "Grad-CAM" or "attention rollout".
        map: (h, w), float32, >= 0; only ratios within a map are meaningful.
        image: the image that the network saw, (3, H, W), float32 in [0, 1].
    """

    source: str
    predicted: str
    method: str
    map: np.ndarray
    image: np.ndarray

    def __repr__(self) -> str:
        return f"Explanation({self.predicted}: {self.method}, {self.map.shape[0]} x {self.map.shape[1]})"


@dataclass(frozen=True, kw_only=True)
class OpenRun(runs.Run):
    """A trained run that predicts, evaluates and explains, from :func:`open_run`.

    Args:
        device: of the network; None takes a GPU if there is one. The other arguments are those of
            :class:`movl_monai.runs.Run`.
    """

    device: str | torch.device | None = None

    def __repr__(self) -> str:
        return f"OpenRun({self.record['bundle']}, {self.task}: {', '.join(self.class_names)})"

    @cached_property
    def model(self) -> Model:
        """Network, preprocessing and trust record; read when it is first needed."""
        return open_model(
            self.checkpoint,
            device=self.device,
            overrides=self.overrides or None,
            bundle_dir=self.given_bundle,
            trust=self.trust,
        )

    def predict(self, images: Images, *, batch_size: int = _BATCH, num_workers: int = 0) -> Prediction:
        """Predict images; nothing is written.

        Args:
            images: a file, a folder (searched recursively), a list in CSV or JSON, or several files; or one array or
                several, each (H, W), (H, W, 3), (1, H, W) or (3, H, W), uint8 or float in [0, 1].
            batch_size: number of images that are computed at once.
            num_workers: number of processes that decode files, 0 for none.

        Raises:
            DataError: if there is no such source, or an array is no image.
            MovlError: if not even one image fits into memory. A file that cannot be read does not raise; its row says
                why.
        """
        model, kept = self.model, _Kept()
        if _is_arrays(images):
            decoded = [_decoded(array, model) for array in _arrays(images)]
            worker = worker_for(model, Computer(model), kept)
            items: list[Item] = [
                {"id": str(n), "case": str(n), "image": "", "frame": None} for n in range(len(decoded))
            ]
            rows: list[dict[str, Any]] = []
            for start in range(0, len(items), 1 if model.per_pixel else batch_size):
                part = slice(start, start + (1 if model.per_pixel else batch_size))
                worker.add(items[part], decoded[part])
                rows += worker.finish(Unit(key="", items=tuple(items[part])))
            places = {item["id"]: item["id"] for item in items}
        else:
            listed, places = self._listed(images)
            units = make_units(listed.items, batch_size, by_case=model.per_pixel)
            decoding = Decoding(num_workers=num_workers)
            done = predict_units(model, units, kept, batch_size=batch_size, decoding=decoding, progress=False)
            rows = [row for _, found in done for row in found]
            rows += skipped_rows(listed)
        masks = [kept.masks.get(row["id"]) for row in rows]
        return Prediction(
            class_names=model.class_names, sources=[places[row["id"]] for row in rows], rows=rows, masks=masks
        )

    def evaluate(self, dataset_dir: AnyPath, **overrides: Any) -> dict[str, Any]:
        """Evaluate on the test parts of a data set, as `movl-monai evaluate` does.

        Args:
            dataset_dir: the data set.
            overrides: ids of the evaluation, such as ``ood_dataset_dirs=["elsewhere"]`` or ``overwrite=True``.

        Returns:
            Content of `evaluation/report.json`; the page lies beside it.
        """
        page = evaluate(self, log=False, **{"dataset_dir": verbatim(os.fspath(dataset_dir)), **overrides})
        self.__dict__.pop("model", None)  # the evaluation may have written a trust record
        return json.loads(page.with_name("report.json").read_text(encoding="utf-8"))

    def explain(self, images: Images) -> list[Explanation]:
        """Compute a saliency map of each image that can be read, for its predicted class.

        Args:
            images: as in :meth:`predict`.

        Raises:
            ConfigError: for a segmentation, or a backbone that no method suits.
        """
        model = self.model
        if model.per_pixel or model.network is None:
            raise ConfigError(f"explain needs a classification with one answer per image, this run is a {model.task}.")
        found, task = [], task_named(model.task)
        for source, image in self._images(images):
            network_input = torch.from_numpy(image).unsqueeze(0).to(model.device).float() / 255
            with torch.no_grad():
                logits = model.network(network_input).float().cpu().numpy()
            best = torch.from_numpy(task.decide(task.probabilities(logits))).to(model.device)
            method, maps = look(model.network, network_input, best)
            found.append(
                Explanation(
                    source=source,
                    predicted=model.class_names[int(best)],
                    method=method,
                    map=maps[0].cpu().numpy(),
                    image=network_input[0].cpu().numpy(),
                )
            )
        return found

    def _images(self, images: Images) -> Iterator[tuple[str, np.ndarray]]:
        """Yield source and uint8 pixels of each readable image."""
        if _is_arrays(images):
            pairs = [(str(number), _decoded(array, self.model)) for number, array in enumerate(_arrays(images))]
        else:
            listed, places = self._listed(images)
            pairs = [(places[item["id"]], decode(item, self.model.preprocessing)) for item in listed.items]
        yield from ((source, one.image) for source, one in pairs if one.image is not None)

    def _listed(self, images: Any) -> tuple[Listed, dict[str, str]]:
        """Return the files, and the path of each id."""
        with tempfile.TemporaryDirectory() as folder:
            ids = IdMap(Path(folder) / "ids.json")
            listed = list_images(images, id_map=ids, volumes=self.model.per_pixel, slice_axis=self.model.slice_axis)
            places: dict[str, str] = {}
            for name, path, frame in listed.places(ids, by_case=self.model.per_pixel):
                places.setdefault(name, path if frame is None else f"{path}#{frame}")
            return listed, places


class _Kept:
    """Sink that keeps masks."""

    def __init__(self) -> None:
        self.masks: dict[str, np.ndarray] = {}

    def classified(self, item: Item, row: dict[str, Any]) -> dict[str, Any]:
        return row

    def segmented(self, case: SegmentedCase, row: dict[str, Any]) -> dict[str, Any]:
        self.masks[case.id] = case.classes
        return row


def _is_arrays(images: Any) -> bool:
    return isinstance(images, (np.ndarray, torch.Tensor)) or (
        isinstance(images, Sequence)
        and not isinstance(images, str)
        and len(images) > 0
        and all(isinstance(one, (np.ndarray, torch.Tensor)) for one in images)
    )


def _arrays(images: Any) -> list[Array]:
    return [images] if isinstance(images, (np.ndarray, torch.Tensor)) else list(images)


def _decoded(array: Array, model: Model) -> Decoded:
    """Preprocess an array as a file with these pixels."""
    image = _as_image(array)
    record = {"rows": image.shape[1], "columns": image.shape[2], "format": "array"}
    chain = Compose(model.preprocessing.transforms[1:])  # without the reader of files
    return decode({"image": image, "record": record}, chain)


def _as_image(array: Array) -> torch.Tensor:
    """Return float32 (3, H, W) in [0, 1].

    Raises:
        DataError: for another shape, type or range.
    """
    values = torch.as_tensor(np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array).detach().cpu()
    if values.dtype == torch.uint8:
        values = values.float() / 255
    shape = tuple(values.shape)
    if values.ndim == 3 and shape[0] not in (1, 3) and shape[2] in (1, 3):
        values = values.movedim(2, 0)
    if values.ndim == 2:
        values = values.unsqueeze(0)
    if values.ndim != 3 or values.shape[0] not in (1, 3) or 0 in values.shape:
        raise DataError(
            f"Expected an image of shape (H, W), (H, W, 3), (1, H, W) or (3, H, W), got {shape}; pass several images "
            "as a list."
        )
    if not values.is_floating_point() or not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(
            "Expected pixels of type uint8, or floats from 0 (black) to 1 (white), got "
            f"{values.dtype} from {values.min():g} to {values.max():g}; window or rescale them first."
        )
    return values.float().expand(3, -1, -1).contiguous()
