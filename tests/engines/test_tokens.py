"""Cached tokens in front of the first adapted block: equal training, honest files, clear refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from movl_monai.adapters import DVPT, SSF, Adapter, LoRA, last_blocks
from movl_monai.backbones import Backbone
from movl_monai.engines import (
    SelectingEvaluator,
    Stage,
    StagedTrainer,
    TokenSet,
    optimizer_groups,
    prepare_image_batch,
    unwrap,
)
from movl_monai.engines.tokens import FromTokens
from movl_monai.errors import ConfigError, MovlError
from movl_monai.evaluation import NegativeCrossEntropy
from movl_monai.heads import LinearHead
from movl_monai.losses import MoVLLoss
from movl_monai.networks import AdaptedClassifier
from movl_monai.prompts import PadPrompt
from tests.adapters.reference import perturb
from tests.helpers import MemoryDataset, memory_dataset, tiny_clip, tiny_swin, tiny_vit

towers = pytest.mark.parametrize("make", [tiny_vit, tiny_swin, tiny_clip], ids=["vit", "swin", "clip"])


def _network(backbone: Backbone, adapter: Adapter | None = None, *, prompt: bool = False) -> AdaptedClassifier:
    size = backbone.spec.image_size
    adapter = adapter or DVPT(backbone, num_prompts=3, bottleneck=4, blocks=last_blocks(backbone))
    return AdaptedClassifier(
        backbone=backbone,
        adapter=adapter,
        prompt=PadPrompt(image_size=size, width=4) if prompt else None,
        head=LinearHead(backbone.spec.num_features, 2, init="uniform"),
    )


def _data(backbone: Backbone, count: int = 12) -> MemoryDataset:
    return memory_dataset(count, size=backbone.spec.image_size)


def _train(network: AdaptedClassifier, data: MemoryDataset, tokens: TokenSet | None, **options: object) -> None:
    StagedTrainer(
        device="cpu",
        network=network,
        stages=[Stage(epochs=2, lr={"adapter": 1e-2, "head": 1e-2})],
        max_epochs=2,
        optimizer=torch.optim.SGD(optimizer_groups(network), lr=0.1),
        loss_function=MoVLLoss(),
        train_data_loader=torch.utils.data.DataLoader(data, batch_size=5),
        tokens=tokens,
        **options,  # type: ignore[arg-type]
    ).run()


@towers
@pytest.mark.parametrize("layers", ["last", "all", "ends"])
def test_logits_from_cached_tokens_are_those_of_the_images(
    make: Callable[..., Backbone], layers: Any, tmp_path: Path
) -> None:
    if layers == "ends":
        layout = make().token_path().layout
        layers = [0, (layout.depth if layout.kind == "sequence" else len(set(layout.stages))) - 1]
    backbone = make(layers=layers)
    network, data = _network(backbone).eval(), _data(backbone)
    perturb(network.adapter, scale=0.1)
    tokens = TokenSet(data, network, batch_size=5, cache_dir=tmp_path, progress=False)
    index = torch.tensor([7, 0, 11])
    with torch.no_grad():
        logits = FromTokens(network, tokens.start)(tokens.rows(index))
        expected = network(data.images[index].float() / 255)
    torch.testing.assert_close(logits, expected, atol=5e-3, rtol=5e-3)


@towers
def test_training_from_cached_tokens_ends_where_training_from_images_does(
    make: Callable[[], Backbone], tmp_path: Path
) -> None:
    states = []
    for cached in (False, True):
        backbone = make()
        network, data = _network(backbone), _data(backbone)
        _train(network, data, TokenSet(data, network, cache_dir=tmp_path, progress=False) if cached else None)
        states.append(network.state_dict())
    start = _network(make()).state_dict()
    for name, value in states[0].items():
        moved = (value.float() - start[name].float()).abs().max()
        assert (states[1][name].float() - value.float()).abs().max() <= 0.05 * moved + 1e-6, name


def test_a_step_from_cached_tokens_does_not_run_the_blocks_before() -> None:
    backbone = tiny_vit()
    network, data = _network(backbone), _data(backbone)
    tokens = TokenSet(data, network, progress=False)
    assert tokens.values.shape == (12, 17, 64)
    ran: list[int] = []
    for number, block in enumerate(network.adapted.path.blocks):
        block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    _train(network, data, tokens)
    assert set(ran) == {4, 5}


def test_a_validation_from_cached_tokens_runs_no_block_before_and_judges_alike() -> None:
    backbone = tiny_vit()
    network, data = _network(backbone).eval(), _data(backbone)
    perturb(network.adapter, scale=0.1)
    ran: list[int] = []
    for number, block in enumerate(network.adapted.path.blocks):
        block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    losses = []
    for tokens in (None, TokenSet(data, network, progress=False)):
        if tokens is not None:
            _ = tokens.values
            ran.clear()
        evaluator = SelectingEvaluator(
            device=torch.device("cpu"),
            val_data_loader=torch.utils.data.DataLoader(data, batch_size=5),
            network=network,
            prepare_batch=prepare_image_batch,
            key_val_metric={"loss": NegativeCrossEntropy()},
            tokens=tokens,
        )
        evaluator.run()
        losses.append(evaluator.state.metrics["loss"])
    assert set(ran) == {4, 5}
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1] != losses[0]  # float16


def test_the_size_is_said_before_the_file_is_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = tiny_vit()
    with caplog.at_level(logging.INFO):
        tokens = TokenSet(_data(backbone), _network(backbone), cache_dir=tmp_path, progress=False)
        assert list(tmp_path.iterdir()) == []
        values = tokens.values
    assert "Tokens in front of block 4: 0.0 MB (12 images, float16) will be written" in caplog.text
    assert isinstance(values, np.memmap)
    assert values.dtype == np.float16
    (path,) = tmp_path.glob("tokens-*.npy")
    assert path.stat().st_size - 2 * 12 * 17 * 64 < 200, "two bytes per number and a header"
    assert len(list(tmp_path.iterdir())) == 2, "no temporary file is left"


def test_a_second_set_reads_the_file_and_a_damaged_one_is_said_and_rebuilt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = tiny_vit()
    network, data = _network(backbone), _data(backbone)

    def values() -> np.ndarray:
        return np.array(TokenSet(data, network, cache_dir=tmp_path, progress=False).values)

    first = values()
    with caplog.at_level(logging.INFO):
        assert np.array_equal(values(), first)
    assert "Tokens of 12 images read from the cache" in caplog.text
    (path,) = tmp_path.glob("tokens-*.npy")
    content = bytearray(path.read_bytes())
    content[-3] ^= 255
    path.write_bytes(bytes(content))
    assert np.array_equal(values(), first)
    assert "are damaged or half-written; they are computed again" in caplog.text
    path.write_bytes(bytes(content[:-100]))
    assert np.array_equal(values(), first)


def test_the_name_of_the_file_depends_on_images_weights_and_block() -> None:
    backbone = tiny_vit()
    base = TokenSet(_data(backbone), _network(backbone))
    other_images = memory_dataset(12, size=64, seed=9)
    other = tiny_vit(seed=3)
    keys = {
        base.key(),
        TokenSet(other_images, _network(backbone)).key(),
        TokenSet(_data(backbone), _network(other)).key(),
        TokenSet(_data(backbone), _network(backbone), start=2).key(),
    }
    assert len(keys) == 4
    assert TokenSet(_data(backbone), _network(backbone)).key() == base.key()


@pytest.mark.parametrize(
    ("adapter", "start", "message"),
    [
        (lambda b: DVPT(b, num_prompts=2), None, "in front of block 0, and the adapter sits in block 0"),
        (lambda b: SSF(b), 2, "in front of block 2, and the adapter sits in block 0: a cached block is frozen out"),
        (lambda b: LoRA(b, rank=2, blocks=[3, 5]), 4, "in front of block 4, and the adapter sits in block 3"),
        (lambda b: LoRA(b, rank=2, blocks=[3, 5]), 0, "Expected a number from 1 to the first adapted block"),
    ],
)
def test_an_adapter_in_a_cached_block_is_refused(
    adapter: Callable[[Backbone], Adapter], start: int | None, message: str
) -> None:
    backbone = tiny_vit()
    with pytest.raises(ConfigError, match=message):
        TokenSet(_data(backbone), _network(backbone, adapter(backbone)), start=start)


def test_a_prompt_or_no_adapter_is_refused() -> None:
    backbone = tiny_vit()
    with pytest.raises(ConfigError, match=r"A prompt on the image \(PadPrompt\) changes every token"):
        TokenSet(_data(backbone), _network(backbone, prompt=True))
    plain = AdaptedClassifier(backbone=backbone, head=LinearHead(64, 2))
    with pytest.raises(ConfigError, match="this network has none; use cached features"):
        TokenSet(_data(backbone), plain)


def test_random_augmentation_is_refused() -> None:
    backbone = tiny_vit()
    network, data = _network(backbone), _data(backbone)
    with pytest.raises(ConfigError, match="With random augmentation"):
        _train(network, data, TokenSet(data, network), cached_plain=False)


def test_a_full_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_vit()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(MovlError, match="The tokens need 0.0 MB and 0.0 MB are free .* choose another cache_dir"):
        _ = TokenSet(_data(backbone), _network(backbone), cache_dir=tmp_path, progress=False).values
    (tmp_path / "file").write_text("in the way")
    monkeypatch.undo()
    with pytest.raises(MovlError, match="The tokens cannot be written"):
        _ = TokenSet(_data(backbone), _network(backbone), cache_dir=tmp_path / "file", progress=False).values


def test_tokens_beyond_float16_are_refused(tmp_path: Path) -> None:
    backbone = tiny_vit()
    with torch.no_grad():
        backbone.encoder.patch_embed.proj.bias.fill_(1e5)
    with pytest.raises(MovlError, match="larger than float16 can hold"):
        _ = TokenSet(_data(backbone), _network(backbone), cache_dir=tmp_path, progress=False).values
    assert list(tmp_path.glob("*.npy")) == []


def test_the_network_is_found_inside_of_the_wrapper() -> None:
    network = _network(tiny_vit())
    assert unwrap(FromTokens(network, 4)) is network


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_of_no_or_more_blocks_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="share must be in"):
        last_blocks(tiny_vit(), share=share)
