from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.pixels import apply_windowing

from movl_monai.readers.errors import MedicalImageError
from movl_monai.readers.windows import (
    HU_PRESETS,
    apply_window,
    resolve_window,
    resolve_windows,
    window_linear,
    window_linear_exact,
    window_sigmoid,
)
from movl_monai.transforms.windows import ApplyVOIWindow
from tests.readers.refusals import refused

FUNCTIONS = {"LINEAR": window_linear, "LINEAR_EXACT": window_linear_exact, "SIGMOID": window_sigmoid}


def standard(x: float, center: float, width: float, function: str) -> float:
    """The pseudo code of PS3.3 C.11.2.1.2 and C.11.2.1.3 with ymin = 0 and ymax = 1."""
    if function == "LINEAR":
        if x <= center - 0.5 - (width - 1) / 2:
            return 0.0
        if x > center - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (center - 0.5)) / (width - 1) + 0.5
    if function == "LINEAR_EXACT":
        if x <= center - width / 2:
            return 0.0
        if x > center + width / 2:
            return 1.0
        return (x - center) / width + 0.5
    return 1 / (1 + math.exp(min(-4 * (x - center) / width, 700)))


@pytest.mark.parametrize("function", FUNCTIONS)
@given(
    x=st.lists(st.integers(-32768, 65535), min_size=1, max_size=20),
    center=st.floats(-3000, 5000),
    width=st.floats(1, 9000),
)
def test_windows_follow_the_standard(function: str, x: list[int], center: float, width: float) -> None:
    expected = [standard(value, center, width, function) for value in x]
    # the standard switches its branches where LINEAR is a step: there one rounding decides between 0 and 1
    tolerance = 1e-6 if function != "LINEAR" or width > 1.01 else 1
    result = FUNCTIONS[function](np.array(x, dtype=np.float64), center=center, width=width)
    np.testing.assert_allclose(result, expected, atol=tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_windows_equal_pydicom(function: str) -> None:
    dataset = Dataset()
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 12, 0
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 700, 900, function
    stored = np.arange(4096, dtype=np.uint16)
    expected = apply_windowing(stored, dataset) / 4095
    result = apply_window(stored, center=700, width=900, function=function)  # type: ignore[arg-type]
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(
    x=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20),
    center=st.floats(-1e5, 1e5),
    width=st.floats(1, 1e6),
)
def test_windows_stay_in_the_unit_interval_and_keep_the_order(
    function: str, x: list[float], center: float, width: float
) -> None:
    result = FUNCTIONS[function](np.sort(np.array(x)), center=center, width=width)
    assert result.min() >= 0
    assert result.max() <= 1
    assert (np.diff(result) >= 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["int16", "uint8", "int32", "float32", "float64"])
def test_windows_give_the_same_for_arrays_and_tensors(function: str, dtype: str) -> None:
    array = np.arange(0, 250, 7).astype(dtype)
    result = FUNCTIONS[function](array, center=100, width=80)
    tensor = FUNCTIONS[function](torch.from_numpy(array), center=100, width=80)
    assert str(tensor.dtype).removeprefix("torch.") == str(result.dtype)
    np.testing.assert_allclose(tensor.numpy(), result, atol=1e-6)


def test_a_window_of_width_1_is_a_step() -> None:
    result = window_linear(np.array([39, 39.5, 39.6, 40]), center=40, width=1)
    assert result.tolist() == [0, 0, 1, 1]
    assert window_linear(torch.tensor([39.0, 40.0]), center=40, width=1).tolist() == [0, 1]


def test_the_ends_of_a_linear_window_are_exactly_0_and_1() -> None:
    for width, level in HU_PRESETS.values():
        low, high = level - 0.5 - (width - 1) / 2, level - 0.5 + (width - 1) / 2
        ends = window_linear(np.array([low, high], dtype=np.float32), center=level, width=width)
        assert ends.tolist() == [0.0, 1.0]


def test_a_window_does_not_wrap_around_on_int16() -> None:
    assert window_linear(np.array([-32768], dtype=np.int16), center=3000, width=100).item() == 0.0


def test_a_window_leaves_its_input_as_it_was() -> None:
    values = np.array([1.0, 2.0], dtype=np.float32)
    window_linear(values, center=0, width=2)
    assert values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("width", [1, 7])
@pytest.mark.parametrize("make", [np.zeros, torch.zeros])
def test_a_linear_window_can_be_written_into_a_given_array(make: Callable[..., Any], width: float) -> None:
    out = make(3)
    result = window_linear(make(3) + 4, center=5, width=width, out=out)
    assert result is out or np.shares_memory(result, out)
    assert out.tolist() == window_linear(make(3) + 4, center=5, width=width).tolist()


@pytest.mark.parametrize(
    ("function", "width"),
    [("LINEAR", 0.99), ("LINEAR", 0), ("LINEAR", math.nan), ("LINEAR", math.inf)]
    + [(function, width) for function in ("LINEAR_EXACT", "SIGMOID") for width in (0, -1, math.nan)],
)
def test_a_width_below_the_allowed_minimum_is_refused(function: str, width: float) -> None:
    with refused("bad_window", f"function {function} needs .* width >.* got"):
        ApplyVOIWindow(center=0, width=width, function=function)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_widths_below_1_are_allowed_where_the_standard_allows_them(function: str) -> None:
    result = apply_window(np.array([5.0]), center=5, width=0.01, function=function)  # type: ignore[arg-type]
    assert result.item() == pytest.approx(0.5)


def test_an_unknown_function_is_refused_without_repeating_it() -> None:
    with pytest.raises(MedicalImageError, match="VOILUTFunction must be one of LINEAR") as caught:
        apply_window(np.zeros(1), center=0, width=1, function="DOE^JANE")  # type: ignore[arg-type]
    assert "DOE" not in str(caught.value)


def test_presets_are_those_of_the_radiology_table() -> None:
    assert resolve_window("lungs") == (1500, -600)
    assert resolve_window("stroke") == (8, 32)
    assert resolve_window((400, 50)) == resolve_window("abdomen")


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("lung", "must be one of .*lungs.* got 'lung'"),
        ([400], r"must be a name or \[width, level\]"),
        ([400, "x"], r"must be a name or \[width, level\]"),
        (None, r"must be a name or \[width, level\]"),
        ([0, 40], "width >= 1"),
    ],
)
def test_a_wrong_ct_window_is_refused(window: Any, message: str) -> None:
    with pytest.raises(MedicalImageError, match=message):
        resolve_window(window)


@pytest.mark.parametrize("windows", [[], ["brain", "brain"], ["brain"] * 4, "brain"])
def test_ct_windows_must_be_one_or_three(windows: Any) -> None:
    with pytest.raises(MedicalImageError, match="must be a list of one or three"):
        resolve_windows(windows)
