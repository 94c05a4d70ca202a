"""Networks of timm: families, image sizes, names, real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from movl_monai.backbones import TimmBackbone, WeightsFile
from movl_monai.errors import WeightsError


@pytest.mark.parametrize(
    ("name", "image_size", "strides"),
    [
        ("test_resnet", 64, (4, 8, 16, 32)),
        ("mobilenetv3_small_050", 64, (4, 8, 16, 32)),  # its pooled features are wider than its last map
        ("pvt_v2_b0", 64, (4, 8, 16, 32)),
        ("swin_tiny_patch4_window7_224", 64, (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", 32, (16, 16, 16, 16)),
    ],
)
def test_family_gives_pooled_features_and_four_maps(name: str, image_size: int, strides: tuple[int, ...]) -> None:
    backbone, image = TimmBackbone(name, image_size=image_size), torch.rand(1, 3, image_size, image_size)
    assert backbone(image).shape == (1, backbone.spec.num_features)
    assert backbone.spec.strides == strides
    maps = backbone.forward_features(image)
    assert [tuple(m.shape[2:]) for m in maps] == [(image_size // s, image_size // s) for s in strides]


def test_features_are_the_input_of_timms_classifier(tmp_path: Path) -> None:
    model = timm.create_model("test_efficientnet").eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    backbone, image = TimmBackbone("test_efficientnet", weights=tmp_path / "w.pt"), torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model.classifier(backbone(image)), model(backbone.normalize(image)))


def test_last_map_of_a_vit_holds_its_normalised_patch_tokens() -> None:
    backbone, image = TimmBackbone("test_vit", image_size=64), torch.rand(2, 3, 64, 64)
    tokens = backbone.encoder.forward_features(backbone.normalize(image))[:, backbone.encoder.num_prefix_tokens :]
    torch.testing.assert_close(backbone.forward_features(image)[-1].flatten(2).transpose(1, 2), tokens)


def test_mean_std_size_and_licence_come_from_timm_unless_given() -> None:
    spec = TimmBackbone("test_vit").spec
    assert (spec.image_size, spec.mean, spec.std, spec.license) == (160, (0.5,) * 3, (0.5,) * 3, None)
    spec = TimmBackbone("test_vit", mean=(0.1, 0.2, 0.3), std=(1, 1, 1)).spec
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(("size", "tries"), [(225, "224 or 240"), (7, "16")])
def test_image_size_between_patches_is_refused_with_the_nearest_ones(size: int, tries: str) -> None:
    with pytest.raises(ValueError, match=f"multiple of patch_size=16 for test_vit, got {size}; try {tries}"):
        TimmBackbone("test_vit", image_size=size)


@pytest.mark.parametrize(
    ("name", "near"),
    [("vit_small_patch14_dino2", "vit_small_patch14_dinov2"), ("efficientnet_lite_0", "efficientnet_lite0")],
)
def test_unknown_name_is_refused_with_the_nearest_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"no model '{name}'; the nearest names are .*{near}"):
        TimmBackbone(name)


def test_unknown_tag_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no model 'test_vit\.nonsense'"):
        TimmBackbone("test_vit.nonsense")


def test_option_that_the_network_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"timm cannot build test_vit with .*no_such_option"):
        TimmBackbone("test_vit", model_options={"no_such_option": 1})


def test_options_are_part_of_name_and_hash() -> None:
    plain, gelu = (
        TimmBackbone("test_efficientnet"),
        TimmBackbone("test_efficientnet", model_options={"act_layer": "gelu"}),
    )
    assert gelu.spec.name == "test_efficientnet (act_layer=gelu)"
    assert set(gelu.state_dict()) == set(plain.state_dict())
    assert gelu.content_sha256() != plain.content_sha256()


def test_drop_path_acts_only_while_the_backbone_trains() -> None:
    backbone, image = TimmBackbone("test_vit", image_size=32, frozen=False, drop_path=0.5), torch.rand(4, 3, 32, 32)
    backbone.train()
    assert not torch.equal(backbone(image), backbone(image))
    backbone.eval()
    assert torch.equal(backbone(image), backbone(image))
    with pytest.raises(ValueError, match=r"drop_path does nothing in a frozen backbone, got 0\.5"):
        TimmBackbone("test_vit", drop_path=0.5)


@pytest.mark.parametrize("name", ["test_vit", "vit_tiny_patch16_224"])
def test_position_embeddings_of_another_image_size_are_interpolated_as_timm_does(name: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(name, img_size=96).state_dict(), tmp_path / "w.pt")
    backbone, image = TimmBackbone(name, weights=tmp_path / "w.pt", image_size=64), torch.rand(2, 3, 64, 64)
    model = timm.create_model(name, img_size=64).eval()
    model.load_state_dict(checkpoint_filter_fn(torch.load(tmp_path / "w.pt", weights_only=True), model))
    expected = model.forward_head(model.forward_features(backbone.normalize(image)), pre_logits=True)
    torch.testing.assert_close(backbone(image), expected)
    assert backbone.content_sha256() != TimmBackbone(name, weights=tmp_path / "w.pt", image_size=96).content_sha256()


def test_position_embeddings_that_are_of_no_square_grid_are_refused(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit", img_size=64).state_dict()
    weights["pos_embed"] = weights["pos_embed"][:, :-1]
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"1 of another shape \(pos_embed .*\(and image_size\)"):
        TimmBackbone("test_vit", weights=WeightsFile(tmp_path / "w.pt"), image_size=32)


def test_real_dinov2_layout_loads_strictly(test_data: Path) -> None:
    path = test_data / "weights" / "vit_small_patch14_dinov2_224.safetensors"
    backbone = TimmBackbone("vit_small_patch14_dinov2", weights=path, image_size=224)
    assert (backbone.spec.num_features, backbone.spec.patch_size) == (384, 14)
    assert [tuple(m.shape[1:]) for m in backbone.forward_features(torch.rand(1, 3, 224, 224))] == [(384, 16, 16)] * 4


def test_real_lite0_weights_load_with_their_head_left_out(test_data: Path) -> None:
    path = test_data / "weights" / "tf_efficientnet_lite0_imagenet.safetensors"
    backbone = TimmBackbone("tf_efficientnet_lite0", weights=path)
    assert not any("classifier" in name for name in backbone.state_dict())
