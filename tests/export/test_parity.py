"""The comparison with eager mode finds the largest difference at any position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.errors import ExportError
from movl_monai.export import ExportedOutput, read_exported
from movl_monai.export.exporting import export_network
from movl_monai.export.parity import ImageSample, Parity, check_parity, eager, measure_parity, spread
from tests.export.networks import classifier, images, metadata_of, segmenter, write

WINDOWS = {"roi_size": [32, 32], "overlap": 0.25, "mode": "gaussian", "batch_size": 2}


def test_one_wrong_logit_of_one_image_in_the_last_batch_is_found(tmp_path: Path) -> None:
    network = classifier()
    model = read_exported(write(network, tmp_path, "torchscript"))
    sample = ImageSample("given", images(4).numpy())
    parity = measure_parity(eager(network), model, sample, tolerance=1e-4)
    assert parity.logits < 1e-5
    assert parity.features is not None
    check_parity(parity)

    def wrong(image: np.ndarray) -> ExportedOutput:
        output = eager(network)(image)
        output.logits[(image == sample.images[3]).all(axis=(1, 2, 3)), 1] += 0.5
        return output

    parity = measure_parity(wrong, model, sample, tolerance=1e-4)
    assert parity.logits == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(ExportError, match=r"on 4 images \(given\) logits differ by up to 0.5, .*allowed is 0.0001"):
        check_parity(parity)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_no_parity(value: float, tmp_path: Path) -> None:
    network = classifier()
    model = read_exported(write(network, tmp_path, "torchscript"))
    reference = eager(network)
    parity = measure_parity(
        lambda image: ExportedOutput(reference(image).logits * np.float32(value), None),
        model,
        ImageSample("given", images(1).numpy()),
        tolerance=1e-4,
    )
    assert parity.logits == float("inf")
    with pytest.raises(ExportError):
        check_parity(parity)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["network", "file"])
def test_features_that_are_not_finite_are_no_parity_although_logits_are(
    side: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = classifier()
    model = read_exported(write(network, tmp_path, "torchscript"))
    exact = eager(network)

    def broken(image: np.ndarray) -> ExportedOutput:
        output = exact(image)
        return output._replace(features=output.features * np.float32(value))

    reference: Any = broken if side == "network" else exact
    if side == "file":
        monkeypatch.setattr(model, "network", broken)
    parity = measure_parity(reference, model, ImageSample("given", images(1).numpy()), tolerance=1e-4)
    assert parity.logits < 1e-4
    assert parity.features == float("inf")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_features_are_compared_relative_to_their_size_and_logits_are_not(scale: float, tmp_path: Path) -> None:
    network = classifier()
    model = read_exported(write(network, tmp_path, "torchscript"))
    image = images(1).numpy()
    exact = eager(network)(image)
    largest = np.float32(np.abs(exact.features).max())

    def scaled(image: np.ndarray, wrong: float) -> ExportedOutput:
        output = eager(network)(image)
        assert output.features is not None
        return ExportedOutput(
            output.logits + np.float32(wrong), np.float32(scale) * (output.features + wrong * largest)
        )

    model.network = lambda image: scaled(image, 0.0)  # type: ignore[method-assign]
    parity = measure_parity(lambda image: scaled(image, 0.25), model, ImageSample("given", image), tolerance=1e-4)
    assert parity.logits == pytest.approx(0.25, rel=1e-3)
    assert parity.features == pytest.approx(0.25 / (1 + 0.25), rel=1e-3)  # of the largest feature of the network


def test_features_count_in_their_own_scale() -> None:
    check_parity(Parity(1, "val", (1,), logits=0.0, relative=False, probabilities=0.0, features=9e-5, tolerance=1e-4))
    with pytest.raises(ExportError, match="features by 0.0002 of the largest"):
        check_parity(
            Parity(1, "val", (1,), logits=0.0, relative=False, probabilities=0.0, features=2e-4, tolerance=1e-4)
        )


@pytest.mark.parametrize(
    ("task", "log_probabilities", "logits", "error", "kept"),
    [
        # a grade that is nearly impossible: its log probability is large, and so is its rounding
        ("ordinal", True, [[-80.0, -1e-7, -16.0]], [[4e-4, 0.0, 0.0]], True),
        ("ordinal", True, [[-80.0, -0.7, -0.7]], [[0.0, 4e-3, -4e-3]], False),
        ("ordinal", True, [[-0.7, -0.7]], [[2e-4, -2e-4]], False),
        # all other logits of classes are compared as they are, also where probabilities do not show it
        ("classification", False, [[90.0, -90.0]], [[4e-4, 0.0]], False),
        ("ordinal", False, [[90.0, -90.0]], [[4e-4, 0.0]], False),
        ("multilabel", False, [[-90.0, 40.0]], [[4e-3, 0.0]], False),
        ("multilabel", False, [[-90.0, 0.1]], [[5e-5, 5e-5]], True),
        # numbers count in their own unit, large or small
        ("regression", False, [[1500.0]], [[2e-2]], True),
        ("regression", False, [[1500.0]], [[2e-1]], False),
        ("regression", False, [[1.5e-4]], [[2e-9]], True),
        ("regression", False, [[1.5e-4]], [[2e-5]], False),
    ],
)
def test_differences_count_as_the_task_reads_logits(
    task: str,
    log_probabilities: bool,
    logits: list[list[float]],
    error: list[list[float]],
    kept: bool,
    tmp_path: Path,
) -> None:
    model = read_exported(write(classifier(), tmp_path, "torchscript"))
    model.metadata["task"] = task
    exact, wrong = np.float32(logits), np.float32(np.add(logits, error))
    model.network = lambda image: ExportedOutput(wrong.repeat(len(image), axis=0), None)  # type: ignore[method-assign]
    parity = measure_parity(
        lambda image: ExportedOutput(exact.repeat(len(image), axis=0), None),
        model,
        ImageSample("given", images(2).numpy()),
        tolerance=1e-4,
        log_probabilities=log_probabilities,
    )
    assert parity.kept is kept
    assert (parity.probabilities is None) is (task == "regression")


def test_large_images_are_segmented_window_by_window_as_the_network_does(tmp_path: Path) -> None:
    network = segmenter()
    metadata = metadata_of(network, windows=WINDOWS, image_size=[48, 80])
    large = torch.rand(2, 3, 48, 80, generator=torch.Generator().manual_seed(0)).numpy()
    file = export_network(
        network, tmp_path / "m.ts", "torchscript", metadata=metadata, sample=ImageSample("given", large)
    )
    assert file.parity.logits < 1e-5
    model = read_exported(file.path)
    got = model(large)
    assert got.logits.shape == (2, 3, 48, 80)
    np.testing.assert_allclose(got.logits, eager(network, WINDOWS)(large).logits, atol=1e-5)
    whole = eager(network)(large).logits  # another thing: no window sees the whole
    assert np.abs(got.logits - whole).max() > 1e-3


def test_few_images_fill_a_batch(tmp_path: Path) -> None:
    network = classifier()
    model = read_exported(write(network, tmp_path, "torchscript"))
    sizes: list[int] = []

    def watched(image: np.ndarray) -> ExportedOutput:
        sizes.append(len(image))
        return eager(network)(image)

    measure_parity(watched, model, ImageSample("given", images(1).numpy()), tolerance=1e-4)
    assert sizes == [1, 3]


def test_samples_are_spread_over_all() -> None:
    assert spread(list(range(100)), 5) == [0, 25, 50, 74, 99]
    assert spread([1, 2], 5) == [1, 2]
