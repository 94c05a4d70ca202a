"""Networks on corrupted images: each image is corrupted once, features are shared, and logits are kept apart."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import movl_monai.experiments.robustness.suite as suite_module
from movl_monai.errors import ConfigError
from movl_monai.evaluation import NonFiniteLogitsError
from movl_monai.experiments.robustness import CLEAN, Member, Suite, cells_of, compute_logits, plain_backbone
from movl_monai.experiments.robustness.images import choose_corruptions, corrupt_images, pixel_names, severities_of
from movl_monai.heads import LinearHead
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from movl_monai.transforms.corruptions import CORRUPTIONS
from tests.helpers import IMAGE_SIZE, memory_dataset, tiny_backbone

CELLS = cells_of(["contrast", "gaussian_noise", "inversion"], [2, 4])


def classifier(*, seed: int, prompt: bool = False, frozen: bool = True, backbone_seed: int = 0) -> AdaptedClassifier:
    backbone = tiny_backbone(seed=backbone_seed, frozen=frozen)
    torch.manual_seed(seed)
    head = LinearHead(backbone.spec.num_features, 2)
    nn.init.normal_(head.weight)
    border = PadPrompt(image_size=IMAGE_SIZE, width=3, init="normal", init_std=0.5) if prompt else None
    return AdaptedClassifier(backbone=backbone, head=head, prompt=border, class_names=["a", "b"]).eval()


def members(*names: str, images: torch.Tensor) -> list[Member]:
    made = {
        "probe": lambda: classifier(seed=1),
        "other_probe": lambda: classifier(seed=2),
        "prompted": lambda: classifier(seed=3, prompt=True),
        "full": lambda: classifier(seed=4, frozen=False, backbone_seed=1),
    }
    return [Member(name=name, digest=f"digest of {name}", network=made[name](), images=images) for name in names]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return memory_dataset(6).images


def counted(network: AdaptedClassifier) -> list[int]:
    """A growing count of the images that pass a network's backbone."""
    counts: list[int] = []
    network.backbone.register_forward_hook(lambda _module, arguments, _output: counts.append(len(arguments[0])))
    return counts


def test_logits_are_those_of_each_network_alone_though_probes_share_their_features(images: torch.Tensor) -> None:
    group = members("probe", "other_probe", "prompted", "full", images=images)
    networks = {member.name: member.network for member in group}
    counts = {member.name: counted(member.network) for member in group}  # type: ignore[arg-type]
    found = compute_logits(networks, images, batch_size=4)
    assert {name: sum(parts) for name, parts in counts.items()} == {
        "probe": 6,
        "other_probe": 0,
        "prompted": 6,
        "full": 6,
    }
    for name, network in networks.items():
        with torch.inference_mode():
            alone = network(images.float() / 255)
        np.testing.assert_allclose(found[name], alone.double().numpy(), atol=1e-5)
        assert found[name].dtype == np.float64


def test_only_plain_frozen_backbones_of_the_same_weights_are_shared() -> None:
    assert plain_backbone(classifier(seed=1)) == plain_backbone(classifier(seed=2)) is not None
    assert plain_backbone(classifier(seed=1, backbone_seed=7)) != plain_backbone(classifier(seed=1))
    assert plain_backbone(classifier(seed=1, prompt=True)) is None
    assert plain_backbone(classifier(seed=1, frozen=False)) is None
    assert plain_backbone(nn.Flatten()) is None


def test_corrupted_images_are_those_of_the_transform_and_do_not_depend_on_their_order(images: torch.Tensor) -> None:
    names = pixel_names(images)
    assert len(set(names)) == 6
    options = {"corruption": "gaussian_noise", "severity": 3, "seed": 5}
    corrupted = corrupt_images(images, names, **options)  # type: ignore[arg-type]
    expected = CORRUPTIONS["gaussian_noise"](severity=3, seed=5)(images[2].float() / 255, names[2])
    assert torch.equal(corrupted[2], (expected * 255).round().to(torch.uint8))
    backwards = corrupt_images(images.flip(0), names[::-1], **options)  # type: ignore[arg-type]
    assert torch.equal(backwards.flip(0), corrupted)
    assert torch.equal(corrupt_images(images, names, corruption="jpeg", severity=0, seed=0), images)


