"""Clamping to [0, 1] with a gradient that can lead back inside."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

__all__ = ["saturate"]


def saturate(image: torch.Tensor) -> torch.Tensor:
    r"""Clamp to [0, 1]; the gradient is stopped only if a descent step would lead further out.

    .. math:: y = \min(\max(x, 0), 1) \qquad
        \frac{\partial L}{\partial x} = \begin{cases} 0 & x \le 0, \; \partial L / \partial y > 0 \\
        0 & x \ge 1, \; \partial L / \partial y < 0 \\ \partial L / \partial y & \text{else} \end{cases}

    ``torch.clamp`` stops it everywhere outside, and in some versions of torch (2.14) also at the bounds. Medical images
    are exactly black around the body or the collimated field, where a prompt that starts at zero would never change.

    Args:
        image: any shape, floating point.

    Returns:
        The same shape and dtype, in [0, 1].

    Reference:
        The gradient is that of projected gradient descent on a box; outside the box it is our choice.

    Example:
        >>> x = torch.tensor([-0.5, 0.0, 0.5, 1.5], requires_grad=True)
        >>> (-saturate(x).sum()).backward()  # brighter is better
        >>> x.grad
        tensor([-1., -1., -1.,  0.])
    """
    if torch.jit.is_scripting():
        return image.clamp(0.0, 1.0)
    # exported graphs have no gradient and cannot hold a Python function
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or not image.requires_grad:
        return image.clamp(0.0, 1.0)
    return _Saturate.apply(image)


class _Saturate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: torch.Tensor) -> torch.Tensor:
        clamped = image.clamp(0.0, 1.0)
        # the output is kept anyway, as the backbone's input; the sum before the clamp would need more memory
        ctx.save_for_backward(clamped)
        return clamped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (clamped,) = ctx.saved_tensors
        # torch.where over two comparisons is equivalent, at twice the time on a CPU
        darker = torch.ops.aten.threshold_backward(gradient.clamp(min=0.0), clamped, 0.0)
        brighter = torch.ops.aten.threshold_backward(gradient.clamp(max=0.0), 1.0 - clamped, 0.0)
        return darker.add_(brighter)
