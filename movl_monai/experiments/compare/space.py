"""Search spaces: the values of a setting that may be tried, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from movl_monai.errors import ConfigError

__all__ = ["Dimension", "Kind", "parse_space"]

Kind = Literal["log", "linear", "integer", "choice", "share_of_image"]


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """Range of values of one setting.

    Args:
        kind: "log" (uniform in the logarithm), "linear", "integer" (both ends included), "choice", or "share_of_image":
            a length in pixels, drawn as a share of the image's side, so that one space fits images of any size.
        bounds: [low, high], or the values to choose from.

    Raises:
        ConfigError: if the bounds do not fit the kind.

    Example:
        >>> Dimension(kind="share_of_image", bounds=(0.05, 0.2)).value(0.13, image_size=224)
        29
    """

    kind: Kind
    bounds: tuple[Any, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"a search range must be one of {', '.join(get_args(Kind))}, got {self.kind!r}.")
        if self.kind == "choice":
            if not self.bounds:
                raise ConfigError("a choice needs one or more values, got none.")
            return
        numbers = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in self.bounds)
        if len(self.bounds) != 2 or not numbers or self.bounds[0] >= self.bounds[1]:
            raise ConfigError(f"a range must be two numbers [low, high] with low < high, got {list(self.bounds)}.")
        if self.kind in ("log", "share_of_image") and self.bounds[0] <= 0:
            raise ConfigError(f"a '{self.kind}' range must be above 0, got {list(self.bounds)}.")

    def distribution(self) -> Any:
        """Return optuna's distribution of the range."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.bounds)
        if self.kind == "integer":
            return IntDistribution(*self.bounds)
        low, high = self.bounds
        return FloatDistribution(low, high, log=self.kind == "log")

    def value(self, drawn: Any, *, image_size: int | None = None) -> Any:
        """Return the value of the setting for a drawn number."""
        if self.kind == "share_of_image":
            return max(1, round(drawn * _known(image_size)))
        return drawn

    def drawn(self, value: Any, *, image_size: int | None = None) -> Any:
        """Return the number to draw for a value of the setting.

        Raises:
            ConfigError: if the value is not in the range.
        """
        drawn = value / _known(image_size) if self.kind == "share_of_image" else value
        inside = drawn in self.bounds if self.kind == "choice" else self.bounds[0] <= drawn <= self.bounds[1]
        if not inside:
            raise ConfigError(f"{value!r} is outside of the search range {self.kind} {list(self.bounds)}.")
        return drawn


def parse_space(definition: Mapping[str, Any]) -> dict[str, Dimension]:
    """Parse a search space from an arms file.

    Args:
        definition: for each id of the config one range, such as ``{"prompt_lr": {"log": [1e-3, 1e-1]}}``.

    Raises:
        ConfigError: with the id of a range that cannot be understood.
    """
    space = {}
    for name, entry in definition.items():
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ConfigError(
                f"The search range of '{name}' must be one entry such as {{'log': [0.001, 0.1]}}, got {entry!r}."
            )
        ((kind, bounds),) = entry.items()
        try:
            space[name] = Dimension(kind=kind, bounds=tuple(bounds))
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"The search range of '{name}' cannot be used: {error}") from error
    return space


def _known(image_size: int | None) -> int:
    if image_size is None:
        raise ConfigError("A range 'share_of_image' needs the id `image_size` in the config, one number of pixels.")
    return image_size
