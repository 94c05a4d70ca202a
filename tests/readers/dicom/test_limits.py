from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from movl_monai.readers.dicom import Limits, read_dicom
from tests.readers.dicom.objects import as_file, grey_object
from tests.readers.refusals import refused


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_that_allows_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0, got 0"):
        Limits(**{name: 0})


def test_one_frame_has_a_limit_of_its_own() -> None:
    file = as_file(grey_object(np.zeros((2, 4, 4), dtype=np.uint8)))
    assert read_dicom(file, frame=1, limits=Limits(frame_pixels=16))[0].shape == (3, 4, 4)
    with refused("too_large", "15 pixels in one frame"):
        read_dicom(file, frame=1, limits=Limits(frame_pixels=15))
