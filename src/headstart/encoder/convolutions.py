"""1D convolutions as matrix products: several times faster on a CPU than torch's, with equal results and gradients.

The clips of a batch are concatenated, and time is cut into blocks, one row for each. The kernel is cut into parts of a
block each. The product of all rows with the kernel's p-th part contributes to the output p rows earlier, so that each
part takes one matrix product and the input need not be unfolded. Outputs for which the kernel reaches beyond the end of
a clip are meaningless, and callers cut them off.

Shape suffixes: R rows (blocks of all clips), B utterances, T frames, C channels in, O channels out, K kernel, G groups.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

BLOCK = 4  # frames in a block of a grouped convolution; more would make larger products with more zeros


def convolution(conv: torch.nn.Conv1d, h_RC: torch.Tensor) -> torch.Tensor:
    """A strided convolution of concatenated clips, as if they were one long sequence.

    The output equals torch's but for the last rows of each clip, where the kernel reaches into the next clip: those
    are meaningless.

    Args:
        conv: without padding, dilation and groups.
        h_RC: concatenated clips; the length of each is a multiple of the stride.

    Returns:
        Output of the layer (R / stride, channels out).
    """
    return _Convolution.apply(h_RC, conv.weight, conv.bias, conv.stride[0])


class _Convolution(torch.autograd.Function):
    """Forward and backward pass of `convolution`, with blocks of one stride.

    The kernel's last part is shorter than a block, unless the kernel size is a multiple of the stride.
    """

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
    """`conv(x_BCT)` for a grouped convolution of stride 1 with a long kernel, such as wav2vec 2.0's positional one."""
    return _GroupedConvolution.apply(x_BCT, conv.weight, conv.bias, conv.groups, conv.padding[0])


class _GroupedConvolution(torch.autograd.Function):
    """Forward and backward pass of `grouped_convolution`, with blocks of `BLOCK` frames.

    The kernel is a banded (Toeplitz) matrix from the inputs of the blocks that it spans to the outputs of one block.
    It is cut into one matrix for each spanned block, (BLOCK * C, BLOCK * O) in each group.
    """

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
