"""Store of logits on disk, keyed by a hash of everything they depend on, so that an interrupted suite resumes."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from movl_monai.experiments.robustness.figures import Cell
from movl_monai.files import write_atomically
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = ["LogitStore"]

_LOGGER = logging.getLogger(__name__)
_FORMAT = 1


class LogitStore:
    """Keep the logits of each corruption and severity in one file, with one array per network.

    The file name holds the SHA-256 of the images, the corruption's parameter and the seed. The array name is the digest
    of the network. Logits of other images, parameters or checkpoints are therefore never reused, and only a network
    that is added later has to run.

    Args:
        folder: folder of the files, created by the first :meth:`write`.
        images: names of the images by their pixels, in order.
        seed: seed of the corruptions.
    """

    def __init__(self, folder: Path, *, images: Sequence[str], seed: int) -> None:
        self.folder = folder
        self.images = list(images)
        self.seed = seed

    def path(self, cell: Cell) -> Path:
        """Return the file of a corruption and severity."""
        name, severity = cell
        parameter = CORRUPTIONS[name].parameters[severity - 1] if name in CORRUPTIONS else None
        facts = json.dumps([_FORMAT, name, parameter, self.seed, self.images])
        return self.folder / f"{name}-{severity}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}.npz"

    def read(self, cell: Cell) -> dict[str, np.ndarray]:
        """Return the stored logits (N, C) by network digest; a damaged file counts as missing."""
        path = self.path(cell)
        try:
            # read from bytes: given a path, NumPy leaves the file of a damaged archive open
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
                found = {name: content[name] for name in content.files}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError):
            _LOGGER.warning("The stored logits %s are damaged or half-written; they are computed again.", path.name)
            return {}
        return {name: value for name, value in found.items() if value.ndim == 2 and len(value) == len(self.images)}

    def write(self, cell: Cell, logits: Mapping[str, np.ndarray]) -> None:
        """Write all logits of a corruption and severity atomically.

        Raises:
            MovlError: if the folder cannot be written.
        """
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **logits)
        write_atomically(self.path(cell), stream.getvalue())
