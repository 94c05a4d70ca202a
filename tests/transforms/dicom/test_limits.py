from __future__ import annotations

from dataclasses import fields

import pytest
from movl_monai.transforms.dicom import Limits


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_a_limit_that_allows_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be > 0, got 0"):
        Limits(**{name: 0})
