"""ZeroShotHead: cosine logits that need no text encoder any more."""

from __future__ import annotations

import math

import pytest
import torch

from movl_monai.heads import ZeroShotHead


def test_zero_shot_head_equals_the_cosine_in_a_loop() -> None:
    embeddings, features = 3 * torch.randn(3, 5), 7 * torch.randn(4, 5)
    logits = ZeroShotHead(embeddings, logit_scale=12.5)(features)
    for i in range(4):
        for c in range(3):
            dot = sum(float(a * b) for a, b in zip(features[i], embeddings[c], strict=True))
            lengths = math.sqrt(sum(float(a) ** 2 for a in features[i]) * sum(float(b) ** 2 for b in embeddings[c]))
            assert logits[i, c].item() == pytest.approx(12.5 * dot / lengths, rel=1e-4, abs=1e-4)


def test_zero_shot_head_ignores_the_length_of_features_and_embeddings() -> None:
    embeddings, features = torch.randn(3, 5), torch.randn(4, 5)
    torch.testing.assert_close(
        ZeroShotHead(embeddings, 10.0)(features), ZeroShotHead(9 * embeddings, 10.0)(0.1 * features)
    )


def test_zero_shot_head_has_nothing_to_train_and_a_self_contained_state() -> None:
    head, other = ZeroShotHead(torch.randn(3, 5), 12.0), ZeroShotHead(torch.ones(3, 5), 1.0)
    assert not list(head.parameters())
    other.load_state_dict(head.state_dict())
    features = torch.randn(4, 5)
    assert torch.equal(other(features), head(features))


def test_zero_shot_head_gives_finite_logits_for_zero_features() -> None:
    assert ZeroShotHead(torch.randn(3, 5), 12.0)(torch.zeros(1, 5)).tolist() == [[0, 0, 0]]


def test_zero_shot_head_scripts() -> None:
    head, features = ZeroShotHead(torch.randn(3, 5), 12.0), torch.randn(4, 5)
    torch.testing.assert_close(torch.jit.script(head)(features), head(features))


@pytest.mark.parametrize(
    ("embeddings", "scale", "message"),
    [
        (torch.ones(1, 5), 1.0, r">= 2 classes, num_features\), got \(1, 5\)"),
        (torch.ones(5), 1.0, r"got \(5,\)"),
        (torch.eye(3)[[0, 1]] * 0, 1.0, "none may be zero"),
        (torch.full((2, 2), float("nan")), 1.0, "must be finite"),
        (torch.eye(2), 0.0, "logit_scale must be positive and finite"),
        (torch.eye(2), float("inf"), "logit_scale must be positive and finite"),
    ],
)
def test_zero_shot_head_refuses_what_has_no_direction(embeddings: torch.Tensor, scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroShotHead(embeddings, scale)
