"""Tests that the types of a report and its schema describe the same file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from movl_monai.report.entries import Report

SCHEMA = json.loads((files("movl_monai.report") / "report_schema.json").read_text(encoding="utf-8"))
KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
ANYTHING = (Any, object)


def test_schema_and_types_have_the_same_entries() -> None:
    assert list(_differences(SCHEMA, Report, "report")) == []


def _differences(schema: Mapping[str, Any], hint: Any, path: str) -> list[str]:
    parts = list(_parts(schema))
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if any(choice in ANYTHING for choice in choices):
        return []
    found = []
    stated = {kind for part in parts for kind in _kinds(part)}
    expected = {_kind(choice) for choice in choices}
    # the schema may allow null where this version always writes a value
    if (stated and stated - {"null"} != expected - {"null"}) or (stated and not expected <= stated):
        found.append(f"{path}: the schema has {sorted(stated)}, the type {sorted(expected)}")
    for part in parts:
        for choice in choices:
            found += _inside(part, choice, path)
    return found


def _inside(schema: Mapping[str, Any], hint: Any, path: str) -> list[str]:
    named = schema.get("properties", {})
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        missing = [f"{path}: the type has no {key}" for key in {*named, *schema.get("required", ())} - set(hints)]
        return missing + [
            text for key in named.keys() & hints for text in _differences(named[key], hints[key], f"{path}.{key}")
        ]
    if get_origin(hint) is list and "items" in schema:
        return _differences(schema["items"], get_args(hint)[0], f"{path}[]")
    # a dictionary with some keys of its own, such as the groups, is a union of its values
    if get_origin(hint) is dict and isinstance(schema.get("additionalProperties"), dict) and not named:
        return _differences(schema["additionalProperties"], get_args(hint)[1], f"{path}.*")
    return []


def _parts(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the schema with its references and alternatives resolved."""
    if "$ref" in schema:
        return _parts(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    inner = [*schema.get("oneOf", ()), *schema.get("allOf", ())]
    return [part for one in inner for part in _parts(one)] if inner else [schema]


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    if "enum" in schema or "const" in schema:
        return {KINDS[type(value)] for value in schema.get("enum", [schema.get("const")])}
    kinds = schema.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _kind(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return KINDS[type(get_args(hint)[0])]
    return "array" if origin is list else KINDS.get(hint, "object")
