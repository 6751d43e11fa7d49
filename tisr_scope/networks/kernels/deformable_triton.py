"""Deformable convolution in Triton: sampling and matrix product in one kernel, and its gradient.

A *site* is one tap of one group; its offset and mask are those of all channels of the group.
Each program holds a block of pixels and walks over sites: it samples the channels of a few of them
(pixels x sites x channels), reads that tile as a matrix of pixels x (sites, channels) and
multiplies it with the weights of the same sites.  No samples are ever written to memory, neither
on the way forward nor on the way back, where they are taken again.

Features are read with channels last, so that the channels of a group lie together.  Interpolation
and sums are in single precision; half-precision features are multiplied in their own type.

The kernels live beside the networks and not with the inference, because training needs them too.
``TRITON_INTERPRET=1``, set before this module is imported, runs them on the CPU, slowly.
"""

from __future__ import annotations

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# Rows of one matrix product; what a product needs at least along its inner side.
_PIXELS, _INNER = 64, 16
# Blocks of pixels are shared out to so many programs that each sum up a gradient of the weights.
_SHARES = 32


@triton.jit
@no_type_check
def _place(offset, mask, n, pixels, site, height, width, KERNEL: tl.constexpr, SITES: tl.constexpr):
    """Row, column and weight of each site of each pixel, and which of them there are."""
    area = height * width
    there = (pixels < area)[:, None] & (site < SITES)[None, :]
    at = (n * SITES + site)[None, :] * area + pixels[:, None]
    # Channels of the offsets alternate between rows and columns.
    y_at = at + (n * SITES + site)[None, :] * area
    tap = (site % (KERNEL * KERNEL))[None, :]
    y = (pixels // width)[:, None] + tap // KERNEL - KERNEL // 2
    x = (pixels % width)[:, None] + tap % KERNEL - KERNEL // 2
    y = y.to(tl.float32) + tl.load(offset + y_at, mask=there, other=0.0).to(tl.float32)
    x = x.to(tl.float32) + tl.load(offset + y_at + area, mask=there, other=0.0).to(tl.float32)
    weight = tl.load(mask + at, mask=there, other=0.0).to(tl.float32)
    return y, x, weight, at, there


@triton.jit
@no_type_check
def _corner(y, x, n, height, width, there):
    """Number of the pixel at whole coordinates, and whether it lies inside."""
    inside = there & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    # Far outside a coordinate may not fit an integer.
    row = tl.where(inside, y, 0.0).to(tl.int64)
    column = tl.where(inside, x, 0.0).to(tl.int64)
    return (n * height + row) * width + column, inside


@triton.jit
@no_type_check
def _read(features, pixel, inside, channel, CHANNELS: tl.constexpr, fits):
    """Features of all channels of a group at one corner, zero outside."""
    address = pixel[:, :, None] * CHANNELS + channel
    return tl.load(features + address, mask=inside[:, :, None] & fits, other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def _channels(site, start, KERNEL: tl.constexpr, WIDTH: tl.constexpr, BLOCK_C: tl.constexpr):
    """Channels of the groups of the sites, shape (1, sites, channels), and which there are."""
    within = start + tl.arange(0, BLOCK_C)
    group = site // (KERNEL * KERNEL)
    return (group[:, None] * WIDTH + within[None, :])[None, :, :], (within < WIDTH)[None, None, :]


@triton.jit
@no_type_check
def _weights(
    weight, first, start, outs,
    OUTPUTS: tl.constexpr, SITES: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Addresses of weights of shape (sites, channels of a group, outputs), and which there are."""
    inner = tl.arange(0, BLOCK_S * BLOCK_C)
    site, within = first + inner // BLOCK_C, start + inner % BLOCK_C
    there = ((site < SITES) & (within < WIDTH))[:, None] & (outs < OUTPUTS)[None, :]
    return weight + (site * WIDTH + within)[:, None] * OUTPUTS + outs[None, :], there


@triton.jit
@no_type_check
def _columns(
    features, offset, mask, n, pixels, site, start, height, width,
    KERNEL: tl.constexpr, CHANNELS: tl.constexpr, SITES: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Weighted samples of a few sites, shape (pixels, sites and channels)."""
    y, x, weight, _, there = _place(offset, mask, n, pixels, site, height, width, KERNEL, SITES)
    top, left = tl.floor(y), tl.floor(x)
    fy, fx = (y - top)[:, :, None], (x - left)[:, :, None]
    channel, fits = _channels(site, start, KERNEL, WIDTH, BLOCK_C)
    pixel, inside = _corner(top, left, n, height, width, there)
    value = (1 - fy) * (1 - fx) * _read(features, pixel, inside, channel, CHANNELS, fits)
    pixel, inside = _corner(top, left + 1, n, height, width, there)
    value += (1 - fy) * fx * _read(features, pixel, inside, channel, CHANNELS, fits)
    pixel, inside = _corner(top + 1, left, n, height, width, there)
    value += fy * (1 - fx) * _read(features, pixel, inside, channel, CHANNELS, fits)
    pixel, inside = _corner(top + 1, left + 1, n, height, width, there)
    value += fy * fx * _read(features, pixel, inside, channel, CHANNELS, fits)
    return tl.reshape(value * weight[:, :, None], (BLOCK_P, BLOCK_S * BLOCK_C))


@triton.jit
@no_type_check
def _forward(
    features, offset, mask, weight, out, height, width,
    KERNEL: tl.constexpr, CHANNELS: tl.constexpr, SITES: tl.constexpr, WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    pixels = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    outs = tl.program_id(2) * BLOCK_D + tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_P, BLOCK_D), tl.float32)
    for first in range(0, SITES, BLOCK_S):
        site = first + tl.arange(0, BLOCK_S)
        for start in range(0, WIDTH, BLOCK_C):
            columns = _columns(
                features, offset, mask, n, pixels, site, start, height, width,
                KERNEL, CHANNELS, SITES, WIDTH, BLOCK_P, BLOCK_S, BLOCK_C,
            )  # fmt: skip
            at, there = _weights(
                weight, first, start, outs, OUTPUTS, SITES, WIDTH, BLOCK_S, BLOCK_C
            )
            matrix = tl.load(at, mask=there, other=0.0)
            total = tl.dot(columns.to(matrix.dtype), matrix, total, input_precision=PRECISION)
    area = height * width
    address = out + (n * OUTPUTS + outs)[None, :] * area + pixels[:, None]
    tl.store(address, total, mask=(pixels < area)[:, None] & (outs < OUTPUTS)[None, :])


@triton.jit
@no_type_check
def _backward(
    features, offset, mask, weight, arriving, to_features, to_offset, to_mask, height, width,
    KERNEL: tl.constexpr, CHANNELS: tl.constexpr, SITES: tl.constexpr, WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr, PRECISION: tl.constexpr, TO_FEATURES: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(1).to(tl.int64)
    pixels = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    area = height * width
    for first in range(0, SITES, BLOCK_S):
        site = first + tl.arange(0, BLOCK_S)
        y, x, gate, at, there = _place(offset, mask, n, pixels, site, height, width, KERNEL, SITES)
        top, left = tl.floor(y), tl.floor(x)
        fy, fx = (y - top)[:, :, None], (x - left)[:, :, None]
        p00, in00 = _corner(top, left, n, height, width, there)
        p01, in01 = _corner(top, left + 1, n, height, width, there)
        p10, in10 = _corner(top + 1, left, n, height, width, there)
        p11, in11 = _corner(top + 1, left + 1, n, height, width, there)
        into_mask = tl.zeros((BLOCK_P, BLOCK_S), tl.float32)
        into_y = tl.zeros((BLOCK_P, BLOCK_S), tl.float32)
        into_x = tl.zeros((BLOCK_P, BLOCK_S), tl.float32)
        for start in range(0, WIDTH, BLOCK_C):
            flat = tl.zeros((BLOCK_P, BLOCK_S * BLOCK_C), tl.float32)
            for low in range(0, OUTPUTS, BLOCK_D):
                outs = low + tl.arange(0, BLOCK_D)
                known = (pixels < area)[:, None] & (outs < OUTPUTS)[None, :]
                address = arriving + (n * OUTPUTS + outs)[None, :] * area + pixels[:, None]
                given = tl.load(address, mask=known, other=0.0)
                place, real = _weights(
                    weight, first, start, outs, OUTPUTS, SITES, WIDTH, BLOCK_S, BLOCK_C
                )
                matrix = tl.trans(tl.load(place, mask=real, other=0.0))
                flat = tl.dot(given, matrix, flat, input_precision=PRECISION)
            back = tl.reshape(flat, (BLOCK_P, BLOCK_S, BLOCK_C))
            channel, fits = _channels(site, start, KERNEL, WIDTH, BLOCK_C)
            v00 = _read(features, p00, in00, channel, CHANNELS, fits)
            v01 = _read(features, p01, in01, channel, CHANNELS, fits)
            v10 = _read(features, p10, in10, channel, CHANNELS, fits)
            v11 = _read(features, p11, in11, channel, CHANNELS, fits)
            upper = (1 - fx) * v00 + fx * v01
            lower = (1 - fx) * v10 + fx * v11
            into_mask += tl.sum(back * ((1 - fy) * upper + fy * lower), axis=2)
            into_y += tl.sum(back * (lower - upper), axis=2)
            into_x += tl.sum(back * ((1 - fy) * (v01 - v00) + fy * (v11 - v10)), axis=2)
            if TO_FEATURES:
                back = back * gate[:, :, None]
                to = to_features + channel
                _add(to, p00, back * (1 - fy) * (1 - fx), in00, fits, CHANNELS)
                _add(to, p01, back * (1 - fy) * fx, in01, fits, CHANNELS)
                _add(to, p10, back * fy * (1 - fx), in10, fits, CHANNELS)
                _add(to, p11, back * fy * fx, in11, fits, CHANNELS)
        rows = at + (n * SITES + site)[None, :] * area
        tl.store(to_mask + at, into_mask, mask=there)
        tl.store(to_offset + rows, into_y * gate, mask=there)
        tl.store(to_offset + rows + area, into_x * gate, mask=there)


@triton.jit
@no_type_check
def _add(to, pixel, value, inside, fits, CHANNELS: tl.constexpr):
    """Several samples may fall on one pixel."""
    there = inside[:, :, None] & fits
    tl.atomic_add(to + pixel[:, :, None] * CHANNELS, value, mask=there, sem="relaxed")


@triton.jit
@no_type_check
def _backward_weight(
    features, offset, mask, arriving, to_weight, height, width, blocks, shares,
    KERNEL: tl.constexpr, CHANNELS: tl.constexpr, SITES: tl.constexpr, WIDTH: tl.constexpr,
    OUTPUTS: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    share = tl.program_id(0)
    first = tl.program_id(1) * BLOCK_S
    parts: tl.constexpr = (OUTPUTS + BLOCK_D - 1) // BLOCK_D
    start = tl.program_id(2) // parts * BLOCK_C
    outs = tl.program_id(2) % parts * BLOCK_D + tl.arange(0, BLOCK_D)
    site = first + tl.arange(0, BLOCK_S)
    area = height * width
    per_picture = (area + BLOCK_P - 1) // BLOCK_P
    total = tl.zeros((BLOCK_S * BLOCK_C, BLOCK_D), tl.float32)
    for block in range(share, blocks, shares):
        n = (block // per_picture).to(tl.int64)
        pixels = block % per_picture * BLOCK_P + tl.arange(0, BLOCK_P)
        columns = _columns(
            features, offset, mask, n, pixels, site, start, height, width,
            KERNEL, CHANNELS, SITES, WIDTH, BLOCK_P, BLOCK_S, BLOCK_C,
        )  # fmt: skip
        known = (pixels < area)[:, None] & (outs < OUTPUTS)[None, :]
        address = arriving + (n * OUTPUTS + outs)[None, :] * area + pixels[:, None]
        given = tl.load(address, mask=known, other=0.0)
        turned = tl.trans(columns.to(given.dtype))
        total = tl.dot(turned, given, total, input_precision=PRECISION)
    at, there = _weights(
        to_weight + share * SITES * WIDTH * OUTPUTS,
        first, start, outs, OUTPUTS, SITES, WIDTH, BLOCK_S, BLOCK_C,
    )  # fmt: skip
    tl.store(at, total, mask=there)


def _constants(x: Tensor, mask: Tensor, weight: Tensor) -> dict[str, Any]:
    """What the kernels are compiled for."""
    kernel = weight.shape[-1]
    width = x.shape[1] * kernel**2 // mask.shape[1]
    block_c = min(_INNER, triton.next_power_of_2(width))
    exact = x.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return {
        "KERNEL": kernel,
        "CHANNELS": x.shape[1],
        "SITES": mask.shape[1],
        "WIDTH": width,
        "OUTPUTS": weight.shape[0],
        "PRECISION": "ieee" if exact else "tf32",
        "BLOCK_P": _PIXELS,
        "BLOCK_S": _INNER // block_c,
        "BLOCK_C": block_c,
        "BLOCK_D": min(128, max(_INNER, triton.next_power_of_2(weight.shape[0]))),
        # Three, the default, want more shared memory than small GPUs have.
        "num_stages": 2,
    }


def _by_site(weight: Tensor, sites: int, kind: torch.dtype) -> Tensor:
    """Weights as (sites, channels of a group, outputs)."""
    outputs, taps = weight.shape[0], weight.shape[-1] ** 2
    grouped = weight.reshape(outputs, sites // taps, -1, taps)
    return grouped.permute(1, 3, 2, 0).contiguous().to(kind)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, mask, weight)
        (batch, _, height, width), outputs = x.shape, weight.shape[0]
        constants = _constants(x, mask, weight)
        out = torch.empty(batch, outputs, height, width, dtype=x.dtype, device=x.device)
        grid = (
            triton.cdiv(height * width, constants["BLOCK_P"]),
            batch,
            triton.cdiv(outputs, constants["BLOCK_D"]),
        )
        with torch.cuda.device_of(x):
            _forward[grid](
                x.permute(0, 2, 3, 1).contiguous(),
                offset.contiguous(),
                mask.contiguous(),
                _by_site(weight, mask.shape[1], x.dtype),
                out,
                height,
                width,
                **constants,
            )
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, mask, weight = ctx.saved_tensors
        (batch, _, height, width), sites = x.shape, mask.shape[1]
        constants = _constants(x, mask, weight)
        features, offset, mask = (
            x.permute(0, 2, 3, 1).contiguous(),
            offset.contiguous(),
            mask.contiguous(),
        )
        gradient = gradient.to(x.dtype).contiguous()
        to_x = features.new_zeros(features.shape, dtype=torch.float32)
        to_offset = torch.empty_like(offset, dtype=torch.float32)
        to_mask = torch.empty_like(mask, dtype=torch.float32)
        per_picture = triton.cdiv(height * width, constants["BLOCK_P"])
        shares = min(_SHARES, batch * per_picture)
        to_weight = to_x.new_empty(shares, sites, constants["WIDTH"], weight.shape[0])
        with torch.cuda.device_of(x):
            _backward[(per_picture, batch)](
                features, offset, mask, _by_site(weight, sites, x.dtype), gradient,
                to_x, to_offset, to_mask, height, width,
                TO_FEATURES=ctx.needs_input_grad[0], **constants,
            )  # fmt: skip
            parts = triton.cdiv(weight.shape[0], constants["BLOCK_D"])
            grid = (
                shares,
                triton.cdiv(sites, constants["BLOCK_S"]),
                parts * triton.cdiv(constants["WIDTH"], constants["BLOCK_C"]),
            )
            _backward_weight[grid](
                features, offset, mask, gradient, to_weight, height, width,
                batch * per_picture, shares, **constants,
            )  # fmt: skip
        taps = weight.shape[-1] ** 2
        summed = to_weight.sum(dim=0).view(sites // taps, taps, -1, weight.shape[0])
        return (
            to_x.permute(0, 3, 1, 2).to(x.dtype),
            to_offset.to(offset.dtype),
            to_mask.to(mask.dtype),
            summed.permute(3, 0, 2, 1).reshape(weight.shape).to(weight.dtype),
        )


def fused(
    x: Float[Tensor, "n c y x"],
    offset: Float[Tensor, "n o y x"],
    mask: Float[Tensor, "n m y x"],
    weight: Float[Tensor, "d c k k"],
) -> Float[Tensor, "n d y x"]:
    """The convolution by Triton, without bias.

    See ``deformable_conv2d``, which also checks the shapes.
    """
    result: Tensor = _Fused.apply(x, offset, mask, weight)
    return result
