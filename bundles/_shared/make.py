"""Write the files that the bundles share, from the sources in this folder (`make bundles`).

`train.json` in this folder makes the `configs/train.json` of every bundle, and so do the other files here;
`manual.json`, a line on each setting and overlay, makes `docs/manual.json` and the tables in
`docs/README.md`; `metadata_schema.json` goes to `docs/`, too. Text files
and the repository's LICENSE are copied. A JSON source may hold three things that the bundles' files do not:

- A key in brackets is for the bundles that it names by name, method or task: `"[dvpt_classification]"`, `"[dvpt]"`,
  `"[movl, segmentation]"`. Its value takes the place of the key. Words behind the brackets are a comment. Where none of
  the bracketed keys of a mapping is for a bundle and it has no other, the bundle does without it: an id, an entry of a
  list, or the whole file.
- `"%train.json::image_size"` is the value that this id has in the bundle's train.json.
- `{bundle}` in a string is the name of the bundle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parent
ROOT = SHARED.parents[1]
BUNDLES = sorted(path.parents[1].name for path in SHARED.parent.glob("*/configs/metadata.json"))
WIDTH = 100
MANUAL = "manual.json"
README = "docs/README.md"
IN_DOCS = (MANUAL, "metadata_schema.json")

# copied into other folders than configs/
_COPIES = {"LICENSE": ROOT / "LICENSE", "deploy/requirements.txt": SHARED / "requirements.txt"}
_LEFT_OUT = object()
_BRACKETS = re.compile(r"\[([\w, ]+)\]")
_ELSEWHERE = re.compile(r"%(\w+\.json)::(.+)")


def make(bundle: str) -> dict[str, str]:
    """Return the text of every shared file of a bundle, by its place there."""
    texts = {place: source.read_text(encoding="utf-8") for place, source in _COPIES.items()}
    for source in sorted([*SHARED.glob("*.json"), *SHARED.glob("*.conf")]):
        folder = "docs" if source.name in IN_DOCS else "configs"
        if source.suffix != ".json":
            texts[f"{folder}/{source.name}"] = source.read_text(encoding="utf-8")
        elif (content := make_config(bundle, source.name)) is not _LEFT_OUT:
            texts[f"{folder}/{source.name}"] = format_json(content) + "\n"
    readme = SHARED.parent / bundle / README
    if readme.is_file():
        texts[README] = _fill(readme.read_text(encoding="utf-8"), bundle, make_config(bundle, MANUAL))
    return texts


def _fill(text: str, bundle: str, manual: Mapping[str, Any]) -> str:
    """Return a page with the tables of the manual between its marks."""
    rows = {"settings": _setting_rows(bundle, manual), "overlays": _overlay_rows(manual)}
    for name, lines in rows.items():
        start, end = f"<!-- {name}: from _shared/{MANUAL} -->\n", f"<!-- /{name} -->"
        before, mark, rest = text.partition(start)
        text = before + mark + "\n".join(lines) + "\n" + end + rest.partition(end)[2] if mark else text
    return text


def _setting_rows(bundle: str, manual: Mapping[str, Any]) -> list[str]:
    configs = _configs(bundle)
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for group, lines in manual["settings"].items():
        rows.append(f"| **{group}** | | |")
        for name, line in lines.items():
            default = manual["defaults"].get(name) or _default(configs, name)
            rows.append(f"| `{name}` | {default} | {line} |")
    return rows


def _configs(bundle: str) -> dict[str, dict[str, Any]]:
    """Return the config files of a bundle as their sources say, by name."""
    contents = {}
    for path in sorted((SHARED.parent / bundle / "configs").glob("*.json")):
        shared = (SHARED / path.name).is_file()
        content = make_config(bundle, path.name) if shared else json.loads(path.read_text(encoding="utf-8"))
        contents[path.name] = {} if content is _LEFT_OUT else content
    return contents


def _default(configs: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the value of a setting in the workflows' own files, or else in the overlays that have it."""
    own = ("train.json", "evaluate.json", "inference.json")
    found = [configs[file][name] for file in own if name in configs[file]][:1]
    found = found or [content[name] for content in configs.values() if name in content]
    if not found:
        raise ValueError(f"No config has the setting {name} of {MANUAL}.")
    value = found[0]
    if any(other != value for other in found):
        return "by overlay"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`".replace("|", "\\|")  # of a table


def _overlay_rows(manual: Mapping[str, Any]) -> list[str]:
    rows = [f"| `{name}.json` | {line} |" for name, line in sorted(manual["overlays"].items())]
    return ["| file | meaning |", "| --- | --- |", *rows]


def make_config(bundle: str, name: str) -> Any:
    """Return the content of a shared JSON file for one bundle.

    Raises:
        ValueError: naming the file, for a bracketed word or an id that does not exist.
    """
    try:
        source = json.loads((SHARED / name).read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
        return _resolve(source, bundle, "")
    except ValueError as error:
        raise ValueError(f"bundles/_shared/{name}: {error}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"the keys {sorted(twice)} stand twice in one mapping; put a comment behind the brackets.")
    return dict(pairs)


def _resolve(node: Any, bundle: str, name: str) -> Any:
    if isinstance(node, Mapping):
        return _resolve_mapping(node, bundle, name)
    if isinstance(node, list):
        values = [_resolve(entry, bundle, name) for entry in node]
        return [value for value in values if value is not _LEFT_OUT]
    if isinstance(node, str):
        found = _ELSEWHERE.fullmatch(node)
        return _value_of(bundle, found[1], found[2]) if found else node.replace("{bundle}", bundle)
    return node


def _resolve_mapping(node: Mapping[str, Any], bundle: str, name: str) -> Any:
    result: dict[str, Any] = {}
    chosen = {key: value for key, value in node.items() if _is_for(key, bundle)}
    if node and not chosen:
        return _LEFT_OUT
    for key, entry in chosen.items():
        value = _resolve(entry, bundle, f"{name}::{key}")
        if not _BRACKETS.match(key):
            value = {} if value is _LEFT_OUT else {key: value}
        elif not isinstance(value, dict):
            if len(chosen) > 1:
                raise ValueError(f"{name}: {list(chosen)} are all for {bundle}, and {key} is not a mapping.")
            return value
        if twice := value.keys() & result.keys():
            raise ValueError(f"{name}: {sorted(twice)} is set twice for {bundle}.")
        result |= value
    return result


def _is_for(key: str, bundle: str) -> bool:
    found = _BRACKETS.match(key)
    if found is None:
        return True
    words = {word.strip() for word in found[1].split(",")}
    if unknown := words - {word for name in BUNDLES for word in _words_for(name)}:
        raise ValueError(f"{key} names {sorted(unknown)}, which is no bundle, method or task of {', '.join(BUNDLES)}.")
    return bool(words & _words_for(bundle))


def _words_for(bundle: str) -> set[str]:
    return {bundle, *bundle.split("_")}


def _value_of(bundle: str, file: str, name: str) -> Any:
    value = make_config(bundle, file)
    for part in name.split("::"):
        if not isinstance(value, dict) or part not in value:
            raise ValueError(f"{bundle} has no {name} in {file}.")
        value = value[part]
    return value


def format_json(value: Any, *, indent: int = 0, used: int = 0) -> str:
    """Return JSON with four spaces per level, and every short list of plain values on one line.

    Args:
        value: of JSON.
        indent: of the line in which it begins.
        used: characters of that line before it.
    """
    flat = json.dumps(value, ensure_ascii=False)
    plain = isinstance(value, list) and not any(isinstance(entry, (dict, list)) for entry in value)
    if not value or not isinstance(value, (dict, list)) or (plain and used + len(flat) < WIDTH):
        return flat
    inner = " " * (indent + 4)
    if isinstance(value, list):
        lines = [inner + format_json(entry, indent=indent + 4, used=indent + 4) for entry in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"
    starts = [f"{inner}{json.dumps(name, ensure_ascii=False)}: " for name in value]
    lines = [
        start + format_json(entry, indent=indent + 4, used=len(start))
        for start, entry in zip(starts, value.values(), strict=True)
    ]
    return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"


def changed() -> Iterator[tuple[Path, str]]:
    """Yield the files of the bundles that are not as their source says, with the text that they should have."""
    for bundle in BUNDLES:
        for place, text in make(bundle).items():
            path = SHARED.parent / bundle / place
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                yield path, text


def main() -> None:
    """Write what is not as its source says, and say which files those are."""
    for path, text in changed():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
