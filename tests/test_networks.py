"""Alignment, phase module, flow, dropout and gradients against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tisr_scope.errors import DataError
from tisr_scope.networks.alignment import DeformableAlignment
from tisr_scope.networks.blocks import ResidualBlocks
from tisr_scope.networks.config import DpaTisrConfig, paper, released, small
from tisr_scope.networks.deformable_phase_alignment import PhaseAlignment, transform, turn
from tisr_scope.networks.dpa_tisr import DpaTisr, parameter_count, single_frame
from tisr_scope.networks.dropout import MonteCarloDropout, monte_carlo, seeded_generator
from tisr_scope.networks.optical_flow import LightFlow, SPyNet, warp
from tisr_scope.networks.second_order_propagation import compose


def band_limited(height: int, width: int, shift: tuple[float, float] = (0, 0)) -> torch.Tensor:
    """A few plane waves, evaluated at shifted coordinates: the truth of any sub-pixel shift."""
    y, x = np.mgrid[:height, :width].astype(float)
    y, x = y - shift[0], x - shift[1]
    image = np.zeros((height, width))
    for fy, fx, phase in ((1, 2, 0.3), (3, -1, 1.1), (0, 4, 2.0), (5, 5, 0.7), (0, 0, 0.0)):
        image += np.cos(2 * np.pi * (fy * y / height + fx * x / width) + phase)
    return torch.from_numpy(image.astype(np.float32))[None, None]


def test_alignment_starts_at_the_flow():
    """Before any training the neighbours are sampled where the flow points to, at half weight."""
    torch.manual_seed(0)
    module = DeformableAlignment(2, groups=2, kernel=1, layers=2)
    neighbours = torch.randn(1, 4, 12, 12)
    flow1, flow2 = torch.zeros(1, 2, 12, 12), torch.zeros(1, 2, 12, 12)
    flow1[:, 0], flow2[:, 1] = 2, -3
    turned = [neighbours[:, :2], neighbours[:, 2:]]
    states, x = [torch.randn(1, 2, 12, 12)] * 2, torch.randn(1, 2, 12, 12)
    found = module(states, x, [flow1, flow2], turned)
    moved = torch.cat((warp(neighbours[:, :2], flow1), warp(neighbours[:, 2:], flow2)), dim=1)
    expected = functional.conv2d(0.5 * moved, module.weight, module.bias)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


# ----------------------------------------------------------------------------------- phase space


@pytest.mark.parametrize("size", [(32, 40), (31, 33)])
def test_a_phase_ramp_is_a_sub_pixel_shift(size):
    dy, dx = 0.37, -1.6
    image = band_limited(*size)
    ky = torch.fft.fftfreq(size[0])[:, None]
    kx = torch.fft.rfftfreq(size[1])[None]
    ramp = -2 * math.pi * (ky * dy + kx * dx)
    shifted = torch.fft.irfft2(turn(torch.fft.rfft2(image), ramp.expand(1, 1, -1, -1)), s=size)
    torch.testing.assert_close(shifted, band_limited(*size, (dy, dx)), atol=2e-5, rtol=0)


def test_turning_is_adding_to_the_angle():
    torch.manual_seed(0)
    values, residual = torch.randn(2, 3, 8, 5, dtype=torch.complex64), torch.randn(2, 3, 8, 5)
    expected = torch.polar(values.abs(), values.angle() + residual)
    torch.testing.assert_close(turn(values, residual), expected)


@pytest.mark.parametrize("encoding", ["angle", "cross"])
@pytest.mark.parametrize("kind", ["convolutions", "residual"])
def test_zero_start_leaves_every_neighbour_where_it_is(kind, encoding):
    torch.manual_seed(0)
    module = PhaseAlignment(3, kind, encoding, zero_start=True)
    a, b, x = torch.randn(3, 2, 3, 10, 14).unbind(0)
    found = module([module.read(a), module.read(b)], transform(x, encoding), (10, 14))
    torch.testing.assert_close(found[0], a, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], b, atol=1e-5, rtol=0)


def test_shares_are_the_convolution_of_the_concatenation():
    """The published module, written out: angles concatenated, convolved, added (Paper: eq. 16)."""
    torch.manual_seed(0)
    module = PhaseAlignment(3, "convolutions", "angle")
    h, x = torch.randn(2, 1, 3, 8, 8).unbind(0)
    spectrum, current = torch.fft.rfft2(h), torch.fft.rfft2(x)
    delta = module.conv_angle(torch.cat((spectrum.angle(), current.angle()), dim=1))
    turned = torch.polar(spectrum.abs(), spectrum.angle() + delta)
    expected = torch.fft.irfft2(turned, s=(8, 8))
    (found,) = module([module.read(h)], transform(x, "angle"), (8, 8))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_cross_encoding_holds_the_phase_ramp_of_a_shift():
    image, moved = band_limited(32, 32), band_limited(32, 32, (1.3, 0.4))
    code = transform(moved, "cross").code * transform(image, "cross").code.conj()
    # The waves of the image, as the half spectrum holds them.
    for fy, fx in ((1, 2), (-3, 1), (0, 4), (5, 5)):
        ramp = -2 * math.pi * (fy * 1.3 + fx * 0.4) / 32
        found = code[0, 0, fy, fx]
        assert abs(complex(found) - complex(math.cos(ramp), math.sin(ramp))) < 1e-3


# ------------------------------------------------------------------------------------------ flow


@pytest.mark.parametrize("network", [SPyNet, LightFlow])
def test_flow_has_the_size_of_the_frames(network):
    module = network()
    frames = torch.rand(2, 1, 70, 65)
    with torch.inference_mode():
        assert module(frames, frames).shape == (2, 2, 70, 65)


def test_light_flow_learns_a_known_shift():
    """Trained on nothing but how well the warped frame fits, it finds the shift."""
    torch.manual_seed(0)
    module = LightFlow(channels=8, levels=3)
    still, moved = band_limited(32, 32), band_limited(32, 32, (0.0, 1.5))
    assert not module(still, moved).any()
    optimiser = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(120):
        flow = module(still, moved)
        loss = (warp(moved, flow) - still)[..., 4:-4, 4:-4].abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    inside = module(still, moved)[..., 4:-4, 4:-4]
    assert abs(inside[:, 0].mean().item() - 1.5) < 0.2
    assert abs(inside[:, 1].mean().item()) < 0.2


def test_composed_flows_add_up():
    near, far = torch.zeros(2, 1, 2, 20, 20).unbind(0)
    near[:, 0], far[:, 0], far[:, 1] = 2.0, 1.0, -0.5
    total = compose(near, far)[..., :10]
    assert torch.allclose(total[:, 0], torch.tensor(3.0))
    assert torch.allclose(total[:, 1], torch.tensor(-0.5))


# --------------------------------------------------------------------------------------- dropout


def test_masks_are_independent_seeded_and_unbiased():
    layer = MonteCarloDropout(0.3).eval()
    x = torch.ones(6, 8, 32, 32)
    assert torch.equal(layer(x), x)
    with monte_carlo(layer, seeded_generator("cpu", 7, 2)):
        one = layer(x)
    with monte_carlo(layer, seeded_generator("cpu", 7, 2)):
        same = layer(x)
    with monte_carlo(layer, seeded_generator("cpu", 7, 3)):
        other = layer(x)
    assert torch.equal(layer(x), x)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert abs(one.mean().item() - 1) < 0.02
    assert set(np.round(one.unique().numpy(), 5)) == {0.0, np.float32(round(1 / 0.7, 5))}
    kept = (one > 0).flatten(1).float()
    correlation = np.corrcoef(kept.numpy())
    assert np.abs(correlation - np.eye(6)).max() < 5 / math.sqrt(kept.shape[1])


def test_copies_part_where_the_first_mask_falls():
    torch.manual_seed(0)
    blocks = ResidualBlocks(2, 4, 2, rate=0.5, skip=True).eval()
    x = torch.randn(3, 2, 6, 6)
    torch.testing.assert_close(blocks(x, 2), blocks(x).repeat_interleave(2, dim=0))
    with monte_carlo(blocks, seeded_generator("cpu", 0)):
        drawn = blocks(x, 2)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


# --------------------------------------------------------------------------------- whole network


def tiny(**changes) -> DpaTisrConfig:
    values = {"channels": 4, "output_channels": 4, "flow_channels": 4, "flow_levels": 2}
    values |= {"deformable_groups": 2, **changes}
    return small().model_copy(update=values)


@pytest.mark.parametrize("upscale", [2, 3])
@pytest.mark.parametrize("bayesian", [True, False])
def test_an_untrained_network_starts_near_bilinear_with_the_initial_scale(upscale, bayesian):
    torch.manual_seed(0)
    network = DpaTisr(small(upscale=upscale, bayesian=bayesian)).eval()
    x = torch.rand(1, 3, 1, 32, 40)
    with torch.inference_mode():
        y = network(x)
    assert y.shape == (1, 3, 1 + bayesian, 32 * upscale, 40 * upscale)
    base = functional.interpolate(x[0], scale_factor=upscale, mode="bilinear")
    assert (y[0, :, :1] - base).abs().max() < 0.1
    if bayesian:
        assert abs(y[0, :, 1].median().item() - 0.03) < 0.01


@pytest.mark.parametrize(
    "config",
    [
        tiny(),
        tiny(branches=4, phase="convolutions", phase_encoding="angle", deformable_kernel=3),
        single_frame(tiny(), compensate=False),
        paper().model_copy(update={"channels": 4, "output_channels": 4, "deformable_groups": 2}),
    ],
    ids=["small", "four branches", "single frame", "paper"],
)
def test_gradient_reaches_every_parameter(config):
    torch.manual_seed(0)
    network = DpaTisr(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    size = network.minimum_size
    network(torch.rand(1, 4, 1, size, size)).square().mean().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


EVERYWHERE = ("extraction", "propagation", "reconstruction")
RECOMPUTED = {
    "dpa": tiny(dropout_in=EVERYWHERE),
    "released": tiny(branches=4, phase="convolutions", phase_encoding="angle", deformable_kernel=3),
    "deformable": tiny(alignment="deformable", dropout_in=EVERYWHERE),
    "optical flow": tiny(alignment="optical_flow", dropout_in=EVERYWHERE),
    "attention": tiny(alignment="neighbourhood_attention", attention_size=3, dropout_in=EVERYWHERE),
    "amplitude": tiny(phase_part="both", dropout_in=EVERYWHERE),
    "sliding": tiny(propagation="sliding_window", window_radius=1, dropout_in=EVERYWHERE),
    "single frame": single_frame(tiny(dropout_in=EVERYWHERE), compensate=False),
}


def gradients(network: torch.nn.Module, frames: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of a pass whose masks are those of the global generator."""
    network.zero_grad()
    torch.manual_seed(1)
    network(frames).square().mean().backward()
    return [p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("config", RECOMPUTED.values(), ids=RECOMPUTED)
def test_recomputing_activations_changes_no_gradient(config):
    torch.manual_seed(0)
    network = DpaTisr(config).train()
    frames = torch.rand(2, 3, 1, 16, 16)
    kept = gradients(network, frames)
    network.recompute = True
    for a, b in zip(gradients(network, frames), kept, strict=True):
        torch.testing.assert_close(a, b)


def test_recomputing_draws_the_masks_of_the_generator_again():
    """As in fine-tuning: evaluation mode, seeded masks, gradient taken after they are off."""
    torch.manual_seed(0)
    network = DpaTisr(tiny(dropout_in=EVERYWHERE)).eval()
    frames = torch.rand(1, 3, 1, 16, 16)
    found = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        generator = seeded_generator("cpu", 3)
        with monte_carlo(network, generator):
            first, second = network(frames), network(frames)
        (first - 2 * second).square().mean().backward()
        found.append(([p.grad.clone() for p in network.parameters()], generator.get_state()))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(found[0][1], found[1][1]), "the second drawing leaves no trace"


def test_recomputing_keeps_little():
    """Bytes on the tape, each storage once, without the parameters."""
    network = DpaTisr(tiny(branches=4, dropout_in=EVERYWHERE)).train()
    parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}
    frames = torch.rand(1, 5, 1, 32, 32)
    sizes = []
    for recompute in (False, True):
        network.recompute = recompute
        kept: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor, kept: dict[int, torch.Tensor] = kept) -> torch.Tensor:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = network(frames)
        sizes.append(
            sum(t.untyped_storage().nbytes() for k, t in kept.items() if k not in parameters)
        )
        del out
    assert sizes[1] < 0.4 * sizes[0]


