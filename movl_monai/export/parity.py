"""Difference between an exported file and its network, on given images, the run's own, or the phantom's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from movl_monai.data import IdMap
from movl_monai.data.decode import decode
from movl_monai.errors import DataError, ExportError, MovlError, user_error
from movl_monai.metrics.stored.outputs import read_outputs
from movl_monai.networks import AdaptedClassifier, EnsembleClassifier, UnitClassifier
from movl_monai.phantom import write_phantom
from movl_monai.report.tasks import task_named
from movl_monai.runs.run_record import Run

from .exported import ExportedModel, ExportedOutput
from .preprocessing import window_logits
from .writers import scratch_folder

__all__ = [
    "BATCH_SIZES",
    "ImageSample",
    "Parity",
    "check_parity",
    "eager",
    "given_images",
    "measure_parity",
    "phantom_images",
    "sample_images",
    "val_images",
]

BATCH_SIZES = (1, 3)
_TINY = 1e-12  # smallest divisor, for features that are all zero
Kind = Literal["given", "val", "phantom"]
_PHANTOM_PATIENTS = 2  # per scanner


@dataclass(frozen=True)
class Parity:
    """Largest differences between a file and the network in eager mode, over all images and batch sizes.

    Probabilities ``p`` and logits ``z`` may differ absolutely, ``max |p' - p| <= tolerance`` and ``max |z' - z| <=
    tolerance``: probabilities depend on differences of logits, and not on their size. Two kinds of logits have another
    scale, and float32 rounds relative to it: log probabilities, which are large where a grade is nearly impossible, and
    numbers, such as a volume in millilitres. They differ relative to the largest value of all images, ``max |z' - z| <=
    tolerance * max(1, max |z|)``, without the 1 for numbers, whose unit may be small. Features ``f`` differ relative to
    the largest of their batch, ``max |f' - f| <= tolerance * max |f|``.

    Args:
        images: number of images.
        kind: kind of images; see :class:`~movl_monai.export.parity.ImageSample`.
        batch_sizes: tested batch sizes.
        logits: largest difference of a logit, of a ``relative`` one over the largest logit.
        relative: whether the difference of logits is relative to their size, as above.
        probabilities: largest difference of a probability, or of the weight of an image in its unit; None for numbers.
        features: largest difference of a feature over the largest feature of its batch; None without features.
        tolerance: largest allowed value of each.
    """

    images: int
    kind: str
    batch_sizes: tuple[int, ...]
    logits: float
    relative: bool
    probabilities: float | None
    features: float | None
    tolerance: float

    @property
    def kept(self) -> bool:
        """True if no difference is larger than allowed."""
        found = (self.logits, self.probabilities, self.features)
        return all(value is None or value <= self.tolerance for value in found)

    def as_json(self) -> dict[str, Any]:
        """Return the entry ``parity`` of the metadata."""
        return asdict(self) | {"batch_sizes": list(self.batch_sizes)}


def eager(network: nn.Module, windows: Mapping[str, Any] | None = None) -> Callable[[np.ndarray], ExportedOutput]:
    """Return a function that computes the network's outputs for image arrays (B, 3, H, W).

    Args:
        network: network in eval mode, on any device.
        windows: settings of the run's sliding window, if any.
    """
    device = next(network.parameters()).device

    def plain(image: np.ndarray) -> ExportedOutput:
        with torch.inference_mode():
            given = torch.from_numpy(image).to(device)
            if isinstance(network, UnitClassifier):
                pooled, read = network.outputs(given[None])
                return ExportedOutput(_array(pooled), _array(read), *map(_array, network.explain(given)))
            classifies = isinstance(network, (AdaptedClassifier, EnsembleClassifier))
            features = network.features(given) if classifies else None  # type: ignore[operator]
            logits = network(given)
        return ExportedOutput(_array(logits), None if features is None else _array(features))

    if windows is None:
        return plain
    return lambda image: ExportedOutput(*window_logits(lambda part: plain(part).logits, image, windows))


def measure_parity(
    reference: Callable[[np.ndarray], ExportedOutput],
    model: ExportedModel,
    sample: ImageSample,
    *,
    tolerance: float,
    log_probabilities: bool = False,
) -> Parity:
    """Run network and file on the same images, singly and in batches.

    Args:
        reference: function from :func:`eager`.
        model: the file, with the task in its metadata. Of one for series, studies or patients, a batch is one of them,
            and the weights of its images count, too.
        sample: at least one image; if there are fewer than a batch needs, they repeat.
        tolerance: stored with the result.
        log_probabilities: True if the logits of the network are log probabilities.
    """
    task = task_named(model.task)
    relative = task.numeric or log_probabilities
    logits, size = 0.0, _TINY if task.numeric else 1.0
    probabilities: float | None = None
    features: float | None = None
    for count in BATCH_SIZES:
        for start in range(0, len(sample), count):
            # indices wrap around, so that the last batch is full too
            batch = np.take(sample.images, range(start, start + count), axis=0, mode="wrap")
            expected, got = reference(batch), model(batch)
            difference = _largest(expected.logits, got.logits)
            logits = max(logits, difference)
            if relative:
                size = max(size, float(np.abs(expected.logits).max()))
            if not task.numeric:
                if np.isfinite(difference):
                    difference = _largest(task.probabilities(expected.logits), task.probabilities(got.logits))
                probabilities = max(probabilities or 0.0, difference)
            if expected.weights is not None and got.weights is not None:
                probabilities = max(probabilities or 0.0, _largest(expected.weights, got.weights))
            if expected.features is not None and got.features is not None:
                features = max(features or 0.0, _relative(expected.features, got.features))
    logits = logits / size if np.isfinite(logits) else logits
    return Parity(len(sample), sample.kind, BATCH_SIZES, logits, relative, probabilities, features, tolerance)


def check_parity(parity: Parity) -> None:
    """Raise ExportError if a file differs from its network by more than allowed."""
    if parity.kept:
        return
    differences = [f"logits differ by up to {parity.logits:.2g}{' of the largest' if parity.relative else ''}"]
    if parity.probabilities is not None:
        differences.append(f"probabilities by {parity.probabilities:.2g}")
    if parity.features is not None:
        differences.append(f"features by {parity.features:.2g} of the largest")
    raise ExportError(
        f"The exported graph computes something else than the network: on {parity.images} images ({parity.kind}) "
        f"{', '.join(differences)}; allowed is {parity.tolerance:.2g}. Nothing was "
        "written; try another --format, or allow more with --tolerance if that is acceptable."
    )


def _largest(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    difference = float(np.abs(one.astype(np.float64) - other).max())
    return difference if np.isfinite(difference) else float("inf")


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference over the largest value of ``one``; infinite if either is not finite."""
    difference, size = _largest(one, other), float(np.abs(one).max())
    return difference / max(size, _TINY) if np.isfinite(difference) else difference


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


