"""The model card: facts from a report, unknown facts, and its text."""

from __future__ import annotations

from typing import Any

import pytest

from movl_monai.evaluation import build_mask_report, render_html
from movl_monai.metrics.declared import CLASS_FIGURES
from movl_monai.report.model_card import data_facts, model_card, model_card_markdown
from tests.report.full_report import full_report

SPEC = {"name": "tf_efficientnet_lite0", "image_size": 128, "weights": "package 0.1.0", "license": "Apache-2.0"}
RUN = {"seed": 7, "backbone": {**SPEC, "weights_sha256": "ab" * 32}, "git_commit": "c" * 40, "git_modified": False}


def report(**entries: Any) -> dict[str, Any]:
    return {"run": RUN, "classes": ["no", "yes"], "id": {"n": 400}, "ood": {"b": {"n": 200}}, **entries}


def test_the_card_has_weights_licence_hash_seed_and_commit() -> None:
    rows = [{"domain": "id", "split": "train", "images": 3, "patients": 2, "classes": {"no": 1, "yes": 2}}]
    card = model_card(report(), data=rows, bundle={"bundle": "movl_classification", "bundle_version": "0.1.0"})
    assert card["weights"] == {"source": "package 0.1.0", "license": "Apache-2.0", "sha256": "ab" * 32}
    assert (card["run"]["seed"], card["run"]["git_commit"]) == (7, "c" * 40)
    assert (card["model"]["bundle"], card["model"]["backbone"]) == ("movl_classification", "tf_efficientnet_lite0")
    assert card["data"] == rows
    assert card["notes"] == []
    assert "Research only" in card["notice"]
    assert card["intended_use"] == "not stated"


@pytest.mark.parametrize(
    ("entries", "note"),
    [
        ({"run": {}}, "The backbone and where its weights come from are not known."),
        ({"run": {**RUN, "backbone": {**SPEC, "license": None}}}, "The licence of the weights is not known"),
        ({"run": {**RUN, "git_modified": True}}, "The code differed from the commit."),
        ({}, "Counts of the data by split were not stored"),
    ],
)
def test_what_is_not_known_is_said(entries: dict[str, Any], note: str) -> None:
    assert any(note in text for text in model_card(report(**entries))["notes"])


@pytest.mark.parametrize(
    ("entries", "limit"),
    [
        ({"ood": {}}, "not evaluated on external images"),
        ({"ood": {"b": {"n": 12}}}, "Only 12 labeled test images (b)"),
        ({"ood": {"b": {"n": 200, "intervals": {"balanced_accuracy": [0.47, 0.6]}}}}, "(b) it is not clearly better"),
        ({"id": None}, "not evaluated on test images of the training domain"),
        ({"run": {**RUN, "backbone": {**SPEC, "weights": "random, seed 0"}}}, "random weights"),
    ],
)
def test_limits_follow_from_the_evaluation(entries: dict[str, Any], limit: str) -> None:
    assert any(limit in text for text in model_card(report(**entries))["limits"])
    assert not any(limit in text for text in model_card(report())["limits"])


def test_data_are_counted_by_domain_and_split_without_names() -> None:
    rows = data_facts(
        splits=["test", "train", "train", ""],
        domains=["id", "id", "id", "scanner_b"],
        labels=[0, 1, 1, -1],
        patients=["Smith", "Jones", "Jones", None],
        class_names=["no", "yes"],
    )
    assert [(row["domain"], row["split"], row["images"], row["patients"]) for row in rows] == [
        ("id", "train", 2, 1),
        ("id", "test", 1, 1),
        ("scanner_b", "", 1, None),
    ]
    assert rows[0]["classes"] == {"no": 0, "yes": 2}
    assert rows[2]["unlabeled"] == 1
    assert "Smith" not in str(rows)


def test_the_text_has_every_section_and_the_figures_of_the_report() -> None:
    whole = full_report()
    text = model_card_markdown(whole, CLASS_FIGURES)
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Intended use", "Model", "Weights", "Data", "Figures", "Limits", "Run", "Not known"]
    assert f"{whole['id']['balanced_accuracy']:.3f}" in text
    assert "| scanner_b |" in text


@pytest.mark.parametrize(
    ("start", "held"), [("untrained", "This model holds an untrained head."), ("solved", "what was solved before it")]
)
def test_a_kept_start_is_said_first(start: str, held: str) -> None:
    card = model_card(report(), bundle={"kept_start": start})
    assert card["kept_start"].startswith("THE START WAS KEPT: no epoch of training was better on val")
    assert held in card["kept_start"]
    whole = {**full_report(), "model_card": card}
    assert model_card_markdown(whole, CLASS_FIGURES).splitlines()[2] == f"**{card['kept_start']}**"
    mask = build_mask_report([], class_names=["background", "lesion"], rounds=10, bundle={"kept_start": start})
    pages = [render_html(whole, {}), render_html(mask | {"files": {}}, {})]
    for page in pages:
        assert page.index(held) < page.index("For research only") < page.index(">Internal test<")
        assert page.count(held) == 1
    assert "THE START" not in model_card_markdown(full_report(), CLASS_FIGURES) + render_html(full_report(), {})


def test_the_page_names_the_overlays_first() -> None:
    overlays = ["strategy_lp.json", "<b>.json"]
    whole = {**full_report(), "model_card": model_card(report(), bundle={"overlays": overlays})}
    page = render_html(whole, {})
    named = "Config files on top of train.json: strategy_lp.json, &lt;b&gt;.json"
    assert page.index(named) < page.index(">Internal test<")
    assert "on top of train.json" not in render_html(full_report(), {})


def test_names_cannot_start_markup_in_the_text() -> None:
    text = model_card_markdown(full_report(names=["<script>", "a|b\n# c", "`x`"]), CLASS_FIGURES)
    assert "<script>" not in text.replace("\\<script>", "")
    assert "\n# c" not in text
