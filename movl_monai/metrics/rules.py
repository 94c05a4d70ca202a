"""Rules for values of a report beyond their types, from which its JSON schema is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

__all__ = ["Count", "Free", "Interval", "Nullable", "Rule", "Share"]


@dataclass(frozen=True, kw_only=True, eq=False)  # types that hold a rule must be hashable
class Rule:
    """A rule for a value, as metadata of its type.

    Args:
        least: smallest number.
        above: bound that a number must exceed.
        most: largest number.
        shortest: smallest number of items.
        longest: largest number of items.
        only: the only value.
        null: True accepts null where this version always writes a value.
        needed: whether the entry must be there; None follows the type.
        free: True accepts any value, such as in entries that files of earlier versions have in another form or lack.
        like: type of the schema in place of that of the code.
        keys: types of some keys of a dictionary, in place of that of the other keys.
        needs: keys that a dictionary must have.
        about: description for readers.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    shortest: int | None = None
    longest: int | None = None
    only: Any = None
    null: bool = False
    needed: bool | None = None
    free: bool = False
    like: Any = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    about: str = ""


Share = Annotated[float, Rule(least=0, most=1, null=True)]
Nullable = Annotated[float, Rule(null=True)]
Count = Annotated[int, Rule(least=0)]
Interval = Annotated[list[float], Rule(shortest=2, longest=2, null=True)]  # [low, high]
Free = Rule(free=True)
"""Rule of an entry that may hold anything, or be missing."""
