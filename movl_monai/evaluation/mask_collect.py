"""Resize predicted masks to their image size, and stack slices to volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from movl_monai.errors import MovlError
from movl_monai.evaluation.columns import column
from movl_monai.metrics.checks import check_finite
from movl_monai.transforms import resize_back

__all__ = ["CaseCollector", "PredictedCase", "largest_components"]


@dataclass
class PredictedCase:
    """Predicted classes of the images of one case, uint8 (rows, columns), by position in the data set."""

    id: str
    planes: dict[int, np.ndarray] = field(default_factory=dict)

    def stacked(self, dataset: Any) -> tuple[list[int], np.ndarray]:
        """Return the positions in slice order, and the classes (rows, columns) or (rows, columns, slices)."""
        order = sorted(self.planes, key=lambda index: dataset.geometry[index].get("frame") or 0)
        planes = [self.planes[index] for index in order]
        is_volume = "slice_axis" in dataset.geometry[order[0]]
        return order, np.stack(planes, axis=-1) if is_volume else planes[0]


class CaseCollector:
    """Collects batches and yields each case as soon as it is complete, so that memory holds one volume at a time.

    Args:
        dataset: a :class:`~movl_monai.data.SegmentationDataset`.
        num_classes: expected number of logits.
        resize_mode: mode in which the images were resized.
        largest_component: keep only the largest connected component of each predicted class.
    """

    def __init__(
        self, dataset: Any, *, num_classes: int, resize_mode: str = "stretch", largest_component: bool = False
    ) -> None:
        self.dataset = dataset
        self.num_classes = num_classes
        self.resize_mode = resize_mode
        self.largest_component = largest_component
        self.reset()

    def reset(self) -> None:
        """Discard all collected cases."""
        self._open: dict[str, PredictedCase] = {}
        self._expected = Counter(self.dataset.cases)

    def add(self, batch: Any, output: Any) -> Iterator[PredictedCase]:
        """Add one batch.

        Args:
            batch: dictionary of columns, or list of dictionaries, with ``index``.
            output: output with ``pred``, logits (B, C, H, W).

        Yields:
            the cases that it completed.

        Raises:
            MovlError: if positions or logits are missing or do not match, or an image comes twice.
            NonFiniteLogitsError: if a logit is NaN or infinite.
        """
        positions = column(batch, "index")
        logits = _logits(output)
        if positions is None or len(positions) != len(logits):
            raise MovlError(f"A batch must have one 'index' per image, got {positions} for {len(logits)} predictions.")
        if logits.shape[1] != self.num_classes:
            raise MovlError(f"The network gives {logits.shape[1]} logits per pixel for {self.num_classes} class names.")
        check_finite(logits.cpu().numpy())
        for index, one in zip((int(position) for position in positions), logits, strict=True):
            name = self.dataset.cases[index]
            case = self._open.setdefault(name, PredictedCase(name))
            if index in case.planes or not self._expected[name]:
                raise MovlError("An image was evaluated twice; expected each image of the data set once.")
            case.planes[index] = self._classes(one, index)
            if len(case.planes) == self._expected[name]:
                del self._open[name], self._expected[name]
                yield self._finished(case)

    def check_complete(self) -> None:
        """Refuse to end with missing slices.

        Raises:
            MovlError: if slices are missing.
        """
        missing = sum(self._expected.values()) - sum(len(case.planes) for case in self._open.values())
        if missing:
            raise MovlError(f"{missing} images of the data set were not evaluated; expected each of them once.")

    def _classes(self, logits: torch.Tensor, index: int) -> np.ndarray:
        facts = self.dataset.geometry[index]
        size = (int(facts["rows"]), int(facts["columns"]))
        probabilities = resize_back(logits.softmax(dim=0), size, mode=self.resize_mode)
        return probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()

    def _finished(self, case: PredictedCase) -> PredictedCase:
        if self.largest_component:
            order, classes = case.stacked(self.dataset)
            kept = largest_components(classes)
            planes = [kept] if kept.ndim == 2 else list(np.moveaxis(kept, -1, 0))
            case.planes = dict(zip(order, planes, strict=True))
        return case


def largest_components(classes: np.ndarray) -> np.ndarray:
    """Keep the largest connected component of every class but the background (MONAI's KeepLargestConnectedComponent).

    Args:
        classes: uint8 (rows, columns) or (rows, columns, slices).

    Example:
        >>> largest_components(np.array([[1, 1, 0, 1], [0, 0, 0, 0]], dtype=np.uint8))
        array([[1, 1, 0, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    from monai.transforms import KeepLargestConnectedComponent

    keep = KeepLargestConnectedComponent(is_onehot=False, independent=True)
    kept = keep(torch.from_numpy(np.ascontiguousarray(classes))[None])
    return torch.as_tensor(kept)[0].numpy().astype(np.uint8)


def _logits(output: Any) -> torch.Tensor:
    if isinstance(output, Mapping):
        values = output.get("pred")
    else:
        rows = [torch.as_tensor(item["pred"]) for item in output if "pred" in item]
        values = torch.stack(rows) if rows else None
    if values is None:
        raise MovlError("The engine's output has no 'pred'; expected the logits (B, C, H, W) there.")
    logits = torch.as_tensor(values).detach().float()
    if logits.ndim != 4:
        raise MovlError(f"'pred' must be logits (B, C, H, W), got {tuple(logits.shape)}; a segmenter is expected.")
    return logits
