"""Attention maps of an adapter's dynamic prompts, collected over images and drawn as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["AttentionMaps", "draw_attention"]

_IMAGES = 64  # number of images in the mean
_BLOCKS = 4
_PROMPTS = 10
# the colour scale spans 1 - s to 1 + s; s fits the maps within these limits
_SMALLEST_SPREAD, _LARGEST_SPREAD = 0.25, 3.0


class AttentionMaps:
    """Collects the attention of dynamic prompts over the first images of an evaluation.

    The mean over images shows no single patient. Single images are kept only on request.

    Args:
        network: network with ``prompt_attention``; without dynamic prompts, or with None, there is no picture.
        num_images: number of single images to show with the attention over each; 0 for none.
        mean_of: number of images in the mean.
    """

    def __init__(self, network: Any, *, num_images: int = 0, mean_of: int = _IMAGES) -> None:
        network = getattr(network, "module", network)
        self.compute = getattr(network, "prompt_attention", None)
        self.device = next(network.parameters()).device if self.compute is not None else None
        self.num_images = num_images
        self.mean_of = mean_of
        self.reset()

    def reset(self) -> None:
        """Discard all collected maps."""
        self.count = 0
        self.sums: dict[int, torch.Tensor] = {}
        self.shown: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, image: torch.Tensor) -> None:
        """Add images (B, 3, H, W), uint8 or float32 in [0, 1]; images beyond ``mean_of`` are ignored."""
        image = image[: max(0, self.mean_of - self.count)]
        if self.compute is None or len(image) == 0:
            return
        image = image.to(self.device)
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        maps = {number: relative(weights).cpu() for number, weights in self.compute(image).items()}
        for number, values in maps.items():
            self.sums[number] = self.sums.get(number, torch.zeros(())) + values.sum(dim=0)
        self.count += len(image)
        if maps:
            last = maps[max(maps)]
            for index in range(min(len(image), self.num_images - len(self.shown))):
                picture = image[index].clamp(0, 1).permute(1, 2, 0).cpu().numpy()
                self.shown.append((picture, last[index].numpy()))

    def picture(self) -> bytes | None:
        """Draw the collected maps as a PNG; return None if there are none."""
        if not self.sums:
            return None
        means = {number: (values / self.count).numpy() for number, values in self.sums.items()}
        return draw_attention(means, count=self.count, shown=self.shown)


def relative(weights: torch.Tensor) -> torch.Tensor:
    """Multiply weights (B, m, h, w) by the number of tokens, so that uniform attention gives 1.

    Example:
        >>> relative(torch.full((1, 1, 2, 2), 0.25)).unique()
        tensor([1.])
    """
    return weights * (weights.shape[2] * weights.shape[3])


def draw_attention(
    means: Mapping[int, np.ndarray],
    *,
    count: int,
    shown: list[tuple[np.ndarray, np.ndarray]] | None = None,
    dpi: int = 120,
) -> bytes:
    """Draw mean maps of up to four blocks, a column per prompt, then single images with the last block's maps.

    Args:
        means: relative attention (m, h, w) by block number, the mean over images.
        count: number of those images.
        shown: pairs of an image (H, W, 3) in [0, 1] and the last block's relative attention (m, h, w) over it.
        dpi: dots per inch.

    Returns:
        a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown, numbers = shown or [], sorted(means)
    numbers = [numbers[round(i)] for i in np.linspace(0, len(numbers) - 1, min(_BLOCKS, len(numbers)))]
    columns = min(_PROMPTS, len(means[numbers[0]]))
    rows = len(numbers) + len(shown)
    figure = Figure(figsize=(1.2 * columns + 1.6, 1.35 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn: Any = None
    strongest = max(float(np.abs(values - 1).max()) for values in (*means.values(), *(maps for _, maps in shown)))
    spread = min(max(strongest, _SMALLEST_SPREAD), _LARGEST_SPREAD)
    colors = {"vmin": max(0.0, 1 - spread), "vmax": 1 + spread}
    for row, number in enumerate(numbers):
        for column in range(columns):
            drawn = _draw_map(axes[row, column], means[number][column], **colors)
        axes[row, 0].set_ylabel(f"block {number}\nmean of {count}", fontsize=8)
    for row, (picture, maps) in enumerate(shown, start=len(numbers)):
        for column in range(columns):
            place = {"extent": (0, picture.shape[1], picture.shape[0], 0)}
            axes[row, column].imshow(picture, **place)
            _draw_map(axes[row, column], maps[column], alpha=0.5, **place, **colors)
        axes[row, 0].set_ylabel(f"image {row - len(numbers) + 1}\nblock {max(means)}", fontsize=8)
    for column in range(columns):
        axes[0, column].set_title(f"prompt {column + 1}", fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.03, extend="both")
    bar.set_label("attention, 1 = no preference", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def _draw_map(axis: Any, values: np.ndarray, **options: Any) -> Any:
    axis.set_xticks([])
    axis.set_yticks([])
    return axis.imshow(values, cmap="viridis", interpolation="nearest", **options)
