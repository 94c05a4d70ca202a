"""Decode many images with a preprocessing chain, and flag blank ones; a file that fails affects no other file."""

from __future__ import annotations

import errno
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from movl_monai.data.workers import map_in_workers
from movl_monai.errors import DataError, MovlError

if TYPE_CHECKING:
    import torch

__all__ = [
    "EXPOSURES",
    "Decoded",
    "ImageContractError",
    "ItemTransform",
    "decode",
    "decode_all",
    "ends_run",
    "explain",
    "exposure_flags",
    "fault_of",
    "level_counts",
    "to_uint8",
]

EXPOSURES = MappingProxyType(
    {
        "blank": "all pixels have one value",
        "nearly_black": "99 % of the pixels are darker than a fifth of white",
        "nearly_white": "99 % of the pixels are lighter than four fifths of white",
        "few_levels": "fewer than 32 of 256 grey levels are in use",
    }
)
"""Flag -> meaning.

Among 800 radiographs, CT and MR slices, fundus photographs and endoscopies none had a 99th percentile below 120 of 255,
a first percentile above 46, or fewer than 142 levels, except for an MR series whose window is six times as wide as its
values.
"""
_DARK, _LIGHT = 51, 204
_SHARE = 0.01
_FEWEST_LEVELS = 32
_LEAST_SHARE_OF_LEVEL = 1e-4
ItemTransform = Callable[[dict[str, Any]], Mapping[Any, Any]]
# the disk or the table of open files is full, or the disk is not writable or readable at all
_OF_MACHINE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


def level_counts(image: np.ndarray) -> np.ndarray:
    """Count the values 0, 1, ... 255 of an image, uint8 of any shape."""
    return np.bincount(image.ravel(), minlength=256)


def exposure_flags(counts: np.ndarray) -> list[str]:
    """Return the flags of an image at the network's input; a level counts if 1 of 10,000 pixels has it.

    Args:
        counts: from :func:`level_counts`.

    Returns:
        Keys of :data:`EXPOSURES`, [] for nearly all images.

    Example:
        >>> exposure_flags(level_counts(np.arange(16, dtype=np.uint8)))
        ['nearly_black', 'few_levels']
    """
    total = counts.sum()
    is_blank = counts.max() == total
    found = ["blank"] if is_blank else []
    if counts[_DARK:].sum() < _SHARE * total:
        found.append("nearly_black")
    if counts[: _LIGHT + 1].sum() < _SHARE * total:
        found.append("nearly_white")
    if not is_blank and (counts > _LEAST_SHARE_OF_LEVEL * total).sum() < _FEWEST_LEVELS:
        found.append("few_levels")
    return found


class ImageContractError(DataError):
    """A transform chain that does not end with an image: float32 (3, H, W) on the grid k/255 in [0, 1]."""


@dataclass
class Decoded:
    """Outcome of decoding one item.

    Args:
        image: uint8 (3, H, W), None if the file could not be read.
        reason: reason code, "" if it could be read.
        detail: message without names or paths.
        record: technical facts under ``record`` from the transform, with :data:`.exposure.EXPOSURES` among its flags;
            with a mask also ``mask_classes``.
        mask: uint8 (H, W), the classes; None if the item has no mask, or the transform does not read it.
        native_mask: zlib-compressed uint8 classes of the mask before resizing, if the transform kept them.
    """

    image: np.ndarray | None = None
    reason: str = ""
    detail: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    native_mask: bytes | None = None


def to_uint8(image: Any) -> torch.Tensor:
    """Convert an image to uint8, without loss.

    Args:
        image: float32 (3, H, W) with values k/255, k = 0 .. 255.

    Returns:
        uint8 (3, H, W), the k.

    Raises:
        ImageContractError: for any other value; the fault lies in the chain, not in the file.

    Example:
        >>> import torch
        >>> to_uint8(torch.full((3, 1, 1), 0.2)).flatten()
        tensor([51, 51, 51], dtype=torch.uint8)
    """
    import torch

    if not isinstance(image, torch.Tensor) or image.dtype != torch.float32:
        found = image.dtype if isinstance(image, torch.Tensor) else type(image).__name__
        raise ImageContractError(f"The transform must give `image` as a float32 tensor, got {found}.")
    image = image.detach().as_subclass(torch.Tensor).cpu()
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ImageContractError(f"The transform must give an image of shape (3, H, W), got {tuple(image.shape)}.")
    low, high = (float(value) for value in torch.aminmax(image))  # NaN if there is one
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageContractError("The transform gave NaN or infinite values; an image is finite and in [0, 1].")
    if low < 0 or high > 1:
        raise ImageContractError(f"The transform must give values in [0, 1], got {low:.6g} to {high:.6g}.")
    scaled = image * 255
    levels = scaled.round()
    if float(scaled.sub_(levels).abs_().max()) > 1e-3:
        raise ImageContractError(
            "The transform must give values k/255, so that 8 bits lose nothing: end with QuantizeImaged."
        )
    return levels.to(torch.uint8).contiguous()