@dataclass(frozen=True)
class ImageSample:
    """Preprocessed images.

    Args:
        kind: "given" by the user, "val" images of the run, or rendered "phantom" images.
        images: float32 (N, 3, H, W) in [0, 1].
        labels: int64 (N,), or None if unknown.
        patients: identifiers of the patients, (N,), or None if unknown.
        unreadable: number of further images that could not be read.
        available: number of images that the sample was drawn from; None means the images themselves.
    """

    kind: Kind
    images: np.ndarray
    labels: np.ndarray | None = None
    patients: list[str | None] | None = None
    unreadable: int = 0
    available: int | None = None

    def __len__(self) -> int:
        return len(self.images)


def sample_images(run: Run, given: Sequence[str | os.PathLike[str]], *, count: int) -> ImageSample:
    """Return images to compare on: the given ones, else ``val`` if still found, else a rendered phantom.

    Args:
        run: the run.
        given: folders, files or lists; () for none.
        count: largest number of images; they are spread evenly.

    Raises:
        DataError: if images are given and none can be read.
    """
    if given:
        return given_images(run, given, count=count)
    return val_images(run, count=count) or phantom_images(run, count=count)


def given_images(run: Run, sources: Sequence[str | os.PathLike[str]], *, count: int) -> ImageSample:
    """Read the images that the user gave, as the run's inference does.

    Raises:
        DataError: if a source does not exist, or no image in the sources can be read.
    """
    items = [item for source in sources for item in _listed(run, source)]
    sample = _decoded(run, spread(items, count), kind="given", available=len(items))
    if sample is None:
        raise DataError(
            f"None of the {min(len(items), count)} images that were tried can be read; look at the folder with "
            "`movl-monai ingest`, or give other --images."
        )
    return sample


