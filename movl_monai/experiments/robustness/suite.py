"""Corrupt each image once for all networks, run the networks, and store their logits."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from movl_monai.experiments.robustness.figures import CLEAN, Cell
from movl_monai.experiments.robustness.images import corrupt_images, pixel_names, severities_of
from movl_monai.experiments.robustness.logits import compute_logits, plain_backbone
from movl_monai.files import write_atomically
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = ["LogitStore", "Member", "Suite", "cells_of"]

_FORMAT = 1
_LOGGER = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of a suite.

    Args:
        name: name in tables.
        digest: hash of checkpoint and settings, under which the logits are stored.
        network: maps images (B, 3, H, W) in [0, 1] to logits, on the suite's device.
        images: uint8 (N, 3, H, W), preprocessed for this network; members may share them.
        facts: facts for the report.
    """

    name: str
    digest: str
    network: torch.nn.Module
    images: torch.Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)


def cells_of(corruptions: Sequence[str], severities: Sequence[int]) -> list[Cell]:
    """Return all pairs of corruption and severity, with the clean images first.

    Example:
        >>> cells_of(["contrast", "inversion"], [1, 3])
        [('clean', 0), ('contrast', 1), ('contrast', 3), ('inversion', 1)]
    """
    return [CLEAN, *((name, severity) for name in corruptions for severity in severities_of(name, severities))]


class Suite:
    """Run all members over all corruptions and severities.

    Logits are written after each corruption and severity. An interrupted suite resumes there, and members, images or
    corruptions that are added later cost only their own computation.

    Args:
        members: the networks.
        folder: folder of the logits.
        seed: seed of the corruptions.
        device: device of the networks.
        batch_size: images per forward pass.
        progress: show a progress bar on stderr; None shows it on terminals only.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        folder: Path,
        seed: int = 0,
        device: str | torch.device = "cpu",
        batch_size: int = 32,
        progress: bool | None = None,
    ) -> None:
        self.members = list(members)
        self.folder = folder
        self.seed = seed
        self.device = device
        self.batch_size = batch_size
        self.progress = progress

    def run(self, cells: Sequence[Cell]) -> dict[str, dict[Cell, np.ndarray]]:
        """Return the logits (N, C) by member and cell, read from the store or computed."""
        result: dict[str, dict[Cell, np.ndarray]] = {member.name: {} for member in self.members}
        shared = {member.name: plain_backbone(member.network) for member in self.members}
        # disable=None makes tqdm show the bar on terminals only
        disable = None if self.progress is None else not self.progress
        groups = [(group, pixel_names(group[0].images)) for group in self._groups()]
        for cell in tqdm(cells, desc="robustness", unit="severity", disable=disable):
            for group, names in groups:
                for name, logits in self._cell(group, names, cell, shared).items():
                    result[name][cell] = logits
        return result

    def _cell(
        self, group: Sequence[Member], names: Sequence[str], cell: Cell, shared: Mapping[str, str | None]
    ) -> dict[str, np.ndarray]:
        store = LogitStore(self.folder, images=names, seed=self.seed)
        known = store.read(cell)
        missing = {member.name: member.network for member in group if member.digest not in known}
        if missing:
            images = group[0].images
            if cell != CLEAN:
                images = corrupt_images(images, names, corruption=cell[0], severity=cell[1], seed=self.seed)
            options: dict[str, Any] = {"device": self.device, "batch_size": self.batch_size, "shared": shared}
            found = compute_logits(missing, images, **options)
            known |= {member.digest: found[member.name] for member in group if member.name in found}
            store.write(cell, known)
        return {member.name: known[member.digest] for member in group}

    def _groups(self) -> Iterator[list[Member]]:
        """Yield the members in groups that share their images."""
        waiting = list(self.members)
        while waiting:
            group = [member for member in waiting if member.images is waiting[0].images]
            waiting = [member for member in waiting if member.images is not waiting[0].images]
            yield group
