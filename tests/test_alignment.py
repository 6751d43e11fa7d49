"""Alignments and propagations other than the published ones, against formulas written out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tisr_scope.networks.alignment import FlowAlignment
from tisr_scope.networks.baselines.attention import NeighbourhoodAttention, neighbourhood_attention
from tisr_scope.networks.baselines.sliding import flow_pairs, slide
from tisr_scope.networks.deformable_phase_alignment import PhaseAlignment, amplify, transform
from tisr_scope.networks.second_order_propagation import BlockModules, Flows, run_branch


def pixels(size: tuple[int, int]) -> list[tuple[int, int]]:
    return [(y, x) for y in range(size[0]) for x in range(size[1])]


# ------------------------------------------------------------------------------------- attention


def test_neighbourhood_attention_is_the_softmax_over_the_pixels_around():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, 5, 6, dtype=torch.double).unbind(0)
    found = neighbourhood_attention(query, key, value, 3)[0].numpy()
    q, k, v = query[0].numpy(), key[0].numpy(), value[0].numpy()
    for y, x in pixels((5, 6)):
        around = [(j, i) for j, i in pixels((5, 6)) if max(abs(j - y), abs(i - x)) <= 1]
        scores = np.array([q[:, y, x] @ k[:, j, i] / math.sqrt(4) for j, i in around])
        weights = np.exp(scores) / np.exp(scores).sum()
        expected = sum(w * v[:, j, i] for w, (j, i) in zip(weights, around, strict=True))
        np.testing.assert_allclose(found[:, y, x], expected, atol=1e-12)


def test_attention_brings_back_what_moved_within_its_reach():
    torch.manual_seed(0)
    module = NeighbourhoodAttention(64, neighbours=1, size=5)
    marks = torch.linalg.qr(torch.randn(64, 64))[0].view(1, 8, 8, 64).permute(0, 3, 1, 2)
    moved = marks.roll((2, -1), (2, 3))
    with torch.no_grad():
        for layer in (module.query, module.key[0], module.value[0], module.merge):
            layer.weight.zero_()
            layer.bias.zero_()
        # Half of the channels are compared: scaled so that the softmax has one winner.
        module.query.weight[:, :32, 0, 0] = 1e4 * torch.eye(32)
        module.key[0].weight[:, :32, 0, 0] = torch.eye(32)
        module.value[0].weight[:, :32, 0, 0] = torch.eye(32)
        module.merge.weight[:32, :, 0, 0] = torch.eye(32)
        found = module([moved], marks, [], [moved])
    inside = (slice(None), slice(32), slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], marks[inside], atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------ flow


def test_flow_alignment_takes_features_from_where_the_flow_points():
    torch.manual_seed(0)
    current = torch.randn(1, 3, 10, 12)
    moved = current.roll((1, -2), (2, 3))
    flow = torch.zeros(1, 2, 10, 12)
    flow[:, 0], flow[:, 1] = -2, 1  # (x, y)
    inside = (slice(None), slice(None), slice(1, -1), slice(2, -2))
    alone = FlowAlignment(3, neighbours=1)([moved], current, [flow], [moved])
    torch.testing.assert_close(alone[inside], current[inside], atol=1e-5, rtol=0)
    both = FlowAlignment(3, neighbours=2)
    with torch.no_grad():
        found = both([moved, current], current, [flow, 0 * flow], [moved, current])
        expected = both.merge(torch.cat((alone, current), dim=1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------- amplitude


def test_amplitude_grows_by_the_exponential_and_phase_stays():
    torch.manual_seed(0)
    values, gain = torch.randn(1, 2, 6, 4, dtype=torch.complex64), torch.randn(1, 2, 6, 4)
    found = amplify(values, gain)
    torch.testing.assert_close(found.abs(), values.abs() * gain.exp())
    torch.testing.assert_close(found.angle(), values.angle())


@pytest.mark.parametrize("part", ["amplitude", "both"])
def test_aligned_amplitudes_keep_within_their_bounds(part):
    torch.manual_seed(0)
    module = PhaseAlignment(3, "residual", "angle", part)
    for parameter in module.parameters():
        parameter.data.mul_(30)
    h, x = torch.randn(2, 1, 3, 8, 8).unbind(0)
    current = transform(x, "angle")
    (found,) = module([module.read(h)], current, (8, 8))
    before, after = torch.fft.rfft2(h), torch.fft.rfft2(found)
    # The columns of zero and highest frequency are projected onto spectra of real maps.
    ratio = (after.abs() / before.abs())[..., 1:-1]
    assert ratio.min() > math.exp(-2) * 0.999
    assert ratio.max() < math.exp(2) * 1.001
    assert ratio.max() > 2, "they do change"
    same_phase = torch.allclose(
        (after / after.abs())[..., 1:-1], (before / before.abs())[..., 1:-1], atol=1e-3
    )
    assert same_phase == (part == "amplitude")


def test_phasors_are_cosine_and_sine_of_the_angles():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 8, 10)
    angle = torch.fft.rfft2(x).angle()
    code = transform(x, "phasor").code
    torch.testing.assert_close(code, torch.cat((angle.cos(), angle.sin()), 1), atol=2e-2, rtol=0)


# ----------------------------------------------------------------------------------- propagation


class Weighted(nn.Module):
    """The nearest neighbour once, the next ten times."""

    def forward(self, states, current, flows, turned):
        return sum(10**n * state for n, state in enumerate(turned))


class First(nn.Module):
    """Features of the frame alone, out of all that is concatenated."""

    def forward(self, x):
        return x[:, :1]


def frames(values: list[int]) -> list[torch.Tensor]:
    return [torch.full((1, 1, 2, 2), float(v)) for v in values]


@pytest.mark.parametrize("backward", [False, True])
def test_recurrence_is_of_second_order_in_both_directions(backward):
    """Paper: eq. 6, with stand-ins that make each state a sum that can be done by hand."""
    x = [3, 1, 4, 1, 5]
    modules = BlockModules(Weighted(), None, First())
    found = run_branch(modules, frames(x), [None] * 5, [], Flows([], []), backward=backward)
    expected: list[int] = []
    for value in x[::-1] if backward else x:
        near, far = ([0, 0, *expected])[-1], ([0, 0, *expected])[-2]
        expected.append(value + near + 10 * far)
    if backward:
        expected.reverse()
    assert [float(f[0, 0, 0, 0]) for f in found] == expected


def test_the_window_gathers_neighbours_in_order_and_repeats_the_last():
    """Paper: eq. 5; every block passes on twice its neighbour: aligned and refined."""
    modules = BlockModules(Weighted(), None, First())
    fusion = nn.Conv2d(5, 1, 1, bias=False)
    with torch.no_grad():
        fusion.weight.copy_(20.0 ** torch.arange(5).view(1, 5, 1, 1))
    x = [3, 1, 4, 1, 5]
    with torch.no_grad():
        merged = slide([modules] * 4, fusion, frames(x), [None] * 5, None, [0, 2, 4])
    gathered = ((6, 6, 3, 2, 8), (6, 2, 4, 2, 10), (8, 2, 5, 10, 10))
    expected = [sum(v * 20**n for n, v in enumerate(values)) for values in gathered]
    assert [float(f[0, 0, 0, 0]) for f in merged] == expected


def test_flows_of_the_window_are_those_it_needs():
    assert flow_pairs([0, 2], 4, 1) == [(0, 1), (2, 1), (2, 3)]
