"""Read the headers of the listed files: one entry per frame, patients of DICOM files, and files that are not images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from movl_monai.data.decode import ends_run, fault_of
from movl_monai.data.entries import Entry, FileHeader, Listing, SkippedFile, SliceAxis
from movl_monai.data.units import slice_position
from movl_monai.readers import raster_frame_count, slice_count, sniff_format
from movl_monai.readers.dicom import Limits, scan_header
from movl_monai.readers.series import SAME_PLACE_MM, check_alike, series_affine, slices_of
from movl_monai.readers.volume import series_files

__all__ = ["SliceAxis", "expand", "group_series", "read_dicom_header", "read_header", "read_series_header"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_dicom_header(path: Path) -> FileHeader:
    """Return the header of a file that begins like DICOM; faults become its ``problem``, never an exception.

    Reference:
        DICOM PS3.10, section 7.1 (preamble and prefix); PS3.3 C.7.1.1 (PatientID, IssuerOfPatientID).
    """
    try:
        scan = scan_header(path)
    except Exception as error:  # damaged, in any way
        return FileHeader(problem=fault_of(error)[0])
    if scan.problem:
        return FileHeader(problem=scan.problem)
    return FileHeader(
        patient=scan.patient,
        frames=len(scan.frames),
        study=scan.study or None,
        series=scan.series or None,
        position=slice_position(scan.frames),
    )


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
    return replace(read_dicom_header(files[0]), frames=frames, position=None)


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


def expand(listing: Listing, *, slice_axis: SliceAxis = "axial", patients: bool = True, alone: bool = False) -> Listing:
    """Return the listing with one entry per frame of multi-frame files, and without files that are not images.

    Frames are frames of DICOM files, slices of NIfTI volumes and of folders with one DICOM series, and pages of TIFF,
    GIF and WebP files. An entry with a frame stays the only entry of its file. Entries without a patient get the
    patient of their DICOM file (IssuerOfPatientID, PatientID). If that is the same in all files of the domain, as after
    some de-identifications, the patients stay unknown.

    Args:
        listing: entries with their domain filled in.
        slice_axis: plane of NIfTI slices, as in the transform that loads them.
        patients: False leaves patients unknown that the list does not name.
        alone: whether all files may be of one patient, so that the same one in all files is no reason to doubt it.
    """
    result = Listing(skipped=list(listing.skipped), class_names=listing.class_names)
    headers: dict[str, FileHeader] = {}
    for entry in listing.entries:
        if entry.key not in headers:
            headers[entry.key] = read_header(entry.path, slice_axis=slice_axis)
        header = headers[entry.key]
        entry.study, entry.series = entry.study or header.study, entry.series or header.series
        entry.position = header.position
        if header.problem:
            result.skipped.append(SkippedFile(entry.path, entry.key, header.problem, entry.domain, entry.split))
        elif header.frames == 1 or entry.frame is not None:
            result.entries.append(entry)
        else:
            result.entries += [replace(entry, frame=frame, id=None) for frame in range(header.frames)]
    if patients:
        _assign_patients(result.entries, headers, alone=alone)
    return result


def read_header(path: Path, *, slice_axis: SliceAxis = "axial") -> FileHeader:
    """Return the header fields of a file, by its bytes and not its name.

    Faults of the content are not raised: a file of unknown format has the problem ``unsupported_format``, and damaged
    NIfTI and raster headers are left to the transform, which describes them better.
    """
    if path.is_dir():
        return read_series_header(path, slice_axis=slice_axis)
    try:
        image_format = sniff_format(path)
        if image_format == "dicom":
            return read_dicom_header(path)
        if image_format == "unknown":
            return FileHeader(problem="unsupported_format")
        if image_format == "nifti":
            return FileHeader(frames=slice_count(path, axis=slice_axis))
        if image_format in ("tiff", "gif", "webp"):
            return FileHeader(frames=raster_frame_count(path))
    except Exception as error:  # the transform describes it better
        if ends_run(error):
            raise
    return FileHeader()


def _assign_patients(entries: Sequence[Entry], headers: dict[str, FileHeader], *, alone: bool) -> None:
    for domain in {entry.domain for entry in entries}:
        unknown = [entry for entry in entries if entry.domain == domain and entry.patient is None]
        found = {entry.key: headers[entry.key].patient for entry in unknown}
        if alone or len(found) == 1 or len(set(found.values())) > 1:
            for entry in unknown:
                entry.patient = found[entry.key]
