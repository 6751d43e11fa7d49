"""Every architecture of the family: its size, and that it learns."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tisr_scope.errors import BundleError
from tisr_scope.networks.architecture_table import COLUMNS, PAPER_MILLIONS, build
from tisr_scope.networks.architecture_table import rows as table
from tisr_scope.networks.architecture_table import size as architecture_size
from tisr_scope.networks.architectures import listed as shipped_table
from tisr_scope.networks.baselines.vrt import VrtConfig
from tisr_scope.networks.config import DpaTisrConfig
from tisr_scope.networks.dpa_tisr import parameter_count
from tisr_scope.networks.optical_flow import SPyNet
from tisr_scope.networks.presets import PRESETS, Architecture, preset


def size(name: str, **choices: object) -> int:
    return architecture_size(preset(name, **choices))


TINY = {
    "channels": 8,
    "output_channels": 8,
    "deformable_groups": 2,
    "flow": "light",
    "flow_channels": 4,
    "flow_levels": 2,
}


def tiny(name: str) -> Architecture:
    """The same architecture with few channels and blocks."""
    wanted = preset(name, bayesian=False)
    if isinstance(wanted, VrtConfig):
        few = {"heads": 2, "window": 4, "scales": 2, "blocks": 2, "refinement_blocks": 1}
        return wanted.model_copy(update=TINY | few)
    few = {
        "extraction_blocks": 1,
        "propagation_blocks": 1,
        "reconstruction_blocks": 1,
        "window_radius": 2,
        "attention_size": 3,
        "dropout_rate": 0.0,
    }
    return DpaTisrConfig.model_validate(wanted.model_dump() | TINY | few)


def moving_lines(frames: int = 3, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Two thin lines that move, and their blurred and noisy image on a grid half as fine."""
    random = torch.Generator().manual_seed(3)
    fine = torch.arange(2 * side) + 0.5
    target = torch.zeros(1, frames, 1, 2 * side, 2 * side)
    for t in range(frames):
        for start, slope in ((8.0 + t, 0.3), (26.0 - 0.7 * t, -0.5)):
            away = (fine[:, None] - start - slope * (fine[None, :] - side)) ** 2
            target[0, t, 0] += torch.exp(-away / 2)
    wide = functional.avg_pool2d(target[0], 5, stride=1, padding=2, count_include_pad=False)
    wide = functional.avg_pool2d(wide, 2)[None]
    return wide + 0.05 * torch.randn(wide.shape, generator=random), target


@pytest.mark.parametrize("name", PRESETS)
def test_every_architecture_learns_one_batch_by_heart(name):
    torch.manual_seed(0)
    network = build(tiny(name)).train()
    x, y = moving_lines()
    base = functional.interpolate(x[0], scale_factor=2, mode="bilinear")[None]
    enlarged = float((base - y).square().mean().sqrt())
    optimiser = torch.optim.Adam(network.parameters(), lr=8e-3)
    errors = []
    while len(errors) < 60 and (not errors or errors[-1] > 0.6 * enlarged):
        optimiser.zero_grad()
        error = (network(x) - y).square().mean().sqrt()
        error.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        errors.append(float(error.detach()))
    assert errors[0] == pytest.approx(enlarged, rel=0.05)
    assert errors[-1] <= 0.6 * enlarged
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def millions(name: str, extra: int = 0) -> float:
    """To the two digits that are printed in the text."""
    return round((size(name, bayesian=False) + extra) / 1e6, 2)


def test_sizes_that_the_text_gives():
    """Paper: Network configurations, after eq. 14."""
    assert millions("recurrent_optical_flow") == PAPER_MILLIONS["recurrent_optical_flow"] == 3.95
    assert millions("recurrent_deformable") == PAPER_MILLIONS["recurrent_deformable"] == 5.40
    # Attention needs no flow, yet the number in the text is that of a network that has one.
    attention = "recurrent_neighbourhood_attention"
    flow = parameter_count(SPyNet())
    assert millions(attention, flow) == PAPER_MILLIONS[attention] == 3.71


def test_sizes_that_the_text_leaves_open():
    """The window's width and inputs are not said; with seven frames it is smaller, never larger."""
    for alignment, listed in (
        ("optical_flow", 5.58),
        ("neighbourhood_attention", 5.59),
        ("deformable", 7.97),
    ):
        assert PAPER_MILLIONS[f"sliding_{alignment}"] == listed
        assert 0.4 * listed < millions(f"sliding_{alignment}") < listed
    for propagation in ("recurrent", "sliding"):
        sizes = [
            size(f"{propagation}_{a}")
            for a in ("neighbourhood_attention", "optical_flow", "deformable", "dpa")
        ]
        assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    ("upscale", "bayesian", "parameters"),
    [(2, False, 6_581_805), (3, False, 6_766_445), (2, True, 6_582_382), (3, True, 6_767_022)],
)
def test_the_released_network_has_the_size_of_the_release(upscale, bayesian, parameters):
    # The release counts the six constants by which the flow network shifts and scales frames.
    assert size("released", upscale=upscale, bayesian=bayesian) in (parameters, parameters - 6)


def test_compared_variants_have_the_same_size():
    dpa = size("recurrent_dpa")
    for name in ("spatial_at_cost_of_dpa", "single_frame", "amplitude", "phase_as_cross_power"):
        assert abs(size(name) / dpa - 1) < 0.03, name
    assert size("single_frame_uncompensated") < 0.5 * dpa


def products(name: str) -> int:
    """Operations of convolutions and matrix products of seven frames, counted, not computed.

    The flow network, which both share, is left small, and so is the number of branches.
    """
    made = preset(name, bayesian=False).model_copy(update={"flow": "light", "branches": 2})
    network = build(made).eval()
    fake, counter = FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False)
    with torch.inference_mode(), fake, counter:
        network(torch.zeros(1, 7, 1, 32, 32))
    return counter.get_total_flops()


def test_the_purely_spatial_network_computes_as_much_as_the_one_it_is_compared_with():
    assert abs(products("spatial_at_cost_of_dpa") / products("recurrent_dpa") - 1) < 0.1


def test_choices_reach_the_network():
    for name in PRESETS:
        architecture = preset(name, upscale=3, bayesian=True)
        assert (architecture.upscale, architecture.bayesian) == (3, True)
    with pytest.raises(BundleError, match="choose one of small"):
        preset("smal")


def test_the_shipped_table_is_the_one_of_the_networks() -> None:
    columns, rows = shipped_table()
    assert tuple(columns) == COLUMNS
    assert [tuple(row) for row in rows] == table()
