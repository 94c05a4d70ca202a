"""Classification without a trained head: source classes mapped to target classes, or CLIP's embeddings of names."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "LabelMapping",
    "MappedHead",
    "MappingMethod",
    "ZeroShotHead",
    "bayesian_matrix",
    "count_predictions",
    "greedy_assignment",
]

MappingMethod = Literal["random", "frequency", "iterative", "bayesian"]


def count_predictions(source_logits: torch.Tensor, labels: torch.Tensor, *, num_classes: int) -> torch.Tensor:
    """Count the predictions of each source class for images of each target class.

    Args:
        source_logits: (N, num_source).
        labels: target labels (N,), int64 in 0 .. num_classes - 1.
        num_classes: number of target classes.

    Returns:
        Counts (num_source, num_classes), float32.
    """
    num_source = source_logits.shape[1]
    pairs = source_logits.argmax(dim=1) * num_classes + labels
    return torch.bincount(pairs, minlength=num_source * num_classes).reshape(num_source, num_classes).float()


def greedy_assignment(counts: torch.Tensor) -> torch.Tensor:
    """Assign a separate source class to every target class, the largest count first.

    Ties go to the smaller source class, then to the smaller target class. A target class without any count left takes
    the first free source class.

    Args:
        counts: (num_source, num_classes), >= 0.

    Returns:
        Source class of every target class, int64 (num_classes,), all different.
    """
    left = counts.clone()
    assignment = torch.zeros(counts.shape[1], dtype=torch.int64, device=counts.device)
    for _ in range(counts.shape[1]):
        source, target = divmod(int(left.argmax()), counts.shape[1])
        assignment[target] = source
        left[source, :] = -1
        left[:, target] = -1
    return assignment


def bayesian_matrix(counts: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    r"""Weigh every source class by the certainty with which its prediction implies the target class.

    .. math:: \omega_{st} \propto \frac{N_{st}}{\sum_{t'} N_{st'} + \lambda}, \quad \sum_s \omega_{st} = 1

    Args:
        counts: :math:`N`, (num_source, num_classes).
        smoothing: :math:`\lambda` > 0; reduces the weight of rare source classes.

    Returns:
        :math:`\omega`, (num_source, num_classes); a uniform column for a target class without images.
    """
    matrix = counts / (counts.sum(dim=1, keepdim=True) + smoothing)
    total = matrix.sum(dim=0, keepdim=True)
    return torch.where(total > 0, matrix / total, torch.full_like(matrix, 1 / counts.shape[0]))


class LabelMapping(nn.Module):
    r"""Map the logits of a source classifier to target classes, by a matrix that is counted, not trained.

    .. math:: \text{logit}_t = \sum_s \omega_{st} \, \text{source}_s

    - ``random``: every target class gets a random source class; nothing is fitted.
    - ``frequency``: one source class each, :func:`greedy_assignment` of the predictions on the training images without
      a prompt. Fit it once, before training.
    - ``iterative``: the same on *prompted* images, fitted again before every epoch, as the prompt changes the
      predictions.
    - ``bayesian``: :func:`bayesian_matrix` of the same counts, with all source classes; fitted before every epoch.

    Args:
        num_source: number of source classes.
        num_classes: number of target classes, 2 to ``num_source``.
        method: see above.
        smoothing: :math:`\lambda` > 0 of ``bayesian``.
        seed: of ``random``.

    Attributes:
        refits: True if the method needs a new ``fit`` before every epoch.
        fitted: True if ``forward`` can be called.

    Raises:
        ValueError: if there are more target than source classes, or an option is unknown; in ``forward``, before
            ``fit``.

    Reference:
        random and frequency: Bahng et al., arXiv 2203.17274, and Tsai et al., ICML 2020. iterative: Chen et al.,
        "Understanding and Improving Visual Prompting: A Label-Mapping Perspective", CVPR 2023, arXiv 2211.11635.
        bayesian: Cai et al., "Bayesian-guided Label Mapping for Visual Reprogramming", NeurIPS 2024, arXiv 2410.24018
            (BLM; without BLM+).

    Example:
        >>> mapping = LabelMapping(4, 2, method="frequency")
        >>> source_logits = torch.eye(4)[[3, 3, 1]]
        >>> mapping.fit(source_logits, torch.tensor([0, 0, 1]))
        >>> mapping(torch.tensor([[10.0, 20.0, 30.0, 40.0]]))
        tensor([[40., 20.]])
    """

    matrix: torch.Tensor

    def __init__(
        self,
        num_source: int,
        num_classes: int,
        *,
        method: MappingMethod = "frequency",
        smoothing: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 2 <= num_classes <= num_source:
            raise ValueError(
                f"A label mapping needs 2 to {num_source} target classes (as many as the source classifier has), got "
                f"{num_classes}. A number has none: leave strategy_vp_only out."
            )
        if method not in get_args(MappingMethod):
            raise ValueError(f"method must be one of {get_args(MappingMethod)}, got {method!r}.")
        if not smoothing > 0:
            raise ValueError(f"smoothing must be > 0, got {smoothing}.")
        self.num_source, self.num_classes = num_source, num_classes
        self.method, self.smoothing = str(method), float(smoothing)
        self.refits = method in ("iterative", "bayesian")
        self.fitted = method == "random"
        self.register_buffer("matrix", torch.zeros(num_source, num_classes))
        if method == "random":
            chosen = torch.randperm(num_source, generator=torch.Generator().manual_seed(seed))[:num_classes]
            self.matrix.copy_(_one_to_one(chosen, num_source))
        self.register_load_state_dict_post_hook(_mark_fitted)

    @torch.jit.ignore
    @torch.no_grad()
    def fit(self, source_logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count on training images, never on test images; do nothing for ``random``.

        Args:
            source_logits: (N, num_source) of training images.
            labels: target labels (N,), int64 in 0 .. num_classes - 1.

        Raises:
            ValueError: if a shape differs, a label is out of range, or there is no image.
        """
        if source_logits.dim() != 2 or source_logits.shape != (len(labels), self.num_source) or len(labels) == 0:
            raise ValueError(
                f"source_logits must be (N >= 1, {self.num_source}) with N labels, "
                f"got {tuple(source_logits.shape)} and {len(labels)} labels."
            )
        if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"labels must be in 0 .. {self.num_classes - 1}, got {int(labels.min())} .. {int(labels.max())}."
            )
        if self.method == "random":
            return
        counts = count_predictions(source_logits, labels, num_classes=self.num_classes)
        if self.method == "bayesian":
            self.matrix.copy_(bayesian_matrix(counts, smoothing=self.smoothing))
        else:
            self.matrix.copy_(_one_to_one(greedy_assignment(counts), self.num_source))
        self.fitted = True

    def forward(self, source_logits: torch.Tensor) -> torch.Tensor:
        """Map logits (B, num_source) to logits (B, num_classes)."""
        if not self.fitted:
            raise ValueError(f"The label mapping '{self.method}' was not fitted: call fit on training images first.")
        return source_logits @ self.matrix


