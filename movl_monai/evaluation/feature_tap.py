"""Record the input of a head while a network runs, so that one pass gives features and logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from movl_monai.errors import MovlError
from movl_monai.networks import unwrap

__all__ = ["FeatureTap"]


class FeatureTap:
    """Recorder of the features that a network's head reads.

    The forward pass is not changed, whatever wraps the network. The logits are bitwise equal with and without a
    recorder.

    Args:
        network: network with a part ``head`` that reads features (B, F), such as an
            :class:`~movl_monai.networks.AdaptedClassifier`, possibly inside DistributedDataParallel; without such a
            part, or with None, there are no features.

    Example:
        >>> from movl_monai.heads import LinearHead
        >>> class Network(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.head = LinearHead(2, 2)
        ...     def forward(self, image):
        ...         return self.head(image.flatten(1))
        >>> network = Network()
        >>> tap = FeatureTap(network)
        >>> tap.open()
        >>> logits = network(torch.ones(1, 1, 1, 2))
        >>> tap.take(1)
        tensor([[1., 1.]])
        >>> tap.close()
    """

    def __init__(self, network: Any = None) -> None:
        head = None if network is None else getattr(unwrap(network), "head", None)
        self.head = head if isinstance(head, nn.Module) else None
        self._handle: Any = None
        self._seen: list[torch.Tensor] = []

    def open(self) -> None:
        """Start recording, with nothing recorded."""
        self.close()
        if self.head is not None:
            self._handle = self.head.register_forward_pre_hook(self._listen)

    def close(self) -> None:
        """Stop recording, and restore the network."""
        if self._handle is not None:
            self._handle.remove()
        self._handle, self._seen = None, []

    def take(self, count: int) -> torch.Tensor:
        """Return the features recorded since the last call, (count, F) float32 on the CPU; F is 0 without a head.

        Args:
            count: number of images in the output.

        Raises:
            MovlError: if the head read another number of feature vectors.
        """
        seen, self._seen = self._seen, []
        if self.head is None:
            return torch.empty(count, 0)
        if sum(len(part) for part in seen) != count:
            raise MovlError(
                f"The head read {sum(len(part) for part in seen)} feature vectors for {count} predictions; expected "
                "one each. Evaluate with an inferer that runs the network once per image, such as SimpleInferer."
            )
        return torch.cat(seen)

    def _listen(self, _head: nn.Module, inputs: tuple[Any, ...]) -> None:
        features = inputs[0]
        if not isinstance(features, torch.Tensor) or features.dim() != 2:
            raise MovlError("The head of a classifier must read features (B, F); something else came in.")
        self._seen.append(features.detach().float().cpu())
