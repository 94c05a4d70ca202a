"""Folders that hold the files of one DICOM series: their headers, and their recognition among single files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movl_monai.data.dicom_headers import read_dicom_header
from movl_monai.data.entries import Entry, FileHeader, Listing, SliceAxis
from movl_monai.data.faults import ends_run, fault_of
from movl_monai.readers import sniff_format
from movl_monai.readers.dicom import Limits
from movl_monai.readers.series import SAME_PLACE_MM, check_alike, series_affine, slices_of
from movl_monai.readers.volume_source import series_files

__all__ = ["group_series", "read_series_header"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_series_header(source: Path | Sequence[Path], *, slice_axis: SliceAxis = "axial") -> FileHeader:
    """Return the number of slices and the patient of the volume that DICOM files make; no pixel is read.

    The source is the folder, or the files themselves. Faults of the files become the ``problem``, never an exception.
    """
    wanted = {"sagittal": 0, "coronal": 1, "axial": 2}[slice_axis]
    try:
        files, shape, orientation = _geometry(source)
        frames = shape[int(np.flatnonzero(orientation[:, 0] == wanted)[0])]
    except Exception as error:  # damaged, in any way
        return FileHeader(problem=fault_of(error)[0])
    return FileHeader(patient=read_dicom_header(files[0]).patient, frames=frames)


def group_series(listing: Listing) -> Listing:
    """Return the listing with one entry for every folder whose DICOM files are one series of several slices.

    Files of other folders (single images, several series, no positions) stay unchanged.
    """
    folders: dict[Path, list[Entry]] = defaultdict(list)
    for entry in listing.entries:
        folders[entry.path.parent].append(entry)
    kept: list[Entry] = []
    for folder, entries in folders.items():
        series = _series_entry(folder, entries)
        kept += entries if series is None else [series]
    return Listing(entries=kept, skipped=listing.skipped, class_names=listing.class_names)


def _series_entry(folder: Path, entries: list[Entry]) -> Entry | None:
    try:
        if len(entries) < 2 or any(sniff_format(entry.path) != "dicom" for entry in entries):
            return None
        files, shape, _ = _geometry(folder)
    except Exception as error:  # damaged in any way: its files are read one by one
        if ends_run(error):
            raise
        return None
    if len(files) != len(entries) or shape[2] < 2:
        return None
    key = entries[0].key.rpartition("/")[0] or folder.name
    return Entry(path=folder, key=key, domain=entries[0].domain, split=entries[0].split)


def _geometry(source: Path | Sequence[Path]) -> tuple[list[Path], tuple[int, int, int], np.ndarray]:
    """Return the files of a series, (columns, rows, slices), and the orientation of these axes (nibabel's form, RAS).

    Raises:
        MedicalImageError: if the files are not one series with positions.
    """
    import nibabel as nib

    limits = Limits()
    files = series_files(source, limits)[0] if isinstance(source, Path) else list(source)
    found = [part for file in files for part in slices_of(file, limits)]
    check_alike(found)
    normal = found[0].normal
    found.sort(key=lambda part: float(part.position @ normal))
    kept = [found[0]]
    for part in found[1:]:
        if np.linalg.norm(part.position - kept[-1].position) >= SAME_PLACE_MM:
            kept.append(part)
    affine, _ = series_affine(kept)
    rows, columns = kept[0].shape
    return files, (columns, rows, len(kept)), nib.orientations.io_orientation(_LPS_TO_RAS @ affine)
