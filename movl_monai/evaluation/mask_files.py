"""Write predicted masks: PNG for images, NIfTI aligned with the source for volumes."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from movl_monai.errors import ConfigError, DataError
from movl_monai.files import write_atomically
from movl_monai.readers import read_volume, slices_to_volume
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.series import IRREGULAR
from movl_monai.readers.slices import SliceAxis

__all__ = [
    "IrregularSpacingError",
    "MaskFiles",
    "case_amounts",
    "flags_of",
    "has_distances",
    "mask_amounts",
    "voxel_spacing",
    "voxel_volumes",
]


class IrregularSpacingError(DataError):
    """A NIfTI mask was requested for a series with irregular slice positions."""


# background, then the colours of Okabe and Ito
_PALETTE = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
# header fields that place the voxels of a NIfTI file
_PLACE = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "xyzt_units"),
)


class MaskFiles:
    """Masks of a run, one file per case.

    The mask of a volume has the shape of its source. For a NIfTI source it has the same placement, copied from the
    header, so that every viewer overlays the two. For a DICOM series it is in patient coordinates.

    Args:
        folder: folder of the masks.
        mask_dtype: "uint8", or "source" for the data type of a NIfTI source, if it can hold the classes.

    Raises:
        ConfigError: for another data type.
    """

    def __init__(self, folder: str | os.PathLike[str], *, mask_dtype: str = "uint8") -> None:
        if mask_dtype not in ("uint8", "source"):
            raise ConfigError(f"mask_dtype must be 'uint8' or 'source', got {mask_dtype!r}.")
        self.folder = Path(folder)
        self.mask_dtype = mask_dtype

    def write_image(self, case: str, classes: np.ndarray) -> Path:
        """Write the classes (rows, columns) of an image as a PNG whose values are the classes."""
        rows, columns = classes.shape
        image = Image.frombytes("P", (columns, rows), np.ascontiguousarray(classes).tobytes())
        colors = (_PALETTE[min(number, 1) + (number - 1) % 7 if number else 0] for number in range(256))
        image.putpalette([int(color[k : k + 2], 16) for color in colors for k in (1, 3, 5)])
        stream = io.BytesIO()
        image.save(stream, format="PNG")
        path = self.folder / f"{case}.png"
        write_atomically(path, stream.getvalue())
        return path

    @quiet()
    def write_volume(
        self,
        case: str,
        slices: Mapping[int, np.ndarray],
        *,
        source: str | os.PathLike[str] | Sequence[str],
        axis: SliceAxis,
    ) -> Path:
        """Write the classes of slices as the NIfTI mask of their volume; missing slices are background.

        Args:
            case: salted id, the name of the file.
            slices: classes (rows, columns) by slice index.
            source: a file, the folder of a series, or the files of one.
            axis: plane of the slices.

        Raises:
            IrregularSpacingError: for a series that no affine describes.
        """
        volume = read_volume(source)
        if IRREGULAR & {*volume.flags}:
            raise IrregularSpacingError(
                "A NIfTI mask has one affine, which places the slices of a regular series only; this one has "
                f"{', '.join(flag for flag in volume.flags if flag in IRREGULAR)}. Take the segmentation of "
                "`movl-monai predict RUN INPUT --output_dir DIR --outputs seg` instead, whose frames lie on the files, "
                "or resample the series."
            )
        mask = slices_to_volume(slices, volume, axis=axis)
        is_nifti = isinstance(source, (str, os.PathLike)) and str(source).lower().endswith((".nii", ".nii.gz"))
        if is_nifti and not Path(str(source)).is_dir():
            mask = _in_place_of(mask, nib.load(str(source), mmap=False), keep_dtype=self.mask_dtype == "source")
        path = self.folder / f"{case}.nii.gz"
        write_atomically(path, _gzipped(mask))
        return path


def case_amounts(
    classes: np.ndarray, records: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> dict[str, float]:
    """Return pixels per class, and area or volume if the spacing is known; frames of a film have neither.

    Args:
        classes: (rows, columns) of an image, or (rows, columns, slices).
        records: technical facts of each image.
        class_names: names, the background first.
    """
    spacing = voxel_spacing(records[0], 2) if classes.ndim == 2 else None
    volumes = voxel_volumes(records) if "slice_axis" in records[0] else None
    return mask_amounts(classes, class_names, spacing=spacing, voxel_mm3=volumes)


def mask_amounts(
    classes: np.ndarray,
    class_names: Sequence[str],
    *,
    spacing: Sequence[float] | None = None,
    voxel_mm3: Sequence[np.ndarray] | None = None,
) -> dict[str, float]:
    """Return the amount of each class except the background.

    Args:
        classes: (rows, columns), or (rows, columns, slices).
        class_names: names, the background first.
        spacing: pixel spacing of an image in mm along the axes; None if unknown.
        voxel_mm3: voxel volumes of a volume, see :func:`voxel_volumes`.

    Returns:
        ``pixels_<name>``, and if the sizes are known ``mm2_<name>`` of an image or ``ml_<name>`` of a volume.

    Example:
        >>> mask_amounts(np.array([[0, 1], [1, 1]]), ["background", "polyp"], spacing=(0.5, 0.5))
        {'pixels_polyp': 3, 'mm2_polyp': 0.75}
    """
    amounts: dict[str, float] = {}
    for number, name in enumerate(class_names[1:], start=1):
        pixels = int(np.count_nonzero(classes == number))
        amounts[f"pixels_{name}"] = pixels
        if spacing is not None and classes.ndim == 2:
            amounts[f"mm2_{name}"] = round(pixels * float(np.prod(spacing)), 4)
        if voxel_mm3 is not None and classes.ndim == 3:
            planes = zip(np.moveaxis(classes == number, -1, 0), voxel_mm3, strict=True)
            amounts[f"ml_{name}"] = round(sum(float((plane * size).sum()) for plane, size in planes) / 1000, 6)
    return amounts


def voxel_volumes(records: Sequence[Mapping[str, Any]]) -> list[np.ndarray] | None:
    """Return the voxel volumes of slices in mm3, each an array that broadcasts to the slice's pixels.

    In a regular volume each voxel has |det(affine)|; in an irregular series each slice has its own thickness.

    Args:
        records: technical facts of the slices, from :func:`movl_monai.readers.slice_image`.

    Returns:
        None if a volume is unknown, such as for a single slice without a thickness.
    """
    found = [np.asarray(record.get("voxel_mm3", np.nan), dtype=np.float64) for record in records]
    return found if found and all(np.isfinite(one).all() and (one > 0).all() for one in found) else None


def flags_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the distinct flags of images."""
    return list(dict.fromkeys(flag for record in records for flag in record.get("flags") or ()))


