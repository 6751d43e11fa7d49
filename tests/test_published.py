"""Released checkpoints: what the tensors tell, and what is refused."""

import io
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tisr_scope.bundles.published import load_published, read_flow, read_published
from tisr_scope.errors import BundleError, UnsafeCheckpoint
from tisr_scope.networks.config import DpaTisrConfig, small
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.optical_flow import SPyNet

CONFIG = DpaTisrConfig(
    channels=8, output_channels=16, upscale=3, bayesian=False, propagation_blocks=2
)


@pytest.fixture(scope="module")
def network() -> DpaTisr:
    torch.manual_seed(0)
    return DpaTisr(CONFIG)


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


WRAPPERS = {
    "bare": (lambda s: s, ""),
    "data parallel": (lambda s: prefixed("module.", s), "module."),
    "compiled": (lambda s: prefixed("_orig_mod.", s), "_orig_mod."),
    "both": (lambda s: prefixed("module._orig_mod.", s), "module._orig_mod."),
    "state_dict": (lambda s: {"state_dict": s, "epoch": 3}, "state_dict"),
    "model_state_dict": (lambda s: {"model_state_dict": s, "loss": 0.1}, "model_state_dict"),
    "params_ema": (lambda s: {"params_ema": s}, "params_ema"),
    "flat with counters": (lambda s: {"epoch": 5, "step": torch.tensor(9), **s}, ""),
    "adversarial": (
        lambda s: {
            "meta": {"time": "x"},
            "state_dict": prefixed("generator.", s)
            | prefixed("discriminator.", {"conv.weight": torch.zeros(2, 2)}),
        },
        "state_dict/generator.",
    ),
    "a number of NumPy beside it": (
        lambda s: {"net": s, "best_psnr": np.float64(31.2), "when": np.int64(3)},
        "net",
    ),
}


@pytest.mark.parametrize("wrapped", WRAPPERS)
def test_the_architecture_is_read_off_the_tensors(network, tmp_path, wrapped):
    wrap, entry = WRAPPERS[wrapped]
    torch.save(wrap(network.state_dict()), tmp_path / "a.pth")
    loaded, found = read_published(tmp_path / "a.pth")
    assert loaded.config == CONFIG
    assert not loaded.training
    assert found.entry == entry
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True)
    )


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_becomes_single_precision(network, tmp_path, kind):
    stored = {name: value.to(kind) for name, value in network.state_dict().items()}
    torch.save(stored, tmp_path / "a.pth")
    loaded, found = read_published(tmp_path / "a.pth")
    assert found.stored_as == str(kind).removeprefix("torch.")
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, stored[name].float())


def test_integers_are_no_weights(network, tmp_path):
    stored = {n: (v * 100).to(torch.int8) for n, v in network.state_dict().items()}
    torch.save(stored, tmp_path / "a.pth")
    with pytest.raises(BundleError, match="of type int8"):
        load_published(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "pair",
    [
        ("params", "params_ema"),
        ("model", "model_ema"),
        ("state_dict", "averaged"),
        ("schema", "swa_state"),
    ],
)
def test_the_averaged_weights_are_taken_by_their_name(network, tmp_path, pair):
    plain = network.state_dict()
    averaged = {name: value + 1 for name, value in plain.items()}
    for content in (
        {pair[0]: plain, pair[1]: averaged},
        {pair[1]: averaged, pair[0]: plain},
        {"state_dict": prefixed(pair[0] + ".", plain) | prefixed(pair[1] + ".", averaged)},
    ):
        torch.save(content, tmp_path / "a.pth")
        loaded, found = read_published(tmp_path / "a.pth")
        assert pair[1] in found.entry
        assert torch.equal(loaded.conv_hr.weight, averaged["conv_hr.weight"])


def test_two_sets_of_weights_are_not_guessed_between(network, tmp_path):
    other = {name: value + 1 for name, value in network.state_dict().items()}
    torch.save({"first": network.state_dict(), "second": other}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match="'first', 'second'"):
        load_published(tmp_path / "a.pth")
    torch.save({"first": network.state_dict(), "second": network.state_dict()}, tmp_path / "a.pth")
    assert load_published(tmp_path / "a.pth").config == CONFIG


