"""Class names as text embeddings of a small random CLIP network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from movl_monai.backbones import class_prompts, encode_class_names
from movl_monai.backbones.clip_loading import CLIPSource, load_clip
from movl_monai.errors import WeightsError

TINY: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def test_one_text_per_class_gives_open_clips_normalised_embeddings() -> None:
    texts = ["a normal chest X-ray", "pneumonia"]
    model = load_clip(CLIPSource(name="tiny", config=TINY, seed=3)).eval()
    expected = model.encode_text(open_clip.SimpleTokenizer(context_length=16)(texts), normalize=True)
    found = encode_class_names(texts, name="tiny", config=TINY, seed=3)
    torch.testing.assert_close(found.embeddings, expected)
    assert found.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert found.logit_bias == 0
    assert not found.embeddings.requires_grad


def test_several_texts_per_class_are_averaged_as_unit_vectors() -> None:
    texts = ["benign", "a photo of a mole", "malignant"]
    single = encode_class_names(texts, name="tiny", config=TINY).embeddings
    grouped = encode_class_names([texts[:2], texts[2]], name="tiny", config=TINY).embeddings
    torch.testing.assert_close(grouped[0], normalize(single[0] + single[1], dim=0))
    torch.testing.assert_close(grouped[1], single[2])
    torch.testing.assert_close(grouped.norm(dim=1), torch.ones(2))


def test_templates_are_filled_in_order() -> None:
    filled = class_prompts(["cat", "dog"], templates=["a {}", "{}!"])
    assert filled == [["a cat", "cat!"], ["a dog", "dog!"]]


@pytest.mark.parametrize(("templates", "came"), [(["a photo"], r"\['a photo'\]"), ([], "no template")])
def test_template_without_a_place_for_the_name_is_refused(templates: list[str], came: str) -> None:
    with pytest.raises(ValueError, match=f"Every template needs the place .* got {came}"):
        class_prompts(["cat"], templates=templates)


@pytest.mark.parametrize("prompts", [[], [["a cat"], []]])
def test_class_without_a_text_is_refused(prompts: list[Any]) -> None:
    with pytest.raises(ValueError, match="at least one text for every class"):
        encode_class_names(prompts, name="tiny", config=TINY)


def test_file_of_the_image_tower_alone_is_refused(tmp_path: Path) -> None:
    model = load_clip(CLIPSource(name="tiny", config=TINY))
    torch.save(model.visual.state_dict(), tmp_path / "visual.pt")
    with pytest.raises(WeightsError, match=r"visual\.pt holds no text tower"):
        encode_class_names(["cat"], name="tiny", config=TINY, pretrained=tmp_path / "visual.pt")


def test_tokenizer_of_a_known_name_is_open_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    tiny = load_clip(CLIPSource(name="tiny", config=TINY))

    def tokenizer(name: str) -> Any:
        asked.append(name)
        return open_clip.SimpleTokenizer(context_length=16)

    monkeypatch.setattr(open_clip, "get_tokenizer", tokenizer)
    monkeypatch.setattr("movl_monai.backbones.clip_loading.load_clip", lambda source, text: tiny)
    assert encode_class_names(["cat"], name="ViT-B-16").embeddings.shape == (1, 12)
    assert asked == ["ViT-B-16"]
