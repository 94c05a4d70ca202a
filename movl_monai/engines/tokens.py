"""Tokens of a frozen prefix, computed once into a memory-mapped file, and prototypes of them for appended tokens."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from movl_monai.errors import ConfigError, MovlError
from movl_monai.networks import unwrap

from .features import prepare_image_batch

__all__ = ["FromTokens", "PromptStart", "TokenSet", "check_prefix", "start_prompts"]

_LOGGER = logging.getLogger(__name__)
_FORMAT = "1"
_MEGABYTE = 1e6
PromptStart = Literal["random", "kmeans", "farthest"]
_IMAGES = 64
_TOKENS = 4096
_BATCH = 16


class FromTokens(nn.Module):
    """Network that starts at the tokens of a block instead of the image.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier`; :func:`~movl_monai.engines.unwrap` returns it.
        start: number of the block that reads the tokens.
    """

    def __init__(self, network: Any, start: int) -> None:
        super().__init__()
        self.module = network
        self.start = start

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes) from the input tokens of block ``start``."""
        return self.module.resume(tokens, self.start)


class TokenSet:
    """Tokens of a data set before a block, if nothing before that block trains.

    They are stored as float16 in a memory-mapped file and need not fit into memory: 2 bytes x tokens x width per image,
    0.2 MB for a ViT-S/14 at 224. The size is logged before the file is written. As in
    :class:`~movl_monai.engines.FeatureSet`, the file's name is the SHA-256 of the decoded images, the backbone's
    content, the block's number and the format version. A second file holds its checksum: a damaged file is detected,
    logged and rebuilt.

    Args:
        dataset: with ``images`` (N, 3, H, W) uint8.
        network: an :class:`~movl_monai.networks.AdaptedClassifier` without a prompt, with an adapter or a head that
            reads tokens.
        start: number of the block whose input tokens are stored; None uses the first adapted block, or without an
            adapter the output of the last block, at which such a head starts.
        batch_size: images per forward pass.
        device: of the network.
        cache_dir: folder for the file; None keeps the tokens in memory.
        progress: show a progress bar.

    Raises:
        ConfigError: if something before that block trains: a prompt, or an adapter in one of the blocks.
        MovlError: at first use, if the file does not fit on the disk or cannot be written, or if tokens are too large
            for float16.
    """

    def __init__(
        self,
        dataset: Any,
        network: Any,
        *,
        start: int | None = None,
        batch_size: int = 32,
        device: str | torch.device = "cpu",
        cache_dir: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> None:
        self.dataset = dataset
        self.network = network
        self.start = check_prefix(network, start)
        self.batch_size = batch_size
        self.device = device
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.progress = progress
        self._values: np.ndarray | None = None

    @property
    def values(self) -> np.ndarray:
        """Tokens (N, ...), float16; row i belongs to ``dataset.images[i]``."""
        if self._values is None:
            self._values = self._load_or_compute()
        return self._values

    @property
    def what(self) -> str:
        """Description of the cached values, for messages."""
        if self.start == self.network.adapted.depth:
            return "Tokens behind the last block"
        return f"Tokens in front of block {self.start}"

    def fits(self) -> bool:
        """Return True if the values can be cached; otherwise the trainer does not use them."""
        return True

    def behind(self, network: Any) -> nn.Module:
        """Return a network that starts at the tokens instead of the image."""
        return FromTokens(network, self.start)

    def rows(self, index: torch.Tensor, device: str | torch.device = "cpu") -> torch.Tensor:
        """Return the tokens of images as float32 on a device.

        Args:
            index: (B,), rows of the data set.
            device: destination.
        """
        # fancy indexing reads only these rows from the file
        rows = torch.from_numpy(self.values[torch.as_tensor(index).cpu().numpy()])
        return rows.to(device).float()

    def key(self) -> str:
        """Return the SHA-256 that names the tokens: of the images, the backbone, the block and the format version."""
        images = self.dataset.images
        facts = f"{_FORMAT}|{tuple(images.shape)}|{images.dtype}|{self.network.backbone.content_sha256()}|{self.start}"
        digest = hashlib.sha256(facts.encode())
        digest.update(memoryview(images.contiguous().numpy()).cast("B"))
        return digest.hexdigest()

    def _load_or_compute(self) -> np.ndarray:
        first = self._tokens(0, 1)
        shape = (len(self.dataset.images), *first.shape[1:])
        if self.cache_dir is None:
            values = np.empty(shape, dtype=np.float16)
            self._fill(values)
            return values
        path = self.cache_dir / f"tokens-{self.key()[:32]}.npy"
        if (found := _load(path, shape)) is not None:
            return found
        self._write(path, shape)
        return np.load(path, mmap_mode="r")

    def _write(self, path: Path, shape: tuple[int, ...]) -> None:
        size = 2 * int(np.prod(shape))
        _LOGGER.info(
            "%s: %.1f MB (%d images, float16) will be written to the cache.",
            self.what,
            size / _MEGABYTE,
            shape[0],
        )
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _check_space(path.parent, size)
            try:
                values = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
                self._fill(values)
                values.flush()
                _checksum_file(path).write_text(_checksum(temporary), encoding="ascii")
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise MovlError(
                f"The tokens cannot be written to {path.parent}: {error.strerror or error}. Expected a folder that can "
                "be written, with space left; choose another cache_dir, or leave the token cache out."
            ) from error

    def _fill(self, values: np.ndarray) -> None:
        starts = range(0, len(values), self.batch_size)
        for start in tqdm(starts, desc="tokens", unit="batch", disable=not self.progress):
            tokens = self._tokens(start, start + self.batch_size)
            if not bool(torch.isfinite(tokens).all()):
                raise MovlError(
                    f"{self.what} are larger than float16 can hold (65504) or not finite; leave this cache out."
                )
            values[start : start + len(tokens)] = tokens.numpy()

    @torch.inference_mode()
    def _tokens(self, start: int, stop: int) -> torch.Tensor:
        network = self.network.to(self.device)
        image, _ = prepare_image_batch({"image": self.dataset.images[start:stop]}, self.device)
        return network.adapted.prefix(network.backbone.normalize(image), self.start).half().cpu()


def check_prefix(network: Any, start: int | None) -> int:
    """Return the number of the block whose input tokens can be cached.

    Raises:
        ConfigError: if there is neither an adapter nor a head that reads tokens, or something before the block trains.
    """
    adapter = getattr(network, "adapter", None)
    if adapter is None and not getattr(network, "reads_tokens", None):
        raise ConfigError(
            "Tokens can be cached in front of an adapter or of a head that reads tokens, this network has none; use "
            "cached features."
        )
    if not isinstance(network.prompt, nn.Identity):
        raise ConfigError(
            f"A prompt on the image ({type(network.prompt).__name__}) changes every token, so that none can be cached; "
            "set the prompt to null, or leave the token cache out."
        )
    if adapter is None:
        return _check_behind(network.adapted.depth, start)
    first = adapter.first_block
    start = first if start is None else int(start)
    if not 1 <= start <= first:
        raise ConfigError(
            f"Tokens are to be cached in front of block {start}, and the adapter sits in block {first}: a cached block "
            f"is frozen out of training. Expected a number from 1 to the first adapted block; give the adapter blocks "
            f"further back (blocks={list(range(max(1, start), adapter.layout.depth))}), or leave the token cache out."
        )
    return start


def _check_behind(depth: int, start: int | None) -> int:
    if start not in (None, depth):
        raise ConfigError(
            f"Tokens are to be cached in front of block {start}, and the head alone trains: give {depth}, which is "
            "behind the last block, or null."
        )
    return depth


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    if not path.is_file():
        return None
    try:
        values: np.ndarray = np.load(path, mmap_mode="r")
        known = _checksum_file(path).read_text(encoding="ascii")
        sound = values.shape == shape and values.dtype == np.float16 and known == _checksum(path)
    except (OSError, ValueError):
        sound = False
    if not sound:
        _LOGGER.warning("The cached tokens %s are damaged or half-written; they are computed again.", path.name)
        return None
    _LOGGER.info("Tokens of %d images read from the cache %s.", len(values), path.name)
    return values


def _checksum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise MovlError(
            f"The tokens need {size / _MEGABYTE:.1f} MB and {free / _MEGABYTE:.1f} MB are free in {folder}; choose "
            "another cache_dir, adapt blocks with less before them, or leave the token cache out."
        )


@torch.inference_mode()
def start_prompts(
    network: nn.Module,
    dataset: Any,
    *,
    start: PromptStart = "random",
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> None:
    """Initialise the tokens that an adapter appends before its first block.

    Up to 4096 tokens of up to 64 training images at the input of that block, without class token and registers, are
    grouped around m centres.

    Args:
        network: an :class:`~movl_monai.networks.AdaptedClassifier` whose adapter appends tokens (DVPT, VPT); changed in
            place.
        dataset: training images, with ``images`` (N, 3, H, W) uint8.
        start: "random" leaves them unchanged; "kmeans" uses the centres of k-means; "farthest" starts with the token
            nearest to the mean and repeatedly adds the token farthest from the chosen ones.
        seed: of the choice of images and tokens, and of k-means.
        device: of the network.

    Raises:
        ConfigError: for another value of ``start``, or prototypes for a network that appends no tokens.

    Reference:
        Wang et al., Revisiting the Power of Prompt for Visual Tuning (SPT), ICML 2024, arXiv 2402.02382: prompts
        initialised at prototypes of patch embeddings. Our reading: only tokens before the first adapted block.
    """
    if start not in get_args(PromptStart):
        raise ConfigError(f"prompt_start must be one of {', '.join(get_args(PromptStart))}, got {start!r}.")
    if start == "random":
        return
    inner: Any = unwrap(network)
    adapter = getattr(inner, "adapter", None)
    prompts = None if adapter is None else adapter.first_prompts()
    if prompts is None:
        raise ConfigError(
            f"prompt_start={start!r} sets tokens that an adapter appends, and this network appends none; set "
            "prompt_start to 'random', or take DVPT or VPT in a plain ViT."
        )
    tokens = _image_tokens(inner.to(device), dataset.images, seed=seed, device=device)
    if len(tokens) < len(prompts):
        raise ConfigError(f"{len(prompts)} prompts need as many image tokens to start at, got {len(tokens)}.")
    centres = _kmeans(tokens, len(prompts), seed) if start == "kmeans" else _farthest(tokens, len(prompts))
    prompts.data.copy_(torch.from_numpy(centres))
    _LOGGER.info("%d appended tokens start at prototypes (%s) of %d image tokens.", len(prompts), start, len(tokens))


def _image_tokens(network: Any, images: torch.Tensor, *, seed: int, device: str | torch.device) -> np.ndarray:
    """Return tokens (T, d), float32, of images before the first adapted block."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:_IMAGES]
    path, first, rows = network.adapted.path, network.adapter.first_block, []
    for part in chosen.split(_BATCH):
        image, _ = prepare_image_batch({"image": images[part]}, device)
        tokens = path.embed(network.backbone.normalize(network.prompt(image)))
        for number in range(first):
            tokens = path.blocks[number](path.entries[number](tokens))
        rows.append(tokens[:, path.layout.num_prefix :].flatten(0, 1).float().cpu())
    found = torch.cat(rows)
    return found[torch.randperm(len(found), generator=generator)[:_TOKENS]].numpy()


def _kmeans(tokens: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    centres: np.ndarray = KMeans(count, n_init=1, random_state=seed).fit(tokens).cluster_centers_
    return centres.astype(np.float32)


def _farthest(tokens: np.ndarray, count: int) -> np.ndarray:
    chosen = [int(np.square(tokens - tokens.mean(axis=0)).sum(axis=1).argmin())]
    nearest = np.full(len(tokens), np.inf, dtype=np.float32)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.square(tokens - tokens[chosen[-1]]).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return tokens[chosen]
