"""Adapt frozen natural-image backbones to medical images with very few trained parameters.

The parts receive each other (`AdaptedClassifier(prompt=..., backbone=..., head=...)`); MONAI bundle configs wire them
by their dotted path. Importing this package imports none of its parts.
"""

from movl_monai._moved import keep_old_names

__version__ = "0.1.0"

keep_old_names()
