"""Read the headers of the listed files: one entry per frame, patients of DICOM files, and files that are not images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from movl_monai.data.dicom_headers import read_dicom_header
from movl_monai.data.entries import Entry, FileHeader, Listing, SkippedFile, SliceAxis
from movl_monai.data.faults import ends_run
from movl_monai.data.series_folders import read_series_header
from movl_monai.readers import raster_frame_count, slice_count, sniff_format

__all__ = ["SliceAxis", "expand", "read_header"]


def expand(listing: Listing, *, slice_axis: SliceAxis = "axial", patients: bool = True) -> Listing:
    """Return the listing with one entry per frame of multi-frame files, and without files that are not images.

    Frames are frames of DICOM files, slices of NIfTI volumes and of folders with one DICOM series, and pages of TIFF,
    GIF and WebP files. An entry with a frame stays the only entry of its file. Entries without a patient get the
    patient of their DICOM file (IssuerOfPatientID, PatientID). If that is the same in all files of the domain, as after
    some de-identifications, the patients stay unknown.

    Args:
        listing: entries with their domain filled in.
        slice_axis: plane of NIfTI slices, as in the transform that loads them.
        patients: False leaves patients unknown that the list does not name.
    """
    result = Listing(skipped=list(listing.skipped), class_names=listing.class_names)
    headers: dict[str, FileHeader] = {}
    for entry in listing.entries:
        if entry.key not in headers:
            headers[entry.key] = read_header(entry.path, slice_axis=slice_axis)
        header = headers[entry.key]
        if header.problem:
            result.skipped.append(SkippedFile(entry.path, entry.key, header.problem, entry.domain, entry.split))
        elif header.frames == 1 or entry.frame is not None:
            result.entries.append(entry)
        else:
            result.entries += [replace(entry, frame=frame, id=None) for frame in range(header.frames)]
    if patients:
        _assign_patients(result.entries, headers)
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


def _assign_patients(entries: Sequence[Entry], headers: dict[str, FileHeader]) -> None:
    for domain in {entry.domain for entry in entries}:
        unknown = [entry for entry in entries if entry.domain == domain and entry.patient is None]
        found = {entry.key: headers[entry.key].patient for entry in unknown}
        if len(found) == 1 or len(set(found.values())) > 1:
            for entry in unknown:
                entry.patient = found[entry.key]
