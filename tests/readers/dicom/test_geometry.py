from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from movl_monai.readers.dicom import read_geometry
from movl_monai.readers.dicom.flags import Flags


def header(**tags: Any) -> Any:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def test_geometry_that_is_not_stated_is_none() -> None:
    geometry = read_geometry(header())
    assert (geometry.spacing, geometry.position, geometry.orientation) == (None, None, None)


def test_rows_come_first_in_the_spacing() -> None:
    assert read_geometry(header(PixelSpacing=[0.5, 0.25])).spacing == (0.5, 0.25)


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_the_spacing_at_the_detector_is_a_flagged_substitute(keyword: str) -> None:
    flags = Flags()
    assert read_geometry(header(**{keyword: [0.2, 0.2]}), flags=flags).spacing == (0.2, 0.2)
    assert flags.codes == ["imager_pixel_spacing"]
    assert read_geometry(header(**{keyword: [0.2, 0.2], "PixelSpacing": [0.1, 0.1]})).spacing == (0.1, 0.1)


@pytest.mark.parametrize("spacing", [[0, 0], [-1, 1], [1]])
def test_a_spacing_that_is_none_is_flagged(spacing: list[float]) -> None:
    flags = Flags()
    assert read_geometry(header(PixelSpacing=spacing), flags=flags).spacing is None
    assert flags.codes == ["invalid:PixelSpacing"]
