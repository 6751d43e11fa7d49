"""Time and memory of deformable convolution, forward and backward, against earlier ways.

Prints one JSON object.  Each variant runs in a process of its own, in turn, best of several:

    python -m benchmarks.deformable                     # one alignment of the full network, CPU
    python -m benchmarks.deformable --device cuda       # Triton kernels against the reference
    python -m benchmarks.deformable --compile           # kernels for GPUs that need not be there

``differentiated`` is the definition left to automatic differentiation, which keeps all samples;
``reference`` is what the project runs without a GPU; ``triton`` what it runs on one.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tisr_scope.networks.kernels.deformable import reference
from tisr_scope.networks.optical_flow import pixel_grid, sample

VARIANTS = {"cpu": ("differentiated", "reference"), "cuda": ("reference", "triton")}


def differentiated(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The definition in a few lines; PyTorch derives the gradient and keeps all samples for it."""
    (batch, channels, height, width), kernel = x.shape, weight.shape[-1]
    taps, groups = kernel**2, mask.shape[1] // kernel**2
    moved = offset.reshape(batch * groups, taps, 2, height, width)
    base, tap = pixel_grid(height, width, x), pixel_grid(kernel, kernel, x) - kernel // 2
    x_at = moved[:, :, 1] + base[..., 0] + tap[..., 0].reshape(-1, 1, 1)
    y_at = moved[:, :, 0] + base[..., 1] + tap[..., 1].reshape(-1, 1, 1)
    where = torch.stack((x_at, y_at), dim=-1).reshape(batch * groups, -1, width, 2)
    taken = sample(x.reshape(batch * groups, -1, height, width), where)
    taken = taken.view(batch * groups, -1, taps, height, width)
    taken = taken * mask.reshape(batch * groups, 1, taps, height, width)
    out = weight.reshape(-1, channels * taps) @ taken.reshape(batch, channels * taps, -1)
    out = out.view(batch, -1, height, width)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def compiled(dtype: str, target: Any) -> Iterator[tuple[str, Any]]:
    """The kernels of the full network, compiled for a GPU that need not be there."""
    import triton
    from triton.compiler import ASTSource

    from tisr_scope.networks.kernels import deformable_triton

    kind = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}[dtype]
    on_meta = torch.empty(1, 128, 8, 8, dtype=getattr(torch, dtype), device="meta")
    constants = deformable_triton._constants(
        on_meta, torch.empty(1, 144, 8, 8, device="meta"), torch.empty(64, 128, 3, 3, device="meta")
    )
    whole = {"height", "width", "blocks", "shares"}
    single = {"offset", "mask", "to_features", "to_offset", "to_mask", "to_weight"}
    for name in ("_forward", "_backward", "_backward_weight"):
        kernel = getattr(deformable_triton, name)
        fixed = {
            k: v for k, v in (constants | {"TO_FEATURES": True}).items() if k in kernel.arg_names
        }
        signature = {
            argument: "constexpr"
            if argument in fixed
            else "i32"
            if argument in whole
            else "*fp32"
            if argument in single
            else kind
            for argument in kernel.arg_names
        }
        source = ASTSource(fn=kernel, signature=signature, constexprs=fixed)
        options = {"num_stages": constants["num_stages"]}
        yield name, triton.compile(source, target=target, options=options)


def shared_memory() -> dict[str, int]:
    """Bytes of shared memory that each kernel asks for, by architecture and type."""
    from triton.backends.compiler import GPUTarget

    return {
        f"sm_{architecture} {dtype} {name[1:]}": kernel.metadata.shared
        for architecture in (80, 90)
        for dtype in ("float32", "bfloat16", "float16")
        for name, kernel in compiled(dtype, GPUTarget("cuda", architecture, 32))
    }


def inputs(chosen: argparse.Namespace) -> list[Tensor]:
    """Features, offsets of a few pixels that vary smoothly, masks and weights."""
    torch.manual_seed(0)
    n, c, g, k, size = chosen.batch, chosen.channels, chosen.groups, chosen.kernel, chosen.size
    coarse = 3 * torch.randn(n, 2 * g * k * k, 8, 8)
    offset = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    mask = torch.rand(n, g * k * k, size, size)
    made = [torch.randn(n, c, size, size), offset, mask, 0.03 * torch.randn(c // 2, c, k, k)]
    kind = getattr(torch, chosen.dtype)
    return [t.to(chosen.device, kind).requires_grad_() for t in made]


def measure(chosen: argparse.Namespace) -> dict[str, float]:
    """Best milliseconds of the forward and the backward pass, and memory over the arguments."""
    torch.set_num_threads(chosen.threads)
    if chosen.variant == "triton":
        from tisr_scope.networks.kernels.deformable_triton import fused as convolve
    else:
        convolve = {"differentiated": differentiated, "reference": reference}[chosen.variant]
    given, on_gpu = inputs(chosen), chosen.device == "cuda"

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return 1000 * time.perf_counter()

    def peak() -> float:
        if on_gpu:
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    arriving = torch.ones(chosen.batch, chosen.channels // 2, chosen.size, chosen.size)
    arriving = arriving.to(given[0])
    before = peak()
    forward, backward = [], []
    for _ in range(chosen.repeats):
        began = now()
        out = convolve(*given)
        middle = now()
        torch.autograd.grad(out, given, arriving)
        forward.append(middle - began)
        backward.append(now() - middle)
    with torch.inference_mode():
        began = now()
        convolve(*given)
        alone = now() - began
    return {
        "forward_ms": min(forward),
        "backward_ms": min(backward),
        "both_ms": min(a + b for a, b in zip(forward, backward, strict=True)),
        "inference_ms": alone,
        "memory_mib": peak() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=VARIANTS, default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--channels", type=int, default=128, help="of both neighbours")
    parser.add_argument("--groups", type=int, default=16)
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--variant", choices=("differentiated", "reference", "triton"))
    parser.add_argument("--compile", action="store_true", help="shared memory of each kernel")
    chosen = parser.parse_args()
    if chosen.compile:
        print(json.dumps(shared_memory(), indent=2))
        return
    if chosen.variant:
        print(json.dumps(measure(chosen)))
        return
    names = VARIANTS[chosen.device]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(chosen.rounds):
        for name, reports in found.items():
            command = [sys.executable, "-m", "benchmarks.deformable", *sys.argv[1:]]
            done = subprocess.run(
                [*command, "--variant", name], check=True, stdout=subprocess.PIPE, text=True
            )
            reports.append(json.loads(done.stdout))
    rows: dict[str, Any] = {
        name: {key: round(min(r[key] for r in reports), 1) for key in reports[0]}
        for name, reports in found.items()
    }
    old, new = (rows[name] for name in names)
    machine = torch.cuda.get_device_name() if chosen.device == "cuda" else platform.processor()
    report = {
        "settings": {k: v for k, v in vars(chosen).items() if k != "variant"},
        "machine": machine or platform.machine(),
        "variants": rows,
        f"ratios {names[1]} / {names[0]}": {k: round(new[k] / old[k], 3) for k in new},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
