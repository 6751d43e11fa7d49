"""Deformable convolution against its definition, by the reference and by the Triton kernels.

Without a GPU the kernels run in Triton's interpreter (see ``conftest.py``).
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tisr_scope.doctor import examine
from tisr_scope.errors import DataError
from tisr_scope.networks.kernels import deformable
from tisr_scope.networks.kernels.deformable import backend, deformable_conv2d

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROOT = Path(__file__).resolve().parents[1]


def problem(
    *,
    batch: int = 1,
    channels: int = 8,
    outputs: int = 5,
    groups: int = 2,
    kernel: int = 3,
    size: tuple[int, int] = (5, 9),
    spread: float = 3.0,
    dtype: torch.dtype = torch.float32,
) -> list[torch.Tensor]:
    """Features, offsets (normal, of so many pixels), masks, weights and biases."""
    torch.manual_seed(0)
    taps = groups * kernel**2
    return [
        torch.randn(batch, channels, *size).to(dtype),
        spread * torch.randn(batch, 2 * taps, *size).to(dtype),
        torch.rand(batch, taps, *size).to(dtype),
        torch.randn(outputs, channels, kernel, kernel).to(dtype),
        torch.randn(outputs).to(dtype),
    ]


def definition(x, offset, mask, weight, bias) -> np.ndarray:
    """Tap by tap and pixel by pixel in double precision, straight from the definition."""
    x, offset, mask, weight, bias = (t.double().numpy() for t in (x, offset, mask, weight, bias))
    (n, c, h, w), k = x.shape, weight.shape[-1]
    g = mask.shape[1] // k**2
    offset, mask = offset.reshape(n, g, k * k, 2, h, w), mask.reshape(n, g, k * k, h, w)
    expected = np.zeros((n, weight.shape[0], h, w)) + bias[:, None, None]

    def at(picture: int, channel: int, row: int, col: int) -> float:
        return x[picture, channel, row, col] if 0 <= row < h and 0 <= col < w else 0.0

    for i, row, col, tap, channel in np.ndindex(n, h, w, k * k, c):
        group = channel // (c // g)
        dy, dx = offset[i, group, tap, :, row, col]
        y, x_at = row + tap // k - k // 2 + dy, col + tap % k - k // 2 + dx
        y0, x0 = math.floor(y), math.floor(x_at)
        fy, fx = y - y0, x_at - x0
        upper = (1 - fx) * at(i, channel, y0, x0) + fx * at(i, channel, y0, x0 + 1)
        lower = (1 - fx) * at(i, channel, y0 + 1, x0) + fx * at(i, channel, y0 + 1, x0 + 1)
        value = mask[i, group, tap, row, col] * ((1 - fy) * upper + fy * lower)
        expected[i, :, row, col] += weight[:, channel, tap // k, tap % k] * value
    return expected


@pytest.fixture(params=["reference", "triton"])
def way(request, monkeypatch):
    """Each way to compute it, in turn."""
    if request.param == "triton":
        pytest.importorskip("triton", reason="Triton is for Linux")
    monkeypatch.setenv(deformable.VARIABLE, request.param)
    return request.param


def on_device(given: list[torch.Tensor]) -> list[torch.Tensor]:
    return [t.to(DEVICE) for t in given]


def with_gradients(convolve, given: list[torch.Tensor]) -> list[torch.Tensor]:
    """The result and the gradients with regard to all arguments, in double precision."""
    leaves = [t.detach().clone().requires_grad_() for t in given]
    out = convolve(*leaves)
    arriving = torch.cos(torch.arange(out.numel(), device=out.device)).view_as(out).to(out.dtype)
    gradients = torch.autograd.grad(out, leaves, arriving)
    return [t.detach().double().cpu() for t in (out, *gradients)]


def close(found, expected, tolerance: float) -> None:
    """Equal within a share of the largest value."""
    for name, a, b in zip(
        ("result", "x", "offset", "mask", "weight", "bias"), found, expected, strict=True
    ):
        error = (a - b).abs().max() / b.abs().max().clamp(min=1e-12)
        assert error < tolerance, f"{name} is off by {error:.1e}"


# ------------------------------------------------------------------------------ both ways alike


@pytest.mark.parametrize(("groups", "kernel"), [(1, 3), (4, 3), (2, 1)])
def test_zero_offsets_are_a_plain_convolution(way, groups, kernel):
    x, _, _, weight, bias = problem(groups=groups, kernel=kernel, batch=2, size=(5, 7))
    taps = groups * kernel**2
    offset, mask = x.new_zeros(2, 2 * taps, 5, 7), x.new_ones(2, taps, 5, 7)
    found = deformable_conv2d(*on_device([x, offset, mask, weight, bias])).cpu()
    expected = functional.conv2d(x, weight, bias, padding=kernel // 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_integer_offsets_shift_and_masks_weigh_each_group(way):
    torch.manual_seed(0)
    x = torch.randn(1, 4, 7, 9)
    weight = torch.randn(3, 4, 3, 3)
    offset = torch.zeros(1, 2, 9, 2, 7, 9)
    offset[:, 1, :, 0], offset[:, 1, :, 1] = 2, -1
    mask = torch.ones(1, 2, 9, 7, 9)
    mask[:, 0] = 0.25
    given = [x, offset.view(1, 36, 7, 9), mask.view(1, 18, 7, 9), weight]
    found = deformable_conv2d(*on_device(given)).cpu()
    moved = functional.pad(x[:, 2:], (4, 4, 4, 4))
    second = functional.conv2d(moved, weight[:, 2:], padding=1)[..., 4 + 2 : 11 + 2, 4 - 1 : 13 - 1]
    first = functional.conv2d(x[:, :2], weight[:, :2], padding=1)
    torch.testing.assert_close(found, 0.25 * first + second, atol=2e-5, rtol=0)


def test_fractional_offsets_follow_the_definition(way):
    given = problem(batch=2, channels=4, outputs=3, size=(4, 5))
    found = deformable_conv2d(*on_device(given)).cpu()
    np.testing.assert_allclose(found, definition(*given), atol=2e-5)


def test_samples_far_outside_are_zero_and_move_nothing(way):
    x, offset, mask, weight, bias = problem(groups=1, kernel=1, size=(5, 9))
    offset[:, 0] = torch.tensor([-1e9, -6.5, 40.0, 3e4, 1e9]).view(5, 1)
    found = with_gradients(deformable_conv2d, on_device([x, offset, mask, weight, bias]))
    assert torch.equal(found[0], bias.double().view(1, -1, 1, 1).expand(1, 5, 5, 9))
    assert not any(gradient.any() for gradient in found[1:5])


def test_offsets_that_do_not_fit_are_refused():
    x, offset, mask, weight, _ = problem()
    for wrong in (offset[:, :20], offset[:, :0]):
        with pytest.raises(DataError, match="do not fit 9 taps"):
            deformable_conv2d(x, wrong, mask[:, : wrong.shape[1] // 2 + 1], weight)
    # A run that checks array shapes at every call refuses it first.
    with pytest.raises((DataError, TypeError), match=r"of 7 channels|1, ?7, ?5, ?9"):
        deformable_conv2d(x[:, :7], offset, mask, weight)


# --------------------------------------------------------------------------------- the reference


@pytest.mark.parametrize(("groups", "kernel", "chunk"), [(1, 3, 1), (2, 1, 1 << 21), (4, 3, 300)])
def test_the_gradient_of_the_reference_is_that_of_finite_differences(
    monkeypatch, groups, kernel, chunk
):
    """In double precision, through one strip and through several; no sample is near a kink."""
    monkeypatch.setattr(deformable, "_CHUNK_ELEMENTS", chunk)
    given = problem(batch=2, channels=4, outputs=2, groups=groups, kernel=kernel, size=(3, 4))
    given = [t.double() for t in given]
    given[1] = given[1].floor() + 0.2 + 0.6 * torch.rand_like(given[1])
    leaves = [t.requires_grad_() for t in given]
    assert torch.autograd.gradcheck(deformable_conv2d, leaves, fast_mode=True)


def test_strips_of_rows_change_nothing(monkeypatch):
    given = problem(batch=2, size=(9, 7))
    whole = with_gradients(deformable_conv2d, given)
    monkeypatch.setattr(deformable, "_CHUNK_ELEMENTS", 2 * 8 * 9 * 7 * 2)
    close(with_gradients(deformable_conv2d, given), whole, 1e-6)


def test_nothing_but_the_arguments_is_kept_for_the_gradient(way):
    given = [t.requires_grad_() for t in on_device(problem(size=(16, 16)))]
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        deformable_conv2d(*given)
    assert kept.keys() <= {t.data_ptr() for t in given}
    assert sum(kept.values()) == sum(t.nbytes for t in given[:4])


def test_autocast_answers_in_its_own_type_and_keeps_positions_exact(way):
    """One long row: a coordinate of 600 in half a precision would be two pixels wide of it."""
    x = torch.linspace(0, 1, 601).view(1, 1, 1, 601).repeat(1, 2, 3, 1)
    offset, mask = x.new_zeros(1, 2, 3, 601), x.new_ones(1, 1, 3, 601)
    offset[:, 1] = -0.5
    weight = torch.ones(1, 2, 1, 1)
    given = on_device([x, offset, mask, weight])
    with torch.autocast(DEVICE, torch.float16):
        found = deformable_conv2d(*given)
    assert found.dtype == torch.float16
    expected = 2 * (x[:, :1, :, 1:] - 0.5 / 600)
    torch.testing.assert_close(found[..., 1:].float().cpu(), expected, atol=2e-3, rtol=0)


# ------------------------------------------------------------------------------------- the choice


def test_the_choice_is_said_and_never_made_silently(monkeypatch, tmp_path):
    monkeypatch.delenv(deformable.VARIABLE, raising=False)
    monkeypatch.setattr(deformable, "find_spec", lambda name: object())
    assert (backend("cuda"), backend("cpu")) == ("triton", "reference")
    assert backend("cuda", torch.float64) == "reference"
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert backend("cuda") == "reference"
    monkeypatch.setenv(deformable.VARIABLE, "reference")
    assert backend("cuda") == "reference"
    monkeypatch.setattr(deformable, "find_spec", lambda name: None)
    monkeypatch.setenv(deformable.VARIABLE, "triton")
    with pytest.raises(DataError, match="Triton is not installed"):
        backend("cuda")
    said = {finding.topic: finding for finding in examine(tmp_path)}["deformable convolution"]
    assert said.verdict == "problem"
    assert "Triton is not installed" in said.text
    monkeypatch.setattr(deformable, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(DataError, match="does not run on cpu"):
        backend("cpu")
    monkeypatch.setenv(deformable.VARIABLE, "cudnn")
    with pytest.raises(DataError, match="no 'cudnn'"):
        backend("cuda")


# ------------------------------------------------------------------------------------ the kernels

CASES = {
    "one group": {"groups": 1},
    "more channels than a block": {"groups": 1, "channels": 20, "kernel": 1, "outputs": 3},
    "sixteen groups": {"groups": 16, "channels": 32, "outputs": 20},
    "one channel a group": {"groups": 3, "channels": 3, "kernel": 1, "batch": 3},
    "many outputs": {"groups": 2, "channels": 2, "kernel": 1, "outputs": 130},
    "several blocks of pixels": {"groups": 2, "batch": 2, "size": (9, 11)},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_kernels_give_the_numbers_of_the_reference(case, monkeypatch):
    """Forward and all gradients: within 2e-6 of the largest value in single precision."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    given = problem(**case)
    expected = with_gradients(deformable_conv2d, [t.double() for t in given])
    monkeypatch.setenv(deformable.VARIABLE, "triton")
    close(with_gradients(deformable_conv2d, on_device(given)), expected, 2e-6)


