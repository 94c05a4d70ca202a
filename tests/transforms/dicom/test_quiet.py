from __future__ import annotations

import logging
import warnings

import pytest
from movl_monai.transforms.dicom.quiet import quiet
from pydicom import Dataset
from pydicom.pixels.utils import get_nr_frames


def let_pydicom_complain() -> None:
    dataset = Dataset()
    dataset.NumberOfFrames = 0
    get_nr_frames(dataset)


def test_pydicom_is_muted_within_the_block_and_heard_after_it(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(), quiet():
        let_pydicom_complain()
    assert not caplog.records
    with pytest.warns(UserWarning, match="A value of"):
        let_pydicom_complain()
    assert len(caplog.records) == 1


def test_warnings_of_others_are_not_muted() -> None:
    with quiet(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


def test_the_state_is_restored_after_an_error() -> None:
    before = (list(warnings.filters), logging.getLogger("pydicom").propagate)
    with pytest.raises(KeyError), quiet():
        raise KeyError("x")
    assert (list(warnings.filters), logging.getLogger("pydicom").propagate) == before