def has_distances(record: Mapping[str, Any]) -> bool:
    """Return False for a slice of a volume without a regular, orthogonal voxel grid."""
    irregular = (IRREGULAR | {"sheared"}) - {"unknown_thickness"}
    return "slice_axis" not in record or not irregular & {*(record.get("flags") or ())}


def voxel_spacing(facts: Mapping[str, Any], ndim: int) -> tuple[float, ...] | None:
    """Return the distances in mm between rows, columns and, in a regular volume, slices; None if not recorded."""
    within = facts.get("pixel_spacing")
    if not within or any(not value or value <= 0 for value in within):
        return None
    if ndim == 2:
        return float(within[0]), float(within[1])
    return float(within[0]), float(within[1]), float(facts["slice_spacing"])


def _in_place_of(mask: nib.Nifti1Image, source: Any, *, keep_dtype: bool) -> Any:
    """Return the mask with the placement of its source's header, and optionally its data type."""
    stored = np.asarray(mask.dataobj)
    dtype = source.get_data_dtype() if keep_dtype else stored.dtype
    values = stored.astype(dtype)
    if not np.array_equal(values, stored):
        values = stored
    result = type(source)(values, source.affine)
    result.set_data_dtype(values.dtype)
    for field in _PLACE:
        result.header[field] = source.header[field]
    # pixdim[0] is the handedness (qfac) of the quaternion form
    result.header["pixdim"][:4] = source.header["pixdim"][:4]
    return result


def _gzipped(image: Any) -> bytes:
    import gzip

    # without time and name, equal masks give equal files
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
