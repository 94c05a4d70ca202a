"""Cards and checklists: filled with facts of the run alone, and marked where the author has to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from movl_monai.cli import main
from movl_monai.evaluation import build_mask_report
from movl_monai.report.cards import card_sections, front_matter
from movl_monai.report.checklists import CHECKLISTS, Checklist, fill_checklist
from movl_monai.report.facts import AUTHOR, facts_of
from movl_monai.report.model_card import model_card
from tests.report.full_report import full_report

REPORTS = {
    "classification": full_report,
    "segmentation": lambda: build_mask_report([], class_names=["background", "lesion"], rounds=10),
    "first schema": lambda: {key: full_report()[key] for key in ("id", "ood", "classes", "run", "notes")},
}
reports = pytest.mark.parametrize("kind", REPORTS)


@reports
def test_cards_and_checklists_hold_nothing_but_facts_of_the_run(kind: str) -> None:
    report = REPORTS[kind]()
    known = {text for text in facts_of(report).values() if text}
    card = card_sections(json.loads(json.dumps(report)))
    texts = [text for name in ("fda", "chai") for section in card[name].values() for text in section.values()]
    texts += [one.text for name in CHECKLISTS for one in fill_checklist(report, name) if one.text]
    for text in set(texts) - {AUTHOR}:
        rest = text
        for fact in sorted(known, key=len, reverse=True):
            rest = rest.replace(fact, "")
        assert not rest.strip(), rest
    assert AUTHOR in texts
    assert (
        card["fda"]["Intended use"]["Intended use"]
        == card["chai"]["Uses and directions"]["Intended use and workflow"]
        == "not stated"
    )


def test_an_intended_use_is_told_as_the_bundle_states_it() -> None:
    report = {**full_report(), "model_card": model_card(full_report(), bundle={"intended_use": "Triage of X-rays."})}
    (item,) = [one for one in fill_checklist(report, "claim") if one.item.number == "3"]
    assert (item.text, item.by) == ("Triage of X-rays.", "run, author")
    (item,) = [one for one in fill_checklist(full_report(), "claim") if one.item.number == "3"]
    assert (item.text, item.by) == ("not stated", "author")


@pytest.mark.parametrize(("name", "items", "parts"), [("tripod-ai", 27, 52), ("claim", 44, 44)])
def test_a_checklist_has_every_item_once(name: Checklist, items: int, parts: int) -> None:
    numbers = [item.number for item in CHECKLISTS[name][1]]
    assert len(set(numbers)) == len(numbers) == parts
    assert sorted({int(number.rstrip("abcdefg")) for number in numbers}) == list(range(1, items + 1))


def test_front_matter_is_yaml_with_the_figures_of_the_tests() -> None:
    report = full_report(domain="scanner: b\n---")
    start, text, end = front_matter(report).split("---\n")
    assert start == end == ""
    (model,) = yaml.safe_load(text)["model-index"]
    shown = {one["dataset"]["type"]: {m["type"]: m["value"] for m in one["metrics"]} for one in model["results"]}
    assert shown["id"]["auroc"] == pytest.approx(report["id"]["auroc"])
    assert set(shown) == {"id", "ood:hospital_c", "ood:scanner: b\n---"}
    assert "model-index" not in yaml.safe_load(front_matter({**report, "id": None, "ood": {}}).split("---\n")[1])


@pytest.mark.parametrize("name", CHECKLISTS)
def test_the_command_writes_a_checklist(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    report = full_report(names=["a|b", "<i>", "c"])
    (folder / "report.json").write_text(json.dumps(report))
    assert main(["report", str(tmp_path), "--checklist", name]) == 0
    assert f"{len(CHECKLISTS[name][1])} items" in capsys.readouterr().out  # type: ignore[index]
    page = (folder / f"{name}.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert f"{report['id']['auroc']:.3f}" in page
    assert "<i>" not in page.replace("\\<i>", "")


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"schema_version": 9}, 2, "has schema version 9; this version of movl_monai reads 1 and 2"),
        ({"run": 3}, 2, "This report is incomplete"),
        ({"id": None, "ood": {}}, 0, "The run has no figures: no test images were evaluated."),
    ],
)
def test_a_report_that_is_not_whole_is_one_sentence(
    change: dict[str, Any], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {key: value for key, value in full_report().items() if key != "model_card"}
    (tmp_path / "report.json").write_text(json.dumps({**report, **change}))
    assert main(["report", str(tmp_path), "--checklist", "claim"]) == code
    shown = capsys.readouterr()
    assert message in " ".join((shown.err if code else shown.out).split())
    assert main(["report", str(tmp_path), str(tmp_path), "--checklist", "claim"]) == 2
    assert "--checklist needs one RUN" in " ".join(capsys.readouterr().err.split())
