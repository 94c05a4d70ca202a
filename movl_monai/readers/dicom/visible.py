"""Rules for objects that are not images of tissue and for images that may show a name, common to all uses."""

from __future__ import annotations

from pydicom import FileDataset

from movl_monai.readers.dicom.codes import sop_class_name
from movl_monai.readers.dicom.segmentation import SEGMENTATION_CLASSES
from movl_monai.readers.dicom.tags import code_string, uid, values

__all__ = ["is_secondary_capture", "may_show_names", "object_problem"]

_BESIDE_TISSUE = frozenset(("LABEL", "OVERVIEW", "THUMBNAIL"))
_SLIDE_MODALITIES = ("SM", "GM")


def object_problem(header: FileDataset, *, has_pixels: bool) -> str:
    """Return the reason code of an object that is not an image for training or display: "" for all others.

    ``not_image`` has no pixels, ``segmentation`` is a label mask, and ``label_image`` shows the label of a slide, the
    whole slide with its label, or the thumbnail of either.

    Reference:
        DICOM PS3.3 C.8.12.4.1.1 (Image Type of whole slides), C.8.12.4.1.3 (Specimen Label in Image).
    """
    if not has_pixels:
        return "not_image"
    if uid(header, "SOPClassUID") in SEGMENTATION_CLASSES:
        return "segmentation"
    return "label_image" if _shows_slide_label(header) else ""


def may_show_names(header: FileDataset) -> bool:
    """Return True if the pixels may show a name; no picture is then made of them.

    It holds for files that state burned-in annotation, captures of screens and films, and ultrasound that does not deny
    it: ultrasound machines write names into the frame. DICOM captures are still made: they name the patient anyway, and
    repeat their source's statement on burned-in text.
    """
    burned_in = code_string(header, "BurnedInAnnotation")
    is_undenied_ultrasound = code_string(header, "Modality") == "US" and burned_in != "NO"
    return burned_in == "YES" or is_undenied_ultrasound or is_secondary_capture(header)


def is_secondary_capture(header: FileDataset) -> bool:
    """Return True for a screen capture, a film scan or a similar object."""
    return "Secondary Capture" in sop_class_name(header) or bool(code_string(header, "ConversionType"))


def _shows_slide_label(header: FileDataset) -> bool:
    if code_string(header, "SpecimenLabelInImage") == "YES":
        return True
    is_slide = "Slide" in sop_class_name(header) or code_string(header, "Modality") in _SLIDE_MODALITIES
    kinds = [str(value).strip().upper() for value in values(header, "ImageType")]
    return is_slide and bool(_BESIDE_TISSUE & {*kinds[2:]})
