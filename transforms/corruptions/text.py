"""Words burned into the pixels, as by modalities and film digitisers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from movl_monai.transforms.corruptions.base import Corruption, Corruptiond

__all__ = ["BurnInText", "BurnInTextd"]

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
