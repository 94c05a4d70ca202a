"""The sample of cases for saliency maps."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from PIL import Image

from movl_monai.adapters import LoRA
from movl_monai.engines import prepare_image_batch
from movl_monai.evaluation import EvaluationReportHandler
from movl_monai.evaluation.explain.figure import Panel, describe, draw_explanations
from movl_monai.evaluation.explain.maps import grad_cam
from movl_monai.evaluation.explain.sample import PICTURE, Explanations
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from movl_monai.report.rebuild import rebuild_report
from tests.adapters.reference import perturb
from tests.helpers import memory_dataset, tiny_backbone, tiny_vit

NAMES = ["a", "b"]


def _network(*, vit: bool = False, prompt: bool = True) -> AdaptedClassifier:
    backbone = tiny_vit() if vit else tiny_backbone()
    adapter = LoRA(backbone, rank=2) if vit else None
    visual = PadPrompt(image_size=backbone.spec.image_size, width=4) if prompt else None
    head = LinearHead(backbone.spec.num_features, 2, init="uniform")
    # the head as well, so that what the prompt does to a logit is far above rounding
    for part in (visual, adapter, head):
        if part is not None:
            perturb(part)
    return AdaptedClassifier(backbone=backbone, prompt=visual, adapter=adapter, head=head)


def _batch(count: int, *, size: int = 32, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Images of two domains, including val images and one without a label, and logits that are right for even rows."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) // 2 % 2
    said = torch.where(torch.arange(count) % 2 == 0, labels, 1 - labels)
    batch = {
        "image": torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8),
        "id": [f"image {row}" for row in range(count)],
        "label": torch.where(torch.arange(count) == count - 1, -1, labels),
        "domain": ["id" if row % 5 else "far" if row == 0 else "other" for row in range(count)],
        "split": ["val" if row % 7 == 1 else "test" for row in range(count)],
    }
    return batch, {"pred": torch.nn.functional.one_hot(said, 2).float()}


def _rows(batch: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    def take(value: Any) -> Any:
        return value[rows] if isinstance(value, torch.Tensor) else [value[row] for row in rows]

    return {name: take(value) for name, value in batch.items()}


def _collected(batch: dict[str, Any], output: dict[str, Any], rows: list[list[int]], **options: Any) -> Explanations:
    found = Explanations(_network(), class_names=NAMES, far_domains=["far"], **options)
    for part in rows:
        found.add(_rows(batch, part), {"pred": output["pred"][part]})
    return found


def _shown(explanations: Explanations) -> list[tuple[str, bool, int]]:
    return [
        (case.domain, case.label == case.predicted, round(float(case.image.double().sum() * 255)))
        for case in explanations.cases()
    ]


def test_the_sample_depends_on_seed_and_ids_and_not_on_batches_or_their_order() -> None:
    batch, output = _batch(60)
    one = _shown(_collected(batch, output, [list(range(60))], num_images=3))
    shuffled = torch.randperm(60).tolist()
    assert _shown(_collected(batch, output, [shuffled[:17], shuffled[17:]], num_images=3)) == one
    assert _shown(_collected(batch, output, [list(range(60))], num_images=3, seed=1)) != one
    assert [place[:2] for place in one] == [
        *[("id", True)] * 3, *[("id", False)] * 3, *[("other", True)] * 3, *[("other", False)] * 3,
    ]  # fmt: skip


def test_only_labelled_test_images_are_in_the_sample() -> None:
    batch, output = _batch(60)
    found = _collected(batch, output, [list(range(60))], num_images=1000)
    wanted = [r for r in range(59) if r % 5 == 0 or batch["split"][r] == "test"][1:]  # row 0 is of a far domain
    sums = sorted(int(batch["image"][row].sum()) for row in wanted)
    assert sorted(total for *_, total in _shown(found)) == sums


def test_images_that_may_show_a_name_are_not_explained() -> None:
    batch, output = _batch(60)
    every = _collected(batch, output, [list(range(60))], num_images=1000)
    shown = _shown(every)
    left = _collected(batch, output, [list(range(60))], num_images=1000, withheld=batch["id"][:30])
    other = _collected(batch, output, [list(range(30, 60))], num_images=1000)
    assert 0 < len(_shown(left)) < len(shown)
    assert _shown(left) == _shown(other)


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    batch, output = _batch(20)
    found = _collected(batch, output, [list(range(20))])
    assert found.groups == {}
    assert found.explain() == ({"pictures": [], "notes": []}, {})


def test_batches_may_be_decollated() -> None:
    batch, output = _batch(20)
    items = [{name: value[row] for name, value in batch.items()} for row in range(20)]
    found = Explanations(_network(), class_names=NAMES, num_images=2, far_domains=["far"])
    found.add(items, [{"pred": row} for row in output["pred"]])
    assert _shown(found) == _shown(_collected(batch, output, [list(range(20))], num_images=2))


@pytest.mark.parametrize("vit", [False, True])
def test_a_panel_says_what_the_network_said_and_what_the_prompt_did(vit: bool) -> None:
    network = _network(vit=vit).eval()
    size = network.backbone.spec.image_size
    image = torch.rand(1, 3, size, size)
    with torch.no_grad():
        logits = network(image)
        said = int(logits.argmax())
        plain = AdaptedClassifier(backbone=network.backbone, adapter=network.adapter, head=network.head).eval()
        without = plain(image)
    found = Explanations(network, class_names=NAMES, num_images=1)
    found.add({"image": image, "id": ["x"], "label": torch.tensor([1 - said])}, {"pred": logits})
    panels, notes = found._panels(found.cases())
    (panel,) = panels
    assert panel.place == "ID test, wrong"
    assert (panel.predicted, panel.label) == (NAMES[said], NAMES[1 - said])
    assert panel.logit == pytest.approx(float(logits[0, said]), abs=1e-5)
    assert panel.logit_without == pytest.approx(float(without[0, said]), abs=1e-5)
    assert panel.logit != pytest.approx(panel.logit_without, abs=1e-4)
    with torch.no_grad():
        change = (network.prompt(image) - image).abs().mean(dim=1)[0]
    np.testing.assert_allclose(panel.change, change.numpy())
    assert panel.change[size // 2, size // 2] == 0
    assert panel.method == ("attention rollout" if vit else "Grad-CAM")
    if not vit:
        again = grad_cam(network, image, torch.tensor([said]))[0].numpy()
        # the same up to rounding, which on some processors depends on where in memory an image lies
        np.testing.assert_allclose(panel.look, again, rtol=1e-4, atol=1e-4 * again.max())
    assert any(panel.method.lower() in note.lower() for note in notes)
    assert any(f"the brightest {100 * change.max():.1f} %" in note for note in notes)
    assert "No case of ID test was right." in notes


def test_the_picture_comes_with_the_same_in_words() -> None:
    batch, output = _batch(30)
    found = _collected(batch, output, [list(range(30))], num_images=1)
    entry, files = found.explain()
    assert [one["file"] for one in entry["pictures"]] == list(files) == [PICTURE]
    about = entry["pictures"][0]["about"]
    for words in ("1. ID test, right: said", "2. ID test, wrong: said", "3. OOD other, right", "with the prompt"):
        assert words in about
    assert "image 1" not in about, "ids stay out"
    picture = Image.open(io.BytesIO(files[PICTURE]))
    assert picture.size[1] > picture.size[0]


def test_a_network_that_cannot_be_looked_into_is_said() -> None:
    found = Explanations(torch.nn.Linear(2, 2), class_names=NAMES, num_images=1)
    assert "Only an AdaptedClassifier" in found.explain()[0]["notes"][0]
    found = Explanations(_network(), class_names=NAMES, num_images=1)
    assert found.explain()[0]["notes"] == ["There were no test images with labels to explain."]


def test_the_report_shows_the_sample_and_keeps_it_when_it_is_made_again(tmp_path: Path) -> None:
    data = memory_dataset(12)
    items = [{**data[i], "split": "val" if i < 3 else "test", "domain": "id" if i < 8 else "b"} for i in range(12)]
    network = _network()
    network.train()

    def evaluate(folder: Path, **options: Any) -> dict[str, Any]:
        handler = EvaluationReportHandler(folder, class_names=NAMES, network=network, rounds=10, **options)
        SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=torch.utils.data.DataLoader(items, batch_size=5),
            network=network,
            prepare_batch=prepare_image_batch,
            val_handlers=[handler],
        ).run()
        return json.loads((folder / "report.json").read_text(encoding="utf-8"))

    assert evaluate(tmp_path / "plain")["explanations"]["pictures"] == []
    assert not (tmp_path / "plain" / PICTURE).exists()
    report = evaluate(tmp_path / "shown", explanation_images=1)
    (picture,) = report["explanations"]["pictures"]
    assert picture["file"] == PICTURE
    assert picture["about"].count("said") == len({*report["ood"], "id"}) * 2 - _gaps(report)
    content = (tmp_path / "shown" / PICTURE).read_bytes()
    page = (tmp_path / "shown/report.html").read_text(encoding="utf-8")
    assert f'alt="{html.escape(picture["about"])}"' in page
    assert rebuild_report(tmp_path / "shown")["explanations"] == report["explanations"]
    assert (tmp_path / "shown" / PICTURE).read_bytes() == content
    assert network.training


def _gaps(report: dict[str, Any]) -> int:
    """Return the groups without a case, which the notes name."""
    return sum(note.startswith("No case of") for note in report["explanations"]["notes"])


def _panel(**changes: Any) -> Panel:
    look, change = np.zeros((3, 3)), np.zeros((9, 9))
    look[0, 2], change[0] = 1.0, 0.5
    own = {"place": "ID test, right", "predicted": "$x$", "label": "b", "probability": 0.75, "logit": 1.0}
    own |= {"logit_without": 0.5, "image": np.zeros((9, 9, 3)), "look": look, "method": "Grad-CAM", "change": change}
    return Panel(**{**own, **changes})


def test_the_words_name_the_place_that_is_looked_at_most() -> None:
    assert "looks mostly at the top right; logit of $x$ 1.00 with the prompt, 0.50 without" in describe([_panel()])
    middle = _panel(look=np.ones((4, 4)), change=None, logit_without=None)
    assert "said $x$ (0.75), truth b, looks mostly at the middle." in describe([middle])
    assert "where the prompt changes it" not in describe([middle])
    two = np.zeros((7, 7))
    two[0, 3], two[6, 2:5] = 1.0, 0.2
    assert "looks mostly at the top;" in describe([_panel(look=two)]), "not in between"
    assert "looks mostly at nothing" in describe([_panel(look=np.zeros((2, 2)))])


def test_the_map_is_drawn_where_it_is_and_a_missing_prompt_takes_no_column() -> None:
    wide, narrow = (
        np.asarray(Image.open(io.BytesIO(draw_explanations([_panel(**changes)]))).convert("RGB")).astype(int)
        for changes in ({}, {"change": None, "logit_without": None})
    )
    assert narrow.shape[1] < wide.shape[1]
    half = narrow[:, narrow.shape[1] // 2 :].sum(axis=2)  # the panel with the map; the image itself is black
    bright = (half > 250) & (half < 600)
    rows, columns = np.nonzero(bright)
    assert rows.mean() < half.shape[0] / 2
    assert columns.mean() > half.shape[1] / 2
