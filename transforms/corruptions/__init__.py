"""Corruptions of one image at graded severities, to measure the robustness of a network.

Each is an array transform with a dictionary twin, from float32 (3, H, W) in [0, 1] to the same. The result is
determined by the seed and the image id. Corruptions work on images at the size of the network's input, after
``ResizeImaged``; lengths are fractions of the shorter side.
"""

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.corruptions.blur import (
    BlurDefocus,
    BlurDefocusd,
    BlurGaussian,
    BlurGaussiand,
    BlurMotion,
    BlurMotiond,
)
from movl_monai.transforms.corruptions.coding import CompressJPEG, CompressJPEGd, ResampleCoarsely, ResampleCoarselyd
from movl_monai.transforms.corruptions.content import (
    BurnInText,
    BurnInTextd,
    CollimateFieldOfView,
    CollimateFieldOfViewd,
)
from movl_monai.transforms.corruptions.grey_levels import (
    ChangeGamma,
    ChangeGammad,
    InvertPolarity,
    InvertPolarityd,
    LowerContrast,
    LowerContrastd,
)
from movl_monai.transforms.corruptions.noise import (
    AddGaussianNoise,
    AddGaussianNoised,
    AddQuantumNoise,
    AddQuantumNoised,
)

__all__ = [
    "CORRUPTIONS",
    "AddGaussianNoise",
    "AddGaussianNoised",
    "AddQuantumNoise",
    "AddQuantumNoised",
    "BlurDefocus",
    "BlurDefocusd",
    "BlurGaussian",
    "BlurGaussiand",
    "BlurMotion",
    "BlurMotiond",
    "BurnInText",
    "BurnInTextd",
    "ChangeGamma",
    "ChangeGammad",
    "CollimateFieldOfView",
    "CollimateFieldOfViewd",
    "CompressJPEG",
    "CompressJPEGd",
    "Corruption",
    "Corruptiond",
    "InvertPolarity",
    "InvertPolarityd",
    "LowerContrast",
    "LowerContrastd",
    "ResampleCoarsely",
    "ResampleCoarselyd",
]

CORRUPTIONS: dict[str, type[Corruption]] = {
    part.name: part
    for part in (
        AddGaussianNoise,
        AddQuantumNoise,
        BlurGaussian,
        BlurDefocus,
        BlurMotion,
        LowerContrast,
        ChangeGamma,
        CompressJPEG,
        ResampleCoarsely,
        InvertPolarity,
        BurnInText,
        CollimateFieldOfView,
    )
}
"""The array forms by name, in the order of tables: noise, blur, grey levels, coding, content."""
