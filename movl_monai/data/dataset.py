"""Data sets of images, with or without masks, that are decoded once and kept in memory."""

from __future__ import annotations

import copy
import functools
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec

import numpy as np
import torch
from torch.utils.data import Dataset

from movl_monai.data.augmentation import apply_seeded, call_seeded, in_turn
from movl_monai.data.checks import check_duplicates, check_exposure, check_swapped, check_unreadable
from movl_monai.data.datalist import Datalist, Item
from movl_monai.data.decode import Decoded, ImageContractError, ItemTransform, decode_all
from movl_monai.data.duplicates import find_duplicates, pixel_digests
from movl_monai.data.recognise import recognise
from movl_monai.data.report import mark_duplicates, report_rows, write_report
from movl_monai.data.targets import label_tensor
from movl_monai.errors import DataError, LeakageError

__all__ = ["FileOutcome", "ImageDataset", "SegmentationDataset", "concatenate", "select_images"]

_P = ParamSpec("_P")

_FACTS = ("format", "modality", "frame", "rows", "columns")
_MASK_FACTS = (
    *("rows", "columns", "pixel_spacing", "slice_spacing", "slice_axis", "frame", "frames", "format", "modality"),
    *("flags", "voxel_mm3"),
)


@dataclass(frozen=True, kw_only=True)
class FileOutcome:
    """Outcome for an image or file of a list.

    Args:
        id: salted id.
        case: id of the unit, or of the volume of a slice, else the same; "" for a skipped file.
        path: of the file.
        frame: frame of a multi-frame file, from 0; None for other files.
        reason: reason code, "" for a readable file.
        detail: message without names or paths.
        skipped: whether the list skipped it before decoding.
        record: the technical facts for tables of predictions.
    """

    id: str
    path: str
    case: str = ""
    frame: int | None = None
    reason: str = ""
    detail: str = ""
    skipped: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)


def _accepting_datalist(init: Callable[_P, None]) -> Callable[_P, None]:
    """Accept ``datalist``, the name of ``data`` in configs of earlier versions."""

    @functools.wraps(init)
    def accepting(*args: _P.args, **options: _P.kwargs) -> None:
        if "datalist" in options:
            options["data"] = options.pop("datalist")
        init(*args, **options)

    return accepting


