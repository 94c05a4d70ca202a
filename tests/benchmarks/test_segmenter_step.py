"""The benchmark of a segmentation step trains the same parts as the bundle, and its bare loop does the same work."""

from __future__ import annotations

import torch
from ignite.engine import Events

from benchmarks.segmenter_step import bare_segmenter_step, masked_images, segmenter_trainer
from movl_monai.backbones import map_channels, prepare_frozen
from movl_monai.heads import SegmentationHead
from movl_monai.losses import SegmentationLoss
from movl_monai.networks import AdaptedSegmenter
from tests.benchmarks.settings import tiny_settings
from tests.helpers import IMAGE_SIZE


def _network() -> AdaptedSegmenter:
    backbone = prepare_frozen(tiny_settings().backbone())
    return AdaptedSegmenter(backbone=backbone, head=SegmentationHead(map_channels(backbone), 2, seed=0))


def test_masks_have_both_classes_and_the_size_of_their_images() -> None:
    data = masked_images(tiny_settings(), image_size=IMAGE_SIZE)
    assert data.masks.shape == (len(data), IMAGE_SIZE, IMAGE_SIZE)
    assert data.masks.unique().tolist() == [0, 1]


def test_ours_and_the_bare_loop_see_the_same_loss_and_only_ours_updates_the_decoder() -> None:
    settings = tiny_settings()
    data, network, losses = masked_images(settings, image_size=IMAGE_SIZE), _network(), []
    before = {name: value.clone() for name, value in network.state_dict().items()}
    image, mask = data.images[: settings.batch_size].float() / 255, data.masks[: settings.batch_size].long()
    expected = SegmentationLoss()(network(image), mask).item()
    bare_segmenter_step(network)((image, mask))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    trainer = segmenter_trainer(network, data, settings, steps=1)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    torch.testing.assert_close(losses[0], expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(network.state_dict()["head.classifier.weight"], before["head.classifier.weight"])
