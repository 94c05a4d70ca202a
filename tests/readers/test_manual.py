"""The tables for users agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

from movl_monai.readers import REASONS
from movl_monai.readers.dicom import FLAGS
from movl_monai.readers.dicom.decode import DECODERS
from movl_monai.transforms import __all__ as exported

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "images.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, str]]:
    """The rows of the first table below a heading."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return [row for row in found if not row[0].startswith(("---", "reason", "flag", "transfer"))]


def test_reasons_and_flags_are_those_of_the_code_in_its_words() -> None:
    assert dict(rows("Reasons")) == {f"`{reason}`": meaning for reason, meaning in REASONS.items()}
    assert dict(rows("Flags")) == {f"`{flag}`": meaning for flag, meaning in FLAGS.items()}


def test_decoders_are_listed_in_their_order() -> None:
    listed = {uid.group(1): names for name, names in rows("Decoders") if (uid := re.search(r"\(`([\d.]+)`\)$", name))}
    assert listed == {str(syntax): ", ".join(names) for syntax, names in DECODERS.items()}


def test_the_transforms_it_names_exist() -> None:
    named = set(re.findall(r"`(\w+)`", TEXT.split("```")[0])) | set(re.findall(r"\b(\w+d)\(", TEXT))
    assert {name for name in named if name[0].isupper() and name != "PresentationLUTShape"} <= {*exported, "LoadImaged"}


def test_the_example_runs_up_to_its_data() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    made: dict[str, object] = {}
    exec(example, made)  # the example is ours
    assert {"chain", "pairs", "slices"} <= made.keys()
