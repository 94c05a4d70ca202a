"""Preprocessing from a file to the model's input, as in the bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from movl_monai.data.decode import ItemTransform

__all__ = ["Preprocessing"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Settings of the preprocessing, with the names and defaults of the bundles' configs.

    Args:
        image_size: side in pixels.
        resize_mode: see :class:`movl_monai.transforms.ResizeImage`.
        ct_windows: one or three windows for CT, names of ``HU_PRESETS``.
        voi: window or VOI LUT of other DICOM files; "full" for none.
        dicom_range: source range of [0, 1] in DICOM files without a window.
        value_range: the values that become 0 and 1 in grey levels of 16 bits or more, in float and in signed files.
        nifti_range: source range of [0, 1] in NIfTI volumes.
        slice_axis: plane of NIfTI slices.
        exif: "apply" turns photos as EXIF says, "ignore" leaves them as stored; None turns photos, and their masks if
            the sizes show on which pixels they were drawn.
    """

    image_size: int = 224
    resize_mode: Literal["stretch", "crop", "pad"] = "stretch"
    ct_windows: Sequence[str] = ("lungs", "mediastinum", "spine_bone")
    voi: int | str = 0
    dicom_range: Literal["full", "percentile"] = "full"
    value_range: tuple[float, float] | None = None
    nifti_range: Literal["percentile", "minmax", "ct"] = "percentile"
    slice_axis: Literal["axial", "coronal", "sagittal"] = "axial"
    exif: Literal["apply", "ignore"] | None = None

    def build(self) -> ItemTransform:
        """Return the chain: load, resize, quantise.

        Raises:
            ValueError: for an unknown setting.
        """
        from monai.transforms import Compose

        from movl_monai.transforms import LoadMedicalImaged, QuantizeImaged, ResizeImaged

        load = LoadMedicalImaged(
            "image",
            ct_windows=self.ct_windows,
            voi=self.voi,
            dicom_range=self.dicom_range,
            value_range=self.value_range,
            nifti_range=self.nifti_range,
            slice_axis=self.slice_axis,
            exif=self.exif or "apply",
            record_key="record",
        )
        resize = ResizeImaged("image", image_size=self.image_size, mode=self.resize_mode)
        return Compose([load, resize, QuantizeImaged("image")])

    def describe(self) -> dict[str, Any]:
        """Return the settings as a dictionary for JSON."""
        value_range = None if self.value_range is None else list(self.value_range)
        return asdict(self) | {"ct_windows": list(self.ct_windows), "value_range": value_range}
