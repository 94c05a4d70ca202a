"""A name in a picture can be read, or is the number of its class; no two classes look alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from movl_monai import fonts
from movl_monai.evaluation.explain.figure import Panel
from movl_monai.fonts import legible, legible_names
from movl_monai.predict.dicom import draw_classes
from movl_monai.predict.dicom.report import _numbers
from movl_monai.report.figure import _add_legend
from movl_monai.report.sections.canvas import chart_names
from movl_monai.report.tasks import CLASSIFICATION


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Größe", "Größe"),
        ("пневмония", "пневмония"),
        ("cafe\u0301", "café"),
        ("肺炎", "class 2"),
        ("ذات الرئة", "class 2"),
        ("דלקת", "class 2"),
        ("한국어", "class 2"),
        ("lung \U0001fac1", "class 2"),
        ("left\u200b", "class 2"),
        ("\u202eleft", "class 2"),
        ("\ue000", "class 2"),
        (" ", "class 2"),
    ],
)
def test_a_name_without_glyphs_is_its_number(name: str, shown: str) -> None:
    assert legible(name, 2) == shown


def test_no_two_classes_are_shown_alike() -> None:
    names = ["正常", "肺炎", "p" * 60, "p" * 60 + "q", "cafe\u0301", "café"]
    assert legible_names(names) == [f"class {number}" for number in range(6)]
    assert chart_names(["no", "a $x$"]) == ["no", r"a \$x\$"]


def test_every_letter_that_is_kept_has_a_glyph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_letters", lambda: frozenset(map(ord, "abc")))
    assert legible_names(["abc", "abd"]) == ["abc", "class 1"]


@pytest.mark.parametrize("abstain", [True, False])
def test_captures_name_the_number_of_the_class(abstain: bool) -> None:
    row = {"predicted": "肺炎", "probabilities": [0.2, 0.8], "abstain": abstain}
    said = " ".join(CLASSIFICATION.said(row, ["正常", "肺炎"]))
    assert "class 1" in said
    assert "肺炎" not in said


def test_a_report_says_which_class_a_number_means() -> None:
    assert _numbers(["正常", "pneumonia"]) == "In pictures class 0 is 正常."
    assert _numbers(["normal", "class 1"]) == ""


def test_contours_of_two_classes_have_legends_that_differ() -> None:
    classes = np.zeros((32, 32), np.uint8)
    pictures = []
    for number in (1, 2):
        classes[8:24, 8:24] = number
        picture = draw_classes(np.zeros((3, 32, 32)), classes, ["背景", "肝", "脾"])
        pictures.append(picture[384:].max(axis=2) > 60)
    assert (pictures[0] != pictures[1]).any()


def test_figures_name_numbers_and_texts_name_classes() -> None:
    image = np.zeros((4, 4, 3))
    facts: dict[str, Any] = {"place": "ID", "probability": 0.9, "logit": 1.0, "logit_without": 0.5, "method": "CAM"}
    panel = Panel(
        predicted="肺炎",
        label="正常",
        image=image,
        look=image[..., 0],
        change=None,
        shown=("class 1", "class 0"),
        **facts,
    )
    assert panel.said(shown=True) == "said class 1 (0.90), truth class 0"
    assert panel.effect(shown=True).startswith("logit of class 1 ")
    assert panel.said() == "said 肺炎 (0.90), truth 正常"


def test_the_legend_of_masks_has_the_numbers_of_the_masks() -> None:
    found: list[str] = []

    class Drawn:
        def legend(self, *, handles: Any, **_: Any) -> None:
            found.extend(handle.get_label() for handle in handles)

    _add_legend(Drawn(), ["背景", "肝", "spleen"])
    assert found == ["class 1", "spleen"]
