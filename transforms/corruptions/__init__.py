"""Corruptions of one image at graded severities, to measure the robustness of a network.

Each is an array transform with a dictionary twin, from float32 (3, H, W) in [0, 1] to the same. The result is
determined by the seed and the image id. Corruptions work on images at the size of the network's input, after
``ResizeImaged``; lengths are fractions of the shorter side.
"""

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond
from movl_monai.transforms.corruptions.contrast import LowerContrast, LowerContrastd
from movl_monai.transforms.corruptions.defocus import BlurDefocus, BlurDefocusd
from movl_monai.transforms.corruptions.field_of_view import CollimateFieldOfView, CollimateFieldOfViewd
from movl_monai.transforms.corruptions.gamma import ChangeGamma, ChangeGammad
from movl_monai.transforms.corruptions.gaussian_blur import BlurGaussian, BlurGaussiand
from movl_monai.transforms.corruptions.gaussian_noise import AddGaussianNoise, AddGaussianNoised
from movl_monai.transforms.corruptions.inversion import InvertPolarity, InvertPolarityd
from movl_monai.transforms.corruptions.jpeg import CompressJPEG, CompressJPEGd
from movl_monai.transforms.corruptions.motion import BlurMotion, BlurMotiond
from movl_monai.transforms.corruptions.quantum_noise import AddQuantumNoise, AddQuantumNoised
from movl_monai.transforms.corruptions.resampling import ResampleCoarsely, ResampleCoarselyd
from movl_monai.transforms.corruptions.text import BurnInText, BurnInTextd

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
