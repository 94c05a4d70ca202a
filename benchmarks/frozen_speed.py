"""Features of a frozen network, and the exact probe on them, relative to plain torch."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from movl_monai.backbones import Backbone, prepare_frozen
from movl_monai.backbones.layers import read_layers
from movl_monai.engines import LinearProbe, LinearProbeSolution, extract_features, standardization
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier, EnsembleClassifier

from .clock import Timing, compare, compare_actions, interleave, peak_memory, timed
from .settings import Batch, BenchSettings, SyntheticImages, float_batches, synthetic_images

__all__ = ["epochs_to_reach", "run_ensemble", "run_features", "run_layers", "run_linear_probe"]


@torch.no_grad()
def plain_loop(backbone: Backbone, batches: list[Batch]) -> torch.Tensor:
    """Compute features (N, num_features) of float batches in the straightforward way."""
    return torch.cat([backbone(image).cpu() for image, _ in batches])


def run_features(settings: BenchSettings) -> dict[str, float]:
    """Compare the features of the same images, ``features_vs_torch``: ours relative to the plain loop.

    Ours: ``extract_features`` on the prepared backbone, from uint8 images on the CPU. Plain: timm's unprepared
        backbone, under ``torch.no_grad()``, with its float images already on the device.
    """
    device = settings.device
    backbone = settings.backbone().to(device)
    prepared = prepare_frozen(backbone)
    data = synthetic_images(
        settings.feature_images,
        image_size=backbone.spec.image_size,
        num_classes=settings.num_classes,
        seed=settings.seed,
    )
    batches = float_batches(data, settings)
    return compare_actions(
        "features_vs_torch",
        ours=lambda: extract_features(
            prepared, data.images, batch_size=settings.batch_size, device=device, progress=False
        ),
        other=lambda: plain_loop(backbone, batches),
        **settings.repetitions,
    )


def run_layers(settings: BenchSettings) -> dict[str, float]:
    """Compare forward passes over the same batch, ``layers_vs_last`` and ``layers_cnn_vs_last``.

    Ours: class token and mean patch of every block of a plain ViT, and the mean of every stage of a CNN. Other: the
    pooled features of the same modules. Both run without a graph, on float images that are already on the device.
    """
    return {
        **_compare_layers("layers_vs_last", settings.transformer(), settings.transformer_batch_size, settings),
        **_compare_layers("layers_cnn_vs_last", settings.backbone(), settings.batch_size, settings),
    }


@torch.no_grad()
def _compare_layers(name: str, backbone: Backbone, batch_size: int, settings: BenchSettings) -> dict[str, float]:
    device = settings.device
    last = prepare_frozen(backbone).to(device)
    every = read_layers(last, "all")
    size = last.spec.image_size
    data = synthetic_images(batch_size, image_size=size, num_classes=settings.num_classes, seed=settings.seed)
    image = last.normalize(data.images.to(device).float() / 255)
    return compare_actions(
        name,
        ours=lambda: every(image),  # type: ignore[misc]
        other=lambda: last.encoder(image),
        **settings.repetitions,
    )


@torch.no_grad()
def run_ensemble(settings: BenchSettings) -> dict[str, float]:
    """Compare forward passes over the same batch, ``ensemble_vs_sum``.

    Ours: the mean of the calibrated probabilities of a CNN and a plain ViT. Other: the logits of the one, then the
        logits of the other. Both run without a graph, on float images that are already on the device.
    """
    device, classes = settings.device, settings.num_classes
    backbones = [prepare_frozen(make()).to(device) for make in (settings.transformer, settings.backbone)]
    members = [
        AdaptedClassifier(backbone=one, head=LinearHead(one.spec.num_features, classes, init="uniform"))
        for one in backbones
    ]
    network = EnsembleClassifier(members=members, temperatures=[0.8, 1.3]).to(device).eval()
    size = backbones[0].spec.image_size
    data = synthetic_images(settings.transformer_batch_size, image_size=size, num_classes=classes, seed=settings.seed)
    image = data.images.to(device).float() / 255
    return compare_actions(
        "ensemble_vs_sum",
        ours=lambda: network(image),
        other=lambda: [member(image) for member in members],
        **settings.repetitions,
    )


_LEARNING_RATES = tuple(1e-4 * 2**step for step in range(11))
_MOMENTUM = 0.9
_SLACK = 1.01

Labelled = tuple[torch.Tensor, torch.Tensor]  # features (N, num_features) and labels (N,)


def run_linear_probe(settings: BenchSettings) -> dict[str, float]:
    """Compare complete linear probes, ``linear_probe_vs_epochs``: ours relative to SGD at the same validation loss.

    Ours: the features of the training and validation images on the prepared backbone, then ``LinearProbe.solve`` over
    its whole grid of L2 strengths, chosen on ``val``.

    Other: SGD (momentum 0.9) on ``nn.Linear`` after timm's unprepared backbone. An epoch runs every training image
    through the network without graph, updates the layer batch by batch, and ends with the loss on ``val``. One epoch is
    timed per round. The number of epochs until the loss is within 1 % of ours is counted on cached features, which the
    frozen network would compute again in every epoch. Three choices favour SGD: the learning rate with the fewest
    epochs counts, the search for it is free, and the loss may reach the target by chance.

    Returns:
        The comparison on unchanged features, the usual case (``linear_probe_epochs``);
        ``linear_probe_vs_epochs_standardized`` and ``linear_probe_epochs_standardized`` if SGD also gets the
        standardisation of our head, with which it needs fewer epochs; ``linear_probe_reached`` and ``..._standardized``
        0 if SGD did not reach the target in ``max_epochs``: the ratio is then an upper bound. ``linear_probe_val_loss``
        is ours, ``linear_probe_solve_s`` the share of the solver.
    """
    backbone = settings.backbone().to(settings.device)
    train, val = _images(backbone, settings)
    ours = _Ours(prepare_frozen(backbone), train, val, settings)
    other = _Epoch(backbone, train, val, settings)
    memory = [peak_memory(action, device=settings.device) for action in (ours, other)]  # the warm-up, too
    val_loss = _val_loss(ours.solution)
    counts = _count_epochs(ours, _SLACK * val_loss, settings)
    timings = interleave({"ours": ours, "other": other}, rounds=settings.probe_rounds, warmup=0, device=settings.device)
    solve = Timing(tuple(ours.solving[1:]))
    keys = compare(
        "linear_probe_vs_epochs",
        ours=timings["ours"],
        other=timings["other"],
        memory=memory,
        other_count=counts["linear_probe_epochs"],
    )
    fewer = counts["linear_probe_epochs_standardized"] / counts["linear_probe_epochs"]
    keys["linear_probe_vs_epochs_standardized"] = keys["linear_probe_vs_epochs"] / fewer
    keys |= counts | {"linear_probe_solve_s": solve.median, "linear_probe_val_loss": val_loss}
    return keys


def epochs_to_reach(
    target: float,
    train: Labelled,
    val: Labelled,
    *,
    settings: BenchSettings,
) -> int | None:
    """Return the number of epochs of SGD until the validation loss is at most ``target``, at the best learning rate.

    Args:
        target: mean cross entropy.
        train: features (N, num_features) and labels (N,) for training.
        val: features and labels of the loss.
        settings: batch size, classes, seed and ``max_epochs``.

    Returns:
        The smallest number over the learning rates, or None if none reaches the target.
    """
    fewest = None
    for rate in _LEARNING_RATES:
        epochs = _descend(rate, target, train, val, settings, limit=(fewest or settings.max_epochs + 1) - 1)
        fewest = epochs or fewest
    return fewest


def _descend(
    rate: float,
    target: float,
    train: Labelled,
    val: Labelled,
    settings: BenchSettings,
    *,
    limit: int,
) -> int | None:
    generator = torch.Generator().manual_seed(settings.seed)
    layer, optimizer = _layer(train[0].shape[1], rate, settings)
    for epoch in range(1, limit + 1):
        for rows in torch.randperm(len(train[1]), generator=generator).split(settings.batch_size):
            _update(layer, optimizer, train[0][rows], train[1][rows])
        with torch.no_grad():
            loss = F.cross_entropy(layer(val[0]), val[1]).item()
        if loss <= target:
            return epoch
        if not loss < 1e4:  # diverged
            return None
    return None


def _layer(num_features: int, rate: float, settings: BenchSettings) -> tuple[nn.Linear, torch.optim.Optimizer]:
    layer = nn.Linear(num_features, settings.num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer, torch.optim.SGD(layer.parameters(), lr=rate, momentum=_MOMENTUM)


def _update(layer: nn.Module, optimizer: torch.optim.Optimizer, features: torch.Tensor, label: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(layer(features), label).backward()
    optimizer.step()


class _Ours:
    """Features of all images, then the exact solution; ``features`` and ``solving`` (seconds) are kept."""

    def __init__(
        self, backbone: Backbone, train: SyntheticImages, val: SyntheticImages, settings: BenchSettings
    ) -> None:
        self.backbone, self.train, self.val, self.settings = backbone, train, val, settings
        self.features: list[torch.Tensor] = []
        self.solving: list[float] = []
        self.solution: LinearProbeSolution | None = None

    def __call__(self) -> None:
        size, device = self.settings.batch_size, self.settings.device
        self.features = [
            extract_features(self.backbone, data.images, batch_size=size, device=device, progress=False)
            for data in (self.train, self.val)
        ]
        self.solving.append(timed(self._solve, device=self.settings.device))

    def _solve(self) -> None:
        train, val = (
            SimpleNamespace(values=values, labels=data.labels)
            for values, data in zip(self.features, (self.train, self.val), strict=True)
        )
        probe = LinearProbe(train, val, num_classes=self.settings.num_classes, device=self.settings.device)
        self.solution = probe.solve()


class _Epoch:
    """One epoch of SGD on a linear layer after the frozen network, and the validation after it."""

    def __init__(
        self, backbone: Backbone, train: SyntheticImages, val: SyntheticImages, settings: BenchSettings
    ) -> None:
        self.backbone, self.train, self.val, self.settings = backbone, train, val, settings
        self.layer, self.optimizer = _layer(backbone.spec.num_features, 1e-3, settings)
        self.layer.to(settings.device)

    def __call__(self) -> float:
        for rows in torch.randperm(len(self.train)).split(self.settings.batch_size):
            features, label = self._features(self.train, rows)
            _update(self.layer, self.optimizer, features, label)
        losses = torch.zeros((), device=self.settings.device)
        for rows in torch.arange(len(self.val)).split(self.settings.batch_size):
            features, label = self._features(self.val, rows)
            with torch.no_grad():
                losses += F.cross_entropy(self.layer(features), label, reduction="sum")
        return losses.item() / len(self.val)

    def _features(self, data: SyntheticImages, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        image = data.images[rows].to(self.settings.device).float() / 255
        with torch.no_grad():
            return self.backbone(image), data.labels[rows].to(self.settings.device)


def _images(backbone: Backbone, settings: BenchSettings) -> tuple[SyntheticImages, SyntheticImages]:
    size, seed = backbone.spec.image_size, settings.seed
    train, val = (
        synthetic_images(count, image_size=size, num_classes=settings.num_classes, seed=seed + index)
        for index, count in enumerate((settings.train_images, settings.val_images))
    )
    return train, val


def _val_loss(solution: LinearProbeSolution | None) -> float:
    return math.nan if solution is None or solution.val_loss is None else solution.val_loss


def _count_epochs(ours: _Ours, target: float, settings: BenchSettings) -> dict[str, float]:
    mean, scale = standardization(ours.features[0])
    labels = (ours.train.labels, ours.val.labels)
    counts: dict[str, float] = {}
    for suffix, center, divisor in (
        ("", torch.zeros_like(mean), torch.ones_like(scale)),
        ("_standardized", mean, scale),
    ):
        train, val = (((values - center) / divisor, label) for values, label in zip(ours.features, labels, strict=True))
        epochs = epochs_to_reach(target, train, val, settings=settings)
        counts[f"linear_probe_reached{suffix}"] = float(epochs is not None)
        counts[f"linear_probe_epochs{suffix}"] = epochs or settings.max_epochs
    return counts