def decode(item: Mapping[str, Any], transform: ItemTransform) -> Decoded:
    """Apply a transform to an item; any error becomes a reason code.

    Raises:
        ImageContractError: see :func:`to_uint8`.
    """
    try:
        return _decoded(transform(dict(item)))
    except ImageContractError:
        raise
    except Exception as error:  # data sets contain every kind of broken file; none may end the run
        reason, detail = explain(error)
        return Decoded(reason=reason, detail=detail)


def _decoded(result: Mapping[Any, Any]) -> Decoded:
    import torch

    record = result.get("record")
    decoded = Decoded(to_uint8(result.get("image")).numpy(), record=dict(record) if isinstance(record, Mapping) else {})
    if decoded.image is not None and "flags" in decoded.record:
        decoded.record["flags"] = [*decoded.record["flags"], *exposure_flags(level_counts(decoded.image))]
    # a chain for classes of whole images leaves the path of a mask unchanged
    if isinstance(result.get("mask"), torch.Tensor):
        _add_mask(decoded, result["mask"], result.get("native_mask"))
    return decoded


def _add_mask(decoded: Decoded, mask: torch.Tensor, native: torch.Tensor | None) -> None:
    import torch

    shape = None if decoded.image is None else decoded.image.shape[1:]
    if mask.dtype != torch.uint8 or mask.ndim != 3 or mask.shape[0] != 1 or tuple(mask.shape[1:]) != shape:
        raise ImageContractError(
            f"The transform must give `mask` as uint8 (1, H, W) of the image's size {shape}, got {mask.dtype} "
            f"{tuple(mask.shape)}; add ResizeMaskd to the chain."
        )
    decoded.mask = mask[0].contiguous().numpy()
    stored = mask if native is None else native
    decoded.record["mask_classes"] = stored.unique().tolist()
    if native is not None:
        # masks are mostly constant: fast, and a hundredth of the size
        decoded.native_mask = zlib.compress(native[0].contiguous().numpy().tobytes(), level=1)


def decode_all(
    items: Sequence[Mapping[str, Any]], transform: ItemTransform, *, num_workers: int
) -> Iterator[tuple[int, Decoded]]:
    """Decode items in worker processes, in order of completion.

    When a worker dies (a crashing decoder, the memory limit), its unfinished files are tried again, each in a separate
    process. A file that kills its process again is ``worker_died``.

    Args:
        items: items with ``image``.
        transform: replaces ``image`` by the image; with the start method "spawn" it must be picklable.
        num_workers: processes; 0 decodes in this one.

    Yields:
        Position of the item, and its outcome.
    """
    died = partial(Decoded, reason="worker_died", detail="the process that decoded the file ended")
    tasks = ((index, dict(item)) for index, item in enumerate(items))
    for (index, _), decoded in map_in_workers(_Decode(transform), tasks, num_workers=num_workers, died=died):
        yield index, decoded


@dataclass(frozen=True)
class _Decode:
    """Decode an item that comes with its position, in a worker."""

    transform: ItemTransform

    def __call__(self, task: tuple[int, Mapping[str, Any]]) -> Decoded:
        return decode(task[1], self.transform)


def explain(error: BaseException) -> tuple[str, str]:
    """Return reason code and message of a reading error; of other errors only the type, as messages may carry paths."""
    cause: BaseException | None = error
    while cause is not None:
        reason = getattr(cause, "reason", None)
        # MONAI's Compose wraps the errors of transforms, so the reading error may be the cause of the cause;
        # UnicodeError is the one ValueError of Python with a `reason`
        is_reading_error = isinstance(cause, ValueError) and not isinstance(cause, UnicodeError)
        if is_reading_error and isinstance(reason, str) and re.fullmatch("[a-z0-9_]+", reason):
            return reason, " ".join(str(cause).split())
        error, cause = cause, cause.__cause__
    return "unexpected_error", type(error).__name__


def ends_run(error: BaseException) -> bool:
    """Return True for an error of the machine, the device, the model or the user, and not of one file.

    Example:
        >>> ends_run(KeyError("x")), ends_run(MemoryError()), ends_run(OSError(errno.ENOSPC, "full"))
        (False, True, True)
    """
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception) or isinstance(cause, (MemoryError, MovlError)):
            return True
        if isinstance(cause, OSError) and cause.errno in _OF_MACHINE:
            return True
        # the device cannot compute afterwards
        if isinstance(cause, RuntimeError) and "CUDA error" in str(cause):
            return True
        cause = cause.__cause__
    return False


def fault_of(error: Exception) -> tuple[str, str]:
    """Return the reason code and detail of an error in listing, reading, predicting or writing one file.

    Args:
        error: the caught error.

    Returns:
        As :func:`movl_monai.data.decode.explain`; for an error outside of reading, ``unexpected_error`` and the name of
        its class, as its message may quote the file.

    Raises:
        Exception: the error itself, if it ends the run.

    Example:
        >>> fault_of(IndexError("DOE^JANE"))
        ('unexpected_error', 'IndexError')
    """
    if ends_run(error):
        raise error
    return explain(error)
