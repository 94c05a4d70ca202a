"""Changed content: burned-in words, and a smaller field of view."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["BurnInText", "BurnInTextd", "CollimateFieldOfView", "CollimateFieldOfViewd"]

_WORDS = ("L", "R", "PORTABLE", "SUPINE", "ERECT", "AP", "PA 110 kV", "UNIT 2")
_BAND = 0.3  # words lie in the upper or lower band of this height, where technologists put them


class BurnInText(Corruption):
    """Write white words near the upper and lower border: technical terms, never patient data.

    Severities differ in the size of the font (6 to 15 % of the image's shorter side) and the number of words (1 to 6).
    Words and places are drawn for each image; a higher severity keeps the words of the lower ones and adds more.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the words and their places.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        MedMNIST-C, 2024 ("characters", for dermoscopy); DeGrave, Janizek, Lee, "AI for radiographic COVID-19 detection
        selects shortcuts over signal", Nature Machine Intelligence 3, 2021, for the effect of such marks on a
        classifier.

    Example:
        >>> marked = BurnInText(severity=2)(torch.zeros(3, 200, 200), "an id")
        >>> marked.max().item() > 0.9, marked[:, 60:140].max().item()
        (True, 0.0)
    """

    name = "text"
    parameters = ((0.06, 1), (0.08, 2), (0.1, 3), (0.125, 4), (0.15, 6))
    meaning = "size of the font, of the shorter side, and number of words"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        size, count = parameter
        largest = self.parameters[-1][1]
        # drawn for the highest severity, so that the lower ones have the first of the same words at the same places
        words = generator.permutation(np.array(_WORDS))[:largest]
        places = generator.uniform(size=(largest, 2))
        rows, columns = pixels.shape[1:]
        font = ImageFont.load_default(size=max(1.0, size * min(rows, columns)))
        canvas = Image.new("L", (columns, rows))
        for word, place in zip(words[:count], places[:count], strict=True):
            _write(ImageDraw.Draw(canvas), str(word), place, font)
        shown = torch.from_numpy(np.array(canvas)).float() / 255
        return pixels + (1 - pixels) * shown


def _write(draw: ImageDraw.ImageDraw, word: str, place: np.ndarray, font: Any) -> None:
    columns, rows = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), word, font=font)
    across = place[0] * max(0, columns - (right - left))
    # the lower half of the draws is the upper band
    down = (2 * place[1]) % 1 * max(0, _BAND * rows - (bottom - top))
    start = down if place[1] < 0.5 else rows - down - (bottom - top)
    # whole pixels, as text is burned in; between them thin strokes would turn grey
    draw.text((round(across - left), round(start - top)), word, fill=255, font=font)


class BurnInTextd(Corruptiond):
    """Dictionary twin of :class:`BurnInText`."""

    corruption = BurnInText


class CollimateFieldOfView(Corruption):
    """Blacken the borders: 6 to 38 % of the rows, and the same share of the columns.

    The shares of top and bottom, and of left and right, are drawn for each image. The content of the field does not
    move.

    Args:
        severity: 1 to 5; 0 returns the image unchanged.
        seed: of the position of the field.

    Raises:
        ValueError: for another severity or a negative seed.

    Reference:
        DICOM PS3.3, C.8.7.3 (X-Ray Collimator), for the shutters of a radiograph.

    Example:
        >>> field = CollimateFieldOfView(severity=3)(torch.ones(3, 100, 100), "an id")[0]
        >>> int(field.any(dim=1).sum()), int(field.any(dim=0).sum())
        (80, 80)
    """

    name = "field_of_view"
    parameters = (0.06, 0.12, 0.2, 0.28, 0.38)
    meaning = "rows and columns that are black"

    def _corrupt(self, pixels: torch.Tensor, parameter: Any, generator: np.random.Generator) -> torch.Tensor:
        place = generator.uniform(size=2)
        result = torch.zeros_like(pixels)
        field = tuple(_inside(size, parameter, share) for size, share in zip(pixels.shape[1:], place, strict=True))
        result[(slice(None), *field)] = pixels[(slice(None), *field)]
        return result


def _inside(size: int, dark: float, share: float) -> slice:
    """Return the visible rows or columns, with ``share`` of the dark ones before them."""
    gone = min(round(size * dark), size - 1)
    before = round(gone * share)
    return slice(before, size - (gone - before))


class CollimateFieldOfViewd(Corruptiond):
    """Dictionary twin of :class:`CollimateFieldOfView`."""

    corruption = CollimateFieldOfView