def test_safetensors_and_averages_of_parameters_alone(network, tmp_path):
    save_file(dict(network.named_parameters()), tmp_path / "a.safetensors")
    loaded = load_published(tmp_path / "a.safetensors")
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_a_compiled_model_is_called_unsafe(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(UnsafeCheckpoint, match="holds the program"):
        load_published(tmp_path / "a.pt")


@pytest.mark.parametrize("layout", ["spaced", "named", "inside"])
def test_a_pretrained_flow_is_found_by_its_names(tmp_path, layout):
    torch.manual_seed(3)
    flow = SPyNet()
    state = flow.state_dict()
    if layout == "spaced":  # activations are counted between the convolutions
        state = {
            re.sub(r"(\d+)\.conv\.", lambda m: f"{2 * int(m[1])}.", name): value
            for name, value in state.items()
        }
        assert "basic_module.5.basic_module.8.weight" in state
    if layout == "inside":
        torch.manual_seed(4)
        whole = DpaTisr(CONFIG)
        whole.spynet.load_state_dict(state)
        state = prefixed("generator.", whole.state_dict())
    torch.save({"params": state}, tmp_path / "a.pth")
    found = read_flow(tmp_path / "a.pth")
    assert found.keys() == flow.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in flow.state_dict().items())


def test_another_flow_network_is_refused(tmp_path):
    state = SPyNet().state_dict()
    torch.save({n: v for n, v in state.items() if ".5." not in n[:15]}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match="six levels"):
        read_flow(tmp_path / "a.pth")
    torch.save({"conv.weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(BundleError, match="not those of a pretrained SPyNet"):
        read_flow(tmp_path / "a.pth")


def test_dropout_is_what_the_caller_says(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "a.pth")
    loaded = load_published(tmp_path / "a.pth", dropout_rate=0.2, dropout_in=("reconstruction",))
    assert loaded.config.rate("reconstruction") == 0.2
    assert loaded.config.rate("propagation") == 0.0


class Hostile:
    def __reduce__(self):
        return (print, ("code of a checkpoint ran",))


def zipped(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def bare(content: object) -> bytes:
    """As PyTorch wrote checkpoints before 1.6."""
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        zipped({"weights": Hostile()}),
        bare({"weights": Hostile()}),
        pickle.dumps({"weights": Hostile()}),
        pickle.dumps({"weights": Hostile()}, protocol=2),
        zipped({"weights": torch.zeros(3), "hook": Hostile()}),
    ],
    ids=["zip", "bare", "pickle", "old pickle", "beside tensors"],
)
def test_code_in_a_checkpoint_is_refused_and_not_run(raw, tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(raw)
    with pytest.raises(UnsafeCheckpoint, match="would run code") as caught:
        load_published(tmp_path / "a.pth")
    assert "weights_only" not in str(caught.value), "nobody is told how to run it"
    assert "of a checkpoint ran" not in capsys.readouterr().out


TENSORS = {"weights": torch.zeros(300)}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "may be cut off"),
        (b"hello world", "may be cut off"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "no checkpoint of PyTorch"),
        (zipped(TENSORS)[:-200], "may be cut off"),
        (zipped(TENSORS)[:300], "may be cut off"),
        (bare(TENSORS)[:-200], "may be cut off"),
        (bare(TENSORS)[:100], "may be cut off"),
        (zipped([1, 2]), "no state dict"),
    ],
    ids=["empty", "text", "hdf5", "end cut", "start only", "old, cut", "old, start", "list"],
)
def test_other_files_are_refused(raw, message, tmp_path):
    (tmp_path / "a.pth").write_bytes(raw)
    with pytest.raises(BundleError, match=message) as caught:
        load_published(tmp_path / "a.pth")
    assert not isinstance(caught.value, UnsafeCheckpoint)


def test_missing_files_and_other_networks_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(BundleError, match="cannot be read"):
        load_published(path)
    torch.save(DpaTisr(small()).state_dict(), path)
    with pytest.raises(BundleError, match="not those of the released network"):
        load_published(path)
