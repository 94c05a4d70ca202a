"""Label mappings against loops over images and classes."""

from __future__ import annotations

import itertools

import pytest
import torch

from movl_monai.heads import LabelMapping, MappedHead
from movl_monai.heads.label_mapping import bayesian_matrix, count_predictions, greedy_assignment

SOURCE, CLASSES = 6, 3


def sample(images: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(images, SOURCE), torch.arange(images) % CLASSES


def counts_by_loop(logits: torch.Tensor, labels: torch.Tensor) -> list[list[int]]:
    counts = [[0] * CLASSES for _ in range(SOURCE)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        counts[row.index(max(row))][label] += 1
    return counts


def test_count_predictions_equals_a_loop() -> None:
    logits, labels = sample()
    assert count_predictions(logits, labels, num_classes=CLASSES).int().tolist() == counts_by_loop(logits, labels)


def test_greedy_assignment_takes_the_largest_count_first_and_no_source_twice() -> None:
    counts = torch.tensor([[9.0, 8.0, 0.0], [7.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    # 9 gives source 0 to target 0; 8 and 7 are then taken; 2 gives source 2 to target 1; the rest gets the free ones
    assert greedy_assignment(counts).tolist() == [0, 2, 1]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_assignment_equals_sorting_all_pairs(seed: int) -> None:
    counts = torch.rand(SOURCE, CLASSES, generator=torch.Generator().manual_seed(seed))
    taken: dict[int, int] = {}
    pairs = itertools.product(range(SOURCE), range(CLASSES))
    for source, target in sorted(pairs, key=lambda pair: -counts[pair].item()):
        if target not in taken and source not in taken.values():
            taken[target] = source
    assert greedy_assignment(counts).tolist() == [taken[target] for target in range(CLASSES)]


@pytest.mark.parametrize("method", ["frequency", "iterative"])
def test_one_to_one_mapping_picks_the_assigned_logits(method: str) -> None:
    logits, labels = sample()
    mapping = LabelMapping(SOURCE, CLASSES, method=method)  # type: ignore[arg-type]
    mapping.fit(logits, labels)
    assignment = greedy_assignment(count_predictions(logits, labels, num_classes=CLASSES))
    assert torch.equal(mapping(logits), logits[:, assignment])


def test_bayesian_mapping_equals_the_formula_in_a_loop() -> None:
    logits, labels = sample()
    counts = counts_by_loop(logits, labels)
    weights = [[counts[s][t] / (sum(counts[s]) + 0.5) for t in range(CLASSES)] for s in range(SOURCE)]
    totals = [sum(weights[s][t] for s in range(SOURCE)) for t in range(CLASSES)]
    expected = [
        [sum(float(row[s]) * weights[s][t] / totals[t] for s in range(SOURCE)) for t in range(CLASSES)]
        for row in logits
    ]
    mapping = LabelMapping(SOURCE, CLASSES, method="bayesian", smoothing=0.5)
    mapping.fit(logits, labels)
    torch.testing.assert_close(mapping(logits), torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_bayesian_matrix_is_uniform_for_a_class_without_images() -> None:
    matrix = bayesian_matrix(torch.tensor([[3.0, 0.0], [1.0, 0.0]]), smoothing=1.0)
    assert matrix[:, 1].tolist() == [0.5, 0.5]
    torch.testing.assert_close(matrix.sum(dim=0), torch.ones(2))


def test_random_mapping_repeats_with_its_seed_and_ignores_fit() -> None:
    first, again, other = (LabelMapping(100, 3, method="random", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.matrix, again.matrix)
    assert not torch.equal(first.matrix, other.matrix)
    assert first.matrix.sum(dim=0).tolist() == [1, 1, 1]
    first.fit(torch.randn(5, 100), torch.tensor([0, 1, 2, 0, 1]))
    assert torch.equal(first.matrix, again.matrix)


@pytest.mark.parametrize(("method", "refits"), [("random", 0), ("frequency", 0), ("iterative", 1), ("bayesian", 1)])
def test_mapping_says_whether_it_wants_to_be_fitted_every_epoch(method: str, refits: int) -> None:
    assert LabelMapping(SOURCE, CLASSES, method=method).refits == bool(refits)  # type: ignore[arg-type]


def test_mapping_refuses_to_map_before_it_was_fitted_or_loaded() -> None:
    logits, labels = sample()
    fitted, fresh = LabelMapping(SOURCE, CLASSES), LabelMapping(SOURCE, CLASSES)
    with pytest.raises(ValueError, match="'frequency' was not fitted: call fit"):
        fresh(logits)
    fitted.fit(logits, labels)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(logits), fitted(logits))


def test_fitted_mapping_scripts() -> None:
    logits, labels = sample()
    mapping = LabelMapping(SOURCE, CLASSES, method="bayesian")
    mapping.fit(logits, labels)
    torch.testing.assert_close(torch.jit.script(mapping)(logits), mapping(logits))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((5, 6), {}, "2 to 5 target classes .* got 6"),
        ((5, 1), {}, "2 to 5 target classes .* got 1"),
        ((5, 2), {"method": "greedy"}, "method must be one of .*'bayesian'.* got 'greedy'"),
        ((5, 2), {"smoothing": 0.0}, "smoothing must be > 0, got 0.0"),
    ],
)
def test_mapping_refuses_impossible_options(arguments: tuple[int, int], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelMapping(*arguments, **options)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64), r"\(N >= 1, 6\) with N labels, got \(4, 5\)"),
        (torch.zeros(4, 6), torch.zeros(3, dtype=torch.int64), "got .* and 3 labels"),
        (torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), "N >= 1"),
        (torch.zeros(2, 6), torch.tensor([0, 3]), r"labels must be in 0 .. 2, got 0 .. 3"),
    ],
)
def test_mapping_refuses_to_count_what_does_not_fit(logits: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelMapping(SOURCE, CLASSES).fit(logits, labels)


def test_mapped_head_is_the_source_layer_then_the_mapping() -> None:
    layer, features, labels = torch.nn.Linear(4, SOURCE), torch.randn(60, 4), torch.arange(60) % CLASSES
    head = MappedHead(layer.weight, layer.bias, LabelMapping(SOURCE, CLASSES))
    head.fit(features, labels)
    torch.testing.assert_close(head(features), layer(features).detach() @ head.mapping.matrix)
    torch.testing.assert_close(torch.jit.script(head)(features), head(features))


def test_mapped_head_trains_nothing_and_saves_the_mapping_only() -> None:
    head = MappedHead(torch.randn(SOURCE, 4), None, LabelMapping(SOURCE, CLASSES))
    assert not list(head.parameters())
    assert list(head.state_dict()) == ["mapping.matrix"]


def test_mapped_head_refuses_a_mapping_from_another_number_of_classes() -> None:
    with pytest.raises(ValueError, match=r"from 6 source classes, got a source weight \(5, 4\)"):
        MappedHead(torch.randn(5, 4), None, LabelMapping(SOURCE, CLASSES))