def val_images(run: Run, *, count: int) -> ImageSample | None:
    """Read ``val`` images with their labels, from the files that the run's evaluation left on this machine.

    This needs the stored outputs (the split of each image) and the local map of ids to paths. Returns None if one of
    them, or an image, is missing.
    """
    folder = run.folder
    id_map = folder / "local" / "id_map.json"
    try:
        val = read_outputs(folder).sections().get("val")
        ids = IdMap(id_map) if id_map.is_file() else None
    except MovlError:
        return None
    if val is None or ids is None:
        return None
    known = val.predictions
    items: list[dict[str, Any]] = []
    # findings and numbers have no class that int8 could lose
    labels = [None] * len(known) if known.labels.dtype.kind == "f" else known.labels.tolist()
    for image_id, label, patient in spread(list(zip(known.ids, labels, known.patients, strict=True)), count):
        try:
            items.append(ids.item_of(image_id) | {"label": label, "patient_id": patient})
        except DataError:  # the paths are of another machine
            return None
    return _decoded(run, items, kind="val", available=len(val))


def phantom_images(run: Run, *, count: int) -> ImageSample:
    """Render the phantom as DICOM files and read them with the run's preprocessing."""
    with scratch_folder() as folder:
        write_phantom(
            folder, patients=(0, 0, _PHANTOM_PATIENTS, _PHANTOM_PATIENTS), images_per_patient=2, progress=False
        )
        files = sorted((folder / "images").rglob("*.dcm"))
        sample = _decoded(run, [{"image": str(path)} for path in spread(files, count)], kind="phantom")
    if sample is None or sample.unreadable:
        raise DataError(
            "The run's preprocessing cannot read the phantom (DICOM radiographs); give images that it reads: --images."
        )
    return sample


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return at most ``count`` items, spread evenly.

    Example:
        >>> spread(range(10), 3), spread("ab", 3)
        ([0, 4, 9], ['a', 'b'])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(position)] for position in np.linspace(0, len(items) - 1, count)]


def _listed(run: Run, source: str | os.PathLike[str]) -> Iterable[Mapping[str, Any]]:
    if not Path(source).exists():
        # the path is not repeated: it may name a patient
        raise DataError("--images: there is no file or folder at one of the paths given; expected images or folders.")
    with tempfile.TemporaryDirectory() as folder:
        parser = run.parser(dataset_dir=os.fspath(Path(source).absolute()), output_dir=folder)
        try:
            return list(parser.get_parsed_content("datalist"))
        except Exception as error:  # MONAI wraps the reader's error
            known = user_error(error)
            if known is None or known is error:
                raise
            raise known from error


def _decoded(
    run: Run, items: Sequence[Mapping[str, Any]], *, kind: Kind, available: int | None = None
) -> ImageSample | None:
    """Decode items one by one; None if none can be read."""
    transform = run.preprocessing()
    found: list[tuple[np.ndarray, int, str | None]] = []
    for item in _without_masks(items):
        decoded = decode(item, transform)
        if decoded.image is not None:
            label = item.get("label")
            found.append((decoded.image, int(label) if isinstance(label, int) else -1, item.get("patient_id")))
    if not found:
        return None
    images, labels, patients = zip(*found, strict=True)
    label = np.array(labels, dtype=np.int64)
    return ImageSample(
        kind,
        np.stack(images).astype(np.float32) / 255,
        labels=label if (label >= 0).all() else None,
        patients=list(patients) if any(patients) else None,
        unreadable=len(items) - len(found),
        available=available,
    )


def _without_masks(items: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        yield {key: value for key, value in item.items() if key != "mask"}
