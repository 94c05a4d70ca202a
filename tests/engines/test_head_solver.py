"""Label mappings are fitted on the images as the network sees them."""

from __future__ import annotations

import pytest
import torch

from movl_monai.engines import LabelMappingFit, extract_features
from movl_monai.errors import ConfigError
from movl_monai.heads import LabelMapping, LinearHead, MappedHead
from movl_monai.networks import AdaptedClassifier, PromptedEncoder
from movl_monai.prompts import PadPrompt
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone


def _mapped(prompt: PadPrompt | None = None) -> AdaptedClassifier:
    backbone = tiny_backbone()
    source = torch.randn(10, backbone.spec.num_features, generator=torch.Generator().manual_seed(5))
    head = MappedHead(source, None, LabelMapping(10, 2, method="frequency"))
    return AdaptedClassifier(backbone=backbone, prompt=prompt, head=head)


def test_the_mapping_is_the_one_fitted_on_the_features_of_the_prompted_images() -> None:
    data = memory_dataset()
    network = _mapped(PadPrompt(image_size=IMAGE_SIZE, width=4, init="normal"))
    LabelMappingFit(data).apply(network)
    oracle = _mapped()
    with torch.no_grad():
        features = network.backbone(network.prompt(data.images.float() / 255))
    oracle.head.fit(features, data.labels)
    images = torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE)
    plain = network.plain_features(images)
    torch.testing.assert_close(network.head(plain), oracle.head(plain))


def test_a_head_without_mapping_is_refused() -> None:
    backbone = tiny_backbone()
    network = AdaptedClassifier(backbone=backbone, head=LinearHead(backbone.spec.num_features, 2))
    with pytest.raises(ConfigError, match="needs a MappedHead, this network has a LinearHead"):
        LabelMappingFit(memory_dataset()).apply(network)


def test_a_prompted_encoder_sees_the_fixed_prompt_and_hashes_it() -> None:
    backbone, data = tiny_backbone(), memory_dataset(3)
    prompts = [PadPrompt(image_size=IMAGE_SIZE, width=4, init="normal", seed=seed, trainable=False) for seed in (0, 1)]
    encoders = [PromptedEncoder(prompt=prompt, backbone=backbone) for prompt in prompts]
    with torch.no_grad():
        expected = backbone(prompts[0](data.images.float() / 255))
    torch.testing.assert_close(extract_features(encoders[0], data.images, progress=False), expected)
    assert len({backbone.content_sha256(), *(encoder.content_sha256() for encoder in encoders)}) == 3
    with pytest.raises(ValueError, match="trainable=False"):
        PromptedEncoder(prompt=PadPrompt(image_size=IMAGE_SIZE, width=4), backbone=backbone)
