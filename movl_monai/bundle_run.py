"""`movl-monai run`: MONAI's bundle runner, with the project's own errors shown as one paragraph."""

from __future__ import annotations

import argparse
import ast
import io
import logging
import tokenize
from typing import Any

from movl_monai.errors import ConfigError

__all__ = ["add_arguments", "parse_overrides", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `movl-monai run`."""
    parser.add_argument("run_id", help="what to run: training, evaluating or inferring")
    parser.add_argument(
        "--config_file",
        required=True,
        nargs="+",
        metavar="FILE",
        help="the workflow's file, then overlays, all in one folder",
    )
    parser.add_argument("--tracking", default=None, help="'mlflow' or a settings file, as in MONAI")
    parser.epilog = "Every further `--id value` overrides that id of the config, e.g. `--dataset_dir DIR --epochs 4`."
    parser.set_defaults(takes_overrides=True)


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


def run(options: argparse.Namespace) -> int:
    """Run the workflow in this process."""
    import monai.bundle.scripts as monai_bundle

    from movl_monai.engines import keep_strings

    overrides = keep_strings(parse_overrides(options.overrides))
    files = options.config_file if len(options.config_file) > 1 else options.config_file[0]
    monai_bundle.logger.addFilter(_is_no_argument)
    try:
        monai_bundle.run(run_id=options.run_id, config_file=files, tracking=options.tracking, **overrides)
    finally:
        monai_bundle.logger.removeFilter(_is_no_argument)
    return 0


def _is_no_argument(record: logging.LogRecord) -> bool:
    """Pass all lines of MONAI's runner except those that repeat the arguments: paths can name patients."""
    return not record.getMessage().startswith("> ")
