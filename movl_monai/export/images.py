"""Images for the comparison of an exported file: given ones, the run's own, or the phantom's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from movl_monai.data import IdMap
from movl_monai.data.decode import decode
from movl_monai.errors import DataError, MovlError, user_error
from movl_monai.metrics.stored.outputs import read_outputs
from movl_monai.phantom import write_phantom
from movl_monai.runs.run_record import Run

from .disk import scratch_folder

__all__ = ["ImageSample", "given_images", "phantom_images", "sample_images", "val_images"]

Kind = Literal["given", "val", "phantom"]
_PHANTOM_PATIENTS = 2  # per scanner


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
    for image_id, label, patient in spread(
        list(zip(known.ids, known.labels.tolist(), known.patients, strict=True)), count
    ):
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
            found.append((decoded.image, -1 if label is None else int(label), item.get("patient_id")))
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
