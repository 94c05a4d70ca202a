"""Grammar of the `$` expressions that a config may use, checked on their syntax tree."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Mapping

from .allowed import ATTRIBUTES, BUILTINS, ENVIRONMENT, is_allowed, is_allowed_import

__all__ = ["KNOWN_MODULES", "Aliases", "check_expression", "read_import"]

Aliases = Mapping[str, frozenset[str]]
"""Modules by alias; several for an alias if the files of a config disagree."""

KNOWN_MODULES: dict[str, str] = {
    **{name: name for name in ("math", "monai", "movl_monai", "numpy", "os", "torch")},
    "np": "numpy",
    **{name: f"movl_monai.{name}" for name in ("backbones", "engines", "evaluation", "networks")},
}
"""Names that MONAI defines, and those that an overlay inherits from its base config."""

_LONGEST = 4000
_REFERENCES = "__local_refs"  # MONAI's name of the dictionary of references
_REFERENCE = re.compile(r"@\w*(?:::\w*)*")
_LARGEST_POWER = 64
_OPERATORS = (
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitOr, ast.BitAnd),
    *(ast.boolop, ast.unaryop, ast.cmpop, ast.expr_context),
)
_CONTAINERS = (
    *(ast.Tuple, ast.List, ast.Set, ast.Dict, ast.IfExp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.Slice),
    *(ast.Starred, ast.JoinedStr, ast.FormattedValue, ast.keyword, ast.Constant),
)


class _OutsideError(Exception):
    """Description of the part of an expression that violates the grammar."""


def check_expression(text: str, aliases: Aliases) -> str | None:
    """Return the reason why an expression violates the grammar, or None.

    Both readings of ``#`` are checked: MONAI replaces it by ``::``, and Python treats it as the start of a comment.

    Args:
        text: the expression without its ``$``.
        aliases: modules by the names that the config gives them.

    Example:
        >>> check_expression("len(@names) + 1", {})
        >>> check_expression("__import__('os').system('ls')", {})
        'the name __import__'
    """
    if len(text) > _LONGEST:
        return f"it has more than {_LONGEST} characters"
    if (imported := read_import(text)) is not None:
        outside = [name for name in imported.values() if not (is_allowed_import(name) or is_allowed(name))]
        if outside:
            return f"the import of {', '.join(outside)}"
        return None if len(imported) == 1 and not re.search(r"[;\n\r]", text) else "more than one import"
    tree, commented = _parse(text.replace("#", "::")), _parse(text)
    if tree is None:
        return "it is no expression of Python"
    try:
        for one in filter(None, (tree, commented)):
            _check(one.body, aliases, frozenset())
    except _OutsideError as outside:
        return str(outside)
    except RecursionError:
        return "it is nested too deeply"
    return None


def read_import(text: str) -> dict[str, str] | None:
    """Return the modules, or members of modules, that a text imports, by their new names; None for other texts.

    MONAI treats a `$` text as an import if its first statement is one.

    Example:
        >>> read_import("import movl_monai.engines as engines"), read_import("len(@x)")
        ({'engines': 'movl_monai.engines'}, None)
    """
    if "import" not in text:
        return None
    tree = _parse(text, mode="exec")
    first = tree.body[0] if isinstance(tree, ast.Module) and tree.body else None
    if isinstance(first, ast.Import):
        return {one.asname or one.name: one.name for one in first.names}
    if isinstance(first, ast.ImportFrom):
        module = "." * first.level + (first.module or "")
        return {one.asname or one.name: f"{module}.{one.name}" for one in first.names}
    return None


def _parse(text: str, mode: str = "eval") -> ast.Expression | None:
    source = _REFERENCE.sub(lambda match: f"{_REFERENCES}['{match[0][1:]}']", text.lstrip(" \t"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in string literals
            return ast.parse(source, mode=mode)  # type: ignore[return-value]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _check(node: ast.AST, aliases: Aliases, local: frozenset[str]) -> None:
    """Raise _OutsideError for the first part of a tree that violates the grammar."""
    if isinstance(node, _OPERATORS):
        return
    if isinstance(node, ast.Name):
        _check_name(node, aliases, local)
    elif isinstance(node, ast.Attribute):
        _check_attribute(node, aliases, local)
    elif isinstance(node, ast.Subscript):
        _check_subscript(node, aliases, local)
    elif isinstance(node, ast.Call):
        _check_call(node, aliases, local)
    elif isinstance(node, ast.Lambda):
        names = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
        _check_all([*node.args.defaults, *filter(None, node.args.kw_defaults)], aliases, local)
        _check(node.body, aliases, local | names)
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        _check_comprehension(node, aliases, local)
    elif isinstance(node, ast.BinOp):
        _check_power(node)
        _check_all(ast.iter_child_nodes(node), aliases, local)
    elif isinstance(node, _CONTAINERS):
        _check_all(ast.iter_child_nodes(node), aliases, local)
    else:
        raise _OutsideError(f"a {type(node).__name__}")


def _check_all(nodes: Iterable[ast.AST], aliases: Aliases, local: frozenset[str]) -> None:
    for node in nodes:
        _check(node, aliases, local)


def _check_name(node: ast.Name, aliases: Aliases, local: frozenset[str]) -> None:
    if node.id in local and not node.id.startswith("__"):
        return
    if node.id in aliases:
        if all(is_allowed(path) for path in aliases[node.id]):
            return
        raise _OutsideError(f"{node.id} without the name of a part of it")
    if node.id not in BUILTINS:
        raise _OutsideError(f"the name {node.id}")


def _check_attribute(node: ast.Attribute, aliases: Aliases, local: frozenset[str]) -> None:
    dotted = _dotted(node)
    if dotted is not None and dotted[0] in aliases and dotted[0] not in local:
        for module in aliases[dotted[0]]:
            parts = [*module.split("."), *dotted[1:]]
            if not _is_allowed_chain(parts):
                raise _OutsideError(".".join(parts))
        return
    _check(node.value, aliases, local)
    if node.attr not in ATTRIBUTES:
        raise _OutsideError(f"the attribute .{node.attr}")


def _is_allowed_chain(parts: list[str]) -> bool:
    """Return whether a chain consists of an allowed name followed only by allowed attributes."""
    allowed = (end for end in range(len(parts), 1, -1) if is_allowed(".".join(parts[:end])))
    end = next(allowed, 0)
    return end > 0 and all(part in ATTRIBUTES for part in parts[end:])


def _dotted(node: ast.AST) -> list[str] | None:
    """Return ["os", "path", "join"] for the tree of `os.path.join`, None for other trees."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def _check_subscript(node: ast.Subscript, aliases: Aliases, local: frozenset[str]) -> None:
    if isinstance(node.value, ast.Name) and node.value.id == _REFERENCES:
        if isinstance(node.slice, ast.Constant):
            return
        raise _OutsideError("a computed reference")
    if _is_environment(node.value, aliases):
        _check_variable(node.slice)
        return
    _check_all((node.value, node.slice), aliases, local)


