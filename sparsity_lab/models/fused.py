"""Functions with hand-written gradients: fewer passes over memory than autograd's composition of the same formula.

On a CPU the models of a study are small enough that elementwise passes, not products, decide the time of a step.
Tensors carry their shape as a suffix: B batch, T queries, S keys, D width, H heads, K width of a head, V classes,
N rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

PADDING = -100
"""the label that counts for nothing"""
CACHED_LOGITS = 2**17
"""logits worked on at a time: half a megabyte"""


def rms_norm(x_BTD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """Return x / sqrt(mean(x^2) + epsilon) * weight, over the last axis: (B, T, D)."""
    normed_BTD: Tensor = _RMSNormFunction.apply(x_BTD, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return normed_BTD


def biased_attention(q_BTHK: Tensor, k_BSHK: Tensor, v_BSHK: Tensor, bias_HTS: Tensor) -> Tensor:
    """Return softmax(q k^T + bias) v, the bias learned: (B, T, H, K)."""
    mixed_BTHK: Tensor = _BiasedAttention.apply(q_BTHK, k_BSHK, v_BSHK, bias_HTS)  # type: ignore[no-untyped-call]
    return mixed_BTHK


def turn(x_BTHK: Tensor, cos_THK: Tensor, sin_THK: Tensor) -> Tensor:
    """Rotary positions (Su 2021, eq. 34): every pair (k, k + K/2) of a head turned by its position's angle.

    The sines are those of `rotary`, negative in the first half of K. Tables that repeat for each head cost 1/B of what
    they turn, and one pass then goes over whole sequences where heads of a few numbers each would be visited apart.
    """
    turned_BTHK: Tensor = _Turn.apply(x_BTHK, cos_THK, sin_THK)  # type: ignore[no-untyped-call]
    return turned_BTHK


def head_loss(x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor) -> Tensor:
    """Mean cross-entropy, nats, of the logits x weight^T + bias against labels; label -100 counts for nothing."""
    wants_gradient = torch.is_grad_enabled()  # a Function cannot tell: inside it gradients are always off
    loss: Tensor = _HeadLoss.apply(x_ND, weight_VD, bias_V, labels_N, wants_gradient)  # type: ignore[no-untyped-call]
    return loss


class _RMSNormFunction(torch.autograd.Function):
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
    def forward(ctx: Any, x_BTHK: Tensor, cos_THK: Tensor, sin_THK: Tensor) -> Tensor:
        """(B, T, H, K)."""
        ctx.save_for_backward(cos_THK, sin_THK)
        return _turn(x_BTHK, cos_THK, sin_THK)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of x."""
        cos_THK, sin_THK = ctx.saved_tensors
        return _turn(gradients[0], cos_THK, -sin_THK), None, None


def _turn(x_BTHK: Tensor, cos_THK: Tensor, sin_THK: Tensor) -> Tensor:
    partners_BTHK = x_BTHK.roll(x_BTHK.shape[-1] // 2, -1)
    return torch.mul(x_BTHK, cos_THK.to(x_BTHK.dtype)).addcmul_(partners_BTHK, sin_THK.to(x_BTHK.dtype))


class _HeadLoss(torch.autograd.Function):
    """Head and cross-entropy a few rows at a time, so that logits never leave the cache.

    The gradient of the logits, (softmax - one-hot) / labels, is at hand as soon as the loss is: it is multiplied
    into the gradients of x and weight at once, and the backward pass only scales those.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes by position)
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, labels_N: Tensor, wants_gradient: bool
    ) -> Tensor:
        """A scalar, float32 (float64 for such inputs)."""
        known_N1 = (labels_N != PADDING)[:, None]
        share_N1 = known_N1 / known_N1.sum()
        rows = max(CACHED_LOGITS // len(weight_VD), 1)
        chunks = (torch.split(tensor, rows) for tensor in (x_ND, labels_N.clamp(min=0)[:, None], share_N1))
        losses, x_grads = [], []
        weight_grad, bias_grad = torch.zeros_like(weight_VD), None if bias_V is None else torch.zeros_like(bias_V)
        for x_nD, labels_n1, share_n1 in zip(*chunks, strict=True):
            loss, logits_grad_nV = _cross_entropy(functional.linear(x_nD, weight_VD, bias_V), labels_n1, share_n1)
            losses.append(loss)
            if wants_gradient:
                x_grads.append(torch.mm(logits_grad_nV, weight_VD))
                weight_grad += torch.mm(logits_grad_nV.t(), x_nD)
                if bias_grad is not None:
                    bias_grad += logits_grad_nV.sum(0)
        if wants_gradient:
            ctx.save_for_backward(torch.cat(x_grads), weight_grad, bias_grad)
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        """Gradients of x, weight and bias."""
        x_grad, weight_grad, bias_grad = ctx.saved_tensors
        scale = gradients[0]
        return x_grad * scale, weight_grad * scale, None if bias_grad is None else bias_grad * scale, None, None


def _cross_entropy(logits_NV: Tensor, labels_N1: Tensor, share_N1: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of shares times cross-entropies, and its gradient with respect to the logits.

    log sum exp is max - log(max of softmax): the softmax is needed anyway, and its fast kernel costs less than a log.
    """
    logits_NV = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    share_N1 = share_N1.to(logits_NV.dtype)
    largest_N1, label_N1 = logits_NV.amax(1, keepdim=True), logits_NV.gather(1, labels_N1)
    softmax_NV = torch.softmax(logits_NV, 1, out=logits_NV)
    entropy_N1 = largest_N1 - softmax_NV.amax(1, keepdim=True).log_() - label_N1
    gradient_NV = softmax_NV.mul_(share_N1).scatter_add_(1, labels_N1, -share_N1)
    return entropy_N1.mul_(share_N1).sum(), gradient_NV
