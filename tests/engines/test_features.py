"""Cached features equal computed ones, and a stale cache cannot be hit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from movl_monai.engines import FeatureSet, extract_features, prepare_image_batch
from movl_monai.errors import MovlError
from tests.helpers import memory_dataset, tiny_backbone


class _Counted(torch.nn.Module):
    """A frozen encoder that counts the images it saw."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.inner = tiny_backbone(seed=seed)
        self.seen = 0

    def content_sha256(self) -> str:
        return self.inner.content_sha256()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen += len(image)
        return self.inner(image)


def test_features_equal_a_plain_loop_over_single_images() -> None:
    data, backbone = memory_dataset(7), tiny_backbone()
    with torch.no_grad():
        expected = torch.cat([backbone(image.float()[None] / 255) for image in data.images])
    torch.testing.assert_close(
        extract_features(backbone, data.images, batch_size=3, progress=False), expected, atol=1e-5, rtol=1e-4
    )


def test_a_second_use_reads_the_file_and_runs_nothing(tmp_path: Path) -> None:
    first = FeatureSet(memory_dataset(), _Counted(), cache_dir=tmp_path, progress=False).values
    encoder = _Counted()
    again = FeatureSet(memory_dataset(), encoder, cache_dir=tmp_path, progress=False).values
    assert torch.equal(first, again)
    assert encoder.seen == 0


def test_another_pixel_or_another_weight_has_another_key() -> None:
    data = memory_dataset()
    key = FeatureSet(data, _Counted()).key()
    assert FeatureSet(memory_dataset(), _Counted()).key() == key
    assert FeatureSet(data, _Counted(seed=1)).key() != key
    data.images[0, 0, 0, 0] += 1
    assert FeatureSet(data, _Counted()).key() != key


def test_a_half_written_file_is_noticed_said_and_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = FeatureSet(memory_dataset(), _Counted(), cache_dir=tmp_path, progress=False).values
    (path,) = tmp_path.glob("features-*")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-4] + b"\x01\x02\x03\x04", b""):
        path.write_bytes(damaged)
        with caplog.at_level(logging.WARNING):
            values = FeatureSet(memory_dataset(), _Counted(), cache_dir=tmp_path, progress=False).values
        assert torch.equal(values, expected)
        assert "damaged or half-written; they are computed again" in caplog.text
        assert path.read_bytes() == content
        caplog.clear()


def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(MovlError, match="choose another cache_dir"):
        _ = FeatureSet(memory_dataset(), _Counted(), cache_dir=tmp_path / "file" / "cache", progress=False).values


def test_uint8_is_divided_by_255_and_float_is_left_alone() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    image, label = prepare_image_batch({"image": levels, "label": torch.tensor([1], dtype=torch.int32)}, "cpu")
    assert image.dtype == torch.float32
    assert torch.equal(image, levels.float() / 255)
    assert label is not None
    assert label.dtype == torch.int64
    floats = torch.rand(1, 3, 4, 4)
    assert torch.equal(prepare_image_batch({"image": floats})[0], floats)


def test_a_mask_is_what_is_predicted_where_there_is_one() -> None:
    mask = torch.tensor([[[0, 1], [2, 0]]], dtype=torch.uint8)
    batch = {"image": torch.zeros(1, 3, 2, 2), "mask": mask, "label": torch.tensor([-1])}
    _, target = prepare_image_batch(batch)
    assert target is not None
    assert target.dtype == torch.int64
    assert torch.equal(target, mask.long())