def test_a_suite_gives_the_logits_of_every_cell_and_corrupts_each_image_once_for_all(
    tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counting(*arguments: object, **options: object) -> torch.Tensor:
        calls.append((options["corruption"], options["severity"]))
        return corrupt_images(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(suite_module, "corrupt_images", counting)
    group = members("probe", "prompted", images=images)
    found = Suite(group, folder=tmp_path, progress=False).run(CELLS)
    assert calls == CELLS[1:]
    assert {name: list(parts) for name, parts in found.items()} == {"probe": CELLS, "prompted": CELLS}
    for cell in CELLS:
        corrupted = images
        if cell != CLEAN:
            corrupted = corrupt_images(images, pixel_names(images), corruption=cell[0], severity=cell[1], seed=0)
        for member in group:
            with torch.inference_mode():
                expected = member.network(corrupted.float() / 255)
            np.testing.assert_allclose(found[member.name][cell], expected.double().numpy(), atol=1e-5)


def test_a_stopped_suite_goes_on_and_a_later_run_costs_only_itself(tmp_path: Path, images: torch.Tensor) -> None:
    group = members("probe", "prompted", images=images)
    counts = [counted(member.network) for member in group]  # type: ignore[arg-type]
    first = Suite(group[:1], folder=tmp_path, progress=False)
    first.run(CELLS[:3])  # stopped after three
    assert [sum(count) for count in counts] == [18, 0]
    whole = first.run(CELLS)["probe"]
    assert [sum(count) for count in counts] == [6 * len(CELLS), 0]
    both = Suite(group, folder=tmp_path, progress=False).run(CELLS)
    assert [sum(count) for count in counts] == [6 * len(CELLS), 6 * len(CELLS)]
    assert all(np.array_equal(both["probe"][cell], whole[cell]) for cell in CELLS)


def test_logits_of_other_images_seeds_or_networks_are_never_taken(tmp_path: Path, images: torch.Tensor) -> None:
    (member,) = members("probe", images=images)
    counts = counted(member.network)  # type: ignore[arg-type]
    cells = [("gaussian_noise", 2)]
    first = Suite([member], folder=tmp_path, progress=False).run(cells)["probe"][cells[0]]
    changed = images.clone()
    changed[0, 0, 0, 0] ^= 1
    for other in (
        Suite([member], folder=tmp_path, seed=1, progress=False),
        Suite([Member(name="a", digest="b", network=member.network, images=images)], folder=tmp_path, progress=False),
        Suite([Member(name="a", digest=member.digest, network=member.network, images=changed)], folder=tmp_path),
    ):
        before = sum(counts)
        other.run(cells)
        assert sum(counts) == before + 6
    again = Suite([member], folder=tmp_path, progress=False).run(cells)["probe"][cells[0]]
    assert np.array_equal(again, first)


def test_a_damaged_file_is_noticed_said_and_made_again(
    tmp_path: Path, images: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    suite = Suite(members("probe", images=images), folder=tmp_path, progress=False)
    before = suite.run(CELLS)["probe"]
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == len(CELLS)
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        after = suite.run(CELLS)["probe"]
    assert caplog.text.count("damaged or half-written") >= len(CELLS)
    assert all(np.array_equal(after[cell], before[cell]) for cell in CELLS)
    assert all(np.load(file, allow_pickle=False) for file in files)


def test_members_that_preprocess_in_another_way_get_their_own_images(tmp_path: Path, images: torch.Tensor) -> None:
    dark = (images // 2).clone()
    first, second = members("probe", images=images), members("other_probe", images=dark)
    found = Suite([*first, *second], folder=tmp_path, progress=False).run([CLEAN])
    with torch.inference_mode():
        expected = second[0].network(dark.float() / 255).double().numpy()
    np.testing.assert_allclose(found["other_probe"][CLEAN], expected, atol=1e-5)


def test_logits_that_are_not_finite_are_refused(images: torch.Tensor) -> None:
    broken = classifier(seed=1)
    nn.init.constant_(broken.head.bias, float("nan"))  # type: ignore[union-attr]
    with pytest.raises(NonFiniteLogitsError, match="6 of 6 images"):
        compute_logits({"broken": broken}, images)


def test_names_and_severities_are_checked_and_come_in_the_order_of_tables() -> None:
    assert choose_corruptions(["motion", "gaussian_noise"]) == ["gaussian_noise", "motion"]
    assert choose_corruptions(None) == list(CORRUPTIONS)
    with pytest.raises(ConfigError, match=r"Corruptions must be of gaussian_noise, .*, got 'fog'"):
        choose_corruptions(["fog"])
    with pytest.raises(ConfigError, match="got none"):
        choose_corruptions([])
    assert severities_of("motion", [3, 1, 3]) == [1, 3]
    for wanted in ([], [0], [6]):
        with pytest.raises(ConfigError, match="Severities must be whole numbers from 1 to 5"):
            severities_of("motion", wanted)
