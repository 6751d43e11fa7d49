"""The streaming window gives what the network's own forward gives for the whole window."""

import zlib

import numpy as np
import pytest
import torch

from tisr_scope.errors import DataError
from tisr_scope.inference.sliding_window import SlidingWindow
from tisr_scope.inference.time_lapse import super_resolve
from tisr_scope.networks.config import DpaTisrConfig, shown_places, small
from tisr_scope.networks.dpa_tisr import DpaTisr, single_frame
from tisr_scope.networks.dropout import MonteCarloDropout, monte_carlo

SIZE = 24
PLACES = ("extraction", "propagation", "reconstruction")


def tiny(**changes) -> DpaTisrConfig:
    values = {
        "channels": 4,
        "output_channels": 4,
        "flow_channels": 4,
        "flow_levels": 2,
        "deformable_groups": 2,
        "dropout_rate": 0.3,
        **changes,
    }
    return small().model_copy(update=values)


def shaken(config: DpaTisrConfig) -> DpaTisr:
    """A network in which nothing is zero by its initialisation."""
    torch.manual_seed(3)
    network = DpaTisr(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def movie(frames: int = 9) -> torch.Tensor:
    return torch.rand(frames, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


VARIANTS = {
    "small": tiny(),
    "four branches, angles": tiny(
        branches=4, phase="convolutions", phase_encoding="angle", deformable_kernel=3
    ),
    "no phase module": tiny(alignment="deformable"),
    "attention": tiny(alignment="neighbourhood_attention", attention_size=3),
    "optical flow": tiny(alignment="optical_flow"),
    "sliding window": tiny(propagation="sliding_window", window_radius=2),
    "sliding window, attention": tiny(
        propagation="sliding_window", alignment="neighbourhood_attention", attention_size=3
    ),
    "single frame": single_frame(tiny()),
    "mean only": tiny(bayesian=False),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("emit", ["centre", "newest", "central-3", "central-5"])
def test_streaming_equals_the_plain_forward(name, emit):
    config = VARIANTS[name].model_copy(update={"dropout_rate": 0.0})
    network, frames = shaken(config), movie()
    window = SlidingWindow(network, passes=2, shown=emit)
    shown = {}
    for t, frame in enumerate(frames):
        for sample in window.push(frame):
            shown[sample.time_index] = (sample, t)
    expected = {
        "centre": [3, 4, 5],
        "newest": [6, 7, 8],
        "central-3": [2, 3, 4],
        "central-5": [1, 2, 3, 4, 5],
    }[emit]
    assert sorted(shown) == expected
    for index, (sample, t) in shown.items():
        first = t - 6
        with torch.inference_mode():
            plain = network(frames[first : t + 1][None, :, None])[0, index - first]
        for one in sample.means:
            torch.testing.assert_close(one, plain[0], atol=1e-5, rtol=0)
        if config.bayesian:
            torch.testing.assert_close(sample.scales[1], plain[1], atol=1e-5, rtol=0)
        else:
            assert not sample.scales.any()


def fix_masks(network: DpaTisr, passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each layer one mask for each pass, the same at all times; passes stand together."""
    names = {module: name for name, module in network.named_modules()}

    def mask(self: MonteCarloDropout, x: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(zlib.crc32(names[self].encode()))
        keep = 1 - self.rate
        shape = (passes, *x.shape[1:])
        drawn = torch.bernoulli(torch.full(shape, keep), generator=generator) / keep
        return drawn.repeat(x.shape[0] // passes, 1, 1, 1)

    monkeypatch.setattr(MonteCarloDropout, "mask", mask)


@pytest.mark.parametrize(
    "places", [PLACES, ("reconstruction",), ("propagation",), ("extraction", "reconstruction")]
)
@pytest.mark.parametrize(
    "kind",
    [{}, {"temporal": False}, {"propagation": "sliding_window", "window_radius": 2}],
    ids=["recurrent", "single frame", "sliding window"],
)
def test_streaming_equals_plain_passes_with_the_same_masks(places, kind, monkeypatch):
    passes = 3
    network = shaken(tiny(dropout_in=places, **kind))
    fix_masks(network, passes, monkeypatch)
    frames = movie(8)
    window = SlidingWindow(network, passes=passes, shown="central-3")
    samples = [s for frame in frames for s in window.push(frame)]
    assert [s.time_index for s in samples] == [2, 3, 4]
    x = frames[:7][None, :, None].expand(passes, -1, -1, -1, -1)
    with torch.inference_mode(), monte_carlo(network, None):
        # The plain batch is (pass, time); the layers get it with the passes standing together.
        stacked = x.transpose(0, 1).flatten(0, 1)
        features = network.extract(stacked).unflatten(0, (7, passes))
        plain = plain_from_features(network, features, x)
    for sample in samples:
        found = torch.stack((sample.means, sample.scales), dim=1)
        torch.testing.assert_close(found, plain[sample.time_index], atol=1e-5, rtol=0)
        assert (sample.means[0] - sample.means[1]).abs().max() > 1e-3


def plain_from_features(network, features, x):
    """The rest of the forward, all frames reconstructed, nothing cached or pruned."""
    from tisr_scope.networks.dpa_tisr import ordered

    current = list(features.unbind(0))
    if network.slides:
        together = network.slide(
            current, [network.spectrum(c) for c in current], list(x.unbind(1)), range(len(current))
        )
        return [network.reconstruct(c, x[:, i]) for i, c in enumerate(together)]
    if network.config.temporal:
        forward, backward = (list(f.unbind(1)) for f in network.flows(x))
        states = network.propagate(
            current,
            [network.spectrum(c) for c in current],
            ordered(backward[::-1]),
            ordered(forward),
        )
    else:
        states = [list(s) for s in zip(*(network.refine_alone(c) for c in current), strict=True)]
    return [
        network.reconstruct(torch.cat((c, *(b[i] for b in states)), dim=1), x[:, i])
        for i, c in enumerate(current)
    ]


def run(network, frames, **settings):
    window = SlidingWindow(network, **settings)
    return [s for frame in frames for s in window.push(frame)]


def test_masks_follow_from_the_seed_and_the_frame_alone():
    network, frames = shaken(tiny()), movie(8)
    one = run(network, frames, passes=3, seed=1)
    torch.manual_seed(99)
    again = run(network, frames, passes=3, seed=1)
    other = run(network, frames, passes=3, seed=2)
    assert all(torch.equal(a.means, b.means) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0].means, other[0].means)
    assert not torch.equal(one[0].means[0], one[0].means[1])
    # A frame that was passed over changes nothing for those after it.
    window = SlidingWindow(network, passes=3, seed=1)
    late = [s for t, f in enumerate(frames) for s in window.push(f, reconstruct=t == 7)]
    assert len(late) == 1
    assert torch.equal(late[0].means, one[1].means)


def test_passes_in_parts_have_the_right_statistics():
    """In parts or at once, the passes are draws of the same distribution."""
    network, frames = shaken(tiny(dropout_in=PLACES)), movie(7)
    at_once = run(network, frames, passes=40, seed=1)[0].means
    parts = run(network, frames, passes=40, seed=2, passes_at_once=7)[0].means
    assert parts.shape == at_once.shape
    error = at_once.std(0) * (2 / 40) ** 0.5
    z = (at_once.mean(0) - parts.mean(0)) / error
    assert z.square().mean() < 2


def lapse(network, numbered, shown="centre", done=(), **settings):
    def window():
        return SlidingWindow(network, shown=shown, **settings)

    return list(super_resolve(window, numbered, shown, done=done))


@pytest.mark.parametrize("shown", ["centre", "central-3", "central-7", "newest"])
@pytest.mark.parametrize("length", [2, 5, 7, 10, 15])
def test_every_frame_of_a_finite_movie(length, shown):
    """Each once, in order; the frame itself comes from a window that holds it."""
    network, frames = shaken(tiny(dropout_rate=0.0)), movie(length).numpy()
    samples = lapse(network, enumerate(frames), shown, passes=1)
    assert [s.time_index for s, _ in samples] == list(range(length))
    windows = [np.arange(first, first + 7) for first in range(length - 6)] or [np.arange(length)]
    for sample, own in samples:
        x = [torch.from_numpy(frames[w])[None, :, None] for w in windows if sample.time_index in w]
        with torch.inference_mode():
            plain = [network(one)[0, :, 0] for one in x]
        place = [list(w).index(sample.time_index) for w in windows if sample.time_index in w]
        error = [(sample.means[0] - y[p]).abs().max() for y, p in zip(plain, place, strict=True)]
        assert min(error) < 1e-5
        if own:
            assert place[int(np.argmin(error))] in shown_places(shown)
    if length >= 7:
        assert sum(own for _, own in samples) >= length - 6


def test_a_frame_left_out_makes_a_window_of_those_there_are():
    network, frames = shaken(tiny(dropout_rate=0.0)), movie(12).numpy()
    kept = [t for t in range(12) if t != 5]
    samples = lapse(network, [(t, frames[t]) for t in kept], passes=1)
    assert [s.time_index for s, _ in samples] == kept
    # The windows of these hold frames on both sides of the gap.
    assert [s.time_index for s, own in samples if own] == []
    with torch.inference_mode():
        plain = network(torch.from_numpy(frames[kept[1:8]])[None, :, None])[0, 3, 0]
    torch.testing.assert_close(samples[4][0].means[0], plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shown", ["centre", "central-3"])
def test_what_is_done_already_changes_nothing_of_the_rest(shown):
    network, frames = shaken(tiny()), movie(14).numpy()
    whole = {s.time_index: s for s, _ in lapse(network, enumerate(frames), shown, passes=2, seed=4)}
    for done in ({0, 1, 2}, set(range(9)), {6, 7}, set(range(13))):
        rest = lapse(network, enumerate(frames), shown, done, passes=2, seed=4)
        assert {s.time_index for s, _ in rest} == whole.keys() - done
        for sample, _ in rest:
            assert torch.equal(sample.means, whole[sample.time_index].means)


def test_offline_centre_frames_are_those_of_the_live_run():
    network, frames = shaken(tiny()), movie(9)
    live = run(network, frames, passes=2, seed=4)
    offline = lapse(network, enumerate(frames.numpy()), passes=2, seed=4)
    for sample in live:
        assert torch.equal(sample.means, offline[sample.time_index][0].means)


def test_frames_that_cannot_be_used_are_refused():
    network = shaken(tiny())
    window = SlidingWindow(network)
    with pytest.raises(DataError, match="too small"):
        window.push(torch.zeros(4, 40))
    with pytest.raises(DataError, match="two axes"):
        window.push(torch.zeros(1, SIZE, SIZE))
    with pytest.raises(DataError, match="NaN"):
        window.push(np.full((SIZE, SIZE), np.nan, np.float32))
    window.push(movie()[0])
    with pytest.raises(DataError, match="those before"):
        window.push(torch.zeros(SIZE + 2, SIZE))
    with pytest.raises(DataError, match="not in a window of 1 frames"):
        window.samples([3])
    with pytest.raises(DataError, match="no frames"):
        lapse(network, [])
    with pytest.raises(DataError, match="at least three frames"):
        SlidingWindow(network, passes=0)
