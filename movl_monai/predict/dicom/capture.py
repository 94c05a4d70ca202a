"""Secondary capture of a picture for human readers, in the study of its source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from highdicom.sc import SCImage
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from movl_monai.fonts import font_file, legible_names
from movl_monai.predict.dicom.origin import (
    MANUFACTURER,
    RESEARCH_USE,
    Origin,
    Stamp,
    deriving,
    finish,
    orientation,
    prepared,
)
from movl_monai.readers.dicom.quiet import quiet
from movl_monai.readers.dicom.tags import values

__all__ = ["COLORS", "draw_classes", "draw_text", "secondary_capture"]

# palette of Okabe and Ito, for classes 1, 2, ...
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
_LEAST_WIDTH = 384  # narrower text could not be read
_FONT_SIZE = 14
_MARGIN = 6
# still true of a derived image: lossy compression is permanent (PS3.3 C.7.6.1.1.5), and visible features stay visible
_KEPT = {
    "LossyImageCompression": "00|01",
    "LossyImageCompressionRatio": r"\d+(\.\d+)?",
    "LossyImageCompressionMethod": r"ISO_\d{5}_\d{1,2}",
    "BurnedInAnnotation": "YES|NO",
    "RecognizableVisualFeatures": "YES|NO",
}
"""Attributes and the pattern of their defined terms, so that no other text of the source is copied."""


def draw_text(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """Write lines of text below an image, so that no part of it is covered.

    Small images are enlarged by an integer factor.

    Args:
        image: float (3, H, W) in [0, 1], or uint8 (H, W, 3).
        lines: lines of text; class names in it must come from :func:`movl_monai.fonts.legible_names`.

    Returns:
        uint8 (H', W', 3).

    Example:
        >>> draw_text(np.zeros((3, 64, 128)), ["lesion 0.91"]).shape
        (221, 384, 3)
    """
    picture = _enlarged(_as_bytes(image))
    font = _font()
    wrapped = [part for line in lines for part in _wrapped(line, font, picture.width - 2 * _MARGIN)]
    height = len(wrapped) * (_FONT_SIZE + 3) + 2 * _MARGIN
    result = Image.new("RGB", (picture.width, picture.height + height))
    result.paste(picture, (0, 0))
    draw = ImageDraw.Draw(result)
    for number, line in enumerate(wrapped):
        place = (_MARGIN, picture.height + _MARGIN + number * (_FONT_SIZE + 3))
        draw.text(place, line, fill="#FFFFFF", font=font)
    return np.asarray(result)


def draw_classes(
    image: np.ndarray, classes: np.ndarray, class_names: Sequence[str], lines: Sequence[str] = ()
) -> np.ndarray:
    """Draw the contours of classes on an image, with their names in the same colours below.

    Args:
        image: float (3, H, W) in [0, 1], or uint8 (H, W, 3).
        classes: uint8 (H, W), 0 is the background.
        class_names: names, the background first; an unreadable name is shown as "class" and its number in the mask.
        lines: further text.

    Returns:
        uint8 (H', W', 3).
    """
    picture = _enlarged(_as_bytes(image))
    factor = picture.width // classes.shape[1]
    large = np.kron(classes, np.ones((factor, factor), dtype=classes.dtype))
    pixels = np.array(picture)
    found = [number for number in range(1, len(class_names)) if (classes == number).any()]
    for number in found:
        pixels[_contour(large == number)] = _rgb(number)
    names = legible_names(class_names)
    text = draw_text(pixels, [*(f"■ {names[number]}" for number in found), *lines])
    top = picture.height + _MARGIN
    for position, number in enumerate(found):
        text = text.copy()
        start = top + position * (_FONT_SIZE + 3)
        text[start : start + _FONT_SIZE + 3] = _tinted(text[start : start + _FONT_SIZE + 3], _rgb(number))
    return text


def _contour(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask that touch its outside."""
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask, border_value=0)


def _tinted(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (pixels.astype(np.uint16) * np.array(color, dtype=np.uint16) // 255).astype(np.uint8)


def _rgb(number: int) -> tuple[int, int, int]:
    color = COLORS[(number - 1) % len(COLORS)]
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    return np.ascontiguousarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 0))


def _enlarged(pixels: np.ndarray) -> Image.Image:
    picture = Image.fromarray(pixels)
    factor = max(1, -(-_LEAST_WIDTH // picture.width))
    if factor == 1:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _wrapped(line: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    parts, current = [], ""
    for word in line.split():
        longer = f"{current} {word}".strip()
        if current and font.getlength(longer) > width:
            parts.append(current)
            longer = word
        current = longer
    return [*parts, current]


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font_file()), _FONT_SIZE)


@quiet()
def secondary_capture(
    pixels: np.ndarray,
    source: Dataset,
    *,
    origin: Origin,
    stamp: Stamp,
    frame: int | None = None,
    instance_number: int = 1,
) -> Any:
    """Make a secondary capture of a picture that was drawn on an image.

    The drawn text does not identify the patient, so BurnedInAnnotation is copied from the source. Pixels are derived
    and no spacing is stated: measure on the source.

    Args:
        pixels: uint8 (H, W, 3).
        source: header of the image.
        origin: network that made the prediction.
        stamp: time of creation.
        frame: index of the frame of a multi-frame image, from 0; None for other images.
        instance_number: number in the series.

    Returns:
        a `highdicom.sc.SCImage`.

    Raises:
        DicomOutputError: if the source lacks values that a capture needs.

    Reference:
        DICOM PS3.3 A.8.1 (Secondary Capture Image IOD), C.7.6.1.1.2 (Image Type), C.12.4 (SOP instance reference).
    """
    header = prepared(source)
    instance = str(header.SOPInstanceUID)
    capture: Any
    with deriving("secondary capture", "a value of it is not as the standard wants it. Ask for png instead."):
        capture = SCImage(
            pixel_array=np.ascontiguousarray(pixels),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=str(header.StudyInstanceUID),
            series_instance_uid=origin.uid("sc series", str(header.SeriesInstanceUID)),
            series_number=stamp.series_number(header),
            sop_instance_uid=origin.uid("sc", instance, str(frame)),
            instance_number=instance_number,
            manufacturer=MANUFACTURER,
            **dict.fromkeys(("patient_id", "patient_name", "patient_birth_date", "patient_sex")),
            **dict.fromkeys(("accession_number", "study_id", "study_date", "study_time")),
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    # copied although rows of text were added below: the picture is for viewing
    capture.PatientOrientation = orientation(header)
    side = str(header.get("Laterality") or header.get("ImageLaterality") or "")
    capture.Laterality = side if side in ("L", "R") else ""
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.ConversionType = "WSD"
    capture.ManufacturerModelName = origin.name[:64]
    capture.SoftwareVersions = origin.software
    capture.DerivationDescription = f"{origin.name} {origin.version}: drawn on the source. {RESEARCH_USE}"[:1024]
    capture.SourceImageSequence = [_reference(header, frame)]
    for keyword, form in _KEPT.items():
        stated = values(header, keyword)
        if stated and all(re.fullmatch(form, str(value).strip()) for value in stated):
            setattr(capture, keyword, header[keyword].value)
    for keyword in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        setattr(capture, keyword, stamp.time.strftime("%Y%m%d" if keyword.startswith("D") else "%H%M%S"))
    return finish(capture, stamp, source, description="Overlay, research use only")


def _reference(header: Dataset, frame: int | None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code.value, "DCM", code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
