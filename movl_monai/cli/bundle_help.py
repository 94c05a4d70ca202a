"""Help on the overlays and settings of a bundle."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from movl_monai.bundles import OVERLAY_KINDS, Manual, list_overlays, read_manual

__all__ = ["describe_bundle", "shown_default"]

_LEFT, _WIDTH = 26, 110
_IN_USAGE = {"dataset_dir", "output_dir"}


def describe_bundle(bundle: Path) -> str:
    """Return the overlays of a bundle by kind, and the settings of its training by group, with defaults."""
    metadata, train = (json.loads((bundle / "configs" / f"{name}.json").read_text()) for name in ("metadata", "train"))
    manual = read_manual(bundle)
    lines = [f"{bundle.name} {metadata['version']}: {metadata['description']}"]
    return "\n".join(
        [
            "",
            *textwrap.wrap(lines[0], _WIDTH),
            *_overlay_lines(manual, list(list_overlays(bundle))),
            *_setting_lines(manual, train),
            "",
        ]
    )


def shown_default(name: str, config: Mapping[str, Any], manual: Manual) -> str:
    """Return the default of a setting as it is written on the command line.

    Example:
        >>> manual = Manual(settings={}, defaults={"rate": "0.02 / n"}, overlays={})
        >>> [shown_default(name, {"rate": "$0.02 / @n", "a": None, "b": [1, 2], "c": "x"}, manual) for name in "abc"]
        ['null', '[1, 2]', 'x']
        >>> shown_default("rate", {}, manual)
        '0.02 / n'
    """
    if name in manual.defaults:
        return manual.defaults[name]
    value = config[name]
    return (value or "''") if isinstance(value, str) else json.dumps(value)


def _overlay_lines(manual: Manual, names: list[str]) -> Iterator[str]:
    yield from ("", "Overlays:")
    for kind in OVERLAY_KINDS:
        own = manual.defaults.get(kind)
        chosen = [name for name in names if name.startswith(f"{kind}_")]
        if chosen:
            yield f"  --{kind} NAME" + (f" (default: {own})" if own else "")
            for name in chosen:
                yield from _columns(f"    {name.removeprefix(f'{kind}_')}", manual.overlays.get(name, ""))
    yield "  --overlay NAME"
    for name in names:
        if not name.startswith(tuple(f"{kind}_" for kind in OVERLAY_KINDS)):
            yield from _columns(f"    {name}", manual.overlays.get(name, ""))


def _setting_lines(manual: Manual, train: Mapping[str, Any]) -> Iterator[str]:
    for group, lines in manual.settings.items():
        own = [name for name in lines if name in train and name not in _IN_USAGE]
        if own:
            yield from ("", f"{group}:")
        for name in own:
            yield from _columns(f"  --{name}", f"{lines[name]} (default: {shown_default(name, train, manual)})")
    extra = {name: line for name, line in manual.settings.get("Settings of overlays", {}).items() if name not in train}
    if extra:
        yield from ("", "Settings of overlays:")
        for name, line in extra.items():
            yield from _columns(f"  --{name}", line)


def _columns(left: str, right: str) -> list[str]:
    wrapped = textwrap.wrap(right, _WIDTH - _LEFT) or [""]
    first = f"{left:<{_LEFT}}{wrapped[0]}" if len(left) < _LEFT else f"{left}\n{'':<{_LEFT}}{wrapped[0]}"
    return [first.rstrip(), *(f"{'':<{_LEFT}}{line}" for line in wrapped[1:])]
