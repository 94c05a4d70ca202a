from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from movl_monai.experiments.compare import Difference, DomainFigures, compare_results
from movl_monai.experiments.compare.comparison import Comparison, Outcome
from movl_monai.experiments.compare.figure import draw_comparison
from movl_monai.experiments.compare.table import (
    comparison_csv,
    comparison_html,
    comparison_markdown,
    conclusions,
    cost_rows,
    domain_rows,
)
from movl_monai.metrics.declared import CLASS_FIGURES
from tests.report.once import assert_once, distinct
from tests.tables import read_rows

Finished = tuple[Comparison, Outcome]
REFERENCES = ("linear_probe", "full_finetune")


@pytest.fixture(scope="module")
def figures(finished: Finished) -> list[DomainFigures]:
    return compare_results(finished[1].results, references=REFERENCES, rounds=100)


def _rows(path: Path, domain: str) -> list[dict[str, str]]:
    return [row for row in read_rows(path) if row["domain"] == domain]


def test_the_numbers_of_the_csv_are_those_of_the_predictions(finished: Finished, figures: list[DomainFigures]) -> None:
    comparison, outcome = finished
    table = {
        (row["domain"], row["arm"]): row
        for row in csv.DictReader(io.StringIO(comparison_csv(outcome, figures, REFERENCES)))
    }
    assert len(table) == 4
    for (domain, arm), row in table.items():
        expected: dict[str, list[float]] = {"accuracy": [], "balanced_accuracy": [], "auroc": []}
        for seed in comparison.seeds:
            every = _rows(comparison.folder.run(arm, seed) / "evaluation/predictions.csv", domain)
            rows = [part for part in every if part["split"] != "val"]
            assert len(every) - len(rows) == (6 if domain == "id" else 0)
            truth = [part["label"] for part in rows]
            said = [part["predicted"] for part in rows]
            scores = [float(part["probability_lesion"]) for part in rows]
            expected["accuracy"].append(accuracy_score(truth, said))
            expected["balanced_accuracy"].append(balanced_accuracy_score(truth, said))
            expected["auroc"].append(roc_auc_score([name == "lesion" for name in truth], scores))
        for metric, values in expected.items():
            assert float(row[f"{metric}_mean"]) == pytest.approx(np.mean(values))
            assert float(row[f"{metric}_sd"]) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
        checkpoint = comparison.folder.run(arm, 0) / "models/model.pt"
        assert int(row["checkpoint_bytes"]) == checkpoint.stat().st_size
        if arm == "joint":
            change = float(row["auroc_mean"]) - float(table[domain, "linear_probe"]["auroc_mean"])
            assert float(row["auroc_minus_linear_probe"]) == pytest.approx(change, abs=1e-12)


def test_the_page_says_how_it_was_made_and_names_no_folder(finished: Finished, figures: list[DomainFigures]) -> None:
    comparison, outcome = finished
    page = comparison_markdown(comparison, outcome, figures, command="movl-monai compare X", picture="p.png")
    for words in ("movl-monai compare X", "seeds: 0, 1", "2 trials per arm", "image size: 32", "6 images, 3 patients"):
        assert words in page
    assert "train: 12 images" in page
    assert str(comparison.folder.path) not in page
    assert "PHANTOM" not in page


def test_the_cost_table_tells_when_the_start_was_selected(finished: Finished) -> None:
    comparison, outcome = finished
    probe, joint = cost_rows(comparison, outcome)
    assert probe["selected state"] == "solved, no epochs"
    assert probe["searched values"] == "nothing searched"
    epochs = [result.training.epoch for result in outcome.results if result.arm == "joint"]
    starts = sum(epoch == 0 for epoch in epochs)
    assert joint["selected state"] == f"start in {starts} of 2 (epochs {epochs[0]}, {epochs[1]})"


def _entry(arm: str, interval: tuple[float, float], *, domain: str = "id") -> DomainFigures:
    values = {name: np.array([0.8, 0.9]) for name in CLASS_FIGURES.compared}
    change = {name: Difference(value=0.1, interval=interval) for name in values}
    differences = {} if arm == "linear_probe" else {"linear_probe": change}
    bounds = dict.fromkeys(values, (0.7, 0.95))
    facts = {"images": 10, "patients": 5, "seeds": (0, 1), "values": values, "intervals": bounds}
    return DomainFigures(arm=arm, domain=domain, differences=differences, **facts)


def test_the_conclusion_names_the_arms_whose_interval_excludes_0_or_says_none() -> None:
    base = _entry("linear_probe", (0, 0))
    said = conclusions([base, _entry("better", (0.02, 0.2)), _entry("same", (-0.1, 0.2))], REFERENCES)
    assert "for better (+0.100 [0.020, 0.200]) (of 2 arms)" in said[0]
    assert "about 0.1 of them" in said[-1]
    assert "for none (of 1 arms)" in conclusions([base, _entry("same", (-0.1, 0.2))], REFERENCES)[0]
    assert conclusions([base], REFERENCES) == ["No reference arm is among the arms, so there are no differences."]


def test_other_domains_are_judged_by_auroc_which_comes_first_and_old_results_have_no_moved_threshold() -> None:
    entries = [_entry(arm, (0.02, 0.2), domain="far") for arm in ("linear_probe", "better")]
    assert conclusions(entries, REFERENCES)[0].startswith("- far, macro AUROC against linear_probe: ")
    assert list(domain_rows(entries, ["linear_probe"])[1]) == [
        *("arm", "macro AUROC", "balanced accuracy", "balanced accuracy, moved threshold", "accuracy"),
        *("accuracy, moved threshold", "macro AUROC - linear_probe [95 %]"),
    ]
    for entry in entries:
        entry.values["accuracy_moved"][:] = entry.values["balanced_accuracy_moved"][:] = np.nan  # type: ignore[index]
    assert list(domain_rows(entries, [])[1]) == ["arm", "macro AUROC", "balanced accuracy", "accuracy"]


def test_the_picture_grows_with_the_references_and_stays_the_same(figures: list[DomainFigures]) -> None:
    from PIL import Image

    with_differences = draw_comparison(figures, references=REFERENCES)
    without = draw_comparison(figures)
    sizes = [Image.open(io.BytesIO(content)).size for content in (with_differences, without)]
    assert sizes[0][1] > sizes[1][1]
    assert draw_comparison(figures) == without


def test_every_number_of_the_page_stands_once(
    finished: Finished, figures: list[DomainFigures], monkeypatch: pytest.MonkeyPatch
) -> None:
    (comparison, outcome), numbers = finished, itertools.count(1)
    images = {domain: 20_000 + number for number, domain in enumerate(dict.fromkeys(one.domain for one in figures))}
    numbered = [
        dataclasses.replace(
            one,
            images=images[one.domain],
            values={metric: np.full(len(one.seeds), distinct(0.5, numbers)) for metric in one.values},
            differences={
                reference: {
                    metric: Difference(value=distinct(0.5, numbers), interval=tuple(distinct([0.5, 0.5], numbers)))
                    for metric in found
                }
                for reference, found in one.differences.items()
            },
        )
        for one in figures
    ]
    sizes = {f"test {name}": {"images": n, "patients": 5, "classes": {"a": 5}} for name, n in images.items()}
    monkeypatch.setattr(type(comparison.data), "sizes", lambda self: sizes)
    page = comparison_html(comparison, outcome, numbered, command="", picture=b"")
    report = [dataclasses.asdict(one) for one in numbered]
    for one in report:
        one["values"] = {metric: float(values[0]) for metric, values in one["values"].items()}
        one["domain"] = {}
    assert assert_once([*images.values(), *report], page) > 10