class MappedHead(nn.Module):
    """Last layer of the source classifier, with its classes mapped to the target classes; nothing in it trains.

    Its weights come with the backbone's and are not saved in a checkpoint, unlike the mapping.

    Args:
        source_weight: (num_source, num_features).
        source_bias: (num_source,), or None for zeros.
        mapping: from the same number of source classes.

    Raises:
        ValueError: if the sizes do not match.

    Example:
        >>> head = MappedHead(torch.eye(3), None, LabelMapping(3, 2, method="frequency"))
        >>> head.fit(torch.eye(3)[[2, 0]], torch.tensor([0, 1]))
        >>> head(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[3., 1.]])
    """

    classes_only = True
    source_weight: torch.Tensor
    source_bias: torch.Tensor

    def __init__(self, source_weight: torch.Tensor, source_bias: torch.Tensor | None, mapping: LabelMapping) -> None:
        super().__init__()
        bias = source_weight.new_zeros(source_weight.shape[0]) if source_bias is None else source_bias
        if source_weight.dim() != 2 or bias.shape != source_weight.shape[:1] or len(bias) != mapping.num_source:
            raise ValueError(
                f"The mapping is from {mapping.num_source} source classes, got a source weight "
                f"{tuple(source_weight.shape)} and bias {tuple(bias.shape)}."
            )
        self.num_features, self.num_classes = int(source_weight.shape[1]), mapping.num_classes
        self.register_buffer("source_weight", source_weight.detach().float().clone(), persistent=False)
        self.register_buffer("source_bias", bias.detach().float().clone(), persistent=False)
        self.mapping = mapping

    def source_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the logits of the source classes, (B, num_features) to (B, num_source)."""
        return F.linear(features, self.source_weight, self.source_bias)

    @torch.jit.ignore
    def fit(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Fit the mapping on features (N, num_features) and labels (N,) of training images."""
        self.mapping.fit(self.source_logits(features), labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, num_classes) of features (B, num_features)."""
        return self.mapping(self.source_logits(features))


def _one_to_one(assignment: torch.Tensor, num_source: int) -> torch.Tensor:
    return F.one_hot(assignment, num_source).T.float()


def _mark_fitted(module: nn.Module, _incompatible: Any) -> None:
    module.fitted = bool(module.matrix.any())  # type: ignore[operator, assignment]


class ZeroShotHead(nn.Module):
    r"""Compute logits from the cosine between an image's features and the embedding of every class.

    .. math:: \text{logit}_c = \tau \, \frac{f^\top e_c}{\lVert f \rVert \, \lVert e_c \rVert}

    Nothing here trains: embeddings (of sentences that name the classes) and :math:`\tau` are buffers. They are saved,
    so a checkpoint classifies without its text encoder.

    Args:
        class_embeddings: :math:`e`, (num_classes, num_features), of any length > 0; stored with length 1.
        logit_scale: :math:`\tau` > 0, the factor itself (100 for OpenAI's CLIP), not its logarithm.

    Raises:
        ValueError: if the embeddings are not a matrix of this form, one of them is zero or not finite, or
            ``logit_scale`` is not positive.

    Reference:
        Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
        arXiv 2103.00020, figure 3. With a visual prompt: Bahng et al., arXiv 2203.17274.

    Example:
        >>> head = ZeroShotHead(torch.eye(2), logit_scale=10.0)
        >>> head(torch.tensor([[3.0, 4.0]]))
        tensor([[6., 8.]])
    """

    classes_only = True
    class_embeddings: torch.Tensor
    logit_scale: torch.Tensor

    def __init__(self, class_embeddings: torch.Tensor, logit_scale: float) -> None:
        super().__init__()
        embeddings = class_embeddings.detach().float()
        if embeddings.dim() != 2 or embeddings.shape[0] < 2:
            raise ValueError(f"class_embeddings must be (>= 2 classes, num_features), got {tuple(embeddings.shape)}.")
        lengths = embeddings.norm(dim=1, keepdim=True)
        if not bool(((lengths > 0) & lengths.isfinite()).all()):
            raise ValueError("class_embeddings must be finite and none may be zero: a zero vector has no direction.")
        if not 0 < float(logit_scale) < float("inf"):
            raise ValueError(f"logit_scale must be positive and finite (100 for OpenAI's CLIP), got {logit_scale}.")
        self.num_classes, self.num_features = int(embeddings.shape[0]), int(embeddings.shape[1])
        self.register_buffer("class_embeddings", embeddings / lengths)
        self.register_buffer("logit_scale", torch.tensor(float(logit_scale)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            features: (B, num_features), of any length; a zero vector gets zero logits.

        Returns:
            Logits (B, num_classes), in [-logit_scale, logit_scale].
        """
        return self.logit_scale * F.linear(F.normalize(features, dim=1), self.class_embeddings)