def test_kernels_take_the_same_side_at_whole_pixels(monkeypatch):
    """Frames of 5 x 9 pixels, whose coordinates the reference normalises without rounding."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    given = problem(groups=2, kernel=1)
    given[1].round_()
    expected = with_gradients(deformable_conv2d, [t.double() for t in given])
    monkeypatch.setenv(deformable.VARIABLE, "triton")
    close(with_gradients(deformable_conv2d, on_device(given)), expected, 2e-6)


def test_kernels_read_views_of_any_layout(monkeypatch):
    pytest.importorskip("triton", reason="Triton is for Linux")
    x, offset, mask, weight, bias = on_device(problem(batch=2, kernel=1))
    expected = deformable_conv2d(x, offset, mask, weight, bias)
    x = x.contiguous(memory_format=torch.channels_last)
    offset = torch.cat((offset, offset), dim=1)[:, : offset.shape[1]]
    mask = mask.transpose(2, 3).contiguous().transpose(2, 3)
    weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    monkeypatch.setenv(deformable.VARIABLE, "triton")
    found = deformable_conv2d(x, offset, mask, weight, bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_half_precision_kernels_sum_in_single_precision(monkeypatch):
    """Features and products in half precision: within its rounding, 2 ** -11, of the truth."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    given = problem(channels=16, outputs=16, size=(5, 7))
    given = [t.half() if i in (0, 3) else t for i, t in enumerate(given)]
    expected = with_gradients(deformable_conv2d, [t.double() for t in given])
    monkeypatch.setenv(deformable.VARIABLE, "triton")
    close(with_gradients(deformable_conv2d, on_device(given)), expected, 2e-3)


COMPILE = """
from triton.backends.compiler import GPUTarget
from benchmarks.deformable import compiled
for name, kernel in compiled("bfloat16", GPUTarget("cuda", 80, 32)):
    assert "mma.sync" in kernel.asm["ptx"], name
    print(name, kernel.metadata.shared)
"""


def test_kernels_compile_for_a_gpu_and_use_its_matrix_units(tmp_path):
    """The interpreter forgives what the compiler does not; compiling needs no GPU."""
    pytest.importorskip("triton", reason="Triton is for Linux")
    clean = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=clean | {"TRITON_CACHE_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shared = dict(line.split() for line in done.stdout.splitlines())
    assert set(shared) == {"_forward", "_backward", "_backward_weight"}
    assert max(map(int, shared.values())) <= 99 * 1024, "the smallest shared memory since sm_80"
