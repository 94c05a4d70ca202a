"""CLIP image towers, small and random: projection, activation, files, maps."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from movl_monai.backbones import CLIPBackbone, WeightsFile, prepare_frozen
from movl_monai.backbones.clip_loading import CLIPSource, load_clip
from movl_monai.errors import WeightsError

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": TEXT,
}
RN: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None},
    "text_cfg": TEXT,
}
both_towers = pytest.mark.parametrize("config", [VIT, RN], ids=["vit", "rn"])


def images(config: dict[str, Any]) -> torch.Tensor:
    size = config["vision_cfg"]["image_size"]
    return torch.rand(2, 3, size, size)


@both_towers
def test_features_are_the_image_embeddings_of_the_whole_network(config: dict[str, Any]) -> None:
    model = load_clip(CLIPSource(name="tiny", config=config, seed=4)).eval()
    backbone, image = CLIPBackbone("tiny", config=config, seed=4), images(config)
    torch.testing.assert_close(backbone(image), model.encode_image(backbone.normalize(image)))
    assert backbone.spec.num_features == 12
    assert not any("text" in name or "token_embedding" in name for name in backbone.state_dict())


def test_projection_of_a_vit_turns_the_plain_features_into_the_embedding() -> None:
    whole, plain = (CLIPBackbone("tiny", config=VIT, projection=flag) for flag in (True, False))
    image = images(VIT)
    assert plain.spec.num_features == 32
    torch.testing.assert_close(plain(image) @ whole.encoder.proj, whole(image))


def test_last_layer_of_an_rn_turns_the_plain_features_into_the_embedding() -> None:
    whole, plain = (CLIPBackbone("tiny", config=RN, projection=flag) for flag in (True, False))
    image = images(RN)
    assert plain.spec.num_features == 256
    torch.testing.assert_close(whole.encoder.attnpool.c_proj(plain(image)), whole(image))


def test_projection_is_part_of_name_and_hash() -> None:
    whole, plain = (CLIPBackbone("tiny", config=VIT, projection=flag) for flag in (True, False))
    assert plain.spec.name == "tiny without projection"
    assert whole.content_sha256() != plain.content_sha256()


@pytest.mark.parametrize(("config", "sides"), [(VIT, (4, 4, 4, 4)), (RN, (16, 8, 4, 2))], ids=["vit", "rn"])
def test_towers_give_four_maps(config: dict[str, Any], sides: tuple[int, ...]) -> None:
    backbone, image = CLIPBackbone("tiny", config=config), images(config)
    maps = backbone.forward_features(image)
    assert tuple(feature_map.shape[-1] for feature_map in maps) == sides
    assert tuple(image.shape[-1] // feature_map.shape[-1] for feature_map in maps) == backbone.spec.strides


def test_last_map_of_a_vit_holds_its_normalised_patch_tokens() -> None:
    backbone, image = CLIPBackbone("tiny", config=VIT), images(VIT)
    tower = copy.deepcopy(backbone.encoder)
    tower.output_tokens = True
    _, tokens = tower(backbone.normalize(image))
    torch.testing.assert_close(backbone.forward_features(image)[-1].flatten(2).transpose(1, 2), tokens)


@both_towers
def test_frozen_tower_stays_as_it_is_after_train(config: dict[str, Any]) -> None:
    backbone = CLIPBackbone("tiny", config=config)
    before = backbone.content_sha256()
    backbone.train()
    backbone(images(config))
    assert not any(module.training for module in backbone.modules())
    assert backbone.content_sha256() == before


@both_towers
def test_prepared_tower_gives_the_same_features(config: dict[str, Any]) -> None:
    backbone, image = CLIPBackbone("tiny", config=config), images(config)
    torch.testing.assert_close(prepare_frozen(backbone)(image), backbone(image), atol=1e-5, rtol=1e-4)


def test_mean_and_std_are_openais_unless_given() -> None:
    spec = CLIPBackbone("tiny", config=VIT).spec
    assert (spec.mean, spec.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert CLIPBackbone("tiny", config=VIT, mean=(0.1, 0.2, 0.3)).spec.mean == (0.1, 0.2, 0.3)


def test_quick_gelu_of_the_configuration_changes_the_features_and_the_hash() -> None:
    plain, quick = CLIPBackbone("tiny", config=VIT), CLIPBackbone("tiny", config={**VIT, "quick_gelu": True})
    image = images(VIT)
    assert not torch.allclose(plain(image), quick(image))
    assert quick.spec.name == "tiny-quickgelu"
    assert plain.content_sha256() != quick.content_sha256()
    torch.testing.assert_close(CLIPBackbone("tiny", config=VIT, quick_gelu=True)(image), quick(image))


@pytest.mark.parametrize(
    ("name", "tag", "quick"),
    [("RN50", "openai", True), ("ViT-B-16", "openai", True), ("ViT-B-32", "laion2b_s34b_b79k", False)],
)
def test_activation_of_downloaded_weights_is_the_one_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch, name: str, tag: str, quick: bool
) -> None:
    asked: list[dict[str, Any]] = []

    def offline(name: str, **options: Any) -> None:
        asked.append({"name": name, **options})
        raise OSError("offline")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(WeightsError, match=f"pretrained weights of {name}, {tag} .*OSError: offline"):
        CLIPBackbone(name, pretrained=tag)
    assert asked[0]["force_quick_gelu"] is quick
    assert (asked[0]["name"], asked[0]["pretrained"]) == (name, tag)
    with pytest.raises(ValueError, match=f"trained with quick_gelu={quick}, got {not quick}"):
        CLIPBackbone(name, pretrained=tag, quick_gelu=not quick)


def test_hub_means_the_first_tag_of_the_name() -> None:
    assert CLIPSource(name="RN50", pretrained="hub").tag() == "openai"
    with pytest.raises(ValueError, match="open_clip has no pretrained weights for tiny"):
        CLIPSource(name="tiny", pretrained="hub", config=VIT).tag()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "clip.pt"
    torch.save(load_clip(CLIPSource(name="tiny", config=VIT, seed=9)).state_dict(), path)
    return path


def test_file_of_the_whole_network_is_loaded(saved: Path) -> None:
    image = images(VIT)
    backbone = CLIPBackbone("tiny", config=VIT, pretrained=str(saved))
    assert torch.equal(backbone(image), CLIPBackbone("tiny", config=VIT, seed=9)(image))
    assert (backbone.spec.weights, backbone.spec.weights_sha256) == ("clip.pt", WeightsFile(saved).file_sha256())


def test_file_of_the_image_tower_alone_is_loaded(tmp_path: Path) -> None:
    model = load_clip(CLIPSource(name="tiny", config=VIT, seed=9))
    torch.save(model.visual.state_dict(), tmp_path / "visual.pt")
    backbone, image = CLIPBackbone("tiny", config=VIT, pretrained=tmp_path / "visual.pt"), images(VIT)
    torch.testing.assert_close(backbone(image), model.eval().encode_image(backbone.normalize(image)))


def test_file_with_another_hash_is_refused(saved: Path) -> None:
    with pytest.raises(WeightsError, match="expected sha256 000"):
        CLIPBackbone("tiny", config=VIT, pretrained=WeightsFile(saved, sha256="0" * 64))


def test_file_of_another_network_is_refused(saved: Path) -> None:
    with pytest.raises(WeightsError, match=r"clip\.pt do not fit this CLIP network"):
        CLIPBackbone("tiny", config={**VIT, "embed_dim": 20}, pretrained=saved)


def test_file_for_a_name_with_two_activations_needs_a_decision(saved: Path) -> None:
    with pytest.raises(
        ValueError, match=r"does not say which activation ViT-B-32 .* or the name to ViT-B-32-quickgelu"
    ):
        CLIPBackbone("ViT-B-32", pretrained=saved)
    assert CLIPSource(name="ViT-B-32", pretrained=saved, quick_gelu=True).model_config()["quick_gelu"] is True
    assert CLIPSource(name="ViT-B-32-quickgelu", pretrained=saved).model_config()["quick_gelu"] is True


def test_word_that_is_neither_tag_nor_file_is_refused_with_the_tags() -> None:
    with pytest.raises(WeightsError, match=r"neither a file nor one of open_clip's weights for RN50 \(openai, "):
        CLIPBackbone("RN50", pretrained="openia")


def test_configuration_may_be_a_json_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps({"model_cfg": VIT}))
    backbone = CLIPBackbone("tiny", config=str(tmp_path / "tiny.json"))
    assert backbone.content_sha256() == CLIPBackbone("tiny", config=VIT).content_sha256()


def test_timm_tower_gives_features_maps_and_the_pooled_trunk() -> None:
    vision = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear", "image_size": 64}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT}
    whole, plain = (CLIPBackbone("tiny", config=config, projection=flag) for flag in (True, False))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(whole.encoder.head.proj(plain(image)), whole(image))
    assert [64 // feature_map.shape[-1] for feature_map in whole.forward_features(image)] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "ViT-B32"}, r"no model 'ViT-B32'; the nearest names are .*ViT-B-32"),
        ({"config": {"embed_dim": 3}}, r"missing \['vision_cfg', 'text_cfg'\]"),
        ({"config": "/nowhere.json"}, "cannot be read as JSON"),
        ({"config": VIT, "image_size": 36}, "multiple of patch_size=8 for tiny, got 36; try 32 or 40"),
        ({"config": RN, "image_size": 100}, "multiple of 32 for tiny, got 100; try 96 or 128"),
        ({"config": {**VIT, "vision_cfg": {"no_such": 1}}}, "open_clip cannot build tiny .*no_such"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLIPBackbone(**{"name": "tiny", **options})


def test_tower_without_projection_says_so() -> None:
    vision = {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "none", "image_size": 64}
    with pytest.raises(ValueError, match="tower of tiny has no projection to leave out"):
        CLIPBackbone("tiny", config={"embed_dim": 64, "vision_cfg": vision, "text_cfg": TEXT}, projection=False)


def test_image_size_may_be_another_one_and_is_then_the_only_one() -> None:
    backbone = CLIPBackbone("tiny", config=VIT, image_size=48)
    assert backbone(torch.rand(1, 3, 48, 48)).shape == (1, 12)
    with pytest.raises(ValueError, match="built for images of 48 x 48 pixels, got 32 x 32"):
        backbone(torch.rand(1, 3, 32, 32))


def test_building_a_tower_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CLIPBackbone("tiny", config=VIT)


@pytest.mark.slow
def test_known_name_is_built_at_full_size() -> None:
    backbone = CLIPBackbone("ViT-B-32")
    assert (backbone.spec.num_features, backbone.spec.image_size, backbone.spec.patch_size) == (512, 224, 32)
