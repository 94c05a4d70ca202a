"""The smallest benchmark: a real network of 0.4 M parameters on images of 32 px."""

from __future__ import annotations

from benchmarks import BenchSettings
from tests.helpers import tiny_backbone, tiny_vit


def tiny_settings() -> BenchSettings:
    return BenchSettings(
        backbone=tiny_backbone,
        transformer=tiny_vit,
        batch_size=4,
        transformer_batch_size=4,
        prompt_width=4,
        num_classes=3,
        rounds=3,
        warmup=1,
        step_images=8,
        feature_images=8,
        probe_rounds=2,
        train_images=24,
        val_images=12,
        slice_size=64,
        slice_reads=2,
        scan_files=3,
        scan_passes=1,
        stored_predictions=120,
        bootstrap_rounds=20,
        sklearn_rounds=4,
        export_calls=2,
        max_epochs=5,
    )
