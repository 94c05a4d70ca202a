"""Real weights and real images: the files agree with eager mode where values are as they are in practice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from movl_monai.adapters import DVPT
from movl_monai.backbones import Backbone, TimmBackbone, embedded_efficientnet_lite0, prepare_frozen
from movl_monai.export.exporting import export_network
from movl_monai.export.images import ImageSample
from movl_monai.networks import AdaptedClassifier
from tests.export.networks import classifier, metadata_of, segmenter

SIZE = 224


@pytest.fixture(scope="module")
def radiographs(test_data: Path) -> ImageSample:
    files = sorted((test_data / "data/cxr_pneumonia").rglob("*.jp*g"))[::400][:6]
    opened = [Image.open(file).convert("RGB").resize((SIZE, SIZE)) for file in files]
    stacked = np.stack([np.asarray(one, dtype=np.float32) for one in opened])
    return ImageSample("given", stacked.transpose(0, 3, 1, 2) / np.float32(255))


def _lite0() -> Backbone:
    return prepare_frozen(TimmBackbone("tf_efficientnet_lite0", weights=embedded_efficientnet_lite0(), image_size=SIZE))


def _dinov2(test_data: Path) -> AdaptedClassifier:
    weights = test_data / "weights/vit_small_patch14_dinov2_224.safetensors"
    backbone = TimmBackbone("vit_small_patch14_dinov2", weights=weights, image_size=SIZE)
    return classifier(backbone, adapter=DVPT(backbone))


@pytest.mark.slow
def test_cnn_and_transformer_agree_with_eager_mode_on_radiographs(
    radiographs: ImageSample, test_data: Path, tmp_path: Path
) -> None:
    lite0 = _lite0()
    for number, network in enumerate((classifier(lite0, prompt=None), segmenter(lite0), _dinov2(test_data))):
        metadata = metadata_of(network, size=SIZE)
        file = export_network(network, tmp_path / f"{number}.onnx", "onnx", metadata=metadata, sample=radiographs)
        assert file.parity.logits < 2e-5
        assert file.parity.images == 6
