"""Window attention and VRT against plain formulas."""

import numpy as np
import pytest
import torch

from tisr_scope.errors import DataError
from tisr_scope.networks.baselines.vrt import Vrt, VrtConfig, coarser, neighbours_of, vrt
from tisr_scope.networks.baselines.window_attention import (
    AttentionBlock,
    WindowAttention,
    margins,
    merge,
    partition,
    relative_positions,
)
from tisr_scope.networks.dpa_tisr import parameter_count

TINY = VrtConfig(
    channels=8,
    output_channels=8,
    heads=2,
    window=4,
    deformable_groups=2,
    flow="light",
    flow_channels=4,
    flow_levels=2,
    scales=2,
    blocks=2,
    refinement_blocks=1,
)


def test_cells_are_taken_apart_and_put_together():
    x = torch.arange(2 * 4 * 6 * 8).view(2, 4, 6, 8, 1).float()
    cells = partition(x, (2, 3, 4))
    assert cells.shape == (2 * 2 * 2 * 2, 24, 1)
    expected = x[1, 2:4, 3:6, 4:8].reshape(-1)
    torch.testing.assert_close(cells[-1, :, 0], expected)
    torch.testing.assert_close(merge(cells, (2, 3, 4), x.shape[:4]), x)


def test_margins_make_whole_cells_of_any_volume():
    cell = (2, 4, 4)
    for shape in ((7, 10, 13), (1, 8, 8), (2, 5, 9)):
        for shift in ((0, 0, 0), (1, 2, 2)):
            around = margins(shape, cell, shift)
            assert [a for a, _ in around] == list(shift)
            assert all(
                (n + a + b) % c == 0 for n, (a, b), c in zip(shape, around, cell, strict=True)
            )
            assert all(b < c for (_, b), c in zip(around, cell, strict=True))


def test_displacements_have_one_number_each():
    numbers = relative_positions((2, 3, 3)).numpy()
    place = np.stack(np.meshgrid(*map(np.arange, (2, 3, 3)), indexing="ij"), -1).reshape(-1, 3)
    apart = place[:, None] - place[None]
    pairs = {tuple(d): set() for d in apart.reshape(-1, 3)}
    for d, n in zip(apart.reshape(-1, 3), numbers.ravel(), strict=True):
        pairs[tuple(d)].add(int(n))
    assert all(len(found) == 1 for found in pairs.values())
    assert len({n for found in pairs.values() for n in found}) == len(pairs) == 3 * 5 * 5


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def test_attention_is_the_textbook_formula():
    """One head, one cell of two frames of 2 x 2 pixels, the last token padding; in NumPy."""
    torch.manual_seed(0)
    module = WindowAttention(4, (2, 2, 2), 1, mutual=True).double()
    x = torch.randn(1, 8, 4, dtype=torch.double)
    there = torch.ones(1, 8, dtype=torch.double)
    there[0, 7] = 0
    with torch.no_grad():
        found = module(x, there)[0].numpy()
        weights = {k: v.numpy() for k, v in module.state_dict().items()}
        tables = [b()[0].numpy() for b in (module.self_bias, module.mutual_bias)]
    tokens, known = x[0].numpy(), there[0].numpy().astype(bool)

    def parts(layer: str) -> list[np.ndarray]:
        together = tokens @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        return np.split(together, 3, axis=1)

    query, key, value = parts("to_self")
    scores = query @ key.T / 2 + tables[0]
    scores[:, ~known] = -np.inf
    alone = softmax(scores) @ value
    query, key, value = parts("to_mutual")
    mutual = np.empty_like(alone)
    for asks, answers in ((slice(0, 4), slice(4, 8)), (slice(4, 8), slice(0, 4))):
        scores = query[asks] @ key[answers].T / 2 + tables[1]
        scores[:, ~known[answers]] = -np.inf
        mutual[asks] = softmax(scores) @ value[answers]
    expected = np.concatenate((mutual, alone), axis=1) @ weights["merge.weight"].T
    np.testing.assert_allclose(found, expected + weights["merge.bias"], atol=1e-12)


