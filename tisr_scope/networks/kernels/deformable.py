"""Modulated deformable convolution: one definition, two ways to compute it.

The *reference* is plain PyTorch and runs wherever PyTorch runs.  It works through strips of rows,
and its backward pass samples again what the forward pass sampled, so that memory grows with the
pictures it is given and never with the number of taps.  The *Triton kernels*
(:mod:`~tisr_scope.networks.kernels.deformable_triton`) sample and multiply at once, on a GPU.

Both compute the same numbers, and :func:`backend` says which one a tensor gets; ``tisr doctor``
prints it.  Positions are always in single precision: half a precision of a coordinate near 500
would be a quarter of a pixel.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tisr_scope.errors import DataError
from tisr_scope.networks.optical_flow import normalised, pixel_grid

Backend = Literal["reference", "triton"]
VARIABLE = "TISR_DEFORMABLE"
# Samples of a strip: large enough for matrix products, small enough to stay close to the caches.
_CHUNK_ELEMENTS = 1 << 21


def backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> Backend:
    """Which implementation tensors of a device and type get.

    Triton on a GPU where Triton is installed, else the reference; the reference too in double
    precision and where deterministic algorithms are asked for, since the kernels add up the
    gradient in any order.  The environment variable ``TISR_DEFORMABLE`` set to ``reference`` or
    ``triton`` decides otherwise.

    Raises
    ------
    DataError
        If the variable asks for what is not there.
    """
    asked = os.environ.get(VARIABLE, "auto")
    installed = find_spec("triton") is not None
    on_gpu = torch.device(device).type == "cuda"
    if asked == "auto":
        exact = dtype == torch.float64 or torch.are_deterministic_algorithms_enabled()
        return "triton" if on_gpu and installed and not exact else "reference"
    if asked == "reference":
        return "reference"
    if asked != "triton":
        problem = f"there is no {asked!r}"
    elif not installed:
        problem = "Triton is not installed"
    elif not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        problem = f"Triton does not run on {device}"
    else:
        return "triton"
    raise DataError(
        f"deformable convolution cannot be computed as asked: {problem}",
        where=VARIABLE,
        remedy="unset the variable, or give 'reference', or 'triton' with a GPU and Triton",
    )


def deformable_conv2d(
    x: Float[Tensor, "n c y x"],
    offset: Float[Tensor, "n o y x"],
    mask: Float[Tensor, "n m y x"],
    weight: Float[Tensor, "d c k k"],
    bias: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, "n d y x"]:
    """Modulated deformable convolution, stride 1, zero padding (Paper: eq. 10).

    Parameters
    ----------
    x : tensor, shape (n, c, y, x)
        Feature maps.
    offset : tensor, shape (n, 2 * g * k * k, y, x)
        Pixels (dy, dx) of every tap, by group of input channels.
    mask : tensor, shape (n, g * k * k, y, x)
        Weight of every tap.
    weight : tensor, shape (d, c, k, k)
    bias : tensor, shape (d,), optional

    Returns
    -------
    tensor, shape (n, d, y, x)
        Of the type of ``x``; sums are in single precision or better.

    Raises
    ------
    DataError
        If the number of offsets and masks fits no number of groups.
    """
    taps = weight.shape[-1] ** 2
    groups = mask.shape[1] // taps
    if mask.shape[1] != groups * taps or offset.shape[1] != 2 * mask.shape[1] or not groups:
        fits = False
    else:
        fits = x.shape[1] % groups == 0 and x.shape[1] == weight.shape[1]
    if not fits:
        raise DataError(
            f"{offset.shape[1]} offsets and {mask.shape[1]} masks do not fit {taps} taps "
            f"of {x.shape[1]} channels",
            where="deformable_conv2d",
            remedy="give 2 offsets and 1 mask for each tap of each group",
        )
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    if backend(x.device, x.dtype) == "triton":
        from tisr_scope.networks.kernels.deformable_triton import fused

        result = fused(x, offset, mask, weight)
    else:
        result = reference(x, offset, mask, weight)
    return result if bias is None else result + bias.view(1, -1, 1, 1).to(result.dtype)


def reference(
    x: Float[Tensor, "n c y x"],
    offset: Float[Tensor, "n o y x"],
    mask: Float[Tensor, "n m y x"],
    weight: Float[Tensor, "d c k k"],
) -> Float[Tensor, "n d y x"]:
    """The convolution in plain PyTorch, without bias; see :func:`deformable_conv2d`."""
    precise = torch.promote_types(x.dtype, torch.float32)
    given = (t.to(precise) for t in (x, offset, mask, weight))
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = _Reference.apply(*given)  # type: ignore[no-untyped-call]
    return result.to(x.dtype)


def _strips(height: int, row_elements: int) -> list[slice]:
    rows = max(1, _CHUNK_ELEMENTS // max(1, row_elements))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _grid(offset: Float[Tensor, "n g k 2 y x"], rows: slice) -> Float[Tensor, "m taps_rows x 2"]:
    """Where a strip is sampled, as ``grid_sample`` takes it, by element of the batch and group."""
    height, width = offset.shape[-2:]
    kernel = math.isqrt(offset.shape[2])
    moved = offset[..., rows, :].flatten(0, 1)
    tap = pixel_grid(kernel, kernel, offset).view(-1, 1, 1, 2) - kernel // 2
    base = pixel_grid(moved.shape[-2], width, offset) + tap
    base[..., 1] += rows.start
    where = moved.new_empty(*moved.shape[:2], *base.shape[1:])
    for axis in (0, 1):
        torch.add(moved[:, :, 1 - axis], base[..., axis], out=where[..., axis])
    return normalised(where, height, width, in_place=True).flatten(1, 2)


class _Reference(torch.autograd.Function):
    """Keeps its arguments alone for the gradient, and samples again.

    Inside, features are (batch and group, channel, y, x), samples of a strip (batch and group,
    channel, tap, y, x).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset, mask, weight)
        (batch, _, height, width), (features, moves, gates) = (
            x.shape,
            _by_group(x, offset, mask, weight),
        )
        matrix = weight.flatten(1)
        out = x.new_empty(batch, weight.shape[0], height, width)
        for rows in _strips(height, batch * matrix.shape[1] * width):
            taken = _sample(features, _grid(moves, rows), gates.shape[2])
            taken *= gates[..., rows, :].flatten(0, 1)[:, None]
            columns = taken.view(batch, matrix.shape[1], -1)
            out[:, :, rows] = (matrix @ columns).view(batch, -1, rows.stop - rows.start, width)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, offset, mask, weight = ctx.saved_tensors
        (batch, _, height, width), (features, moves, gates) = (
            x.shape,
            _by_group(x, offset, mask, weight),
        )
        matrix = weight.flatten(1)
        wanted = ctx.needs_input_grad[:2]
        to_x = torch.zeros_like(features) if wanted[0] else None
        to_moves, to_gates, to_matrix = (
            torch.zeros_like(moves),
            torch.empty_like(gates),
            torch.zeros_like(matrix),
        )
        pixel = x.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
        with torch.autocast(x.device.type, enabled=False):
            for rows in _strips(height, batch * matrix.shape[1] * width):
                grid = _grid(moves, rows)
                taken = _sample(features, grid, gates.shape[2])
                weigh = gates[..., rows, :].flatten(0, 1)[:, None]
                arriving = gradient[:, :, rows].flatten(2)
                back = (matrix.t() @ arriving).view(taken.shape)
                to_gates[..., rows, :] = (
                    (back * taken).sum(dim=1).view(batch, *gates.shape[1:3], -1, width)
                )
                columns = taken.mul_(weigh).view(batch, matrix.shape[1], -1)
                to_matrix += torch.einsum("ndp,nkp->dk", arriving, columns)
                into_x, into_grid = torch.ops.aten.grid_sampler_2d_backward(
                    back.mul_(weigh).flatten(2, 3), features, grid, 0, 0, True, wanted
                )
                if to_x is not None:
                    to_x += into_x
                if wanted[1]:
                    shape = (batch, *gates.shape[1:3], -1, width, 2)
                    to_moves[..., rows, :] = (into_grid * pixel).view(shape).flip(-1).movedim(-1, 3)
        return (
            None if to_x is None else to_x.view(x.shape),
            to_moves.view(offset.shape),
            to_gates.view(mask.shape),
            to_matrix.view(weight.shape),
        )


def _by_group(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Features by batch and group; offsets and masks as (batch, group, tap, ..., y, x)."""
    (batch, _, height, width), taps = x.shape, weight.shape[-1] ** 2
    groups = mask.shape[1] // taps
    return (
        x.reshape(batch * groups, -1, height, width),
        offset.reshape(batch, groups, taps, 2, height, width),
        mask.reshape(batch, groups, taps, height, width),
    )


def _sample(
    features: Float[Tensor, "m c y x"], grid: Float[Tensor, "m v u 2"], taps: int
) -> Float[Tensor, "m c taps rows x"]:
    taken = functional.grid_sample(features, grid, align_corners=True)
    return taken.view(*taken.shape[:2], taps, -1, taken.shape[-1])
