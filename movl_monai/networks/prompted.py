"""Frozen prompt and frozen backbone as one encoder."""

import hashlib

import torch
from torch import nn

from movl_monai.backbones import Backbone

__all__ = ["PromptedEncoder"]


class PromptedEncoder(nn.Module):
    """Compute the features of prompted images, for a prompt that does not train (the *random border* control).

    With it, the exact linear probe is solved on the network's actual input.

    Args:
        prompt: (B, 3, H, W) to (B, 3, H, W), without trainable parameters.
        backbone: a frozen backbone.

    Raises:
        ValueError: if the prompt has trainable parameters, which would change the features under the probe.
    """

    def __init__(self, *, prompt: nn.Module, backbone: Backbone) -> None:
        super().__init__()
        if any(True for _ in prompt.parameters()):
            raise ValueError("PromptedEncoder is for prompts that do not train; give the prompt `trainable=False`.")
        self.prompt = prompt
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Compute features (B, num_features) of images (B, 3, H, W) in [0, 1]."""
        return self.backbone(self.prompt(image))

    @torch.jit.ignore
    def content_sha256(self) -> str:
        """Return the SHA-256 of the backbone's content and the prompt's values."""
        digest = hashlib.sha256(self.backbone.content_sha256().encode())
        for name, value in sorted(self.prompt.state_dict().items()):
            digest.update(f"|{name}|{tuple(value.shape)}|".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
