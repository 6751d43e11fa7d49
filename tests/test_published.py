"""Released checkpoints: what the tensors tell, and what is refused."""

import io
import pickle

import pytest
import torch

from tisr_scope.bundles.published import load_published
from tisr_scope.errors import BundleError, UnsafeCheckpoint
from tisr_scope.networks.config import DpaTisrConfig, small
from tisr_scope.networks.dpa_tisr import DpaTisr

CONFIG = DpaTisrConfig(
    channels=8, output_channels=16, upscale=3, bayesian=False, propagation_blocks=2
)


@pytest.fixture(scope="module")
def network() -> DpaTisr:
    torch.manual_seed(0)
    return DpaTisr(CONFIG)


@pytest.mark.parametrize("wrapped", ["bare", "state_dict", "data parallel"])
def test_the_architecture_is_read_off_the_tensors(network, tmp_path, wrapped):
    state = network.state_dict()
    if wrapped == "data parallel":
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save(
        {"state_dict": state, "epoch": 3} if wrapped == "state_dict" else state, tmp_path / "a.pth"
    )
    loaded = load_published(tmp_path / "a.pth")
    assert loaded.config == CONFIG
    assert not loaded.training
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True)
    )


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
