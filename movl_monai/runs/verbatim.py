"""Protection of strings from MONAI's parser, which turns every `#` into `::`, also in paths and names."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["as_written", "keep_strings", "restore_strings", "verbatim"]

_SYNTAX = ("$", "@", "%")  # expression, reference, macro
_MARKS = {"#": r"\x23", "@": r"\x40", "%": r"\x25", "::": r"\x3a\x3a"}
# an id with its `#`, or another `#` in an expression
_IN_EXPRESSION = re.compile(r"[@%](?:#|::)*\w+(?:(?:#|::)\w+)*|#")


def verbatim(text: str) -> str:
    r"""Return a config string that MONAI evaluates to the given text.

    Example:
        >>> verbatim("Study 2"), verbatim("Study #2")
        ('Study 2', "$'Study \\x232'")
    """
    if not text.startswith(_SYNTAX) and "#" not in text and "::" not in text:
        return text
    literal = repr(text)
    for mark, escape in _MARKS.items():
        literal = literal.replace(mark, escape)
    return f"${literal}"


def keep_strings(config: Any) -> Any:
    r"""Return a raw config whose plain strings, and strings inside of expressions, keep their `#`.

    References and macros are unchanged. A string that starts with `$`, `@` or `%` is MONAI's syntax, not text.

    Example:
        >>> keep_strings({"dataset_dir": "Study #2", "size": "$len(@train#dataset)", "run": "%training"})
        {'dataset_dir': "$'Study \\x232'", 'size': '$len(@train#dataset)', 'run': '%training'}
    """
    if isinstance(config, Mapping):
        return {name: keep_strings(value) for name, value in config.items()}
    if isinstance(config, list):
        return [keep_strings(value) for value in config]
    if not isinstance(config, str) or config.startswith(("@", "%")):
        return config
    if config.startswith("$"):
        return _IN_EXPRESSION.sub(lambda found: r"\x23" if found[0] == "#" else found[0], config)
    return verbatim(config)


def as_written(config: Any) -> Any:
    r"""Undo :func:`keep_strings`: literal strings, and None, among the expressions become plain values again.

    Example:
        >>> as_written({"dataset_dir": "$'Study \\x232'", "size": "$len(@images)"})
        {'dataset_dir': 'Study #2', 'size': '$len(@images)'}
    """
    if isinstance(config, Mapping):
        return {name: as_written(value) for name, value in config.items()}
    if isinstance(config, list):
        return [as_written(value) for value in config]
    if config == "$None":
        return None
    if isinstance(config, str) and config.startswith(("$'", '$"')):
        try:
            value = ast.literal_eval(config[1:])
        except (ValueError, SyntaxError):
            return config
        return value if isinstance(value, str) else config
    return config


def restore_strings(parsed: Any, raw: Any) -> Any:
    """Return a parsed config in which strings that the parser changed have their raw form again.

    Args:
        parsed: the parser's result for ``raw``; it may hold additions, such as expanded macros.
        raw: the original config.
    """
    if isinstance(parsed, Mapping) and isinstance(raw, Mapping):
        return {name: restore_strings(value, raw.get(name)) for name, value in parsed.items()}
    if isinstance(parsed, list) and isinstance(raw, list):
        raws = [*raw, *[None] * (len(parsed) - len(raw))]
        return [restore_strings(value, other) for value, other in zip(parsed, raws, strict=False)]
    if not isinstance(raw, str) or raw == parsed or raw.startswith(("@", "%")):
        return parsed
    return keep_strings(raw) if not raw.startswith("$") or raw.replace("#", "::") == parsed else parsed
