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
from monai.networks.utils import eval_mode
from torch import nn
from tqdm import tqdm

from movl_monai.engines import prepare_image_batch
from movl_monai.experiments.robustness.figures import CLEAN, Cell
from movl_monai.experiments.robustness.images import corrupt_images, pixel_names, severities_of
from movl_monai.files import write_atomically
from movl_monai.metrics.classification_metrics import check_finite
from movl_monai.networks import AdaptedClassifier
from movl_monai.transforms.corruptions import CORRUPTIONS

__all__ = ["LogitStore", "Member", "Suite", "cells_of", "compute_logits", "plain_backbone"]

_FORMAT = 1
_LOGGER = logging.getLogger(__name__)


def plain_backbone(network: nn.Module) -> str | None:
    """Return the SHA-256 of the backbone if the head reads its plain features, else None.

    Plain features have no prompt, no adapter and no trained backbone parameter. Networks with equal hashes, such as
    linear probes of several seeds, can share them. A head that also reads tokens does not qualify.
    """
    if not isinstance(network, AdaptedClassifier) or network.adapted is not None or not network.backbone.frozen:
        return None
    return network.backbone.content_sha256() if isinstance(network.prompt, nn.Identity) else None


@torch.inference_mode()
def compute_logits(
    networks: Mapping[str, nn.Module],
    images: torch.Tensor,
    *,
    shared: Mapping[str, str | None] | None = None,
    device: str | torch.device = "cpu",
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    """Compute the logits of every network.

    Args:
        networks: networks by name, (B, 3, H, W) in [0, 1] to logits (B, C), on the device.
        images: uint8 or float32 in [0, 1], (N, 3, H, W).
        shared: results of :func:`plain_backbone` by name, as hashing takes time; None computes them.
        device: device of the networks.
        batch_size: images per forward pass.

    Returns:
        float64 (N, C) by name.

    Raises:
        NonFiniteLogitsError: if a logit is NaN or infinite.
    """
    keys = {name: plain_backbone(network) for name, network in networks.items()} if shared is None else shared
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in networks}
    for start in range(0, len(images), batch_size):
        image, _ = prepare_image_batch({"image": images[start : start + batch_size]}, device)
        features: dict[str, torch.Tensor] = {}
        for name, network in networks.items():
            with eval_mode(network):
                rows[name].append(_forward(network, image, keys.get(name), features).double().cpu())
    logits = {name: torch.cat(parts).numpy() for name, parts in rows.items()}
    for values in logits.values():
        check_finite(values)
    return logits


def _forward(
    network: nn.Module, image: torch.Tensor, key: str | None, features: dict[str, torch.Tensor]
) -> torch.Tensor:
    if key is None or not isinstance(network, AdaptedClassifier):
        return network(image)
    if key not in features:
        features[key] = network.backbone(image)
    return network.head(features[key])


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
