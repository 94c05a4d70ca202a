"""`--id value` pairs of a command line, which override ids of a config."""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any

from movl_monai.errors import ConfigError

__all__ = ["parse_overrides"]


def parse_overrides(words: list[str]) -> dict[str, Any]:
    """Parse `--id value` pairs; a Python or JSON literal becomes its value, any other value stays text.

    Raises:
        ConfigError: for a word that is not part of a pair.

    Example:
        >>> parse_overrides(["--epochs", "2", "--device=cpu", "--resume", "true"])
        {'epochs': 2, 'device': 'cpu', 'resume': True}
    """
    pairs: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise ConfigError(f"Expected `--id value` pairs after the config files, got '{word}'.")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"`--{name}` has no value; write `--{name} value`.")
            value = rest.pop(0)
        pairs[name] = _literal(value)
    return pairs


def _literal(text: str) -> Any:
    if _has_comment(text):  # a path with a "#" is not a number with a comment
        return text
    words = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _has_comment(text: str) -> bool:
    try:
        return any(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return False  # not a literal either
