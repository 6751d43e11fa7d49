"""Released checkpoints: what the tensors tell, and what is refused."""

import pickle

import pytest
import torch

from tisr_scope.errors import BundleError
from tisr_scope.networks.config import DpaTisrConfig, small
from tisr_scope.networks.dpa_tisr import DpaTisr
from tisr_scope.networks.published import load_published

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


def test_other_files_are_refused(tmp_path, capsys):
    path = tmp_path / "a.pth"
    with pytest.raises(BundleError, match="cannot be read"):
        load_published(path)
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="cannot be read"):
        load_published(path)
    path.write_bytes(pickle.dumps({"weights": Hostile()}))
    with pytest.raises(BundleError, match="cannot be read"):
        load_published(path)
    torch.save({"weights": Hostile()}, path)
    with pytest.raises(BundleError, match="cannot be read"):
        load_published(path)
    assert "ran" not in capsys.readouterr().out
    torch.save([1, 2], path)
    with pytest.raises(BundleError, match="no state dict"):
        load_published(path)
    torch.save(DpaTisr(small()).state_dict(), path)
    with pytest.raises(BundleError, match="not those of the released network"):
        load_published(path)
