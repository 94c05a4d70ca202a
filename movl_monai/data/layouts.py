"""Layouts of data sets in folders: one entry each, with its readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from movl_monai.data.entries import Listing
from movl_monai.data.read_folders import read_files, read_folders
from movl_monai.data.read_nnunet import is_nnunet, read_nnunet
from movl_monai.data.read_pairs import has_pairs, read_pairs
from movl_monai.errors import DataError

__all__ = ["LAYOUTS", "LISTS", "Layout", "is_paired", "reader_of"]

LISTS = ("manifest.csv", "dataset.json", "datalist.json")
"""Lists in a folder, which is then read by its list."""

Reader = Callable[..., Listing]
Use = Literal["labels", "masks", "images"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Layout of a data set in a folder.

    Args:
        fits: returns whether a folder has this layout.
        labels: reads the images with classes; None if the layout has none.
        masks: reads the images with masks, given ``mask_suffix``, see :func:`movl_monai.data.read_pairs.read_pairs`;
            None if the layout has none.
        has_list: whether the layout has a list of its own, so that it counts before :data:`LISTS`.
    """

    fits: Callable[[Path], bool]
    labels: Reader | None = None
    masks: Reader | None = None
    has_list: bool = False


def _refuse_nnunet(folder: Path) -> NoReturn:
    raise DataError(
        f"{folder.name!r} is a data set of nnU-Net: images with masks, for segmentation. Classification needs a class "
        "for each image: a manifest.csv with the columns path and label, or class folders."
    )


LAYOUTS = {
    "nnunet": Layout(
        fits=is_nnunet,
        labels=_refuse_nnunet,
        masks=lambda folder, *, mask_suffix="": read_nnunet(folder),
        has_list=True,
    ),
    "pairs": Layout(fits=has_pairs, masks=read_pairs),
}
"""Layouts by name; a folder of another one is read as class folders, and for masks as pairs."""

_OTHERS: dict[Use, Reader] = {"labels": read_folders, "masks": read_pairs, "images": read_files}


def reader_of(folder: Path, use: Use, *, lists: bool = True) -> Reader | None:
    """Return the reader of a folder, or None for a folder that is read by its list.

    Args:
        folder: the folder.
        use: contents to read; "images" are those with masks or else with classes.
        lists: whether lists in the folder count.
    """
    has_list = lists and any((folder / name).is_file() for name in LISTS)
    for layout in LAYOUTS.values():
        reader = layout.labels if use == "labels" else layout.masks
        if use == "images":
            reader = layout.masks or layout.labels
        if reader is not None and (layout.has_list or not has_list) and layout.fits(folder):
            return reader
    return None if has_list else _OTHERS[use]


def is_paired(folder: Path) -> bool:
    """Return True for a folder of images and masks, whether or not it has a list."""
    try:
        return any(layout.masks is not None and layout.fits(folder) for layout in LAYOUTS.values())
    except DataError:
        return False
