"""Windows of the VOI LUT module, fixed CT windows in Hounsfield units, and the intensity range of a volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np

from movl_monai.readers.errors import MedicalImageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "HU_PRESETS",
    "Intensity",
    "Window",
    "WindowFunction",
    "apply_window",
    "check_intensity",
    "intensity_range",
    "resolve_window",
    "resolve_windows",
    "window_linear",
    "window_linear_exact",
    "window_sigmoid",
]

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]
Window = str | Sequence[float]
"""A name of :data:`HU_PRESETS`, or ``[width, level]`` in HU."""
Values = TypeVar("Values", np.ndarray, "torch.Tensor")
HU_PRESETS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "brain": (80.0, 40.0),
        "subdural": (254.0, 100.0),
        "stroke": (8.0, 32.0),
        "lungs": (1500.0, -600.0),
        "mediastinum": (350.0, 50.0),
        "abdomen": (400.0, 50.0),
        "liver": (150.0, 30.0),
        "spine_bone": (1800.0, 400.0),
        "temporal_bone": (2800.0, 600.0),
        "brain_bone": (2800.0, 600.0),
    }
)
"""Name of a CT window -> (width, level) in HU."""
Intensity = Literal["percentile", "minmax", "ct"]
"""The range between two percentiles, between minimum and maximum, or fixed windows of values in HU."""


def window_linear(values: Values, *, center: float, width: float, out: Values | None = None) -> Values:
    r"""Map values to [0, 1] with the function LINEAR, which covers ``width`` integers.

    .. math:: y = \mathrm{clip}\left(\frac{x - (c - 0.5)}{w - 1} + 0.5,\ 0,\ 1\right)

    Args:
        values: any shape, any real dtype, in the unit of ``center`` and ``width``.
        center: WindowCenter ``c``.
        width: WindowWidth ``w``, >= 1. With ``w = 1`` values up to ``c - 0.5`` become 0, all others 1.
        out: destination of the result, floating and of the same shape; a new array or tensor by default.

    Returns:
        Floating, same shape, in [0, 1].

    Raises:
        MedicalImageError: if ``width`` < 1 or a number is not finite (``reason="bad_window"``).

    Reference:
        DICOM PS3.3 C.11.2.1.2.1 with an output range of [0, 1].

    Example:
        >>> import torch
        >>> window_linear(torch.tensor([-160.0, 39.5, 239.0]), center=40, width=400)
        tensor([0.0000, 0.5000, 1.0000])
    """
    _check(center, width, function="LINEAR", smallest_width=1)
    x = _floating(values)
    low = center - 0.5 - (width - 1) / 2
    if width > 1:
        return _ramp(x, low, width - 1, out=out)
    # a comparison, because the formula divides by zero
    step = _step(x, low)
    if out is None:
        return step
    out[:] = step
    return out


def window_linear_exact(values: Values, *, center: float, width: float) -> Values:
    r"""Map values to [0, 1] with the function LINEAR_EXACT.

    .. math:: y = \mathrm{clip}\left(\frac{x - c}{w} + 0.5,\ 0,\ 1\right)

    Args:
        values: any shape, any real dtype, in the unit of ``center`` and ``width``.
        center: WindowCenter ``c``.
        width: WindowWidth ``w``, > 0.

    Returns:
        Floating, same shape, in [0, 1].

    Raises:
        MedicalImageError: if ``width`` <= 0 or a number is not finite (``reason="bad_window"``).

    Reference:
        DICOM PS3.3 C.11.2.1.3.2 with an output range of [0, 1].

    Example:
        >>> import torch
        >>> window_linear_exact(torch.tensor([-160.0, 40.0, 240.0]), center=40, width=400)
        tensor([0.0000, 0.5000, 1.0000])
    """
    _check(center, width, function="LINEAR_EXACT")
    return _ramp(_floating(values), center - width / 2, width, out=None)


def window_sigmoid(values: Values, *, center: float, width: float) -> Values:
    r"""Map values to [0, 1] with the function SIGMOID.

    .. math:: y = 1 / (1 + \exp(-4 (x - c) / w))

    Args:
        values: any shape, any real dtype, in the unit of ``center`` and ``width``.
        center: WindowCenter ``c``, which becomes 0.5.
        width: WindowWidth ``w``, > 0; the slope at the center is ``1 / w``.

    Returns:
        Floating, same shape, in [0, 1].

    Raises:
        MedicalImageError: if ``width`` <= 0 or a number is not finite (``reason="bad_window"``).

    Reference:
        DICOM PS3.3 C.11.2.1.3.1 with an output range of [0, 1].

    Example:
        >>> import torch
        >>> window_sigmoid(torch.tensor([-60.0, 40.0, 140.0]), center=40, width=400)
        tensor([0.2689, 0.5000, 0.7311])
    """
    _check(center, width, function="SIGMOID")
    argument = (_floating(values) - center) * (4 / width)
    if not isinstance(values, np.ndarray):
        return argument.sigmoid()
    from scipy.special import expit

    return expit(argument)


def apply_window(values: Values, *, center: float, width: float, function: WindowFunction = "LINEAR") -> Values:
    """Map values to [0, 1] with one of the three window functions of DICOM.

    Raises:
        MedicalImageError: if ``function`` is unknown, or the width is too small (``reason="bad_window"``).

    Example:
        >>> import torch
        >>> apply_window(torch.tensor([40.0]), center=40, width=400, function="SIGMOID")
        tensor([0.5000])
    """
    functions: dict[str, Callable[..., Values]] = {
        "LINEAR": window_linear,
        "LINEAR_EXACT": window_linear_exact,
        "SIGMOID": window_sigmoid,
    }
    if function not in functions:
        # the text of a file is not repeated: it may hold anything
        raise MedicalImageError(
            f"VOILUTFunction must be one of {', '.join(functions)}, got something else; correct the function.",
            reason="bad_window",
        )
    return functions[function](values, center=center, width=width)


def resolve_window(window: Window) -> tuple[float, float]:
    """Return (width, level) of a CT window given by name or as ``[width, level]``.

    Raises:
        MedicalImageError: if the name is unknown, or the pair is not two numbers with width >= 1
            (``reason="bad_window"``).

    Example:
        >>> resolve_window("brain"), resolve_window([400, 50])
        ((80.0, 40.0), (400.0, 50.0))
    """
    if isinstance(window, str):
        if window not in HU_PRESETS:
            raise MedicalImageError(
                f"A CT window must be one of {', '.join(HU_PRESETS)} or [width, level] in HU, got {window!r}.",
                reason="bad_window",
            )
        return HU_PRESETS[window]
    try:
        width, level = (float(number) for number in window)
    except (TypeError, ValueError):
        raise MedicalImageError(
            f"A CT window must be a name or [width, level] in HU, got {window!r}; try [400, 50] or 'abdomen'.",
            reason="bad_window",
        ) from None
    _check(level, width, function="LINEAR", smallest_width=1)
    return width, level


def resolve_windows(windows: Sequence[Window]) -> tuple[tuple[float, float], ...]:
    """Return the (width, level) of the three channels; one window is repeated.

    Raises:
        MedicalImageError: if there are not one or three windows, or one of them is wrong (``reason="bad_window"``).

    Example:
        >>> resolve_windows(["brain"])
        ((80.0, 40.0), (80.0, 40.0), (80.0, 40.0))
    """
    if isinstance(windows, str) or len(windows) not in (1, 3):
        raise MedicalImageError(
            f"CT windows must be a list of one or three, which become the channels, got {windows!r}.",
            reason="bad_window",
        )
    pairs = tuple(resolve_window(window) for window in windows)
    return pairs * 3 if len(pairs) == 1 else pairs


def _check(center: float, width: float, *, function: str, smallest_width: float | None = None) -> None:
    minimum = "> 0" if smallest_width is None else f">= {smallest_width:g}"
    wide_enough = width > 0 if smallest_width is None else width >= smallest_width
    # written so that NaN fails
    if not (wide_enough and np.isfinite(width) and np.isfinite(center)):
        raise MedicalImageError(
            f"A window of function {function} needs a finite center and a width {minimum}, "
            f"got center {center:g} and width {width:g}; choose another window.",
            reason="bad_window",
        )


def _floating(values: Values) -> Values:
    """Return floating values: unchanged if floating, float32 if it holds every value of the dtype, else float64."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            return values
        return values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    if values.is_floating_point():
        return values
    return values.float() if values.element_size() <= 2 else values.double()