def test_mutual_attention_finds_what_moved():
    """Values follow likeness: each pixel takes its value from where the other frame shows it."""
    torch.manual_seed(0)
    module = WindowAttention(16, (2, 4, 4), 1, mutual=True)
    mark = torch.linalg.qr(torch.randn(16, 16))[0]
    moved = mark.view(4, 4, 16).roll((1, -1), (0, 1)).reshape(16, 16)
    eye, nothing = torch.eye(16), torch.zeros(16, 16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.to_mutual.weight.copy_(torch.cat((40 * eye, 10 * eye, eye)))
        module.merge.weight.copy_(torch.cat((eye, nothing), dim=1))
        out = module(torch.cat((mark, moved))[None], torch.ones(1, 32))[0]
    torch.testing.assert_close(out[:16], mark, atol=1e-3, rtol=0)
    torch.testing.assert_close(out[16:], moved, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shifted", [False, True])
def test_padding_is_never_heard(shifted):
    """A volume alone and as a corner of its own padding give the same."""
    torch.manual_seed(0)
    block = AttentionBlock(8, (2, 4, 4), 2, mutual=True, shifted=shifted)
    x = torch.randn(1, 3, 6, 6, 8)
    with torch.no_grad():
        block.before_attention.bias.fill_(3.0)
        inside = block(x)
        far = block(torch.cat((x, torch.randn(1, 3, 6, 6, 8)), dim=0))[:1]
    assert torch.isfinite(inside).all()
    torch.testing.assert_close(inside, far)


def test_clips_move_on_so_that_every_pair_of_frames_meets():
    torch.manual_seed(0)
    plain = AttentionBlock(8, (2, 4, 4), 2, mutual=True, shifted=False)
    moved = AttentionBlock(8, (2, 4, 4), 2, mutual=True, shifted=True)
    x = torch.randn(1, 4, 4, 4, 8)
    changed = x.clone()
    changed[:, 2] += torch.randn(8)

    def heard(block: AttentionBlock) -> list[bool]:
        with torch.no_grad():
            before, after = block(x), block(changed)
        return [not torch.equal(before[0, t], after[0, t]) for t in range(4)]

    assert heard(plain) == [False, False, True, True]
    assert heard(moved) == [False, True, True, False]


def test_flows_point_to_both_neighbours_and_scale_with_the_grid():
    network = Vrt(TINY)
    wide = torch.rand(1, 3, 1, 16, 16)

    class Known(torch.nn.Module):
        minimum_size = 8

        def forward(self, reference, other):
            difference = (other - reference).mean(dim=(1, 2, 3))
            return difference[:, None, None, None].expand(-1, 2, *reference.shape[-2:])

    network.spynet = Known()
    before, after = network.flows(wide)
    means = wide.mean(dim=(2, 3, 4))[0]
    assert not before[0].any()
    assert not after[2].any()
    torch.testing.assert_close(before[1:, 0, 0, 0], means[:2] - means[1:])
    torch.testing.assert_close(after[:2, 0, 0, 0], means[1:] - means[:2])
    torch.testing.assert_close(coarser(before)[:, :, 0, 0], before[:, :, 0, 0] / 2)


def test_parallel_warping_moves_features_by_the_flow():
    """Both neighbours show the current features elsewhere; their flows bring them back."""
    torch.manual_seed(0)
    features = torch.randn(1, 3, 8, 12, 16)
    features[:, 0] = features[:, 1].roll((2, -1), (-2, -1))
    features[:, 2] = features[:, 1].roll((-1, 3), (-2, -1))
    stage = Vrt(TINY).stages[0]
    to_before, to_after = torch.zeros(2, 3, 2, 12, 16)
    to_before[1, 0], to_before[1, 1] = -1, 2  # flows are (x, y)
    to_after[1, 0], to_after[1, 1] = 3, -1
    with torch.no_grad():
        # A kernel that hands on the mean of both neighbours; untrained masks are one half.
        stage.align.weight.zero_()
        stage.align.bias.zero_()
        for c in range(8):
            stage.align.weight[c, [c, 8 + c], 1, 1] = 1.0
        before, after = (f.flatten(0, 1) for f in neighbours_of(features))
        current, states = features.flatten(0, 1), (before, after)
        aligned = stage.align(states, current, (to_before, to_after), states)
    inside = (slice(1, 2), slice(None), slice(3, -3), slice(4, -4))
    torch.testing.assert_close(aligned[inside], current[inside], atol=1e-5, rtol=0)
    assert not torch.allclose(before[inside], current[inside], atol=0.1)


@pytest.mark.parametrize(("time", "height", "width"), [(1, 8, 8), (5, 13, 18), (7, 16, 16)])
@pytest.mark.parametrize("bayesian", [False, True])
def test_any_length_and_size(time, height, width, bayesian):
    torch.manual_seed(0)
    network = Vrt(TINY.model_copy(update={"upscale": 3, "bayesian": bayesian})).eval()
    x = torch.rand(2, time, 1, height, width)
    with torch.inference_mode():
        y = network(x)
        alone = network(x[1:])
    assert y.shape == (2, time, 1 + bayesian, 3 * height, 3 * width)
    torch.testing.assert_close(y[1:], alone, atol=1e-5, rtol=0)


def test_every_parameter_is_used_and_recomputing_changes_nothing():
    torch.manual_seed(0)
    network = Vrt(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.rand(1, 4, 1, 16, 16)
    gradients = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        network(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    dead = [
        n for (n, _), g in zip(network.named_parameters(), gradients[0], strict=True) if not g.any()
    ]
    assert dead == []
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_frames_far_in_time_reach_each_other():
    torch.manual_seed(0)
    network = Vrt(TINY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(1, 7, 1, 16, 16)
    changed = x.clone()
    changed[:, 6] += 0.5
    with torch.inference_mode():
        difference = (network(x) - network(changed)).abs().amax(dim=(0, 2, 3, 4))
    assert (difference[2:] > 0).all()


def test_impossible_architectures_and_frames_are_refused():
    with pytest.raises(ValueError, match="heads do not divide"):
        VrtConfig(channels=10, heads=4, deformable_groups=2)
    with pytest.raises(ValueError, match="groups do not divide"):
        VrtConfig(channels=12, heads=4, deformable_groups=16)
    with pytest.raises((DataError, TypeError)):
        Vrt(TINY)(torch.zeros(1, 3, 1, 4, 16))


def test_size_compares_with_the_other_networks():
    with torch.device("meta"):
        assert 4e6 < parameter_count(Vrt(vrt())) < 7e6
