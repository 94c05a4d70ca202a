"""Every section gives its figures and compares equal work; no test looks at a time."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.handlers import from_engine

from benchmarks import BenchSettings, __main__, predict_speed, synthetic_images
from benchmarks.bootstrap_speed import intervals_by_scikit_learn, stored_predictions
from benchmarks.clock import peak_memory
from benchmarks.frozen_speed import epochs_to_reach
from benchmarks.settings import float_batches, make_network
from benchmarks.training_steps import (
    adapted_network,
    bare_adapter_step,
    bare_segmenter_step,
    make_trainer,
    masked_images,
    naive_step,
    time_trainer,
    uncached_step,
)
from movl_monai.adapters import last_blocks
from movl_monai.backbones import map_channels, prepare_frozen
from movl_monai.engines import FeatureSet, TokenSet
from movl_monai.evaluation import bootstrap_intervals
from movl_monai.heads import SegmentationHead
from movl_monai.losses import SegmentationLoss
from movl_monai.metrics.weighted import METRICS
from movl_monai.networks import AdaptedClassifier, AdaptedSegmenter
from tests.benchmarks.settings import tiny_settings
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_vit

RATIOS = {
    "movl_step": "movl_step_vs_naive",
    "trainer_overhead": "trainer_overhead",
    "linear_probe": "linear_probe_vs_epochs",
    "features": "features_vs_torch",
    "layers": "layers_vs_last",
    "ensemble": "ensemble_vs_sum",
    "units": "unit_step_cached_vs_images",
    "dvpt_step": "dvpt_step_vs_bare",
    "prefix_cache": "prefix_cached_vs_uncached",
    "segmenter_step": "segmenter_step_vs_bare",
    "dicom_native": "dicom_native_vs_monai",
    "dicom_compressed": "dicom_jpeg_2000_vs_monai",
    "scan": "scan_vs_pydicom",
    "predict": "predict_vs_network",
    "bootstrap": "bootstrap_vs_sklearn",
    "export_latency": "export_cnn_onnx_vs_eager",
}


class Here:
    """Stand-in for :class:`benchmarks.clock.Elsewhere` in this process.

    Imports of a new process would take most of the time.
    """

    def __init__(self, actions: Mapping[str, Callable[[], object]]) -> None:
        self.actions = actions

    def action(self, name: str) -> Callable[[], object]:
        return self.actions[name]

    def peak_memory(self, name: str) -> float:
        return peak_memory(self.actions[name], device=torch.device("cpu"))


@contextmanager
def here(
    make: Callable[..., Mapping[str, Callable[[], object]]], *arguments: Any, device: torch.device
) -> Iterator[Here]:
    yield Here(make(*arguments))


@pytest.mark.parametrize("section", __main__.SECTIONS)
def test_a_section_gives_flat_finite_figures_and_its_ratio(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_speed, "elsewhere", here)
    figures = __main__.SECTIONS[section](tiny_settings())
    name = RATIOS[section]
    assert all(isinstance(value, (int, float)) and math.isfinite(value) for value in figures.values())
    assert figures[name] > 0
    assert figures[f"{name}_rounds"] == (2 if section == "linear_probe" else 3)
    for who in ("ours", "other"):
        assert 0 < figures[f"{name}_{who}_min_s"] <= figures[f"{name}_{who}_s"]
        assert figures[f"{name}_{who}_peak_mb"] >= 0


def _networks(settings: BenchSettings) -> tuple[AdaptedClassifier, AdaptedClassifier, FeatureSet]:
    backbone = settings.backbone()
    data = synthetic_images(settings.step_images, image_size=IMAGE_SIZE, num_classes=settings.num_classes)
    features = FeatureSet(data, prepare_frozen(backbone), progress=False)
    ours, naive = (make_network(one, settings, features.values) for one in (features.encoder, backbone))
    return ours, naive, features


def test_our_step_and_the_naive_step_have_the_same_losses() -> None:
    settings = tiny_settings()
    ours, naive, features = _networks(settings)
    batches, losses, expected = float_batches(features.dataset, settings), [], []
    trainer = make_trainer(ours, features.dataset, settings, features=features, steps=6)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    step = naive_step(naive)
    for index in range(6):
        expected.append(step(batches[index % len(batches)]).item())
    assert losses == pytest.approx(expected, rel=1e-3)
    assert len(set(losses)) == 6


def test_the_other_loop_runs_before_each_step_on_the_same_batch() -> None:
    settings = tiny_settings()
    network, _, features = _networks(settings)
    seen: list[torch.Tensor] = []
    trainer = make_trainer(network, features.dataset, settings, features=features, steps=5)
    images = from_engine("image")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: seen.append(torch.stack(images(e.state.output))))
    batches = float_batches(features.dataset, settings)
    ours, other = time_trainer(trainer, lambda batch: seen.append(batch[0]), batches, settings)
    assert len(seen) == 2 * (settings.warmup + settings.rounds)
    assert all(torch.equal(one, two) for one, two in zip(seen[::2], seen[1::2], strict=True))
    assert len(ours.seconds) == len(other.seconds) == settings.rounds


def test_a_trainer_that_ends_too_early_is_refused() -> None:
    settings = tiny_settings()
    network, _, features = _networks(settings)
    trainer = make_trainer(network, features.dataset, settings, features=features, steps=2)
    with pytest.raises(ValueError, match="at least 5 steps, timed were 1"):
        time_trainer(trainer, lambda batch: None, float_batches(features.dataset, settings), settings)


def test_epochs_are_counted_to_the_target_and_none_if_it_is_out_of_reach() -> None:
    features, labels = torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8)
    settings = dataclasses.replace(tiny_settings(), max_epochs=12)
    counts = [
        epochs_to_reach(target, (features, labels), (features, labels), settings=settings)
        for target in (1.0, 0.5, -1.0)
    ]
    assert counts[2] is None
    assert counts[0] is not None
    assert counts[1] is not None
    assert 1 <= counts[0] < counts[1] <= 12


def test_the_command_prints_a_table_and_writes_flat_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BenchSettings, "quick", lambda **_: tiny_settings())
    path = tmp_path / "bench.json"
    assert __main__.main(["--quick", "--only", "features", "--output", str(path)]) == 0
    content = json.loads(path.read_text(encoding="utf-8"))
    assert all(isinstance(value, (int, float, str)) for value in content.values())
    assert content["quick"] is True
    assert content["torch"] == torch.__version__
    assert f"| features_vs_torch | {content['features_vs_torch']:.3f} |" in capsys.readouterr().out


def test_sections_with_the_same_key_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "SECTIONS", {"a": lambda _: {"x": 1.0}, "b": lambda _: {"x": 2.0}})
    with pytest.raises(ValueError, match=r"section b gives keys that another has given: \['x'\]"):
        __main__.run_sections(["a", "b"], tiny_settings())


def test_an_unknown_device_is_refused_in_one_paragraph(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["--device", "abacus"])
    assert "device must be 'cpu', 'cuda' or 'cuda:N', got 'abacus'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_images": 6}, "multiple of batch_size=4, got 6"),
        ({"rounds": 0}, "at least 1"),
        ({"train_images": 2}, "at least num_classes=3, got 2"),
    ],
)
def test_settings_that_cannot_be_measured_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny_settings(), **change)


def test_a_step_from_cached_tokens_and_one_from_images_have_the_same_losses() -> None:
    settings, data = tiny_settings(), memory_dataset(8, num_classes=3, size=64)
    backbone = tiny_vit()
    ours, other = (adapted_network(backbone, settings, blocks=last_blocks(backbone)) for _ in range(2))
    losses: list[float] = []
    trainer = make_trainer(ours, data, settings, steps=6, tokens=TokenSet(data, ours, progress=False))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    step, batches = uncached_step(other), float_batches(data, settings)
    expected = [step(batches[index % len(batches)]).item() for index in range(6)]
    assert losses == pytest.approx(expected, rel=1e-2)
    assert len(set(losses)) == 6


def test_the_bare_step_runs_every_block_forward_and_backward_and_updates_nothing() -> None:
    settings, backbone = tiny_settings(), tiny_vit()
    network = adapted_network(backbone, settings, blocks=None)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    step = bare_adapter_step(network)
    image, label = torch.rand(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    reached: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, torch.nn.LayerNorm):
            output.register_hook(reached.append)

    # the path's blocks are others than the backbone's, whose layers they hold by their tensors only
    handle = torch.nn.modules.module.register_module_forward_hook(keep)
    try:
        step((image, label))
    finally:
        handle.remove()
    assert len(reached) == 2 * 6 + 1, "two LayerNorms in each of six blocks, and the last one"
    assert all(gradient.abs().sum() > 0 for gradient in reached)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


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
    trainer = make_trainer(network, data, settings, steps=1)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.run()
    torch.testing.assert_close(losses[0], expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(network.state_dict()["head.classifier.weight"], before["head.classifier.weight"])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_both_give_the_same_intervals_of_all_figures(num_classes: int) -> None:
    stored = stored_predictions(tiny_settings(), num_classes=num_classes)
    expected = intervals_by_scikit_learn(stored, METRICS, rounds=20)
    found = bootstrap_intervals(stored.labels, stored.logits, patients=stored.patients, rounds=20)["intervals"]
    for metric in METRICS:
        np.testing.assert_allclose(found[metric], expected[metric], atol=1e-9)


@pytest.mark.parametrize("change", [{"sklearn_rounds": 0}, {"bootstrap_rounds": 0}, {"sklearn_rounds": 21}])
def test_rounds_that_cannot_be_scaled_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"sizes and rounds must be at least 1|sklearn_rounds must be"):
        dataclasses.replace(tiny_settings(), **change)