def _ramp(values: Values, low: float, width: float, *, out: Values | None) -> Values:
    # divided, not multiplied by the inverse: the upper end becomes exactly 1
    if isinstance(values, np.ndarray):
        ramp = np.subtract(values, low, out=out, casting="same_kind")
        np.divide(ramp, width, out=ramp)
        return np.clip(ramp, 0, 1, out=ramp)
    import torch

    return torch.sub(values, low, out=out).div_(width).clamp_(0, 1)


def _step(values: Values, threshold: float) -> Values:
    if isinstance(values, np.ndarray):
        return (values > threshold).astype(values.dtype)
    return (values > threshold).to(values.dtype)


def intensity_range(
    values: np.ndarray, intensity: Intensity, percentiles: Sequence[float] = (0.5, 99.5)
) -> tuple[float, float, tuple[str, ...]]:
    """Return the (low, high) values of a volume that become 0 and 1, and flags.

    NaN and infinite values are ignored. If the two percentiles are equal, as in volumes of mostly background, the
    minimum and maximum are used and flagged ``percentiles_equal``. A constant volume is flagged ``constant``.

    Args:
        values: any shape.
        intensity: ``"percentile"`` or ``"minmax"``.
        percentiles: (lower, upper) in percent.

    Raises:
        MedicalImageError: ``not_finite`` if there is no finite value.

    Example:
        >>> intensity_range(np.arange(201.0), "percentile")
        (1.0, 199.0, ())
    """
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise MedicalImageError("Expected finite values, got only NaN or infinite ones.", reason="not_finite")
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return low, high, ("constant",)
    if intensity == "minmax":
        return low, high, ()
    lower, upper = (float(value) for value in np.percentile(finite, percentiles))
    return (lower, upper, ()) if upper > lower else (low, high, ("percentiles_equal",))


def check_intensity(intensity: Intensity, percentiles: Sequence[float]) -> None:
    """Check an intensity mapping and its percentiles.

    Raises:
        ValueError: for an unknown mapping, or percentiles that are not two in ascending order.
    """
    if intensity not in get_args(Intensity):
        raise ValueError(f"intensity must be one of {', '.join(get_args(Intensity))}, got {intensity!r}.")
    if len(percentiles) != 2 or not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(f"percentiles must be (lower, upper) with 0 <= lower < upper <= 100, got {percentiles!r}.")
