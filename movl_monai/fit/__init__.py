"""One command from a folder of images to an evaluated and exported model, within a time budget.

The task of a data set is decided without torch and MONAI: the names that need them are imported when they are first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from movl_monai.lazy import lazy_names

if TYPE_CHECKING:
    from .run import Fit, fit

__all__ = ["Fit", "fit"]

__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "run"))
