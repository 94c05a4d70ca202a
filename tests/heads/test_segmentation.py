"""The decoder: its shapes, its formula by hand, its independence of the batch, its start."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from movl_monai.heads import SegmentationHead

CHANNELS = [8, 12, 16]


def _maps(count: int = 2, *, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, s, s, generator=generator) for c, s in zip(CHANNELS, (8, 4, 2), strict=True)]


def _perturbed(head: SegmentationHead) -> SegmentationHead:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return head


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("bottleneck", [None, 4])
def test_logits_have_the_finest_maps_resolution_and_export_alike(norm: str, bottleneck: int | None) -> None:
    head = _perturbed(SegmentationHead(CHANNELS, 3, width=16, norm=norm, bottleneck=bottleneck))  # type: ignore[arg-type]
    logits = head(_maps())
    assert logits.shape == (2, 3, 8, 8)
    torch.testing.assert_close(torch.jit.script(head)(_maps()), logits)


def test_it_is_segformers_concatenation_and_one_fusing_convolution() -> None:
    head = _perturbed(SegmentationHead(CHANNELS, 2, width=16))
    maps = _maps()
    raised = [
        F.interpolate(projection[1](projection[0](one)), size=(8, 8), mode="bilinear", align_corners=False)
        for projection, one in zip(head.projections, maps, strict=True)
    ]
    weight = torch.cat([projection[2].weight for projection in head.projections], dim=1)
    expected = head.classifier(head.fused(F.conv2d(torch.cat(raised, dim=1), weight)))
    torch.testing.assert_close(head(maps), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_an_images_logits_do_not_depend_on_its_batch_or_the_mode(norm: str) -> None:
    head = SegmentationHead(CHANNELS, 2, width=16, norm=norm).train()  # type: ignore[arg-type]
    maps = _maps(3)
    alone = [one[1:2] for one in maps]
    torch.testing.assert_close(head(maps)[1:2], head(alone), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(head.eval()(alone), head.train()(alone), atol=0, rtol=0)
    assert list(head.buffers()) == []


def test_the_scale_of_a_map_does_not_matter() -> None:
    head = SegmentationHead(CHANNELS, 2, width=16)
    maps = _maps()
    torch.testing.assert_close(head([maps[0], 1000 * maps[1], maps[2]]), head(maps), atol=1e-3, rtol=1e-3)


def test_the_bottleneck_starts_as_the_identity_and_the_start_follows_the_seed() -> None:
    plain, with_bottleneck = (
        SegmentationHead(CHANNELS, 2, width=16),
        SegmentationHead(CHANNELS, 2, width=16, bottleneck=4),
    )
    shared = plain.state_dict()
    with_bottleneck.load_state_dict(shared, strict=False)
    torch.testing.assert_close(with_bottleneck(_maps()), plain(_maps()))
    again, other = (SegmentationHead(CHANNELS, 2, width=16, seed=seed) for seed in (0, 1))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in plain.state_dict().items())
    assert not torch.equal(other.classifier.weight, plain.classifier.weight)


@pytest.mark.parametrize(("width", "groups"), [(128, 16), (64, 16), (16, 4), (10, 2), (7, 1)])
def test_groups_have_four_channels_or_more(width: int, groups: int) -> None:
    assert SegmentationHead(CHANNELS, 2, width=width).fused[0].num_groups == groups


def test_a_map_of_one_position_can_be_normalised() -> None:
    head = SegmentationHead([8], 2, width=4).train()
    assert torch.isfinite(head([torch.randn(1, 8, 1, 1)])).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": []}, "maps with channels"),
        ({"num_classes": 1}, "background counts"),
        ({"width": 1}, "width >= 2"),
        ({"norm": "batch"}, "'group' or 'layer'"),
        ({"bottleneck": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SegmentationHead(**{"in_channels": CHANNELS, "num_classes": 2, **options})  # type: ignore[arg-type]
