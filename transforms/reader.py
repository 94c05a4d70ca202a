"""MONAI reader for pipelines that start with `LoadImage`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from movl_monai.transforms.load import LoadMedicalImage

__all__ = ["MedicalImageReader"]


class MedicalImageReader(ImageReader):
    """Give ``LoadImage`` and ``LoadImaged`` the pixels of :class:`LoadMedicalImage`.

    The image is channel-first (3, rows, columns), so ``EnsureChannelFirst`` leaves it unchanged; MONAI's own 2D readers
    give (columns, rows). The meta data are the technical record, as JSON, and an affine of the pixel spacing, without
    patient data. ``LoadImage`` itself still puts the full path into ``meta["filename_or_obj"]`` and returns a
    ``MetaTensor``. :class:`LoadMedicalImaged` does neither.

    Files are read in ``get_data``, not in ``read``: after an error in ``read`` MONAI would try its other readers, which
    might accept a refused file.

    Args:
        frame: frame, slice or page of every file; None for files with one.
        options: of :class:`LoadMedicalImage`.

    Raises:
        ValueError: for unknown options.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2)).save(file, "PNG")
        >>> image, meta = MedicalImageReader().get_data([file])
        >>> image.shape, meta["original_channel_dim"]
        ((3, 2, 4), 0)
    """

    def __init__(self, *, frame: int | None = None, **options: Any) -> None:
        super().__init__()
        self.frame = frame
        self.load = LoadMedicalImage(**options)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True: the bytes decide, in :meth:`get_data`."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[PathLike, ...]:
        """Return the paths; nothing is opened yet.

        Raises:
            TypeError: for any keyword argument.
        """
        if kwargs:
            raise TypeError(
                f"MedicalImageReader.read takes no options, got {', '.join(kwargs)}; give them to __init__."
            )
        return ensure_tuple(data)

    def get_data(self, img: Sequence[PathLike] | PathLike) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the files; several are concatenated along the channels, as in MONAI's readers.

        Args:
            img: the result of :meth:`read`.

        Returns:
            float32 (3, rows, columns) in [0, 1], or (3 n, rows, columns) for n files; and the meta data of the first.

        Raises:
            MedicalImageError: if a file cannot become an image.
            ValueError: if several files differ in size.
        """
        loaded = [self.load.read(path, self.frame) for path in ensure_tuple(img)]
        shapes = sorted({tuple(image.shape) for image, _ in loaded})
        if len(shapes) > 1:
            raise ValueError(f"Files that are loaded together must have one size, got {shapes}; resize them first.")
        return np.concatenate([image.numpy() for image, _ in loaded]), _meta(loaded[0][1])


def _meta(record: Mapping[str, Any]) -> dict[str, Any]:
    rows_mm, columns_mm = record.get("pixel_spacing") or (1.0, 1.0)
    affine = np.diag([rows_mm, columns_mm, 1.0, 1.0])
    return {
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        MetaKeys.SPATIAL_SHAPE: np.array([record["rows"], record["columns"]]),
        MetaKeys.AFFINE: affine,
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        # axes of the picture: rows and columns in mm, without a place in the patient
        MetaKeys.SPACE: SpaceKeys.RAS,
        # as text, because MONAI collates meta data, and lists of flags have no common length
        "record": json.dumps(record),
    }
