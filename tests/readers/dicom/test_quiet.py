from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import pytest
from pydicom import Dataset
from pydicom.pixels.utils import get_nr_frames

from movl_monai.readers.dicom.quiet import LIBRARIES, quiet


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


# pytest gives the root logger handlers, with which Python never prints as a last resort
SPEAK = """
import logging, sys, warnings
import nibabel
from movl_monai.readers.dicom.quiet import LIBRARIES, quiet
def speak(word):
    for name in LIBRARIES:
        for logger in (name, name + ".some.part"):
            logging.getLogger(logger).warning(word)
        warnings.warn_explicit(word, UserWarning, "x.py", 1, module=name + ".some.part", registry={})
    logging.getLogger("nibabel.global").error(word)
    warnings.warn_explicit(word, UserWarning, "x.py", 1, module="movl_monai.readers.masks", registry={})
with quiet():
    speak("1.2.840.7.7.7.7")
speak("aloud")
"""


def test_no_library_reaches_a_stream_by_pythons_last_resort() -> None:
    said = subprocess.run([sys.executable, "-c", SPEAK], capture_output=True, text=True, check=True)
    assert "1.2.840" not in said.stdout + said.stderr
    assert said.stderr.count("aloud") >= len(LIBRARIES)  # warnings, and the lines of loggers without a handler
