"""Convolutions as matrix products, several times faster than torch's own on a CPU, with its results and gradients.

Time is cut into blocks and the clips of a batch lie one after the other, so that a part of the kernel is one product of
all blocks with a matrix, added to the row that lies as many blocks before as the part begins. Nothing is unfolded. Rows
in which a kernel reaches beyond its clip hold no meaning and are cut off.

Shape suffixes: R rows (blocks of all clips), B utterances, T frames, C channels in, O channels out, K kernel, G groups.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

BLOCK = 4  # frames in a block of a grouped convolution: enough to fill a matrix product, few enough to waste little


def convolution(conv: torch.nn.Conv1d, h_RC: torch.Tensor) -> torch.Tensor:
    """A convolution of clips that lie one after the other, each of whole strides: one row for each block of a stride.

    A clip's last rows, whose kernels would reach beyond its end, hold no meaning. The others are torch's, with nothing
    copied, as a convolution's unfolding would copy.

    Args:
        h_RC: rows of all clips, (R, C); R is a multiple of the stride.

    Returns:
        Rows after the layer (R / stride, channels out).
    """
    return _Convolution.apply(h_RC, conv.weight, conv.bias, conv.stride[0])


class _Convolution(torch.autograd.Function):
    """A kernel of k samples at stride s spans blocks of s samples, the last one maybe in part. The product of every
    block with the kernel's p-th part is added to the row that lies p blocks before."""

    @staticmethod
    def forward(ctx, h_RC, weight_OCK, bias_O, stride):
        blocks = h_RC.view(len(h_RC) // stride, -1)
        parts = [part.transpose(1, 2).flatten(1) for part in weight_OCK.split(stride, dim=2)]
        ctx.save_for_backward(blocks, *parts)
        ctx.shape, ctx.has_bias = h_RC.shape, bias_O is not None
        first = parts[0]
        narrow = blocks[:, : first.shape[1]]
        out = narrow @ first.T if bias_O is None else torch.addmm(bias_O, narrow, first.T)
        for p, part in enumerate(parts[1:], start=1):
            out[:-p].addmm_(blocks[p:, : part.shape[1]], part.T)
        return out

    @staticmethod
    def backward(ctx, grad):
        blocks, *parts = ctx.saved_tensors
        grad = grad.contiguous()
        channels = ctx.shape[1]
        before = None
        if ctx.needs_input_grad[0]:
            full = parts[0].shape[1] == blocks.shape[1]
            before = grad @ parts[0] if full else F.pad(grad @ parts[0], (0, blocks.shape[1] - parts[0].shape[1]))
            for p, part in enumerate(parts[1:], start=1):
                before[p:, : part.shape[1]].addmm_(grad[:-p], part)
            before = before.view(ctx.shape)
        weight = None
        if ctx.needs_input_grad[1]:
            ends = [len(grad) - p for p in range(len(parts))]
            weight = torch.cat(
                [
                    (grad[:end].T @ blocks[p:, : part.shape[1]]).unflatten(1, (-1, channels)).transpose(1, 2)
                    for p, (end, part) in enumerate(zip(ends, parts, strict=True))
                ],
                dim=2,
            )
        return before, weight, grad.sum(0) if ctx.has_bias and ctx.needs_input_grad[2] else None, None


def grouped_convolution(x_BCT: torch.Tensor, conv: torch.nn.Conv1d) -> torch.Tensor:
    """A grouped convolution of stride 1 with a long kernel, such as relative positions: `conv(x_BCT)`."""
    return _GroupedConvolution.apply(x_BCT, conv.weight, conv.bias, conv.groups, conv.padding[0])


class _GroupedConvolution(torch.autograd.Function):
    """Within a block of b frames, the kernel is a banded (Toeplitz) matrix from each group's b x C inputs to its b x O
    outputs; a kernel longer than a block spans several blocks, each with a matrix of its own."""

    @staticmethod
    def forward(ctx, x_BCT, weight_OCK, bias_O, groups, padding):
        batch, channels, time = x_BCT.shape
        outputs, inputs, kernel = weight_OCK.shape
        frames = time + 2 * padding - kernel + 1
        spanned = math.ceil((kernel + BLOCK - 1) / BLOCK)
        blocks = math.ceil(frames / BLOCK) + spanned - 1
        # (B, T, C) -> for each group, rows of all clips' blocks
        x = F.pad(x_BCT.transpose(1, 2), (0, 0, padding, blocks * BLOCK - time - padding))
        x = x.reshape(batch * blocks, BLOCK, groups, inputs).permute(2, 0, 1, 3).reshape(groups, batch * blocks, -1)
        weight = weight_OCK.view(groups, -1, inputs, kernel).permute(0, 3, 2, 1)  # (G, K, C, O)
        band = weight.new_zeros(groups, spanned * BLOCK, inputs, BLOCK, outputs // groups)
        for r in range(BLOCK):
            band[:, r : r + kernel, :, r] = weight
        band = band.view(groups, spanned, BLOCK * inputs, -1)
        out = torch.bmm(x, band[:, 0])
        for p in range(1, spanned):
            out[:, :-p].baddbmm_(x[:, p:], band[:, p])
        ctx.save_for_backward(x, band)
        ctx.sizes = (batch, time, frames, blocks, padding, weight_OCK.shape)
        out = (
            out.view(groups, batch, blocks, BLOCK, -1).permute(1, 0, 4, 2, 3).reshape(batch, outputs, -1)[..., :frames]
        )
        return out if bias_O is None else out + bias_O[:, None]

    @staticmethod
    def backward(ctx, grad_BOT):
        x, band = ctx.saved_tensors
        batch, time, frames, blocks, padding, (outputs, inputs, kernel) = ctx.sizes
        groups, spanned = band.shape[:2]
        grad = F.pad(grad_BOT, (0, blocks * BLOCK - frames)).view(batch, groups, -1, blocks, BLOCK)
        grad = grad.permute(1, 0, 3, 4, 2).reshape(groups, batch * blocks, -1)
        before = weight = None
        if ctx.needs_input_grad[0]:
            before = torch.bmm(grad, band[:, 0].mT)
            for p in range(1, spanned):
                before[:, p:].baddbmm_(grad[:, :-p], band[:, p].mT)
            before = before.view(groups, batch, blocks * BLOCK, inputs).permute(1, 0, 3, 2)
            before = before.reshape(batch, groups * inputs, -1)[..., padding : padding + time]
        if ctx.needs_input_grad[1]:
            parts = [torch.bmm(x[:, p:].mT, grad[:, : x.shape[1] - p]) for p in range(spanned)]
            bands = torch.stack(parts, 1).view(groups, spanned * BLOCK, inputs, BLOCK, -1)
            weight = sum(bands[:, r : r + kernel, :, r] for r in range(BLOCK))  # (G, K, C, O)
            weight = weight.permute(0, 3, 2, 1).reshape(outputs, inputs, kernel)
        bias = grad_BOT.sum((0, 2)) if ctx.needs_input_grad[2] else None
        return before, weight, bias, None, None
