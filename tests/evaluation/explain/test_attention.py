"""Attention maps of dynamic prompts."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from PIL import Image

from movl_monai.adapters import DVPT, Adapter, LoRA
from movl_monai.engines import prepare_image_batch
from movl_monai.evaluation import EvaluationReportHandler, write_html
from movl_monai.evaluation.explain.attention import AttentionMaps, draw_attention, relative
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from tests.adapters.reference import perturb
from tests.helpers import memory_dataset, tiny_swin, tiny_vit


def _network(adapter: type[Adapter] | None = DVPT) -> AdaptedClassifier:
    backbone = tiny_vit()
    options = {"num_prompts": 3} if adapter is DVPT else {}
    made = None if adapter is None else adapter(backbone, **options)
    if made is not None:
        perturb(made, scale=0.1)  # so that no softmax saturates
    return AdaptedClassifier(backbone=backbone, adapter=made, head=LinearHead(64, 2, init="uniform")).eval()


def test_attention_is_that_of_the_queries_over_the_tokens_of_each_block() -> None:
    network, image = _network(), torch.rand(2, 3, 64, 64)
    found = network.prompt_attention(image)
    assert list(found) == [0, 1, 2, 3, 4, 5]
    assert all(weights.shape == (2, 3, 4, 4) for weights in found.values())
    module, tokens = network.adapter.shared[0], network.adapted.path.embed(network.backbone.normalize(image))
    keys = torch.nn.functional.gelu(tokens @ module.down.T)
    expected = (torch.einsum("mh,bnh->bmn", module.queries, keys) / 20**0.5).softmax(dim=2)
    torch.testing.assert_close(found[0].flatten(2), expected[:, :, 1:])
    assert all((weights.sum(dim=(2, 3)) < 1).all() for weights in found.values()), "the class token has its share"


def test_attention_in_a_hierarchy_sums_to_one_and_has_the_maps_of_its_stages() -> None:
    backbone = tiny_swin()
    network = AdaptedClassifier(backbone=backbone, adapter=DVPT(backbone, num_prompts=2), head=LinearHead(32, 2))
    found = network.prompt_attention(torch.rand(2, 3, 32, 32))
    assert [tuple(weights.shape[2:]) for weights in found.values()] == [(8, 8)] * 2 + [(4, 4)] * 3
    torch.testing.assert_close(found[4].sum(dim=(2, 3)), torch.ones(2, 2))


@pytest.mark.parametrize("adapter", [None, LoRA])
def test_a_network_without_dynamic_prompts_gives_no_picture(adapter: type[Adapter] | None) -> None:
    maps = AttentionMaps(_network(adapter))
    maps.add(torch.rand(2, 3, 64, 64))
    assert maps.picture() is None


def test_the_mean_is_over_the_first_images_whatever_the_batches() -> None:
    network, images = _network(), torch.randint(0, 256, (7, 3, 64, 64), dtype=torch.uint8)
    whole, parts = AttentionMaps(network, mean_of=5), AttentionMaps(network, mean_of=5)
    whole.add(images)
    for batch in images.split(2):
        parts.add(batch)
    expected = relative(network.prompt_attention(images[:5].float() / 255)[2]).mean(dim=0)
    for maps in (whole, parts):
        assert maps.count == 5
        torch.testing.assert_close(maps.sums[2] / 5, expected)
    parts.reset()
    assert parts.picture() is None


def test_images_are_kept_only_if_asked_for() -> None:
    images = torch.rand(4, 3, 64, 64)
    plain, some = AttentionMaps(_network()), AttentionMaps(_network(), num_images=2)
    for maps in (plain, some):
        maps.add(images)
    assert plain.shown == []
    assert len(some.shown) == 2
    np.testing.assert_allclose(some.shown[1][0], images[1].permute(1, 2, 0).numpy())
    sizes = [Image.open(io.BytesIO(maps.picture())).size for maps in (plain, some)]
    assert sizes[1][1] > sizes[0][1]


def test_maps_are_drawn_where_the_attention_is() -> None:
    values = np.zeros((1, 2, 2))
    values[0, 0, 0] = 4.0
    picture = np.asarray(Image.open(io.BytesIO(draw_attention({0: values}, count=1))).convert("RGB")).astype(int)
    yellow = (np.abs(picture - [253, 231, 36]).sum(axis=2) < 12).sum()
    dark = (np.abs(picture - [68, 1, 84]).sum(axis=2) < 12).sum()
    assert dark > 2.5 * yellow > 0


def test_the_report_shows_the_id_test_images_only_and_can_be_made_again(tmp_path: Path) -> None:
    data = memory_dataset(12, size=64)
    items = [{**data[i], "split": "val" if i < 3 else "test", "domain": "id" if i < 8 else "b"} for i in range(12)]
    network = _network()
    handler = EvaluationReportHandler(tmp_path, class_names=["a", "b"], network=network, rounds=10)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(items, batch_size=5),
        network=network,
        prepare_batch=prepare_image_batch,
        val_handlers=[handler],
    ).run()
    assert handler.attention.count == 5
    expected = relative(network.prompt_attention(data.images[3:8].float() / 255)[1]).mean(dim=0)
    torch.testing.assert_close(handler.attention.sums[1] / 5, expected, atol=1e-5, rtol=1e-4)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["files"]["attention"] == "attention.png"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What each dynamic prompt looked at" in page
    (tmp_path / "report.html").unlink()
    assert write_html(tmp_path).read_text(encoding="utf-8") == page
