"""One command from a folder of images to an evaluated and exported model, within a time budget."""

from .run import Fit, fit

__all__ = ["Fit", "fit"]
