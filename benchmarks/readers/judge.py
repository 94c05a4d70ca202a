"""Verdicts on a reader's result for a file: right, wrong with a reason, refused, or crashed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .truth import Truth

__all__ = ["Answer", "Verdict", "judge"]

Outcome = Literal["right", "wrong", "refused", "crashed"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Result of a reader.

    Args:
        status: ``read``, ``refused`` (an exception), or ``crashed`` (the process ended, or ran out of time).
        detail: reason code or class of the exception.
        array: the values read. For our reader (frames, 3, H, W) in [0, 1], of the judged frames; for MONAI's the array
            of the whole file.
        is_display: True for our array, which is compared without scaling.
    """

    status: Literal["read", "refused", "crashed"]
    detail: str = ""
    array: np.ndarray | None = None
    is_display: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Verdict on a result.

    Args:
        outcome: one of the four.
        detail: reason for a wrong or refused result.
        keeps_padding: True if padding pixels are returned as intensities.
    """

    outcome: Outcome
    detail: str = ""
    keeps_padding: bool = False


def judge(truth: Truth, answer: Answer) -> Verdict:
    """Judge a result.

    Our images must equal the truth. MONAI's arrays have an own scale, without a window: for each frame any scale and
    offset that keeps black below white is right, and any order of axes that MONAI documents. For files without an
    image, for masks and for damaged files an exception is right.
    """
    if answer.status != "read" or answer.array is None:
        return Verdict(outcome="crashed" if answer.status == "crashed" else "refused", detail=answer.detail)
    if truth.kind != "image":
        return Verdict(outcome="wrong", detail=f"{truth.kind} read as an image")
    return _display_verdict(truth, answer.array) if answer.is_display else _scaled_verdict(truth, answer.array)


def _display_verdict(truth: Truth, images: np.ndarray) -> Verdict:
    keeps_padding = False
    for image, shown, padding in zip(images, truth.shown, truth.padding, strict=True):
        expected = np.stack([shown] * 3) if shown.ndim == 2 else shown.transpose(2, 0, 1)
        if image.shape != expected.shape:
            return Verdict(outcome="wrong", detail="shape")
        expected = np.where(np.isfinite(expected), expected, 0)
        apart = np.abs(image - expected)
        if padding is not None:
            keeps_padding |= bool((image[:, padding] > 0).any())
            apart[:, padding] = 0
        if apart.max() > truth.tolerance + 1e-4:
            return Verdict(outcome="wrong", detail=f"up to {apart.max() * 255:.1f}/255 away")
    return Verdict(outcome="right", keeps_padding=keeps_padding)


def _scaled_verdict(truth: Truth, array: np.ndarray) -> Verdict:
    found = [_compare(truth, frames) for frames in _documented_orders(truth, array)]
    if "right" in found:
        has_padding = any(padding is not None for padding in truth.padding)
        return Verdict(outcome="right", keeps_padding=has_padding and not np.isnan(array).any())
    if not found:
        return Verdict(outcome="wrong", detail=_diagnose_shape(truth, array))
    if "inverted" in found:
        return Verdict(outcome="wrong", detail="inverted")
    return Verdict(outcome="wrong", detail="Modality LUT ignored" if "modality LUT" in truth.facts else found[0])


def _documented_orders(truth: Truth, array: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield the judged frames as (H, W) or (H, W, 3) for every order of the axes that fits their sizes.

    MONAI documents (W, H), with a last axis for frames, then one for colour; rows and columns may be exchanged, and
    colour may come first.
    """
    rows, columns = truth.values[0].shape[:2]
    colours = truth.values[0].shape[2:]
    count = truth.frame_count
    for height, width, order in ((rows, columns, (0, 1)), (columns, rows, (1, 0))):
        for frames in {(count,), ()} if count == 1 else {(count,)}:
            last = (height, width, *frames, *colours)
            if array.shape == last or np.squeeze(array).shape == tuple(size for size in last if size != 1):
                planes = array.reshape(height, width, count, *colours)
                yield [planes[:, :, k].transpose(*order, *range(2, 2 + len(colours))) for k in truth.frames]
            first = (*colours, height, width, *frames)
            if colours and array.shape == first:
                planes = np.moveaxis(array, 0, -1).reshape(height, width, count, *colours)
                yield [planes[:, :, k].transpose(*order, 2) for k in truth.frames]


def _compare(truth: Truth, frames: list[np.ndarray]) -> str:
    verdict = "right"
    for found, expected, padding in zip(frames, truth.values, truth.padding, strict=True):
        kept = np.isfinite(found) & np.isfinite(expected)
        if padding is not None:
            kept &= ~padding
        x, y = found[kept].astype(np.float64), expected[kept].astype(np.float64)
        if not x.size or np.ptp(y) == 0:
            continue
        if np.ptp(x) == 0:
            return "constant"
        scale, offset = np.polyfit(x - x.mean(), y, 1)
        apart = np.abs(scale * (x - x.mean()) + offset - y).max() / np.ptp(y)
        if apart > truth.value_tolerance + 1e-4:
            return "values"
        if scale < 0:
            verdict = "inverted"
    return verdict


def _diagnose_shape(truth: Truth, array: np.ndarray) -> str:
    if "photometric:PALETTE COLOR" in truth.facts and truth.values[0].shape not in (array.shape, array.T.shape):
        return "palette indices as grey"
    return "frames and rows exchanged" if truth.frame_count > 1 else "shape"
