"""Classification by the cosine between image and class embeddings, as in CLIP."""

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["ZeroShotHead"]


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
