"""Labels that join others are refused, not trained as classes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from movl_monai.data import read_datalist
from movl_monai.data.several_labels import joined_labels
from movl_monai.errors import DataError


@pytest.mark.parametrize(
    ("labels", "joined"),
    [
        (["no", "referable|maculopathy"], ["referable|maculopathy"]),
        (["a", "b", "a;b"], ["a;b"]),
        (["a", "b", "a, c"], ["a, c"]),
        (["pneumonia, viral", "normal"], []),
        (["a", "b"], []),
    ],
)
def test_joined_labels_are_told_from_names(labels: list[str], joined: list[str]) -> None:
    assert joined_labels(labels) == joined


def test_reading_refuses_joined_labels(tmp_path: Path) -> None:
    for name in "xyz":
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    table = "path,label,patient_id\nx.png,a,1\ny.png,b,2\nz.png,a|b,3\n"
    (tmp_path / "list.csv").write_text(table)
    with pytest.raises(DataError, match=r"several labels per image: 'a\|b'"):
        read_datalist(tmp_path / "list.csv")
