"""Far sets: images of another kind, such as another organ or modality, for tests of OOD detection."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from movl_monai.data.entries import Listing
from movl_monai.data.expand import SliceAxis
from movl_monai.data.layouts import reader_of
from movl_monai.data.sources import PathLike, read_images, read_ood_sources, read_source, records, with_images
from movl_monai.errors import DataError

__all__ = ["read_far_source", "read_far_sources"]

logger = logging.getLogger(__name__)


def read_far_sources(
    sources: PathLike | Sequence[PathLike] | Mapping[str, PathLike],
    *,
    taken: set[str],
    slice_axis: SliceAxis = "axial",
) -> list[Listing]:
    """Read far sets; each becomes a separate domain of test images without labels.

    Args:
        sources: folders, CSV or JSON files, optionally with names; the default name is the folder's.
        taken: names of domains in use.
        slice_axis: plane of NIfTI slices.

    Raises:
        DataError: if a source has no image, or a given name is in use.
    """
    listings = read_ood_sources(sources, taken=taken, slice_axis=slice_axis, read=read_far_source)
    for listing in listings:
        if not listing.entries:
            raise DataError("A far set has no image; see far_dataset_dirs.")
        logger.info("Far set %s: %d images, for OOD detection only.", listing.entries[0].domain, len(listing.entries))
    return listings


def read_far_source(source: Path) -> Listing:
    """Return all images of a source as one domain, without labels and masks.

    A folder is read by its list if it has one, by its images if its layout pairs images and masks, and else as all
    images below it.
    """
    if not source.is_dir():
        listing = read_images(source)
    elif reader := reader_of(source, "images"):
        listing = with_images(reader(source))
    else:
        listing = read_source(source, labelled=False, splits=False)
    for record in records(listing):
        record.domain = None
    for entry in listing.entries:
        entry.label, entry.mask, entry.groups = None, None, {}
    return listing
