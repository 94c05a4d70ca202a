from __future__ import annotations

import pickle

import pytest

from movl_monai.readers.errors import REASONS, MedicalImageError


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_the_table_can_be_raised_and_survives_a_worker_process(reason: str) -> None:
    error = pickle.loads(pickle.dumps(MedicalImageError("Expected pixels, got none; leave it out.", reason=reason)))
    assert (error.reason, str(error)) == (reason, "Expected pixels, got none; leave it out.")
    assert isinstance(error, ValueError)


def test_an_unknown_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="reason must be one of .* got 'because'"):
        MedicalImageError("message", reason="because")


def test_the_table_of_reasons_is_closed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        REASONS["because"] = "no"  # type: ignore[index]
