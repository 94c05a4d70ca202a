"""Old names of modules that moved to `movl_monai.readers`, kept for one release.

`movl_monai.transforms.dicom.tags` is the module `movl_monai.readers.dicom.tags`: the same object, not a copy.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OLD, NEW = "movl_monai.transforms", "movl_monai.readers"
MOVED = frozenset(
    [
        *("assemble", "dicom", "errors", "files", "frames", "intensity", "label_map", "mask_canvas", "mask_target"),
        *("masks", "nifti", "nifti_header", "pillow_file", "pixels", "placement", "raster", "series", "slices"),
        *("sniff", "tiff_planes", "volume", "volume_source"),
    ]
)


class OldNames(MetaPathFinder, Loader):
    """Import the moved module when its old name is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for the old name of a moved module, None for every other name."""
        if fullname.startswith(f"{OLD}.") and fullname.split(".")[2] in MOVED:
            return ModuleSpec(fullname, self)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to the import system to make a placeholder."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the moved module in the place of the placeholder."""
        sys.modules[module.__name__] = import_module(NEW + module.__name__.removeprefix(OLD))


def keep_old_names() -> None:
    """Let the old names be imported.

    Example:
        >>> from movl_monai.transforms.dicom import tags
        >>> tags.__name__
        'movl_monai.readers.dicom.tags'
    """
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        # in front: the finder of files would load a second copy of `dicom.tags` from the folder of the moved package
        sys.meta_path.insert(0, OldNames())
