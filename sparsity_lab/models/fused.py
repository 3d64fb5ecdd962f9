"""Functions with hand-written gradients: fewer passes over memory than autograd's composition of the same formula.

On a CPU the models of a study are small enough that elementwise passes, not products, decide the time of a step.
Tensors carry their shape as a suffix: B batch, T queries, S keys, D width, H heads, K width of a head, N rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + epsilon) * weight, over the last axis: (B, T, D)."""
    normed_BTD: Tensor = _RMSNorm.apply(x_BTD, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return normed_BTD


def biased_attention(q_BTHK: Tensor, k_BSHK: Tensor, v_BSHK: Tensor, bias_HTS: Tensor) -> Tensor:
    """Return softmax(q k^T + bias) v, the bias learned: (B, T, H, K)."""
    mixed_BTHK: Tensor = _BiasedAttention.apply(q_BTHK, k_BSHK, v_BSHK, bias_HTS)  # type: ignore[no-untyped-call]
    return mixed_BTHK


def turn(x_BTHK: Tensor, cos_T1K: Tensor, sin_T1K: Tensor) -> Tensor:
    """Rotary positions (Su 2021, eq. 34): every pair (k, k + K/2) of a head turned by its position's angle."""
    turned_BTHK: Tensor = _Turn.apply(x_BTHK, cos_T1K, sin_T1K)  # type: ignore[no-untyped-call]
    return turned_BTHK


class _RMSNorm(torch.autograd.Function):
    """x r w with r = 1 / sqrt(mean(x^2) + epsilon), over the last axis.

    With t = g x: dw = sum over rows of t r, and dx = r (g w - x r^2 (t . w) / D).
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        norm_BT1 = torch.linalg.vector_norm(x_BTD, dim=-1, keepdim=True)
        scale_BT1 = norm_BT1.square_().div_(x_BTD.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x_BTD, weight_D, scale_BT1)
        return torch.mul(x_BTD, scale_BT1).mul_(weight_D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of x and weight."""
        x_BTD, weight_D, scale_BT1 = ctx.saved_tensors
        width = x_BTD.shape[-1]
        t_ND = torch.mul(gradients[0], x_BTD).reshape(-1, width)
        pull_BT1 = torch.mv(t_ND, weight_D).view_as(scale_BT1).mul_(scale_BT1).mul_(scale_BT1).div_(-width)
        x_gradient = torch.mul(gradients[0], weight_D).addcmul_(x_BTD, pull_BT1).mul_(scale_BT1)
        return x_gradient, torch.mv(t_ND.t(), scale_BT1.view(-1)), None


class _BiasedAttention(torch.autograd.Function):
    """Attention head by head.

    One head's scores of a whole batch are as much as a cache holds, strided heads need no copy for a batched
    product, and softmax and its gradient work in place.
    """

    @staticmethod
    def forward(ctx: Any, q_BTHK: Tensor, k_BSHK: Tensor, v_BSHK: Tensor, bias_HTS: Tensor) -> Tensor:
        """(B, T, H, K)."""
        weights, mixed = [], []
        for head in range(q_BTHK.shape[2]):
            scores_BTS = torch.bmm(q_BTHK[:, :, head], k_BSHK[:, :, head].transpose(1, 2)).add_(bias_HTS[head])
            weights_BTS = torch.softmax(scores_BTS, -1, out=scores_BTS)
            mixed.append(torch.bmm(weights_BTS, v_BSHK[:, :, head]))
            weights.append(weights_BTS)
        ctx.save_for_backward(q_BTHK, k_BSHK, v_BSHK, *weights)
        return torch.stack(mixed, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of q, k, v and bias."""
        q_BTHK, k_BSHK, v_BSHK, *weights = ctx.saved_tensors
        q_grads, k_grads, v_grads, bias_grads = [], [], [], []
        for head, weights_BTS in enumerate(weights):
            mixed_grad_BTK = gradients[0][:, :, head]
            v_grads.append(torch.bmm(weights_BTS.transpose(1, 2), mixed_grad_BTK))
            weights_grad_BTS = torch.bmm(mixed_grad_BTK, v_BSHK[:, :, head].transpose(1, 2))
            scores_grad_BTS = torch._softmax_backward_data(weights_grad_BTS, weights_BTS, -1, weights_BTS.dtype)  # noqa: SLF001
            bias_grads.append(scores_grad_BTS.sum(0))
            q_grads.append(torch.bmm(scores_grad_BTS, k_BSHK[:, :, head]))
            k_grads.append(torch.bmm(scores_grad_BTS.transpose(1, 2), q_BTHK[:, :, head]))
        return torch.stack(q_grads, 2), torch.stack(k_grads, 2), torch.stack(v_grads, 2), torch.stack(bias_grads)


class _Turn(torch.autograd.Function):
    """A rotation, whose gradient is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, cos_T1K: Tensor, sin_T1K: Tensor) -> Tensor:
        """(B, T, H, K)."""
        ctx.save_for_backward(cos_T1K, sin_T1K)
        return _turn(x_BTHK, cos_T1K, sin_T1K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of x."""
        cos_T1K, sin_T1K = ctx.saved_tensors
        return _turn(gradients[0], cos_T1K, -sin_T1K), None, None


def _turn(x_BTHK: Tensor, cos_T1K: Tensor, sin_T1K: Tensor) -> Tensor:
    half = x_BTHK.shape[-1] // 2
    turned_BTHK = x_BTHK * cos_T1K.to(x_BTHK.dtype)
    sin_T1K = sin_T1K[..., :half].to(x_BTHK.dtype)
    turned_BTHK[..., :half].addcmul_(x_BTHK[..., half:], sin_T1K, value=-1)
    turned_BTHK[..., half:].addcmul_(x_BTHK[..., :half], sin_T1K)
    return turned_BTHK