def _check_call(node: ast.Call, aliases: Aliases, local: frozenset[str]) -> None:
    function = node.func
    arguments = [*node.args, *node.keywords]
    if isinstance(function, ast.Attribute) and function.attr == "get" and _is_environment(function.value, aliases):
        _check_variable(node.args[0] if node.args else None)
        _check_all(arguments[1:], aliases, local)
        return
    if not isinstance(function, (ast.Name, ast.Attribute, ast.Lambda)) and not _is_reference(function):
        raise _OutsideError("a call of something that has no name")
    _check_all((function, *arguments), aliases, local)


def _is_reference(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == _REFERENCES


def _is_environment(node: ast.AST, aliases: Aliases) -> bool:
    dotted = _dotted(node)
    return dotted is not None and dotted[1:] == ["environ"] and aliases.get(dotted[0]) == frozenset({"os"})


def _check_variable(node: ast.AST | None) -> None:
    if not (isinstance(node, ast.Constant) and node.value in ENVIRONMENT):
        raise _OutsideError("an environment variable other than those of distributed training")


def _check_comprehension(
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, aliases: Aliases, local: frozenset[str]
) -> None:
    for part in node.generators:
        _check(part.iter, aliases, local)
        local |= {one.id for one in ast.walk(part.target) if isinstance(one, ast.Name)}
        _check(part.target, aliases, local)
        _check_all(part.ifs, aliases, local)
    results = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
    _check_all(results, aliases, local)


def _check_power(node: ast.BinOp) -> None:
    power = node.right
    small = isinstance(power, ast.Constant) and isinstance(power.value, (int, float)) and power.value <= _LARGEST_POWER
    if isinstance(node.op, ast.Pow) and not small:
        raise _OutsideError(f"a power other than a number up to {_LARGEST_POWER}")