def test_recomputing_works_in_distributed_training(tmp_path):
    """Every parameter is reported once, although steps and checkpoints share it."""
    torch.manual_seed(0)
    network = DpaTisr(tiny(dropout_in=EVERYWHERE)).train()
    network.recompute = True
    frames = torch.rand(1, 3, 1, 16, 16)
    expected = gradients(network, frames)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        spread = torch.nn.parallel.DistributedDataParallel(network)
        for a, b in zip(gradients(spread, frames), expected, strict=True):
            torch.testing.assert_close(a, b)
    finally:
        torch.distributed.destroy_process_group()


def test_the_single_frame_counterpart_ignores_neighbours_and_the_network_does_not():
    torch.manual_seed(0)
    x = torch.rand(1, 7, 1, 16, 16)
    changed = x.clone()
    changed[:, [0, 6]] += 0.5
    for config, expected in ((tiny(), True), (single_frame(tiny()), False)):
        network = DpaTisr(config).eval()
        with torch.inference_mode():
            differs = not torch.equal(network(x)[:, 3], network(changed)[:, 3])
        assert differs is expected


@pytest.mark.parametrize(
    "config", [small(), paper(), released()], ids=["small", "paper", "released"]
)
def test_parameter_compensation_matches_the_size(config):
    with torch.device("meta"):
        alone = single_frame(config)
        sizes = parameter_count(DpaTisr(config)), parameter_count(DpaTisr(alone))
    block = 18 * config.channels**2 * config.branches
    assert abs(sizes[0] - sizes[1]) <= 0.6 * block
    assert alone.propagation_blocks > config.propagation_blocks
    assert single_frame(config, compensate=False).propagation_blocks == config.propagation_blocks


def test_paper_preset_has_no_dropout_where_the_text_has_none():
    network = DpaTisr(paper().model_copy(update={"channels": 4, "deformable_groups": 2}))
    rates = {n: m.rate for n, m in network.named_modules() if isinstance(m, MonteCarloDropout)}
    for name, rate in rates.items():
        stage = name.split(".")[0]
        assert rate == (0.5 if stage in {"feat_extract", "reconstruction"} else 0.0)
    assert paper(bayesian=False).dropout_in == ()


def test_impossible_configurations_and_frames_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        DpaTisrConfig(channels=5, deformable_groups=4)
    with pytest.raises(ValueError, match="twice"):
        DpaTisrConfig(dropout_in=("extraction", "extraction"))
    with pytest.raises(ValueError, match="extra"):
        DpaTisrConfig.model_validate({"chanels": 3})
    network = DpaTisr(tiny())
    with pytest.raises(DataError, match="at least 8 x 8"):
        network(torch.zeros(1, 7, 1, 6, 32))
    # A run that checks array shapes at every call refuses it before the network does.
    with pytest.raises((DataError, TypeError), match=r"1, ?7, ?32, ?32"):
        network(torch.zeros(1, 7, 32, 32))