class ImageDataset(Dataset[Item]):
    """Decode every image of a list once, keep them as uint8, and report each file.

    Preprocessing chains end on the grid k/255 (``QuantizeImaged``), so that 8 bits are lossless and
    ``images.float() / 255`` is the image.

    An item is ``{"image": uint8 (3, H, W), "label": int, "index": int, "id": str, "split": str, "domain": str}``;
    ``label`` is -1 and ``split`` "" if the list has none. Of several findings it is a float32 (K,), of a regression a
    float. With ``augment``, ``image`` is float32 in [0, 1].

    The report (CSV) has one row per file: salted id, status (``ok``, ``unreadable``, ``skipped``), reason code, domain,
    split, label, salted patient, repeated pixels, and the technical facts under ``record`` from the transform.

    Attributes:
        images: uint8 (N, 3, H, W), contiguous.
        labels: int64 (N,), -1 for none; of several findings float32 (N, K), of a regression (N,), NaN for none.
        data: the N readable items of the list; items that may show a name have ``shows_names`` and are never pictured.
        class_names: names of the labels.
        duplicates: images with the pixels of an earlier one.
        files: outcome of every file and image of the list, in its order; they identify, and must stay on this machine.
        pixels: digest of the pixels of each image, "" for a blank one.

    Args:
        data: the list, see :func:`movl_monai.data.read_datalist`.
        transform: maps an item to an item with ``image`` as float32 (3, H, W) in [0, 1]; all of one size.
        num_workers: decoding processes; 0 decodes in the main process.
        report: file for the report; None writes none.
        max_unreadable: largest tolerated share of unreadable files, including missing ones.
        progress: show a progress bar on stderr; None shows it only on terminals.
        on_leak: action for equal pixels in two splits, or inside and outside of the in-distribution domain.
        augment: random transform of one image, float32 (3, H, W) in [0, 1] to the same, applied at each access.
        seed: of ``augment``.

    Raises:
        LeakageError: if the list keeps the splits of a training, and an image that the network learned from would be
            scored as test; see :func:`movl_monai.data.recognise.recognise`.
        DataError: if nothing can be read, more than ``max_unreadable`` is unreadable, or pixels leak with
            ``on_leak="error"``; the report is written in all cases.
        ImageContractError: if the transform does not return an image.
        TypeError: if ``data`` is another kind of list.
    """

    @_accepting_datalist
    def __init__(
        self,
        data: Datalist,
        transform: ItemTransform,
        *,
        num_workers: int = 0,
        report: str | os.PathLike[str] | None = None,
        max_unreadable: float = 0.05,
        progress: bool | None = None,
        on_leak: Literal["warn", "error"] = "warn",
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(data, Datalist):
            raise TypeError(
                f"data must be a Datalist, got {type(data).__name__}. Make one of a folder or a list with "
                "movl_monai.data.read_datalist, or choose a part of the config's: `$@datalist.select(split='test')`."
            )
        if len(data) == 0:
            raise DataError("The list has no images; see its summary() for the splits and domains there are.")
        self.class_names = list(data.class_names)
        self.task = data.task
        self.id_domain = data.id_domain
        self.transform = transform
        self.num_workers = num_workers
        self.augment = augment
        self.seed = seed
        # in shared memory, so that persistent DataLoader workers see the next epoch
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        images, masks, outcomes = _decode(data, transform, num_workers, progress)
        readable = [index for index, outcome in enumerate(outcomes) if not outcome.reason]
        images, masks = _compact(images, readable), _compact(masks, readable)
        items: list[Item] = [data[index] for index in readable]
        digests = pixel_digests(images)
        stay = recognise(data, items, digests, images)
        readable = [readable[place] for place in stay]
        self.images = _compact(images, stay)
        self.data: list[Item] = [
            _marked(items[place], outcomes[index]) for place, index in zip(stay, readable, strict=True)
        ]
        self.pixels = [digests[place] for place in stay]
        self._keep(_compact(masks, stay), [outcomes[index] for index in readable])
        self.labels = label_tensor(self.data, self.task, self.class_names)
        self.files = _files(data, outcomes)
        self.duplicates = find_duplicates(self.images, self.data, id_domain=self.id_domain, digests=self.pixels)
        report_path = None if report is None else Path(report)
        self._report(data, outcomes, readable, report_path)
        check_unreadable(data, outcomes, max_unreadable, report_path)
        check_exposure(outcomes, report_path)
        check_duplicates(self.duplicates, on_leak, report_path)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Item:
        index = range(len(self))[index]  # negative positions, and IndexError beyond the end
        item, image, label = self.data[index], self.images[index], self.labels[index]
        if self.augment is not None:
            image = apply_seeded(self.augment, image.float() / 255, (self.seed, int(self._epoch), index))
        return {
            "image": image,
            "label": label if label.ndim else label.item(),
            "index": index,
            "id": item["id"],
            "split": item["split"] or "",
            "domain": item["domain"],
        }

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the augmentations, which depend only on (seed, epoch, index)."""
        self._epoch.fill_(epoch)

    def without_images(self) -> ImageDataset:
        """Return a data set whose items need not hold images: this one, in which each has a single one."""
        return self

    @property
    def instances(self) -> list[Item]:
        """Item of each decoded image."""
        return self.data

    @property
    def patients(self) -> list[str | None]:
        """Patient of each image, None for an unknown patient."""
        return [item["patient_id"] for item in self.data]

    def select(
        self,
        split: str | Sequence[str] | None = None,
        domain: str | Sequence[str] | None = None,
        *,
        augment: Callable[[torch.Tensor], torch.Tensor]
        | Sequence[Callable[[torch.Tensor], torch.Tensor]]
        | None = None,
        where: Callable[[Item], bool] | None = None,
    ) -> ImageDataset:
        """Return the images of one or several splits and domains for which ``where`` holds, without decoding again.

        The result has no ``augment`` unless one is given; several are applied in their order. A single split of one
        domain shares memory with this data set.
        """
        splits = None if split is None else {split} if isinstance(split, str) else set(split)
        domains = None if domain is None else {domain} if isinstance(domain, str) else set(domain)
        chosen = [
            index
            for index, item in enumerate(self.data)
            if (splits is None or item["split"] in splits)
            and (domains is None or item["domain"] in domains)
            and (where is None or where(item))
        ]
        if not chosen:
            raise DataError(f"No readable image in split={split!r}, domain={domain!r}; the list has no such images.")
        return self._subset(chosen, in_turn(augment))

    def _keep(self, masks: torch.Tensor, outcomes: Sequence[Decoded]) -> None:
        """Keep the other decoded parts; a data set of images alone ignores them."""

    def _subset(self, chosen: Sequence[int], augment: Callable[[torch.Tensor], torch.Tensor] | None) -> ImageDataset:
        data, pixels = [self.data[index] for index in chosen], [self.pixels[index] for index in chosen]
        return self._with(self.images[rows_of(chosen)], data, pixels, augment)

    def _with(
        self,
        images: torch.Tensor,
        data: list[Item],
        pixels: list[str],
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> ImageDataset:
        result = copy.copy(self)
        result.pixels = pixels
        result.images, result.data, result.labels, result.augment = (
            images,
            data,
            label_tensor(data, self.task, self.class_names),
            augment,
        )
        result._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        result.duplicates = find_duplicates(images, data, id_domain=self.id_domain, digests=pixels)
        return result

    def _report(
        self, datalist: Datalist, outcomes: Sequence[Decoded], readable: Sequence[int], path: Path | None
    ) -> None:
        if path is None:
            return
        rows = report_rows(
            datalist,
            [(outcome.reason, outcome.detail, outcome.record) for outcome in outcomes],
            class_names=self.class_names,
            id_map=datalist.id_map,
            skipped=datalist.skipped,
        )
        mark_duplicates([rows[index] for index in readable], self.duplicates)
        write_report(path, rows)


def select_images(
    images: ImageDataset,
    data: Sequence[Item],
    *,
    split: str,
    augment: Callable[[torch.Tensor], torch.Tensor] | Sequence[Callable[[torch.Tensor], torch.Tensor]] | None = None,
    with_images: bool = True,
) -> ImageDataset:
    """Return those images of one split that a list names, without decoding again.

    Args:
        images: decoded images.
        data: items of the same data set, such as ``datalist.select("train")``; unreadable ones are left out.
        split: the split, such as "train".
        augment: see :meth:`ImageDataset.select`.
        with_images: False leaves the images out of items, see :class:`~movl_monai.data.UnitDataset`.

    Raises:
        LeakageError: if an item of the list is of another split.
        DataError: if none of them was decoded.
    """
    if others := sorted({str(item["split"]) for item in data} - {split}):
        raise LeakageError(
            f"`data` of the {split} images holds images of other splits ({', '.join(others)}), expected {split} alone. "
            f"Choose them from the list: `$@datalist.select(split='{split}')`."
        )
    known = {item.get("unit", item["id"]) for item in data}
    found = images.select(split, augment=augment, where=lambda item: item["id"] in known)
    return found if with_images else found.without_images()


def concatenate(datasets: Sequence[ImageDataset]) -> ImageDataset:
    """Concatenate data sets, such as the ID test set and the OOD sets, for one pass of evaluation.

    Raises:
        DataError: if there are none, or they differ in classes or image size.
    """
    if not datasets:
        raise DataError("concatenate needs one or more data sets, got none.")
    first = datasets[0]
    for other in datasets[1:]:
        if other.class_names != first.class_names:
            raise DataError(f"The data sets have other classes: {first.class_names} and {other.class_names}.")
        if other.images.shape[1:] != first.images.shape[1:]:
            sizes = tuple(first.images.shape[1:]), tuple(other.images.shape[1:])
            raise DataError(f"The data sets have images of other shapes: {sizes[0]} and {sizes[1]}; resize them alike.")
    images = torch.cat([dataset.images for dataset in datasets])
    pixels = [digest for dataset in datasets for digest in dataset.pixels]
    return first._with(images, [item for dataset in datasets for item in dataset.instances], pixels)


def _decode(
    datalist: Datalist, transform: ItemTransform, num_workers: int, progress: bool | None
) -> tuple[torch.Tensor, torch.Tensor, list[Decoded]]:
    """Return images and masks at the positions of their items, and the outcomes without their pixels.

    Other positions are undefined. Without any mask the masks are empty: (0, 0, 0).
    """
    from tqdm import tqdm

    images = torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    masks = torch.empty(0, 0, 0, dtype=torch.uint8)
    outcomes = [Decoded(reason="not_decoded")] * len(datalist)
    results = decode_all(datalist, transform, num_workers=num_workers)
    # disable=None means "on terminals only"
    disable = None if progress is None else not progress
    for index, decoded in tqdm(results, total=len(datalist), desc="decode", unit="image", disable=disable):
        if decoded.image is not None:
            if images.numel() == 0:
                images = torch.empty(len(datalist), *decoded.image.shape, dtype=torch.uint8)
            if decoded.image.shape != images.shape[1:]:
                raise ImageContractError(
                    f"The transform must give images of one shape, got {tuple(images.shape[1:])} and "
                    f"{tuple(decoded.image.shape)}; add ResizeImaged to the chain."
                )
            images[index] = torch.from_numpy(decoded.image)
            decoded.image = None
        if decoded.mask is not None:
            if masks.numel() == 0:
                masks = torch.zeros(len(datalist), *decoded.mask.shape, dtype=torch.uint8)
            masks[index] = torch.from_numpy(decoded.mask)
            decoded.mask = None
        outcomes[index] = decoded
    return images, masks, outcomes


def _marked(item: Item, outcome: Decoded) -> Item:
    return {**item, "shows_names": True} if outcome.record.get("shows_names") else item


def _files(datalist: Datalist, outcomes: Sequence[Decoded]) -> list[FileOutcome]:
    images = [
        FileOutcome(
            id=item["id"],
            case=str(item.get("unit", item.get("case", item["id"]))),
            path=os.fspath(item["image"]),
            frame=item.get("frame"),
            reason=outcome.reason,
            detail=outcome.detail,
            record={name: outcome.record[name] for name in _FACTS if name in outcome.record},
        )
        for item, outcome in zip(datalist, outcomes, strict=True)
    ]
    return images + [
        FileOutcome(id=file.id or "", path=os.fspath(file.path), reason=file.reason, skipped=True)
        for file in datalist.skipped
    ]


def _compact(images: torch.Tensor, readable: Sequence[int]) -> torch.Tensor:
    """Return the readable rows, moved to the front in place: a copy would need the memory twice."""
    if images.numel() == 0:
        return images
    for row, index in enumerate(readable):
        if row != index:
            images[row] = images[index]
    return images[: len(readable)]


def rows_of(chosen: Sequence[int]) -> slice | list[int]:
    """Return the positions, as a slice (which shares memory) if they are consecutive."""
    return slice(chosen[0], chosen[-1] + 1) if chosen[-1] - chosen[0] + 1 == len(chosen) else list(chosen)


class SegmentationDataset(ImageDataset):
    """Decode every image and mask of a list once, keep both as uint8, and report each file.

    An item is ``{"image": uint8 (3, H, W), "mask": uint8 (H, W), "index": int, "id": str, "case": str, "split": str,
    "domain": str}``; without ``mask`` if the list has none. ``case`` is the id of a slice's volume, for any other image
    its own id. With ``augment``, ``image`` is float32 in [0, 1] and the mask moves with it.

    Attributes:
        masks: uint8 (N, H, W), the classes at the size of the images; (0, 0, 0) without masks.
        cases: case of each image.
        geometry: native ``rows`` and ``columns`` of each image, and if known ``pixel_spacing`` (mm between rows and
            between columns); for a slice also ``slice_spacing``, ``slice_axis``, ``frame``, ``frames``.

    Args:
        data: the list, see :func:`movl_monai.data.read_mask_datalist`.
        transform: maps an item to an item with ``image`` as float32 (3, H, W) in [0, 1], ``mask`` as uint8 (1, H, W),
            and ``native_mask``, the mask before resizing.
        options: of :class:`ImageDataset`; ``augment`` maps ``{"image": (3, H, W), "mask": (1, H, W)}`` to the same.

    Raises:
        DataError: as :class:`ImageDataset`.
        ImageContractError: if the transform does not return an image and its mask.
    """

    masks: torch.Tensor
    cases: list[str]
    geometry: list[dict[str, Any]]
    _native: list[bytes | None]

    @property
    def has_masks(self) -> bool:
        """True if the images have masks."""
        return self.masks.numel() > 0

    def native_mask(self, index: int) -> np.ndarray:
        """Return the classes of an image at its native size, uint8 (rows, columns).

        Raises:
            DataError: if it has no mask.
        """
        packed, facts = self._native[index], self.geometry[index]
        if packed is None:
            raise DataError("The image has no mask, so nothing can be compared with it; give masks, or run inference.")
        values = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
        return values.reshape(facts["rows"], facts["columns"])

    def pixel_counts(self, num_classes: int) -> torch.Tensor:
        """Count the pixels of each class in the masks, int64 (num_classes,).

        Raises:
            DataError: if there are no masks.
        """
        if not self.has_masks:
            raise DataError("These images have no masks; read them with read_mask_datalist.")
        return torch.stack([torch.bincount(mask.flatten(), minlength=num_classes) for mask in self.masks]).sum(dim=0)

    def __getitem__(self, index: int) -> Item:
        index = range(len(self))[index]
        item = self.data[index]
        pair = {"image": self.images[index]} | ({"mask": self.masks[index]} if self.has_masks else {})
        return {
            **(pair if self.augment is None else self._augmented(pair, index)),
            "index": index,
            "id": item["id"],
            "case": self.cases[index],
            "split": item["split"] or "",
            "domain": item["domain"],
        }

    def _augmented(self, pair: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
        values = {"image": pair["image"].float() / 255}
        if "mask" in pair:
            values["mask"] = pair["mask"][None]
        moved = call_seeded(self.augment, values, (self.seed, int(self._epoch), index))  # type: ignore[arg-type]
        result = {"image": moved["image"].as_subclass(torch.Tensor)}
        return result | ({"mask": moved["mask"].as_subclass(torch.Tensor)[0]} if "mask" in moved else {})

    def _keep(self, masks: torch.Tensor, outcomes: Sequence[Decoded]) -> None:
        check_swapped(outcomes)
        self.masks = masks
        self.geometry = [{key: one.record[key] for key in _MASK_FACTS if key in one.record} for one in outcomes]
        self._native = [one.native_mask for one in outcomes]
        self.cases = [
            str(item.get("case", item["id"]) if "slice_axis" in facts else item["id"])
            for item, facts in zip(self.data, self.geometry, strict=True)
        ]

    def _subset(
        self, chosen: Sequence[int], augment: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> SegmentationDataset:
        result = super()._subset(chosen, augment)
        if not isinstance(result, SegmentationDataset):
            raise TypeError(f"expected a SegmentationDataset, got {type(result).__name__}.")
        result.masks = self.masks[rows_of(chosen)] if self.has_masks else self.masks
        for name in ("cases", "geometry", "_native"):
            setattr(result, name, [getattr(self, name)[index] for index in chosen])
        return result
