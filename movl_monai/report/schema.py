"""JSON schema of report.json, made from the types of its entries; ``python -m movl_monai.report.schema`` prints it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from movl_monai.files import to_json
from movl_monai.metrics.declared import CLASS_FIGURES, DECLARED, ORDINAL_FIGURES, MetricFigures
from movl_monai.metrics.entries import Group
from movl_monai.metrics.rules import Rule
from movl_monai.report.entries import GradeSection, Report, Section

__all__ = ["report_schema"]

_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string"}
_FIGURES: dict[Any, tuple[str, ...]] = {
    Section: tuple(DECLARED),
    Group: CLASS_FIGURES.leading,
    GradeSection: tuple(ORDINAL_FIGURES.declared),
}
"""Figures that an entry must have."""
_BOUNDS = {
    "least": "minimum",
    "above": "exclusiveMinimum",
    "most": "maximum",
    "shortest": "minItems",
    "longest": "maxItems",
    "only": "const",
}

Schema = dict[str, Any]


def report_schema(report: Any = Report) -> Schema:
    """Return the JSON schema (draft 2020-12) of a report.json, schema version 2.

    Entries may have more keys than it lists.

    Args:
        report: type of the report, of :mod:`movl_monai.report.entries`; that of a classification by default.

    Example:
        >>> report_schema()["properties"]["schema_version"]
        {'type': 'integer', 'const': 2}
    """
    definitions: dict[str, Schema] = {}
    _of(report, definitions)
    whole = definitions.pop(report.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "report.json of movl_monai, schema version 2",
        **whole,
        "$defs": dict(sorted(definitions.items())),
    }


def _of(hint: Any, definitions: dict[str, Schema], rules: tuple[Rule, ...] = ()) -> Schema:
    """Return the schema of a type; those of its entries are added to the definitions."""
    if get_origin(hint) in (NotRequired, Required):
        return _of(get_args(hint)[0], definitions, rules)
    if get_origin(hint) is Annotated:
        inner, *own = get_args(hint)
        return _of(inner, definitions, (*rules, *(rule for rule in own if isinstance(rule, Rule))))
    like = next((rule.like for rule in rules if rule.like is not None), hint)
    schema = _union(like, definitions) if get_origin(like) in (Union, UnionType) else _plain(like, definitions, rules)
    for rule in rules:
        bounds = {name: getattr(rule, key) for key, name in _BOUNDS.items() if getattr(rule, key) is not None}
        schema = schema | bounds | ({"description": rule.about} if rule.about else {})
        schema = _nullable(schema) if rule.null else schema
    return schema


def _plain(hint: Any, definitions: dict[str, Schema], rules: tuple[Rule, ...]) -> Schema:
    origin, parts = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}  # a type may hold itself
            definitions[hint.__name__] = _entry(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin is Literal:
        return {"enum": list(parts)}
    if origin is list:
        return {"type": "array", "items": _of(parts[0], definitions)}
    if hint in _KINDS:
        return {"type": _KINDS[hint]}
    if hint is dict or origin in (dict, Mapping):
        schema: Schema = {"type": "object"}
        if any(rule.needs for rule in rules):
            schema["required"] = [key for rule in rules for key in rule.needs]
        if any(rule.keys for rule in rules):
            schema["properties"] = {key: _of(kind, definitions) for rule in rules for key, kind in rule.keys.items()}
        if parts and parts[1] is not Any:
            schema["additionalProperties"] = _of(parts[1], definitions)
        return schema
    return {}


def _entry(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a typed dictionary."""
    figures = _FIGURES.get(hint)
    needed: list[str] = []
    properties: dict[str, Schema] = {}
    for name, kind in get_type_hints(hint, include_extras=True).items():
        if figures is not None and name in MetricFigures.__annotations__ and name not in figures:
            continue
        rules = _rules(kind)
        free = any(rule.free for rule in rules)
        asked = next((rule.needed for rule in rules if rule.needed is not None), None)
        # postponed annotations hide NotRequired from __required_keys__
        always = name in hint.__required_keys__ and get_origin(kind) is not NotRequired
        expected = not free and (always or name in (figures or ()))
        if expected if asked is None else asked:
            needed.append(name)
        if not free:
            properties[name] = _of(kind, definitions)
    schema: Schema = {"description": inspect.cleandoc(hint.__doc__)} if hint.__doc__ else {}
    return schema | {"type": "object", "required": needed, "properties": properties}


def _rules(hint: Any) -> tuple[Rule, ...]:
    if get_origin(hint) in (NotRequired, Required):
        return _rules(get_args(hint)[0])
    return tuple(rule for rule in getattr(hint, "__metadata__", ()) if isinstance(rule, Rule))


def _union(hint: Any, definitions: dict[str, Schema]) -> Schema:
    parts = [part for part in get_args(hint) if part is not NoneType]
    schema = _of(parts[0], definitions) if len(parts) == 1 else {"anyOf": [_of(part, definitions) for part in parts]}
    return _nullable(schema) if NoneType in get_args(hint) else schema


def _nullable(schema: Schema) -> Schema:
    kinds = schema.get("type")
    if kinds is None:
        return schema if "oneOf" in schema else {"oneOf": [{"type": "null"}, schema]}
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return schema | {"type": [*kinds, *(["null"] if "null" not in kinds else [])]}


if __name__ == "__main__":
    print(to_json(report_schema()), end="")
